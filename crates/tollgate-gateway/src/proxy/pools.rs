//! Pools of connections, one for each way of TLS.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http_body::Body;

use super::{
    client::{ClientError, ClientOptions, UpstreamClient},
    trust::UpstreamTls,
};

/// Pools of connections, one for each way of TLS that was asked for.
#[derive(Debug)]
pub struct UpstreamPools<B> {
    options: ClientOptions, // All but TLS.
    before: HashMap<UpstreamTls, UpstreamClient<B>>,
    pools: Mutex<HashMap<UpstreamTls, UpstreamClient<B>>>,
}

impl<B> UpstreamPools<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// No pools yet. Of the options all but TLS counts.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            options,
            before: HashMap::new(),
            pools: Mutex::default(),
        }
    }

    /// Pools for another snapshot, which takes up those of this one that it needs, with their connections.
    pub fn next(&self) -> Self {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            options: self.options.clone(),
            before: pools.clone(),
            pools: Mutex::default(),
        }
    }

    /// The pool for this way of TLS.
    ///
    /// # Errors
    ///
    /// Where there can be none.
    pub fn get(&self, tls: UpstreamTls) -> Result<UpstreamClient<B>, ClientError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&tls) {
            return Ok(pool.clone());
        }
        let pool = match self.before.get(&tls) {
            Some(pool) => pool.clone(),
            None => UpstreamClient::new(&ClientOptions {
                tls: tls.clone(),
                ..self.options.clone()
            })?,
        };
        pools.insert(tls, pool.clone());
        Ok(pool)
    }

    /// Forgets what the snapshot before had and this one did not ask for.
    pub fn settle(&mut self) {
        self.before = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::{proxy::Roots, tls::TlsRules};

    fn count(pools: &UpstreamPools<Full<Bytes>>) -> usize {
        pools
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    #[test]
    fn there_is_one_pool_for_each_way_and_none_is_kept_that_nobody_asks_for() {
        let unverified = || UpstreamTls {
            roots: Roots::UnverifiedDangerous,
            ..UpstreamTls::default()
        };
        let only_13 = || UpstreamTls {
            rules: TlsRules::new(772, 0, &[]).unwrap(),
            ..unverified()
        };
        let first = UpstreamPools::new(ClientOptions::default());
        for tls in [unverified(), only_13(), unverified()] {
            first.get(tls).unwrap();
        }
        assert_eq!(count(&first), 2);
        let mut second = first.next();
        assert_eq!((count(&second), second.before.len()), (0, 2));
        second.get(only_13()).unwrap();
        second.settle();
        assert_eq!((count(&second), second.before.len()), (1, 0));
    }
}
