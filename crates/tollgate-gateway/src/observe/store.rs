//! How long a store takes: a store around another one.
//!
//! Only calls that are waited for are measured. What the store answers from memory goes through as it is:
//! a request that waits for nothing does not pay for a look at the clock.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::Histogram;
use tollgate::clock::Moment;
use tollgate_core::{
    Session, StoreError,
    store::{
        ChangeSink, Charge, Expect, LimitStore, ListPage, ListQuery, Loaded, ReadyCharges,
        SessionStore, Standing, StorageKey, StoreErrorKind, Verdict, Version,
    },
};

use super::meters;

/// A store whose calls are measured. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Measured<S> {
    store: S,
    name: &'static str,
    durations: Arc<[Histogram; OPS.len()]>,
}

/// What may be waited for.
#[derive(Clone, Copy, Debug)]
enum Op {
    Get,
    Put,
    Delete,
    List,
    Take,
    Look,
    Reset,
}

const OPS: [&str; 7] = ["get", "put", "delete", "list", "take", "look", "reset"];

impl<S> Measured<S> {
    /// Measures a store under this name, in the process's recorder of metrics, which has to be there by now.
    pub fn new(store: S, name: &'static str) -> Self {
        let durations = OPS.map(|op| meters::store_duration(name, op));
        Self {
            store,
            name,
            durations: Arc::new(durations),
        }
    }

    async fn measure<T>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = call.await;
        let op = op as usize;
        self.durations[op].record(began.elapsed());
        if let Err(error) = &answer {
            meters::store_failed(self.name, OPS[op], of(error.kind()));
        }
        answer
    }
}

fn of(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unavailable => "unavailable",
        StoreErrorKind::Full => "full",
        StoreErrorKind::Conflict => "conflict",
        StoreErrorKind::Unsupported => "unsupported",
        StoreErrorKind::Corrupt => "corrupt",
        _ => "other",
    }
}

impl<S: SessionStore> SessionStore for Measured<S> {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        self.store.try_get(key)
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.measure(Op::Get, self.store.get(key)).await
    }

    async fn get_first(&self, keys: &[StorageKey]) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.measure(Op::Get, self.store.get_first(keys)).await
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let call = self.store.put(key, session, expect, lifetime);
        self.measure(Op::Put, call).await
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.measure(Op::Delete, self.store.delete(key)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.measure(Op::List, self.store.list(query)).await
    }

    fn on_change(&self, sink: ChangeSink) {
        self.store.on_change(sink);
    }

    fn epoch(&self) -> Option<u64> {
        self.store.epoch()
    }

    fn compares_and_sets(&self) -> bool {
        self.store.compares_and_sets()
    }
}

impl<S: LimitStore> LimitStore for Measured<S> {
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        self.store.try_take(batch, now)
    }

    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        self.store.try_take_ready(ready, now)
    }

    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        self.store.try_admit(ready, now)
    }

    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        self.store.try_admit_told(ready, now, tell)
    }

    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.measure(Op::Take, self.store.take(batch, now)).await
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.measure(Op::Look, self.store.look(batch, now)).await
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        self.store.give_back(batch, taken_at);
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        self.measure(Op::Reset, self.store.reset(counter)).await
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tollgate_core::store::MemoryStore;

    use super::*;

    #[test]
    fn what_is_waited_for_is_measured_and_what_is_in_memory_is_not() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let told = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let store = Measured::new(MemoryStore::new(), "memory");
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(async {
                let put = store
                    .put("a", Session::default(), Expect::Absent, None)
                    .await;
                let again = store
                    .put("a", Session::default(), Expect::Absent, None)
                    .await;
                assert!(put.is_ok() && again.is_err());
                assert!(store.try_get("a").is_some());
            });
        });
        let told = told.render();
        for line in [
            r#"tollgate_store_op_duration_seconds_count{store="memory",op="put"} 2"#,
            r#"tollgate_store_op_failures_total{store="memory",op="put",kind="conflict"} 1"#,
        ] {
            assert!(told.contains(line), "{line} in {told}");
        }
        assert!(
            !told.contains(r#"_count{store="memory",op="get"} 1"#),
            "{told}"
        );
    }
}
