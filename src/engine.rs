//! Takes rows to their outcomes: each attempt is admitted, made, and perhaps tried again.

mod admission;
mod attempt;
mod gauges;
mod settings;
mod tally;

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use self::admission::Admission;
use self::admission::{Admitted, Side};
use self::attempt::{Caller, Handed};
use self::gauges::Counted;
pub use self::gauges::Gauges;
pub use self::settings::{Clock, EngineSettings, Since};
use self::tally::{Tally, Unfinished};
use crate::bridge::{AwaitTurn, Bridge, Turn};
use crate::error::{CUT_OFF, CallError, Failure, FailureKind};
use crate::event::{Blockage, Event};
use crate::outcome::{Answer, Outcome};
use crate::policy::budget::{Budget, Price};
pub use crate::policy::rate::{Rates, RequestsACall};
pub use crate::policy::retry::RetryPolicy;
use crate::policy::retry::Schedule;
pub use crate::policy::stop::StopReason;
use crate::row::{Arguments, Row};

/// How many rows for each permit may wait for their next attempt and let others take their place: some servers ask to
/// be left alone for a minute.
const MOST_WAITING: usize = 16;

/// Runs rows through a bridge.
pub struct Engine {
    settings: EngineSettings,
    /// Decides when calls are made, and knows what limits them.
    pub admission: Admission,
    caller: Caller,
    /// An answer that was cut off fails its row.
    cut_off_fails: bool,
    /// A row was answered.
    answered: AtomicBool,
    /// No new calls are made; those in flight go on.
    stopping: CancellationToken,
    /// What is going on now.
    pub gauges: Arc<Gauges>,
}

impl Engine {
    /// Makes an engine over the bridge.
    pub fn new(bridge: Arc<dyn Bridge>, settings: EngineSettings) -> Self {
        let gauges = Arc::<Gauges>::default();
        Self {
            settings,
            admission: Admission::new(&settings, Arc::clone(&gauges)),
            caller: Caller::new(bridge, settings, Arc::clone(&gauges)),
            cut_off_fails: false,
            answered: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            gauges,
        }
    }

    /// Makes answers that were cut off at the token limit failures, if so asked.
    #[must_use]
    pub fn failing_cut_off(self, cut_off_fails: bool) -> Self {
        Self { cut_off_fails, ..self }
    }

    /// Prices the tokens that calls report, in place of the cost they report, and bounds what all calls use.
    #[must_use]
    pub fn with_money(self, price: Option<Price>, budget: Option<Budget>) -> Self {
        Self { admission: self.admission.within(budget), caller: self.caller.priced(price), ..self }
    }

    /// The most calls in flight at once.
    pub fn concurrency(&self) -> usize {
        self.settings.concurrency
    }

    /// Takes what was found to keep event loops from turning since this was asked last.
    pub fn blocked(&self) -> Vec<Blockage> {
        self.caller.blocked()
    }

    /// Takes what went wrong in the bridge since this was asked last, in words.
    pub fn warnings(&self) -> Vec<String> {
        self.caller.warnings()
    }

    /// Makes no new calls: rows without one in flight end unfinished.
    pub fn stop(&self) {
        self.stopping.cancel();
        self.admission.close();
    }

    /// Cancels the calls in flight too.
    pub fn kill(&self) {
        self.stop();
        self.caller.kill();
    }

    /// How many rows are wanted beyond those in hand: some while rows time out and none is answered, and one for each
    /// row that waits to be tried again, since it takes no permit meanwhile. Those are wanted from the first answer on:
    /// if the predictor is broken for every row, a guard is to see the first failures before more rows are paid for.
    pub fn wants_fresh(&self) -> usize {
        let answered = self.answered.load(Ordering::Relaxed);
        let waiting = if answered { self.gauges.waiting_retry.load(Ordering::Relaxed) } else { 0 };
        self.admission.wants_fresh() + waiting.min(MOST_WAITING * self.settings.concurrency)
    }

    /// Takes one row to its outcome and tells the dispatcher, also of a panic. A full channel holds the row back, so a
    /// slow disk slows the engine.
    pub async fn run(self: Arc<Self>, row: Row, since: Since, events: Sender<Event>) {
        let mut ending = pin!(self.row(&row, since, &events));
        // After a panic nothing of the row is touched, and what rows share is behind locks that ignore poison.
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
        let mut tally = Tally::new(since.first_call);
        tally.timing.starting = since.read.elapsed();
        let (result, permit) = match &row.arguments {
            Ok(arguments) => {
                let (result, permit) = self.attempts(row, arguments, &mut tally, events).await?;
                (result, Some(permit))
            }
            Err(error) => (Err(Last::New(error.clone())), None),
        };
        let Tally { attempts, earlier_usage, abandoned, mut timing, .. } = tally;
        // The dispatcher adds the time until the outcome is recorded.
        let now = Instant::now();
        (timing.row, timing.recorded) = (now - since.read, now - since.first_call);
        let told_before = matches!(result, Err(Last::Told(_)));
        let set_aside = matches!(result, Err(Last::New(CallError::Crash(_))));
        let result = result.map_err(Last::into_failure);
        let outcome = Outcome {
            attempts,
            abandoned,
            told_before,
            set_aside,
            earlier_usage,
            timing,
            ..Outcome::new(row.id, row.hash, result)
        };
        Ok((Box::new(outcome), permit))
    }

