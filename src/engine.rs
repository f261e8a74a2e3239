//! A row's attempts: permits, pace, retries. Not the single attempt (`attempt`), nor the order of rows, nor what is
//! recorded.

mod attempt;
mod gate;
mod gauges;
mod purse;
mod tally;

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::attempt::{Handed, used};
use self::gate::{Gate, Side};
use self::gauges::Counted;
pub use self::gauges::Gauges;
use self::purse::Purse;
use self::tally::{Tally, Unfinished};
use crate::bridge::{Bridge, Health, LaneHealth};
use crate::error::{CUT_OFF, CallError, Failure, FailureKind};
use crate::event::{Blockage, Event, LimitedBy, LimitedFor};
use crate::outcome::{Answer, Outcome};
use crate::policy::budget::{Budget, Price};
use crate::policy::pace::Backoff;
use crate::policy::rate::{Rates, RequestsACall};
use crate::policy::retry::{RetryPolicy, Schedule};
use crate::policy::stop::StopReason;
use crate::row::{Arguments, Row};

/// So many rows for each slot may wait for their next attempt and let others take their place: some servers ask to be left
/// alone for a minute.
const MOST_WAITING: usize = 16;

/// What bounds the attempts.
#[derive(Debug, Clone, Copy)]
pub struct EngineSettings {
    /// Calls in flight at most.
    pub concurrency: usize,
    /// For each attempt.
    pub timeout: Duration,
    /// From when on.
    pub clock: Clock,
    /// For all attempts of a row and the waits between them, from its first hand-over (waits for a permit aside).
    pub row_timeout: Option<Duration>,
    /// A loop that has not turned for the timeout and this much longer is stuck.
    pub stuck_after: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Requests and tokens a minute.
    pub rates: Rates,
    /// What is known of the requests that a call makes.
    pub requests: RequestsACall,
    /// Seed of the jitter.
    pub seed: u64,
}

/// The moments from which a row's times are counted.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// When it was read.
    pub read: Instant,
    /// The session's first hand-over.
    pub first_call: Instant,
}

/// When the clock of an attempt's timeout starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// When the call is handed over to the bridge.
    Handover,
    /// When the predictor begins: a plain function on its thread.
    Begin,
}

impl From<RetryPolicy> for Backoff {
    fn from(policy: RetryPolicy) -> Self {
        Self { base: policy.base, cap: policy.cap }
    }
}

/// Runs rows through a bridge.
pub struct Engine {
    bridge: Arc<dyn Bridge>,
    settings: EngineSettings,
    permits: Arc<Semaphore>,
    gate: Gate,
    purse: Purse,
    /// What blocks the bridge's lanes, as far as not told yet.
    blocked: Mutex<Vec<Blockage>>,
    /// An answer that was cut off fails its row.
    cut_off_fails: bool,
    /// A row was answered.
    answered: AtomicBool,
    /// No new calls; those in flight go on.
    stopping: CancellationToken,
    /// Calls in flight are cancelled too.
    killed: CancellationToken,
    /// What is going on.
    pub gauges: Arc<Gauges>,
}

