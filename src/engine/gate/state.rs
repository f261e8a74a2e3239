//! What limits the calls now, and what each ending says of it. Not who waits for it.

use std::time::Duration;

use super::Side;
use crate::error::{CallError, FailureKind};
use crate::event::{LimitedBy, LimitedFor};
use crate::outcome::Answer;
use crate::policy::breaker::Breaker;
use crate::policy::pace::{Admission, Pace};
use crate::policy::rate::{Rate, Short};

#[derive(Debug)]
pub(super) struct State {
    pub(super) pace: Pace,
    pub(super) breaker: Breaker,
    pub(super) rate: Rate,
    pub(super) waiting: Option<(LimitedBy, Duration)>,
    pub(super) waited: LimitedFor,
    pub(super) last_begun: Duration,
    /// The last failure for want of a server.
    pub(super) outage: Option<String>,
    /// Whether that came of a server which took the call.
    pub(super) server_answers: bool,
}

impl State {
    /// Whether nothing is limited and nothing need be told.
    pub(super) fn is_calm(&self, now: Duration) -> bool {
        self.rate.is_unlimited() && self.pace.is_free(now) && self.breaker.is_full()
    }

    /// What a next call would have to wait for, and until when where that is known.
    pub(super) fn short(&mut self, now: Duration, in_flight: usize) -> Option<(LimitedBy, Option<Duration>)> {
        let server = if self.breaker.is_open() { LimitedBy::Outage } else { LimitedBy::Server };
        match self.pace.admits(now, in_flight) {
            Admission::At(until) => return Some((server, Some(until))),
            Admission::Full if !self.pace.is_free(now) => return Some((server, None)),
            // Permits bound it.
            Admission::Full | Admission::Now => {}
        }
        self.rate.pay(now, in_flight).err().map(|short| match short {
            Short::OfRequests(until) => (LimitedBy::Rpm, Some(until)),
            Short::OfKnowledge => (LimitedBy::Rpm, None),
            Short::OfTokens(until) => (LimitedBy::Tpm, Some(until)),
        })
    }

    pub(super) fn waited_until(&mut self, now: Duration) {
        if let Some((by, since)) = self.waiting.take() {
            *self.waited.by(by) += now.saturating_sub(since);
        }
    }

    pub(super) fn judge(
        &mut self,
        now: Duration,
        row: u64,
        (begun, side): (Duration, Side),
        result: &Result<Answer, CallError>,
        in_flight: usize,
    ) {
        match result {
            // No word of the server, nor of its silence.
            Err(CallError::Lost(_)) => {}
            Err(error) if tells_of_no_server(error) => {
                let next = match error {
                    _ if error.is_timeout() => self.breaker.timed_out(now, begun, row),
                    _ => self.breaker.failed(now, begun, row),
                };
                if let Some(next) = next {
                    self.pace.hold_until(next);
                    self.outage = Some(error.to_string());
                    self.server_answers = error.status().is_some() || error.unanswered().is_some();
                }
            }
            Err(error) if error.kind() == FailureKind::Throttled => {
                self.breaker.answered(begun, side == Side::Again);
                self.pace.refused(now, begun, error.retry_after(), in_flight);
            }
            Err(_) | Ok(_) => {
                if self.breaker.answered(begun, side == Side::Again) {
                    self.pace.restart(now);
                }
                self.pace.answered(begun);
            }
        }
    }
}

/// Whether an error is no word of a server: there is none, it fails, or it does not answer in time.
pub(super) fn tells_of_no_server(error: &CallError) -> bool {
    error.is_timeout() || error.kind() == FailureKind::Unavailable
}
