//! The waker of a connection that is driven by whoever uses it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Wakes whoever waits for a connection. What wakes it while the connection is being driven is only noted: it
/// is driven again then, and no task is woken to do what it is doing.
#[derive(Default)]
pub(super) struct Relay {
    waits: AtomicWaker,
    state: AtomicU8,
}

/// Nobody drives the connection.
const RESTS: u8 = 0;
/// Somebody does.
const DRIVEN: u8 = 1;
/// Somebody does, and has to look once more.
const DRIVEN_AND_WOKEN: u8 = 2;

impl Relay {
    /// The connection is driven from here on, and then this one waits for it.
    pub(super) fn begin(&self, waits: &Waker) {
        self.waits.register(waits);
        self.state.store(DRIVEN, Ordering::Release);
    }

    /// Ends a round. False where something came meanwhile, and another round is due.
    pub(super) fn rest(&self) -> bool {
        let rested =
            self.state
                .compare_exchange(DRIVEN, RESTS, Ordering::AcqRel, Ordering::Acquire);
        if rested.is_err() {
            self.state.store(DRIVEN, Ordering::Release);
        }
        rested.is_ok()
    }

    /// The connection is no longer driven, whatever came meanwhile: who asks next drives it before it waits.
    pub(super) fn end(&self) {
        self.state.store(RESTS, Ordering::Release);
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.compare_exchange(
            DRIVEN,
            DRIVEN_AND_WOKEN,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if noted == Err(RESTS) {
            self.waits.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_drives_is_told_and_not_woken() {
        let counted = Arc::<Counted>::default();
        let count = || counted.0.load(Ordering::Relaxed);
        let relay = Arc::<Relay>::default();
        let waker = Waker::from(relay.clone());
        relay.begin(&counted.clone().into());
        waker.wake_by_ref();
        assert_eq!((relay.rest(), count()), (false, 0));
        assert_eq!((relay.rest(), count()), (true, 0));
        waker.wake_by_ref();
        assert_eq!(count(), 1);
        waker.wake_by_ref();
        assert_eq!(count(), 1, "who was woken is not woken twice");
        relay.begin(&counted.clone().into());
        relay.end();
        waker.wake_by_ref();
        assert_eq!(count(), 2);
    }
}