impl Engine {
    /// An engine over the bridge.
    pub fn new(bridge: Arc<dyn Bridge>, settings: EngineSettings) -> Self {
        Self {
            bridge,
            permits: Arc::new(Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS))),
            gate: Gate::new(&settings),
            purse: Purse::new(settings.concurrency, None, None),
            blocked: Mutex::default(),
            cut_off_fails: false,
            answered: AtomicBool::new(false),
            settings,
            stopping: CancellationToken::new(),
            killed: CancellationToken::new(),
            gauges: Arc::default(),
        }
    }

    /// The same with answers that were cut off at the token limit as failures, if so asked.
    #[must_use]
    pub fn failing_cut_off(self, cut_off_fails: bool) -> Self {
        Self { cut_off_fails, ..self }
    }

    /// The same with a price for the tokens that calls tell of, in place of theirs, and a budget for them all.
    #[must_use]
    pub fn with_money(self, price: Option<Price>, budget: Option<Budget>) -> Self {
        Self { purse: Purse::new(self.settings.concurrency, price, budget), ..self }
    }

    /// Calls in flight at most.
    pub fn concurrency(&self) -> usize {
        self.settings.concurrency
    }

    /// What keeps event loops from turning, as far as not told yet.
    pub fn blocked(&self) -> Vec<Blockage> {
        self.lanes();
        std::mem::take(&mut self.blocked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the bridge's lanes are.
    fn lanes(&self) -> Vec<LaneHealth> {
        let Health { lanes, mut blocked, .. } = self.bridge.health();
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).append(&mut blocked);
        lanes
    }

    /// Makes no new calls: rows without one in flight end unfinished.
    pub fn stop(&self) {
        self.stopping.cancel();
        self.permits.close();
        self.gate.close();
    }

    /// What limits the pace now.
    pub fn limited_by(&self) -> Option<LimitedBy> {
        self.gate.limited_by()
    }

    /// For how long the pace was limited so far.
    pub fn limited_for(&self) -> LimitedFor {
        self.gate.waited()
    }

    /// Why there is no hope of an answer, once that is so.
    pub fn unreachable(&self) -> Option<StopReason> {
        self.gate.unreachable()
    }

    /// Tells that no row is left that has not been handed to it.
    pub fn all_asked(&self) {
        self.gate.all_asked();
    }

    /// How many rows are wanted beyond those in hand: while rows time out and none is answered, and in place of rows that
    /// wait to be tried again, which leaves them no slot. Not before the first answer: of a predictor that is broken for
    /// every row, no more rows are paid for before a guard sees the first that have failed for good.
    pub fn wants_fresh(&self) -> usize {
        let answered = self.answered.load(Ordering::Relaxed);
        let waiting = if answered { self.gauges.waiting_retry.load(Ordering::Relaxed) } else { 0 };
        self.gate.wants_fresh() + waiting.min(MOST_WAITING * self.settings.concurrency)
    }

    /// The last error of the outage that is going on, if one is.
    pub fn outage(&self) -> Option<String> {
        self.gate.outage()
    }

    /// Why the budget has no room for any call, once that is so.
    pub fn exhausted(&self) -> Option<&StopReason> {
        self.purse.exhausted()
    }

    /// Cancels the calls in flight too.
    pub fn kill(&self) {
        self.stop();
        self.killed.cancel();
    }

    /// Takes one row to its outcome and tells the dispatcher, also of a panic. A full channel holds the row back: a slow
    /// disk slows the engine.
    pub async fn run(self: Arc<Self>, row: Row, since: Since, events: Sender<Event>) {
        let mut ending = pin!(self.row(&row, since, &events));
        // Nothing of the row is touched after a panic, and what rows share is used through locks that take no poison.
        let ended = poll_fn(|context| {
            let poll = AssertUnwindSafe(|| ending.as_mut().poll(context).map(Ok));
            catch_unwind(poll).unwrap_or_else(|panic| Poll::Ready(Err(panic)))
        });
        let ended = match ended.await {
            Ok(Ok((outcome, permit))) => Event::Finished { outcome, permit },
            Ok(Err(Unfinished(last))) => Event::Unfinished { row: row.id, last },
            Err(panic) => Event::Panicked { row: row.id, text: text_of(&*panic) },
        };
        // The dispatcher outlives its rows unless the process is ending at once.
        let _ = events.send(ended).await;
    }

    async fn row(
        &self,
        row: &Row,
        since: Since,
        events: &Sender<Event>,
    ) -> Result<(Box<Outcome>, Option<OwnedSemaphorePermit>), Unfinished> {
        let mut tally = Tally::default();
        tally.timing.starting = since.read.elapsed();
        let (result, permit) = match &row.arguments {
            Ok(arguments) => {
                let (result, permit) =
                    self.attempts(row, arguments, since.first_call, &mut tally, events).await?;
                (result, Some(permit))
            }
            Err(error) => (Err(Last::New(error.clone())), None),
        };
        let Tally { attempts, earlier_usage, abandoned, mut timing, last: _ } = tally;
        // Until here; the dispatcher adds the rest.
        timing.row = since.read.elapsed();
        timing.recorded = since.first_call.elapsed();
        let told_before = matches!(result, Err(Last::Told(_)));
        let result = result.map_err(Last::into_failure);
        let outcome = Outcome {
            attempts,
            abandoned,
            told_before,
            earlier_usage,
            timing,
            ..Outcome::new(row.id, row.hash, result)
        };
        Ok((Box::new(outcome), permit))
    }

    /// Tries until there is an answer or no next try; the last error is the row's. With it comes the permit of the last
    /// call.
    async fn attempts(
        &self,
        row: &Row,
        arguments: &Arc<Arguments>,
        first_call: Instant,
        tally: &mut Tally,
        events: &Sender<Event>,
    ) -> Result<(Result<Answer, Last>, OwnedSemaphorePermit), Unfinished> {
        let mut row_deadline: Option<Instant> = None;
        let mut schedule: Option<Schedule> = None;
        let mut last: Option<CallError> = None;
        let mut first_begun: Option<Duration> = None;
        loop {
            let waiting = Instant::now();
            let held = row_deadline.map(|_| self.gate.held());
            let share = self.purse.share(&self.stopping).await.ok_or(Unfinished(None))?;
            let failed = last.as_ref().is_some_and(|error| !error.is_timeout());
            let side = if failed { Side::Again } else { Side::Fresh };
            // Closed: the run is stopping.
            let in_flight = &self.gauges.in_flight;
            let passed = self.gate.pass(side, waiting, &self.permits, in_flight, arguments).await;
            let passed = passed.ok_or(Unfinished(None))?;
            let now = passed.at;
            let waited = now - waiting;
            tally.timing.paced += passed.paced;
            tally.timing.queued += passed.queued;
            // Waiting for a permit or a rate is charged to no timeout, that of the row included; being held back by the
            // server after a first attempt is charged to that of the row.
            row_deadline = match (row_deadline, held) {
                (Some(deadline), Some(held)) => {
                    Some(deadline + waited.saturating_sub(self.gate.held().saturating_sub(held)))
                }
                _ => self.settings.row_timeout.map(|limit| now + limit),
            };
            if let Some(error) = last.take().filter(|_| row_deadline.is_some_and(|deadline| now >= deadline))
            {
                return Ok((Err(Last::Told(error)), passed.permit));
            }
            let ending = passed.ending(&mut first_begun);
            let call = Handed { row: row.id, arguments, at: now, first_call, row_deadline };
            let Some(result) = self.attempt(call, passed.in_flight, tally).await else {
                share.settle(None, true);
                return Err(Unfinished(Some(tally.failed(row.id, Failure::cancelled()))));
            };
            let untold = result.as_ref().map_or_else(CallError::is_untold, |answer| answer.usage.is_none());
            share.settle(used(&result), untold);
            let in_flight = in_flight.load(Ordering::Relaxed);
            let outage = self.gate.ended(row.id, arguments, &ending, &result, in_flight);
            let permit = passed.permit;
            let error = match result {
                Ok(answer) => {
                    let fails = self.cut_off_fails && answer.is_cut_off();
                    self.answered.fetch_or(!fails, Ordering::Relaxed);
                    return Ok((if fails { Err(Last::New(cut_off(&answer))) } else { Ok(answer) }, permit));
                }
                // No fault of the row's: it stays open.
                Err(CallError::Bridge(error)) => {
                    let _ = events.send(Event::Broken { error, permit }).await;
                    return Err(Unfinished(Some(tally.failed(row.id, CallError::Bridge(error).into()))));
                }
                Err(error) => error,
            };
            let schedule = schedule.get_or_insert_with(|| {
                self.settings.retry.schedule(fastrand::Rng::with_seed(self.settings.seed ^ row.id))
            });
            let delay = schedule.after(&error, outage);
            let too_late = |delay| row_deadline.is_some_and(|deadline| Instant::now() + delay >= deadline);
            let Some(delay) = delay.filter(|delay| !too_late(*delay)) else {
                return Ok((Err(Last::New(error)), permit));
            };
            drop(permit);
            // Boxed, as all that is rare: the future of a row is moved and kept whole, however it goes.
            Box::pin(self.wait(row.id, tally, &error, delay, events)).await?;
            last = Some(error);
        }
    }

    async fn wait(
        &self,
        row: u64,
        tally: &mut Tally,
        error: &CallError,
        delay: Duration,
        events: &Sender<Event>,
    ) -> Result<(), Unfinished> {
        let waiting = Instant::now();
        let attempt = tally.failed(row, error.clone().into());
        if let Some(usage) = attempt.failure.usage {
            *tally.earlier_usage.get_or_insert_default() += usage;
        }
        let _ = events.send(Event::Retrying { attempt, delay }).await;
        let _counted = Counted::new(&self.gauges.waiting_retry);
        let slept = self.stopping.run_until_cancelled(sleep(delay)).await;
        tally.timing.backoff += waiting.elapsed();
        slept.ok_or(Unfinished(None))
    }
}

/// The error of a row's last attempt.
enum Last {
    /// It has just failed.
    New(CallError),
    /// It was told of when it failed; then the row's time was up before the next one.
    Told(CallError),
}

impl Last {
    fn into_failure(self) -> Failure {
        match self {
            Self::New(error) => error.into(),
            // What it used is counted already.
            Self::Told(error) => Failure { usage: None, ..error.into() },
        }
    }
}

/// What a panic said, where it said it in words.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

/// What an answer that was cut off is where such answers fail.
fn cut_off(answer: &Answer) -> CallError {
    const TEXT: &str =
        "the answer was cut off at max_tokens (finish reason: length), and `--cut-off fail` was given";
    CallError::Predictor(Box::new(Failure {
        usage: answer.usage,
        ..Failure::new(CUT_OFF, FailureKind::Permanent, TEXT)
    }))
}
