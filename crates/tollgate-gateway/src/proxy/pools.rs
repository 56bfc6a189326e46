//! Pools of connections, one for each way to upstreams.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http_body::Body;

use super::{
    client::{ClientError, ClientOptions, UpstreamClient},
    forward::ForwardProxy,
    trust::UpstreamTls,
};

/// A way to upstreams, which those share that go it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct UpstreamWay {
    /// TLS.
    pub tls: UpstreamTls,
    /// A proxy on the way.
    pub proxy: Option<ForwardProxy>,
}

/// Pools of connections, one for each way that was asked for.
#[derive(Debug)]
pub struct UpstreamPools<B> {
    options: ClientOptions, // All but the way.
    before: HashMap<UpstreamWay, UpstreamClient<B>>,
    pools: Mutex<HashMap<UpstreamWay, UpstreamClient<B>>>,
}

impl<B> UpstreamPools<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// No pools yet. Of the options all but TLS and a proxy counts.
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

    /// The pool for this way.
    ///
    /// # Errors
    ///
    /// Where there can be none.
    pub fn get(&self, way: UpstreamWay) -> Result<UpstreamClient<B>, ClientError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&way) {
            return Ok(pool.clone());
        }
        let pool = match self.before.get(&way) {
            Some(pool) => pool.clone(),
            None => UpstreamClient::new(&ClientOptions {
                tls: way.tls.clone(),
                proxy: way.proxy.clone(),
                ..self.options.clone()
            })?,
        };
        pools.insert(way, pool.clone());
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
        let unverified = || UpstreamWay {
            tls: UpstreamTls {
                roots: Roots::UnverifiedDangerous,
                ..UpstreamTls::default()
            },
            proxy: None,
        };
        let only_13 = || UpstreamWay {
            tls: UpstreamTls {
                rules: TlsRules::new(772, 0, &[]).unwrap(),
                ..unverified().tls
            },
            proxy: None,
        };
        let by_proxy = || UpstreamWay {
            proxy: "http://proxy:3128".parse().ok(),
            ..unverified()
        };
        let first = UpstreamPools::new(ClientOptions::default());
        for way in [unverified(), only_13(), by_proxy(), unverified()] {
            first.get(way).unwrap();
        }
        assert_eq!(count(&first), 3);
        let mut second = first.next();
        assert_eq!((count(&second), second.before.len()), (0, 3));
        second.get(only_13()).unwrap();
        second.settle();
        assert_eq!((count(&second), second.before.len()), (1, 0));
    }
}
