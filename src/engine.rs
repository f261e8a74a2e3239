//! One row's attempts: permits, timeouts, retries, abandoned calls. Not the order of rows, nor what is recorded.

mod gate;
mod gauges;
mod purse;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::gate::Gate;
use self::gauges::Counted;
pub use self::gauges::Gauges;
use self::purse::Purse;
use crate::bridge::Bridge;
use crate::call::{Attempt, BridgeError, CallError, CallWatch, call_clock};
use crate::event::{Blockage, Event, LimitedBy, LimitedFor};
use crate::policy::budget::{Budget, Price};
use crate::policy::pace::Backoff;
use crate::policy::rate::{Rates, RequestsACall};
use crate::policy::retry::{RetryPolicy, Schedule};
use crate::policy::stop::StopReason;
use crate::row::{Answer, Arguments, Outcome, Row, Timing, Usage};

/// How long a cancelled call may take to end before it counts as abandoned and its permit is given back
/// (CONTRACT: the slot is back within 100 ms).
const ABANDON_AFTER: Duration = Duration::from_millis(80);
/// A stuck loop is looked at again after so long: a process that was stopped for a while (SIGTSTP) finds its loop late
/// once, and turning a moment later.
const STUCK_AGAIN: Duration = Duration::from_millis(500);

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
#[derive(Debug)]
pub struct Engine<B> {
    bridge: Arc<B>,
    settings: EngineSettings,
    permits: Semaphore,
    gate: Gate,
    purse: Purse,
    /// No new calls; those in flight go on.
    stopping: CancellationToken,
    /// Calls in flight are cancelled too.
    killed: CancellationToken,
    /// What is going on.
    pub gauges: Arc<Gauges>,
}

/// A row that was left without an outcome because the run is stopping.
struct Unfinished;

/// What one row has used so far.
#[derive(Default)]
struct Tally {
    attempts: u32,
    abandoned: u32,
    errors: Vec<Arc<str>>,
    usage: Option<Usage>,
    timing: Timing,
}

impl Tally {
    fn add_usage(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            *self.usage.get_or_insert_default() += usage;
        }
    }
}

