//! One attempt at a row: what the bridge is given, and what it reports while the call runs.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
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
    /// The bridge's end of the clock. The bridge holds it as long as anything of the call is running.
    pub clock: CallClock,
}

/// Something that runs calls side by side, such as an event loop. Its calls cannot go on while it does not turn.
pub trait Lane: Debug + Send + Sync {
    /// For how long in all it had not turned at `then`, which is now or a moment ago. Gaps over 250 ms count, including
    /// one that still lasts.
    fn stalled_by(&self, then: Instant) -> Duration;

    /// For how long it has not been turning until now: zero, or over 250 ms.
    fn stalled_now(&self) -> Duration;
}

/// A time after the hand-over that one thread sets and another reads: nanoseconds plus one, or 0 for none.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    /// Sets the time, unless it is set already.
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
    /// [`RUNNING`], [`AWAITED`] or [`OVER`]. Nobody waits for the end of most calls, and then nobody is woken.
    state: AtomicU8,
    over: Notify,
    /// Whether nobody saw its end.
    unseen: AtomicBool,
}

const RUNNING: u8 = 0;
const AWAITED: u8 = 1;
const OVER: u8 = 2;

/// The bridge's end of a call's clock. It names the call's lane and marks when the call began and ended. Dropping it
/// says that nothing of the call is left running.
#[derive(Debug)]
pub struct CallClock(Arc<Shared>);

/// The engine's end of a call's clock, which reads the marks and waits for the end.
#[derive(Debug)]
pub struct CallWatch(Arc<Shared>);

/// Makes a clock for one call. Its times are counted from `handed_over`.
pub fn call_clock(handed_over: Instant) -> (CallClock, CallWatch) {
    let shared = Arc::new(Shared {
        handed_over,
        begun: Mark::default(),
        ended: Mark::default(),
        lane: OnceLock::new(),
        state: AtomicU8::new(RUNNING),
        over: Notify::new(),
        unseen: AtomicBool::new(false),
    });
    (CallClock(Arc::clone(&shared)), CallWatch(shared))
}

impl CallClock {
    /// Names the lane that runs the call. Time since the hand-over in which that lane does not turn is excused. Only
    /// the first lane counts.
    pub fn runs_on(&self, lane: Arc<dyn Lane>) {
        let stalled = lane.stalled_by(self.0.handed_over);
        let _ = self.0.lane.set((lane, stalled));
    }

    /// How long ago the call was handed over.
    pub fn elapsed(&self) -> Duration {
        self.0.handed_over.elapsed()
    }

    /// Marks that the predictor starts to run. Called on the thread that runs it.
    pub fn begin(&self) {
        self.begun_after(self.elapsed());
    }

    /// Marks that the predictor started to run that long after the hand-over, as another process or clock measured.
    pub fn begun_after(&self, after: Duration) {
        self.0.begun.set(after);
    }

    /// Marks that the predictor has returned or raised. Called on the thread that runs it.
    pub fn end(&self) {
        self.ended_after(self.elapsed());
    }

    /// Marks that the predictor returned or raised that long after the hand-over, as another process or clock measured.
    pub fn ended_after(&self, after: Duration) {
        self.0.ended.set(after);
    }

    /// Marks that nobody sees the call's end, although it must have come by now: what ran it cannot be reached.
    pub fn end_unseen(&self) {
        self.0.unseen.store(true, Ordering::Release);
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

    /// For how long in all the call's lane has not turned since the hand-over. No timeout is charged with this time.
    pub fn excused(&self) -> Duration {
        let excused =
            |(lane, before): &(Arc<dyn Lane>, _)| lane.stalled_by(Instant::now()).saturating_sub(*before);
        self.0.lane.get().map_or(Duration::ZERO, excused)
    }

    /// For how long the call's lane has not been turning until now: zero, or over 250 ms.
    pub fn stalled_now(&self) -> Duration {
        self.0.lane.get().map_or(Duration::ZERO, |(lane, _)| lane.stalled_now())
    }

    /// Whether nothing of the call is left running.
    pub fn is_over(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == OVER
    }

    /// Whether nobody saw the call's end, which must have come.
    pub fn was_unseen(&self) -> bool {
        self.0.unseen.load(Ordering::Acquire)
    }

    /// Resolves once nothing of the call is left running. Cancel-safe; there must be only one waiter.
    pub async fn over(&self) {
        let seen = self.0.state.compare_exchange(RUNNING, AWAITED, Ordering::AcqRel, Ordering::Acquire);
        if seen != Err(OVER) {
            self.0.over.notified().await;
        }
    }
}
