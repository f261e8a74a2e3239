//! One attempt at a row: what the bridge is given, what it tells while the call runs. Not what becomes of it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::row::Arguments;

/// One call to the predictor.
#[derive(Debug)]
pub struct Attempt {
    /// 0-based id of the row.
    pub row: u64,
    /// 1-based number of the attempt within this session.
    pub number: u32,
    /// The keyword arguments.
    pub arguments: Arc<Arguments>,
    /// The bridge's end of the clock; it holds this for as long as anything of the call is left running.
    pub clock: CallClock,
}

/// What runs calls one beside the other, such as an event loop: while it does not turn, its calls cannot go on.
pub trait Lane: Debug + Send + Sync {
    /// For how long in all it had not turned by then, which is now or just was (gaps over 250 ms, the running one included).
    fn stalled_by(&self, then: Instant) -> Duration;

    /// For how long it has not turned at this moment: zero, or over 250 ms.
    fn stalled_now(&self) -> Duration;
}

/// A time after the hand-over that one thread sets and another reads, in nanoseconds and plus one; 0 stands for none.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    /// The first time counts.
    fn set(&self, after: Duration) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(after.as_nanos() as u64 + 1, Ordering::Release);
        }
    }

    fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Acquire).checked_sub(1).map(Duration::from_nanos)
    }
}

#[derive(Debug)]
struct Shared {
    handed_over: Instant,
    begun: Mark,
    ended: Mark,
    /// The lane, and for how long in all it had not turned before the hand-over.
    lane: OnceLock<(Arc<dyn Lane>, Duration)>,
    /// [`RUNNING`], [`AWAITED`] or [`OVER`]: most calls end with nobody waiting for it, and then nobody is woken.
    state: AtomicU8,
    over: Notify,
}

const RUNNING: u8 = 0;
const AWAITED: u8 = 1;
const OVER: u8 = 2;

/// The bridge's end: tells the call's lane and marks when the call began and ended; dropping it says that nothing of the
/// call is left running.
#[derive(Debug)]
pub struct CallClock(Arc<Shared>);

/// The engine's end: reads the marks, waits for the end.
#[derive(Debug)]
pub struct CallWatch(Arc<Shared>);

/// A clock for one call: the end that marks and the end that watches. What it tells is counted from `handed_over`.
pub fn call_clock(handed_over: Instant) -> (CallClock, CallWatch) {
    let shared = Arc::new(Shared {
        handed_over,
        begun: Mark::default(),
        ended: Mark::default(),
        lane: OnceLock::new(),
        state: AtomicU8::new(RUNNING),
        over: Notify::new(),
    });
    (CallClock(Arc::clone(&shared)), CallWatch(shared))
}

impl CallClock {
    /// The lane has the call: time since the hand-over in which it does not turn is excused. The first lane counts.
    pub fn runs_on(&self, lane: Arc<dyn Lane>) {
        let stalled = lane.stalled_by(self.0.handed_over);
        let _ = self.0.lane.set((lane, stalled));
    }

    /// The predictor starts to run, seen on the thread that runs it.
    pub fn begin(&self) {
        self.begun_after(self.0.handed_over.elapsed());
    }

    /// The predictor started to run so long after the hand-over, where another process or another clock tells.
    pub fn begun_after(&self, after: Duration) {
        self.0.begun.set(after);
    }

    /// The predictor has returned or raised, seen on the thread that runs it.
    pub fn end(&self) {
        self.ended_after(self.0.handed_over.elapsed());
    }

    /// The predictor returned or raised so long after the hand-over, where another process or another clock tells.
    pub fn ended_after(&self, after: Duration) {
        self.0.ended.set(after);
    }
}

impl Drop for CallClock {
    fn drop(&mut self) {
        if self.0.state.swap(OVER, Ordering::AcqRel) == AWAITED {
            self.0.over.notify_one();
        }
    }
}

impl CallWatch {
    /// How long after the hand-over the predictor started to run.
    pub fn begun(&self) -> Option<Duration> {
        self.0.begun.get()
    }

    /// How long after the hand-over the predictor returned or raised.
    pub fn ended(&self) -> Option<Duration> {
        self.0.ended.get()
    }

    /// For how long the call's lane has not turned since the hand-over: no timeout is charged with that.
    pub fn excused(&self) -> Duration {
        let excused =
            |(lane, before): &(Arc<dyn Lane>, _)| lane.stalled_by(Instant::now()).saturating_sub(*before);
        self.0.lane.get().map_or(Duration::ZERO, excused)
    }

    /// For how long the call's lane has not turned at this moment: zero, or over 250 ms.
    pub fn stalled_now(&self) -> Duration {
        self.0.lane.get().map_or(Duration::ZERO, |(lane, _)| lane.stalled_now())
    }

    /// Resolves once nothing of the call is left running. For one waiter; cancel-safe.
    pub async fn over(&self) {
        let seen = self.0.state.compare_exchange(RUNNING, AWAITED, Ordering::AcqRel, Ordering::Acquire);
        if seen != Err(OVER) {
            self.0.over.notified().await;
        }
    }
}
