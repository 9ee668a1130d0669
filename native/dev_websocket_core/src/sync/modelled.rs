//! Types over loom's, with the same methods as the real ones.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock as Once};
use std::task::{Context, Poll, Waker};

use self::atomic::{AtomicUsize, Ordering};

pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering, fence};

    /// What is stored is swapped in. loom knows that a swap comes right behind what it has read, but then lets another store
    /// come in between: a shard that says that it sleeps could be overtaken by a wake from before.
    macro_rules! swapping {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.0.swap(value, order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.0.swap(value, order)
                }
            }
        };
    }

    swapping!(AtomicBool, bool);
    swapping!(AtomicU64, u64);
}

/// A lock that knows no poison, as `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

pub(crate) struct Guard<'m, T>(loom::sync::MutexGuard<'m, T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(
            self.0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// As the standard library's: who sees the value sees what was written before it was set. There are no two that set it.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: loom::sync::atomic::AtomicBool,
    value: Once<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            is_set: loom::sync::atomic::AtomicBool::new(false),
            value: Once::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        is_set.then(|| self.value.get()).flatten()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    /// For who holds it alone.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.value.take()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) mod thread {
    use std::sync::Arc;
    use std::time::Duration;

    loom::thread_local! {
        static PARKER: Arc<loom::sync::Notify> = Arc::new(loom::sync::Notify::new());
    }

    /// loom's own `unpark` also wakes a thread that waits for a lock.
    #[derive(Debug)]
    pub(crate) struct Thread(Arc<loom::sync::Notify>);

    impl Thread {
        pub(crate) fn unpark(&self) {
            self.0.notify();
        }
    }

    pub(crate) fn current() -> Thread {
        Thread(PARKER.with(Arc::clone))
    }

    /// Returns when unparked, before or meanwhile, and sometimes for no reason.
    pub(crate) fn park() {
        PARKER.with(Arc::clone).wait();
    }

    /// As if the time were never over.
    pub(crate) fn park_timeout(_: Duration) {
        park();
    }

    /// Others go on meanwhile.
    pub(crate) fn sleep(_: Duration) {
        loom::thread::yield_now();
    }
}

/// The steps of `futures`' own, one by one.
#[derive(Debug)]
pub(crate) struct AtomicWaker {
    state: AtomicUsize,
    /// Nobody waits for this lock: the state says whose it is.
    waker: std::sync::Mutex<Option<Waker>>,
}

const WAITING: usize = 0;
const REGISTERING: usize = 1;
const WAKING: usize = 2;

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicUsize::new(WAITING),
            waker: std::sync::Mutex::new(None),
        }
    }

    pub(crate) fn register(&self, waker: &Waker) {
        let change = |from, to, order| {
            self.state
                .compare_exchange(from, to, order, Ordering::Acquire)
        };
        match change(WAITING, REGISTERING, Ordering::Acquire) {
            Ok(_) => {
                self.replace(Some(waker.clone()));
                if change(REGISTERING, WAITING, Ordering::AcqRel).is_err() {
                    let waker = self.replace(None);
                    self.state.swap(WAITING, Ordering::AcqRel);
                    waker.iter().for_each(Waker::wake_by_ref);
                }
            }
            Err(WAKING) => {
                waker.wake_by_ref();
                loom::thread::yield_now();
            }
            Err(_) => {}
        }
    }

    pub(crate) fn wake(&self) {
        if self.state.fetch_or(WAKING, Ordering::AcqRel) == WAITING {
            let waker = self.replace(None);
            self.state.fetch_and(!WAKING, Ordering::Release);
            waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        #[allow(clippy::expect_used, reason = "it would be a fault of the steps above")]
        let mut held = self
            .waker
            .try_lock()
            .expect("the state says that it is ours");
        std::mem::replace(&mut held, waker)
    }
}

/// As tokio's with `notify_one` and one that waits: a notice is kept for who comes later.
#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<Notice>);

#[derive(Debug, Default)]
struct Notice {
    is_given: bool,
    waker: Option<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        let mut notice = self.0.lock();
        notice.is_given = true;
        let waker = notice.waker.take();
        drop(notice);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) async fn notified(&self) {
        poll_fn(|context| {
            let mut notice = self.0.lock();
            if std::mem::take(&mut notice.is_given) {
                return Poll::Ready(());
            }
            notice.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// As tokio's: who comes first is served first.
#[derive(Debug)]
pub(crate) struct Semaphore(Mutex<Permits>);

#[derive(Debug)]
struct Permits {
    free: usize,
    is_closed: bool,
    /// Who waits, with its number.
    line: VecDeque<(usize, Waker)>,
    next: usize,
}

#[derive(Debug)]
pub(crate) struct Closed;

pub(crate) struct Permit;

impl Permit {
    /// The model's permits are never given back by themselves.
    pub(crate) fn forget(self) {}
}

impl Semaphore {
    pub(crate) fn new(free: usize) -> Self {
        Self(Mutex::new(Permits {
            free,
            is_closed: false,
            line: VecDeque::new(),
            next: 0,
        }))
    }

    pub(crate) async fn acquire_many(&self, count: u32) -> Result<Permit, Closed> {
        let place = RefCell::new(None);
        poll_fn(|context| self.poll(count as usize, &mut place.borrow_mut(), context)).await
    }

    fn poll(
        &self,
        count: usize,
        place: &mut Option<usize>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Permit, Closed>> {
        let mut permits = self.0.lock();
        if permits.is_closed {
            return Poll::Ready(Err(Closed));
        }
        let number = *place.get_or_insert(permits.next);
        permits.next = permits.next.max(number + 1);
        let is_first = permits.line.iter().all(|(other, _)| *other >= number);
        if is_first && permits.free >= count {
            permits.free -= count;
            permits.line.retain(|(other, _)| *other != number);
            permits.wake_first();
            return Poll::Ready(Ok(Permit));
        }
        let waker = context.waker().clone();
        match permits.line.iter_mut().find(|(other, _)| *other == number) {
            Some((_, there)) => *there = waker,
            None => permits.line.push_back((number, waker)),
        }
        Poll::Pending
    }

    pub(crate) fn add_permits(&self, count: usize) {
        let mut permits = self.0.lock();
        permits.free += count;
        permits.wake_first();
    }

    pub(crate) fn available_permits(&self) -> usize {
        self.0.lock().free
    }

    pub(crate) fn close(&self) {
        let mut permits = self.0.lock();
        permits.is_closed = true;
        permits.line.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

impl Permits {
    fn wake_first(&self) {
        self.line
            .front()
            .iter()
            .for_each(|(_, waker)| waker.wake_by_ref());
    }
}

/// As `arc_swap`'s. Each access sees what was before the last change, so a lock stands for it.
#[derive(Debug)]
pub(crate) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *self.0.lock(), value)
    }

    pub(crate) fn compare_and_swap(&self, expected: &Option<Arc<T>>, value: Option<Arc<T>>) {
        let mut held = self.0.lock();
        if held.as_ref().map(Arc::as_ptr) == expected.as_ref().map(Arc::as_ptr) {
            *held = value;
        }
    }
}
