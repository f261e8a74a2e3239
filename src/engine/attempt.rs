//! One attempt: the call, its timeout, what is left of it after that. Not whether there is another.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::gauges::Counted;
use super::tally::Tally;
use super::{Clock, Engine};
use crate::call::{Attempt, CallWatch, call_clock};
use crate::error::{BridgeError, CallError};
use crate::outcome::Answer;
use crate::row::Arguments;
use crate::usage::Usage;

/// How long a cancelled call may take to end before it counts as abandoned and its permit is given back
/// (`docs/contract.md`, "Timeouts cancel": the slot is back within 100 ms).
const ABANDON_AFTER: Duration = Duration::from_millis(80);
/// A stuck loop is looked at again after so long: a process that was stopped for a while (SIGTSTP) finds its loop late
/// once, and turning a moment later.
const STUCK_AGAIN: Duration = Duration::from_millis(500);

/// A call that was let through.
pub(super) struct Handed<'a> {
    pub(super) row: u64,
    pub(super) arguments: &'a Arc<Arguments>,
    /// When.
    pub(super) at: Instant,
    /// The session's first hand-over.
    pub(super) first_call: Instant,
    pub(super) row_deadline: Option<Instant>,
}

impl Engine {
    /// One call; none where it was cut off.
    pub(super) async fn attempt(
        &self,
        call: Handed<'_>,
        in_flight: Counted<'_>,
        tally: &mut Tally,
    ) -> Option<Result<Answer, CallError>> {
        let Handed { row, arguments, at: handed_over, first_call, row_deadline } = call;
        tally.attempts += 1;
        let (clock, watch) = call_clock(handed_over.into_std());
        let gauges = &self.gauges;
        let all = gauges.in_flight.load(Ordering::Relaxed) + gauges.abandoned.load(Ordering::Relaxed);
        gauges.most_in_flight.fetch_max(all, Ordering::Relaxed);
        let attempt = Attempt { row, number: tally.attempts, arguments: Arc::clone(arguments), clock };
        let result = self.bounded(attempt, &watch, handed_over, row_deadline).await;
        let mut received = Instant::now();
        let [begun, mut ended] =
            [watch.begun(), watch.ended()].map(|mark| mark.map(|after| handed_over + after));
        let (began, seen) = (begun.unwrap_or(handed_over), ended.unwrap_or(received));
        tally.last = (began - first_call, seen - first_call);
        tally.abandoned = false;
        tally.timing.latency = seen - began;
        let mut result = result?;
        self.purse.price(&mut result);
        if let Err(CallError::Timeout(_) | CallError::Lost(_)) = &result {
            let lost = matches!(result, Err(CallError::Lost(_)));
            let released =
                self.killed.run_until_cancelled(self.release(watch, handed_over, lost, in_flight, tally));
            ended = Box::pin(released).await.flatten();
            received = Instant::now();
        }
        // A call that timed out runs on until it is cancelled or given up; one that never began was on its way.
        let ended = ended.unwrap_or(received);
        let begun = begun.unwrap_or(ended);
        tally.timing.running += ended - begun;
        tally.timing.bridge += (begun - handed_over) + (received - ended);
        Some(result)
    }

    /// The call, until its timeout; none where it was cut off. Time in which its event loop did not turn is not charged:
    /// whoever held it up, it was not this call's doing, or it will have ended by the time the loop turns again.
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
                // Not charged before its thread has it.
                (Clock::Begin, None) => Instant::now(),
            };
            // The row's own deadline holds also for a call that does not begin.
            let deadline = (since + limit).min(row_deadline.unwrap_or(since + limit)) + watch.excused();
            let turns = |stalled: Duration| stalled <= self.settings.timeout + self.settings.stuck_after;
            if turns(watch.stalled_now()) {
                stuck = None;
            } else if stuck.get_or_insert_with(Instant::now).elapsed() > STUCK_AGAIN {
                // Where another loop turns, only the calls of this one are lost.
                return Some(Err(if self.lanes().iter().any(|lane| turns(lane.stalled_now)) {
                    CallError::Lost("the event loop that ran the call does not turn any more".to_owned())
                } else {
                    BridgeError::HandoverStuck.into()
                }));
            }
            if Instant::now() >= deadline {
                return Some(Err(CallError::Timeout(limit)));
            }
            // A loop that does not turn now excuses more with every moment; look again, but not in a spin.
            wake.as_mut().reset(deadline.max(Instant::now() + Duration::from_millis(10)));
        }
    }

    /// After a timeout, or where the call is lost: waits for the cancelled call to end; past the bound it is abandoned, and
    /// counted until it does. Returns when the predictor ended, if it has.
    async fn release(
        &self,
        watch: CallWatch,
        handed_over: Instant,
        lost: bool,
        in_flight: Counted<'_>,
        tally: &mut Tally,
    ) -> Option<Instant> {
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
        watch.ended().map(|after| handed_over + after)
    }
}

/// What a call told that it used.
pub(super) fn used(result: &Result<Answer, CallError>) -> Option<&Usage> {
    match result {
        Ok(answer) => answer.usage.as_ref(),
        Err(error) => error.usage(),
    }
}
