//! Locks and atomics of the code whose interleavings are played through.
//!
//! In every build but that of the models these are the ones everybody knows. Under `--cfg
//! tollgate_loom` each of their steps is one at which the model checker changes threads, so that
//! `tests/interleavings.rs` plays the code that ships and no copy of it. Memory orders are those of
//! C11. What is a `static` stays with the standard library: it outlives a model.

#[cfg(not(tollgate_loom))]
pub(crate) use self::machine::*;
#[cfg(tollgate_loom)]
pub(crate) use self::model::*;

/// A size: `small` in the models, where each object costs, `real` everywhere else.
pub(crate) const fn of_models(small: usize, real: usize) -> usize {
    if cfg!(tollgate_loom) { small } else { real }
}

#[cfg(not(tollgate_loom))]
mod machine {
    pub(crate) use std::sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize},
    };
    use std::{cell::Cell, time::Duration};

    pub(crate) use parking_lot::RwLock;
    use spin::mutex::SpinMutex;
    pub(crate) use spin::mutex::SpinMutexGuard as MutexGuard;

    use crate::clock::machine_time;

    /// A lock for what is held for some tens of nanoseconds at a time.
    ///
    /// To let it go is a plain write, where one that others may sleep on takes as long as locking it does. Whoever
    /// finds it locked stays away for two microseconds, in which the other takes a hundred steps with all it needs
    /// in its own cache: two that took turns would wait for each other's cache at every step. Who had to stay away
    /// just before does so for twice as long, and sleeps in the end, as the other may not be running.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(SpinMutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(SpinMutex::new(value))
        }

        #[inline]
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock()
        }

        #[inline]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.try_lock().unwrap_or_else(|| self.lock_later())
        }

        #[cold]
        fn lock_later(&self) -> MutexGuard<'_, T> {
            loop {
                let stayed = stay_away();
                if let Some(guard) = self.try_lock() {
                    return guard;
                }
                if stayed == LONGEST {
                    std::thread::sleep(Duration::from_nanos(LONGEST));
                }
            }
        }
    }

    const SHORTEST: u64 = 2000; // Nanoseconds, as all times here.
    const LONGEST: u64 = 32_000;

    thread_local! {
        /// For how long this thread stayed away last, and until when.
        static STAYED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }

    /// Waits without sleeping. Returns for how long.
    fn stay_away() -> u64 {
        let (start, (last, ended)) = (machine_time().ticks, STAYED.get());
        let is_soon = start < ended.saturating_add(LONGEST);
        let longer = if is_soon { 2 * last } else { 0 };
        let time = longer.clamp(SHORTEST, LONGEST);
        let until = start.saturating_add(time);
        while machine_time().ticks < until {
            std::hint::spin_loop();
        }
        STAYED.set((time, until));
        time
    }
}

#[cfg(tollgate_loom)]
mod model {
    use std::sync::atomic::Ordering::{Acquire, Release};

    pub(crate) use loom::sync::{
        MutexGuard, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize},
    };

    /// A lock with the methods of the one that ships.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics ends")
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// A lock with the methods of `parking_lot`.
    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("a model that panics ends")
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect("a model that panics ends")
        }
    }

    /// A cell that is written once, which loom does not have: who writes holds the lock, as with the
    /// standard library's, and who only reads sees the flag first.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
        writing: Mutex<()>,
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self {
                value: std::sync::OnceLock::new(),
                is_set: AtomicBool::new(false),
                writing: Mutex::new(()),
            }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.is_set.load(Acquire).then(|| self.value.get())?
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let _writing = self.writing.lock();
            self.value.set(value)?;
            self.is_set.store(true, Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.get() {
                return value;
            }
            let _writing = self.writing.lock();
            let value = self.value.get_or_init(make);
            self.is_set.store(true, Release);
            value
        }
    }
}