impl<B: Bridge> Engine<B> {
    /// An engine over the bridge.
    pub fn new(bridge: Arc<B>, settings: EngineSettings) -> Self {
        Self {
            bridge,
            permits: Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS)),
            gate: Gate::new(&settings),
            purse: Purse::new(settings.concurrency, None, None),
            settings,
            stopping: CancellationToken::new(),
            killed: CancellationToken::new(),
            gauges: Arc::default(),
        }
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

    /// What keeps the event loop from turning, as far as not told yet.
    pub fn blocked(&self) -> Vec<Blockage> {
        self.bridge.blocked()
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

    /// The last error of a server that has never answered and was probed for a while.
    pub fn unreachable(&self) -> Option<String> {
        self.gate.unreachable()
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

    /// Gives back the permits of so many called rows whose outcomes are recorded and judged by the guards. Until then
    /// they count: no next call is made before the last answer is safe, nor where it stops the run.
    pub fn recorded(&self, rows: usize) {
        self.permits.add_permits(rows);
    }

    /// Takes one row to its outcome and tells the dispatcher. A full channel holds the row back: a slow disk slows
    /// the engine.
    pub async fn run(self: Arc<Self>, row: Row, events: Sender<Event>) {
        let taken_up = Instant::now();
        // Pinned where it is: handed to another future by value, it would be in this one twice.
        let ended = pin!(self.row(&row, taken_up, &events));
        let ended = tokio::select! {
            biased;
            ended = ended => ended.map_or_else(
                |usage| Event::Unfinished { row: row.id, usage },
                Event::Finished,
            ),
            () = self.killed.cancelled() => Event::Unfinished { row: row.id, usage: None },
        };
        // The dispatcher outlives its rows unless the process is ending at once.
        let _ = events.send(ended).await;
    }

    /// The row's outcome, or what its failed attempts used where it is left without one.
    async fn row(
        &self,
        row: &Row,
        taken_up: Instant,
        events: &Sender<Event>,
    ) -> Result<Box<Outcome>, Option<Usage>> {
        let mut tally = Tally::default();
        let result = match &row.arguments {
            Ok(arguments) => match self.attempts(row, arguments, &mut tally, events).await {
                Ok(result) => result,
                Err(Unfinished) => return Err(tally.usage),
            },
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &result
            && tally.attempts > 0
        {
            tally.errors.push(error.class());
        }
        let Tally { attempts, abandoned, errors, usage, mut timing } = tally;
        timing.taken_up = Some((taken_up.into_std(), Instant::now().into_std()));
        Ok(Box::new(Outcome {
            row: row.id,
            hash: row.hash,
            result,
            attempts,
            errors,
            abandoned,
            usage,
            timing,
        }))
    }

    /// Tries until there is an answer or no next try; the last error is the row's.
    async fn attempts(
        &self,
        row: &Row,
        arguments: &Arc<Arguments>,
        tally: &mut Tally,
        events: &Sender<Event>,
    ) -> Result<Result<Answer, CallError>, Unfinished> {
        let mut row_deadline: Option<Instant> = None;
        let mut schedule: Option<Schedule> = None;
        let mut last: Option<CallError> = None;
        loop {
            let waiting = Instant::now();
            let held = row_deadline.map(|_| self.gate.held());
            let share = self.purse.share(&self.stopping).await.ok_or(Unfinished)?;
            // Closed: the run is stopping.
            let in_flight = &self.gauges.in_flight;
            let passed =
                self.gate.pass(waiting, &self.permits, in_flight, arguments).await.ok_or(Unfinished)?;
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
                passed.permit.forget(); // See `recorded`.
                return Ok(Err(error));
            }
            let ending = passed.ending();
            let result = self.attempt(row.id, arguments, now, row_deadline, passed.in_flight, tally).await;
            let billed = matches!(result, Ok(_) | Err(CallError::Timeout(_) | CallError::Output(_)));
            share.settle(used(&result), billed);
            let in_flight = in_flight.load(Ordering::Relaxed);
            let outage = self.gate.ended(row.id, arguments, &ending, &result, in_flight);
            let permit = passed.permit;
            let error = match result {
                Ok(answer) => {
                    permit.forget(); // See `recorded`.
                    return Ok(Ok(answer));
                }
                // No fault of the row's: it stays open, and the dispatcher learns why from the bridge itself.
                Err(CallError::Bridge(error)) => return Ok(Err(CallError::Bridge(error))),
                Err(error) => error,
            };
            let schedule = schedule.get_or_insert_with(|| {
                self.settings.retry.schedule(fastrand::Rng::with_seed(self.settings.seed ^ row.id))
            });
            let delay = schedule.after(&error, outage);
            let too_late = |delay| row_deadline.is_some_and(|deadline| Instant::now() + delay >= deadline);
            let Some(delay) = delay.filter(|delay| !too_late(*delay)) else {
                permit.forget(); // See `recorded`.
                return Ok(Err(error));
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
        let (class, asked) = (error.class(), error.retry_after());
        tally.errors.push(Arc::clone(&class));
        let waiting = Instant::now();
        let _ = events.send(Event::Retrying { row, attempt: tally.attempts, class, delay, asked }).await;
        let _counted = Counted::new(&self.gauges.waiting_retry);
        let slept = self.stopping.run_until_cancelled(sleep(delay)).await;
        tally.timing.backoff += waiting.elapsed();
        slept.ok_or(Unfinished)
    }

    async fn attempt(
        &self,
        row: u64,
        arguments: &Arc<Arguments>,
        handed_over: Instant,
        row_deadline: Option<Instant>,
        in_flight: Counted<'_>,
        tally: &mut Tally,
    ) -> Result<Answer, CallError> {
        tally.attempts += 1;
        let (clock, watch) = call_clock();
        let gauges = &self.gauges;
        let all = gauges.in_flight.load(Ordering::Relaxed) + gauges.abandoned.load(Ordering::Relaxed);
        gauges.most_in_flight.fetch_max(all, Ordering::Relaxed);
        let attempt = Attempt { row, number: tally.attempts, arguments: Arc::clone(arguments), clock };
        let mut result = self.bounded(attempt, &watch, handed_over, row_deadline).await;
        let mut received = Instant::now();
        let [begun, mut ended] = [watch.begun(), watch.ended()].map(|mark| mark.map(Instant::from_std));
        tally.timing.latency = ended.unwrap_or(received) - begun.unwrap_or(handed_over);
        self.purse.price(&mut result);
        tally.add_usage(used(&result).copied());
        if let Err(CallError::Timeout(_)) = &result {
            ended = Box::pin(self.release(watch, in_flight, tally)).await;
            received = Instant::now();
        }
        // A call that timed out runs on until it is cancelled or given up; one that never began was on its way.
        let ended = ended.unwrap_or(received);
        let begun = begun.unwrap_or(ended);
        tally.timing.running += ended - begun;
        tally.timing.bridge += (begun - handed_over) + (received - ended);
        result
    }

    /// The call, until its timeout. Time in which the event loop did not turn is not charged: whoever held it up, it
    /// was not this call's doing, or it will have ended by the time the loop turns again.
    async fn bounded(
        &self,
        attempt: Attempt,
        watch: &CallWatch,
        handed_over: Instant,
        row_deadline: Option<Instant>,
    ) -> Result<Answer, CallError> {
        let limit = row_deadline
            .map_or(self.settings.timeout, |deadline| self.settings.timeout.min(deadline - handed_over));
        let stalled_before = self.bridge.stalled();
        let mut call = pin!(self.bridge.call(attempt));
        let mut wake = pin!(sleep_until(handed_over + limit));
        let mut stuck: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                result = &mut call => return result,
                () = &mut wake => {}
            }
            let excused = self.bridge.stalled().saturating_sub(stalled_before);
            let since = match (self.settings.clock, watch.begun()) {
                (Clock::Handover, _) => handed_over,
                (Clock::Begin, Some(begun)) => Instant::from_std(begun),
                // Not charged before its thread has it.
                (Clock::Begin, None) => Instant::now(),
            };
            let deadline = since + limit + excused;
            if self.bridge.stalled_now() <= self.settings.timeout + self.settings.stuck_after {
                stuck = None;
            } else if stuck.get_or_insert_with(Instant::now).elapsed() > STUCK_AGAIN {
                return Err(BridgeError::HandoverStuck.into());
            }
            if Instant::now() >= deadline {
                return Err(CallError::Timeout(limit));
            }
            // A loop that does not turn now excuses more with every moment; look again, but not in a spin.
            wake.as_mut().reset(deadline.max(Instant::now() + Duration::from_millis(10)));
        }
    }

    /// After a timeout: waits for the cancelled call to end; past the bound it is abandoned, and counted until it does.
    /// Returns when the predictor ended, if it has.
    async fn release(&self, watch: CallWatch, in_flight: Counted<'_>, tally: &mut Tally) -> Option<Instant> {
        while timeout(ABANDON_AFTER, watch.over()).await.is_err() {
            if !self.bridge.stalled_now().is_zero() {
                continue; // The loop has had no chance to cancel it.
            }
            tally.abandoned += 1;
            drop(in_flight);
            let gauges = Arc::clone(&self.gauges);
            gauges.abandoned.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                watch.over().await;
                gauges.abandoned.fetch_sub(1, Ordering::Relaxed);
            });
            return None;
        }
        watch.ended().map(Instant::from_std)
    }
}

/// What a call told that it used.
fn used(result: &Result<Answer, CallError>) -> Option<&Usage> {
    match result {
        Ok(answer) => answer.usage.as_ref(),
        Err(CallError::Predictor(error)) => error.usage.as_ref(),
        Err(_) => None,
    }
}
