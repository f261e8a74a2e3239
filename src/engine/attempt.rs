//! One attempt: the call, its timeout, and what is left running after that.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::gauges::{Counted, Gauges};
use super::settings::{Clock, EngineSettings};
use super::tally::Tally;
use crate::bridge::{AwaitTurn, Bridge, Health, LaneHealth};
use crate::call::{Attempt, CallWatch, call_clock};
use crate::error::{BridgeError, CallError};
use crate::event::Blockage;
use crate::outcome::Answer;
use crate::policy::budget::Price;
use crate::row::Arguments;

/// How long a cancelled call may take to end before it counts as abandoned and its permit is given back
/// (`docs/contract.md`, "Timeouts cancel": the slot is back within 100 ms).
const ABANDON_AFTER: Duration = Duration::from_millis(80);
/// After this long a stuck loop is looked at again: a process that was stopped for a while (SIGTSTP) finds its loop
/// late once, and turning a moment later.
const STUCK_AGAIN: Duration = Duration::from_millis(500);

/// Makes calls through a bridge and bounds them.
pub(super) struct Caller {
    bridge: Arc<dyn Bridge>,
    settings: EngineSettings,
    gauges: Arc<Gauges>,
    /// What tokens cost, in place of what the calls report.
    price: Option<Price>,
    /// What blocks the bridge's lanes, as far as nobody has asked for it yet.
    blocked: Mutex<Vec<Blockage>>,
    /// Calls in flight are cancelled.
    killed: CancellationToken,
}

/// A call that was admitted.
pub(super) struct Handed<'a> {
    pub(super) row: u64,
    pub(super) arguments: &'a Arc<Arguments>,
    /// When it is handed over.
    pub(super) at: Instant,
    pub(super) row_deadline: Option<Instant>,
}

impl Caller {
    pub(super) fn new(bridge: Arc<dyn Bridge>, settings: EngineSettings, gauges: Arc<Gauges>) -> Self {
        let (price, blocked, killed) = Default::default();
        Self { bridge, settings, gauges, price, blocked, killed }
    }

    /// The same with a price for the tokens.
    pub(super) fn priced(self, price: Option<Price>) -> Self {
        Self { price, ..self }
    }

    /// The wait of a row for the moment at which its call can be handed over, if it is not now.
    pub(super) fn turn(&self, row: u64) -> Option<AwaitTurn> {
        self.bridge.turn(row)
    }

    /// Cuts off the calls in flight.
    pub(super) fn kill(&self) {
        self.killed.cancel();
    }

    /// Makes one call; `None` if it was cut off.
    pub(super) async fn attempt(
        &self,
        call: Handed<'_>,
        in_flight: Counted<'_>,
        tally: &mut Tally,
    ) -> Option<Result<Answer, CallError>> {
        let Handed { row, arguments, at: handed_over, row_deadline } = call;
        tally.attempts += 1;
        let (clock, watch) = call_clock(handed_over.into_std());
        let gauges = &self.gauges;
        let all = gauges.in_flight.load(Ordering::Relaxed) + gauges.abandoned.load(Ordering::Relaxed);
        gauges.most_in_flight.fetch_max(all, Ordering::Relaxed);
        let attempt = Attempt { row, number: tally.attempts, arguments: Arc::clone(arguments), clock };
        let result = self.bounded(attempt, &watch, handed_over, row_deadline).await;
        // Times from here on are counted from the hand-over.
        let mut received = handed_over.elapsed();
        let (begun, mut ended) = (watch.begun(), watch.ended());
        let (began, seen) = (begun.unwrap_or_default(), ended.unwrap_or(received));
        tally.last = (handed_over, began, seen);
        tally.abandoned = watch.was_unseen();
        tally.timing.latency = seen.saturating_sub(began);
        let mut result = result?;
        self.put_price(&mut result);
        if let Err(CallError::Timeout(_) | CallError::Lost(_)) = &result {
            let lost = matches!(result, Err(CallError::Lost(_)));
            let released = self.killed.run_until_cancelled(self.release(watch, lost, in_flight, tally));
            ended = Box::pin(released).await.flatten();
            received = handed_over.elapsed();
        }
        // A call that timed out runs until it ends or is abandoned; one that never began was on its way all the time.
        let ended = ended.unwrap_or(received);
        // A worker's times are set beside this clock by its first message. If that one took longer than the reply, the
        // call seems to have ended after it.
        let late = ended.saturating_sub(received);
        let (begun, ended) = (begun.unwrap_or(ended).saturating_sub(late), ended.min(received));
        tally.timing.running += ended.saturating_sub(begun);
        tally.timing.bridge += begun + received.saturating_sub(ended);
        Some(result)
    }