    /// Tries until there is an answer or no next attempt; then the last error is the row's. Returns the permit of the
    /// last call with it.
    async fn attempts(
        &self,
        row: &Row,
        arguments: &Arc<Arguments>,
        tally: &mut Tally,
        events: &Sender<Event>,
    ) -> Result<(Result<Answer, Last>, OwnedSemaphorePermit), Unfinished> {
        let mut row_deadline: Option<Instant> = None;
        let mut schedule: Option<Schedule> = None;
        let mut last: Option<CallError> = None;
        let mut first_begun: Option<Duration> = None;
        loop {
            let failed = last.as_ref().is_some_and(|error| !error.is_timeout());
            let side = if failed { Side::Again } else { Side::Fresh };
            // Boxed because it is rare, as below.
            let (turn, waited) = match self.caller.turn(row.id) {
                Some(turn) => Box::pin(self.await_turn(turn, tally)).await?,
                None => (None, Duration::ZERO),
            };
            row_deadline = row_deadline.map(|deadline| deadline + waited);
            let admitted = self.admission.admit(row.id, side, arguments).await;
            // No call is admitted once the run is stopping.
            let Admitted { at, paced, queued, held, in_flight, permit, pass } =
                admitted.ok_or(Unfinished(None))?;
            tally.timing.paced += paced;
            tally.timing.queued += queued;
            // Waiting for a permit or a rate is charged to no timeout. Being held back by the server after a first
            // attempt is charged to that of the row.
            row_deadline = match row_deadline {
                Some(deadline) => Some(deadline + (paced + queued).saturating_sub(held)),
                None => self.settings.row_timeout.map(|limit| at + limit),
            };
            if let Some(error) = last.take().filter(|_| row_deadline.is_some_and(|deadline| at >= deadline)) {
                // The call is not made, so another row may be admitted.
                drop((in_flight, pass));
                return Ok((Err(Last::Told(error)), permit));
            }
            let row_begun = *first_begun.get_or_insert(pass.begun());
            let call = Handed { row: row.id, arguments, at, row_deadline };
            let Some(result) = self.caller.attempt(call, in_flight, tally).await else {
                pass.cut_off();
                return Err(Unfinished(Some(tally.failed(row.id, Failure::cancelled()))));
            };
            let outage = pass.ended(row_begun, &result);
            let error = match result {
                Ok(answer) => {
                    let fails = self.cut_off_fails && answer.is_cut_off();
                    self.answered.fetch_or(!fails, Ordering::Relaxed);
                    return Ok((if fails { Err(Last::New(cut_off(&answer))) } else { Ok(answer) }, permit));
                }
                // The row is not at fault, and stays open.
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
            drop((permit, turn));
            // Boxed because it is rare, and a row's future always has room for its largest branch.
            Box::pin(self.wait(row.id, tally, &error, delay, events)).await?;
            last = Some(error);
        }
    }

    /// Waits until the bridge can take the row's call. Returns what the row keeps until the call has ended, and how long it
    /// waited.
    async fn await_turn(
        &self,
        turn: AwaitTurn,
        tally: &mut Tally,
    ) -> Result<(Option<Turn>, Duration), Unfinished> {
        let waiting = Instant::now();
        let _counted = Counted::new(&self.gauges.waiting_retry);
        let turn = self.stopping.run_until_cancelled(turn).await;
        let waited = waiting.elapsed();
        tally.timing.queued += waited;
        Ok((Some(turn.ok_or(Unfinished(None))?), waited))
    }

    /// Reports a failed attempt and waits until the next one may be made.
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
    /// It is reported with the row's outcome.
    New(CallError),
    /// It was reported when the attempt failed; the row's time was up before the next one.
    Told(CallError),
}

impl Last {
    fn into_failure(self) -> Failure {
        match self {
            Self::New(error) => error.into(),
            // What the attempt used was counted when it was reported.
            Self::Told(error) => Failure { usage: None, ..error.into() },
        }
    }
}

/// What a panic said, if it said it in words.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

/// The error for an answer that was cut off, where such answers fail.
fn cut_off(answer: &Answer) -> CallError {
    const TEXT: &str =
        "the answer was cut off at max_tokens (finish reason: length), and `--cut-off fail` was given";
    CallError::Predictor(Box::new(Failure {
        usage: answer.usage,
        ..Failure::new(CUT_OFF, FailureKind::Permanent, TEXT)
    }))
}