    /// Puts the user's price on what a call used.
    fn put_price(&self, result: &mut Result<Answer, CallError>) {
        let Some(price) = self.price else { return };
        let usage = match result {
            Ok(answer) => &mut answer.usage,
            Err(CallError::Predictor(error)) => &mut error.usage,
            Err(_) => return,
        };
        if let Some(usage) = usage {
            usage.cost_usd = Some(price.of(usage));
        }
    }

    /// Takes what was found to block event loops since this was asked last.
    pub(super) fn blocked(&self) -> Vec<Blockage> {
        self.lanes();
        std::mem::take(&mut self.blocked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what went wrong in the bridge since this was asked last.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.bridge.warnings()
    }

    /// The state of the bridge's lanes. The blockages that the bridge tells along with it are kept.
    fn lanes(&self) -> Vec<LaneHealth> {
        let Health { lanes, mut blocked, .. } = self.bridge.health();
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).append(&mut blocked);
        lanes
    }

    /// Waits for the call until its timeout; `None` if it was cut off. Time in which its event loop did not turn is not
    /// charged: either another call held the loop up, or this one will have ended by the time the loop turns again.
    async fn bounded(
        &self,
        attempt: Attempt,
        watch: &CallWatch,
        handed_over: Instant,
        row_deadline: Option<Instant>,
    ) -> Option<Result<Answer, CallError>> {
        let limit = row_deadline
            .map_or(self.settings.timeout, |deadline| self.settings.timeout.min(deadline - handed_over));
        let mut call = self.bridge.submit(attempt);
        let mut wake = pin!(sleep_until(handed_over + limit));
        let mut killed = pin!(self.killed.cancelled());
        let mut stuck: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                result = &mut call => return Some(result),
                () = &mut killed => return None,
                () = &mut wake => {}
            }
            let since = match (self.settings.clock, watch.begun()) {
                (Clock::Handover, _) => handed_over,
                (Clock::Begin, Some(begun)) => handed_over + begun,
                // Nothing is charged before a thread takes the call.
                (Clock::Begin, None) => Instant::now(),
            };
            // The row's own deadline holds also for a call that does not begin.
            let deadline = (since + limit).min(row_deadline.unwrap_or(since + limit)) + watch.excused();
            let turns = |stalled: Duration| stalled <= self.settings.timeout + self.settings.stuck_after;
            if turns(watch.stalled_now()) {
                stuck = None;
            } else if stuck.get_or_insert_with(Instant::now).elapsed() > STUCK_AGAIN {
                // If another loop turns, only the calls of this one are lost.
                return Some(Err(if self.lanes().iter().any(|lane| turns(lane.stalled_now)) {
                    CallError::Lost("the event loop that ran the call does not turn any more".to_owned())
                } else {
                    BridgeError::HandoverStuck.into()
                }));
            }
            if Instant::now() >= deadline {
                return Some(Err(CallError::Timeout(limit)));
            }
            // A loop that does not turn excuses more with every moment. Look again, but do not spin.
            wake.as_mut().reset(deadline.max(Instant::now() + Duration::from_millis(10)));
        }
    }

    /// Waits for a cancelled call to end, after a timeout or where the call is lost. Past the bound the call is
    /// abandoned, and counted until it ends. Returns how long after the hand-over the predictor ended, if it has.
    async fn release(
        &self,
        watch: CallWatch,
        lost: bool,
        in_flight: Counted<'_>,
        tally: &mut Tally,
    ) -> Option<Duration> {
        while timeout(ABANDON_AFTER, watch.over()).await.is_err() {
            if !lost && !watch.stalled_now().is_zero() {
                continue; // The loop has had no chance to cancel it.
            }
            tally.abandoned = true;
            drop(in_flight);
            let gauges = Arc::clone(&self.gauges);
            gauges.abandoned.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                watch.over().await;
                gauges.abandoned.fetch_sub(1, Ordering::Relaxed);
            });
            return None;
        }
        watch.ended()
    }
}
