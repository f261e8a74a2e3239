//! The limits on calls: whether they let one more through, and what they learn from each call that ends.

use std::time::Duration;

use tokio::time::Instant;

use super::queue::Side;
use crate::error::{CallError, FailureKind};
use crate::event::{LimitedBy, LimitedFor};
use crate::outcome::Answer;
use crate::policy::breaker::{Breaker, Hopeless};
use crate::policy::budget::{Budget, Room};
use crate::policy::pace::{Admits, Pace};
use crate::policy::rate::{Due, Rate, Short};
use crate::policy::stop::StopReason;
use crate::row::Arguments;

/// The limits, the permits aside. They are told the time, counted from `started`.
#[derive(Debug)]
pub(super) struct Limiters {
    started: Instant,
    pace: Pace,
    pub(super) breaker: Breaker,
    rate: Rate,
    pub(super) budget: Option<Budget>,
    /// Why the budget has no room for any call, once it has none.
    pub(super) exhausted: Option<StopReason>,
    /// Which limit the row at the front of the queue waits for, and since when that is not counted in `limited` yet.
    waiting: Option<(LimitedBy, Duration)>,
    limited: LimitedFor,
    /// What the rates are charged with for the next call, whichever row makes it.
    charged: Option<Due>,
    last_begun: Duration,
    /// Nothing was limited when the last call was judged, and an answer would have changed nothing.
    idle: bool,
    /// The latest time at which a call began that a server ended.
    answered: Duration,
    /// The last failure that told of an outage, and whether it came from a server that took the call.
    last_failure: Option<(String, bool)>,
}

/// What is remembered of an admitted call until it ends.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    pub(super) row: u64,
    pub(super) side: Side,
    pub(super) arguments: &'a Arguments,
    /// What the call was estimated to use.
    pub(super) estimated: Due,
    /// When it began. No two calls begin at the same time.
    pub(super) begun: Duration,
}

impl Limiters {
    pub(super) fn new(pace: Pace, breaker: Breaker, rate: Rate) -> Self {
        Self {
            started: Instant::now(),
            pace,
            breaker,
            rate,
            budget: None,
            exhausted: None,
            waiting: None,
            limited: LimitedFor::default(),
            charged: None,
            last_begun: Duration::ZERO,
            idle: false,
            answered: Duration::ZERO,
            last_failure: None,
        }
    }

    /// Lets the row at the front make its call. Returns when the call begins and what it is estimated to use.
    ///
    /// # Errors
    ///
    /// Fails if a limit holds the row back, with the time at which to ask again; without a time, ask again when the
    /// next call ends.
    pub(super) fn admit(
        &mut self,
        at: Instant,
        arguments: &Arguments,
        in_flight: usize,
    ) -> Result<(Duration, Due), Option<Instant>> {
        let now = at - self.started;
        let estimated = *self.charged.get_or_insert_with(|| {
            let estimated = self.rate.estimate(arguments);
            self.rate.owe(estimated);
            estimated
        });
        if let Some((by, until)) = self.lacking(now, in_flight) {
            self.waiting = by.map(|by| (by, now));
            return Err(until.map(|until| self.started + until));
        }
        self.charged = None;
        // Calls are told apart by when they began, also where the clock shows the same time.
        self.last_begun = now.max(self.last_begun + Duration::from_nanos(1));
        self.pace.sent(self.last_begun);
        Ok((self.last_begun, estimated))
    }

    /// What a call would have to wait for, and until when if that is known. A wait for the budget has no name.
    fn lacking(&mut self, now: Duration, in_flight: usize) -> Option<(Option<LimitedBy>, Option<Duration>)> {
        let server = Some(if self.breaker.is_open() { LimitedBy::Outage } else { LimitedBy::Server });
        match self.pace.admits(now, in_flight) {
            Admits::Now => {}
            Admits::At(until) => return Some((server, Some(until))),
            Admits::Full => return Some((server, None)),
        }
        match self.rate.pay(now, in_flight) {
            Ok(()) => {}
            Err(Short::Requests(until)) => return Some((Some(LimitedBy::Rpm), Some(until))),
            Err(Short::Knowledge) => return Some((Some(LimitedBy::Rpm), None)),
            Err(Short::Tokens(until)) => return Some((Some(LimitedBy::Tpm), Some(until))),
        }
        // Last, since what it lets through is in flight from then on.
        match self.budget.as_mut()?.reserve() {
            Room::Now => None,
            Room::Later => Some((None, None)),
            Room::Never(reason) => {
                self.exhausted = Some(reason);
                Some((None, None))
            }
        }
    }

    /// For how long each limit has held the run back so far.
    pub(super) fn limited_for(&mut self, at: Instant) -> LimitedFor {
        if let Some((by, since)) = &mut self.waiting {
            let now = at - self.started;
            *self.limited.by(*by) += now.saturating_sub(*since);
            *since = now.max(*since);
        }
        self.limited
    }

    /// Notes that the row at the front has stopped waiting, for now.
    pub(super) fn waits_no_more(&mut self, at: Instant) {
        self.limited_for(at);
        self.waiting = None;
    }

    /// What limits the run now.
    pub(super) fn limited_by(&self) -> Option<LimitedBy> {
        let waits_for = self.waiting.map(|(by, _)| by);
        waits_for.or_else(|| self.breaker.is_open().then_some(LimitedBy::Outage))
    }

    /// The last error of the outage that is going on, if one is.
    pub(super) fn outage(&self) -> Option<String> {
        let (error, _) = self.last_failure.as_ref().filter(|_| self.breaker.is_open())?;
        Some(error.clone())
    }

    /// Why there is no hope of an answer, if there is none.
    pub(super) fn unreachable(&self) -> Option<StopReason> {
        let Hopeless { silent_for, hangs } = self.breaker.hopeless()?;
        let (error, answers) = self.last_failure.clone()?;
        Some(StopReason::Unreachable { error, silent_for, hangs, answers })
    }

    /// Takes in that no row is left that has not been asked.
    pub(super) fn all_asked(&mut self) {
        let now = self.started.elapsed();
        if self.breaker.all_asked() {
            self.pace.restart(now);
        }
        self.set_idle(now);
    }

    /// Takes in that an admitted call was not made: another one may be, in its place.
    pub(super) fn give_back(&mut self, ticket: &Ticket<'_>) {
        self.charged.get_or_insert(ticket.estimated);
        self.budget.iter_mut().for_each(Budget::give_back);
    }

    /// Takes in that an admitted call was cut off.
    pub(super) fn cut_off(&mut self) {
        self.budget.iter_mut().for_each(|budget| budget.settle(None, true));
    }

    /// Takes in how a call ended; `row_begun` is when the first call of its row began. Returns whether an outage is
    /// assumed now.
    pub(super) fn ended(
        &mut self,
        ticket: &Ticket<'_>,
        row_begun: Duration,
        result: &Result<Answer, CallError>,
        in_flight: usize,
    ) -> bool {
        if let Some(budget) = &mut self.budget {
            match result {
                Ok(answer) => budget.settle(answer.usage.as_ref(), answer.usage.is_none()),
                Err(error) => budget.settle(error.usage(), error.is_untold()),
            }
        }
        if result.as_ref().err().is_none_or(comes_from_server) {
            self.answered = self.answered.max(ticket.begun);
        }
        if result.is_ok() && self.idle {
            return false;
        }
        let now = self.started.elapsed();
        self.rate.settle(ticket.arguments, ticket.estimated, result);
        // A row that others have overtaken is slow by itself.
        let overtaken = self.answered > row_begun && result.as_ref().is_err_and(CallError::is_timeout);
        if !overtaken || self.breaker.is_open() {
            self.judge(now, ticket, result, in_flight);
        }
        self.set_idle(now);
        self.breaker.is_open()
    }

    /// Whether nothing limits the run, as far as the calls that ended tell.
    pub(super) fn is_idle(&self) -> bool {
        self.idle && self.budget.is_none()
    }

    fn set_idle(&mut self, now: Duration) {
        self.idle = self.rate.is_unlimited() && self.pace.is_free(now) && self.breaker.is_full();
    }

    fn judge(
        &mut self,
        now: Duration,
        ticket: &Ticket<'_>,
        result: &Result<Answer, CallError>,
        in_flight: usize,
    ) {
        let &Ticket { row, begun, side, .. } = ticket;
        let again = side == Side::Again;
        match result {
            // It does not show whether there is a server.
            Err(error) if error.is_of_lane() => {}
            Err(error) if shows_no_server(error) => {
                let probe_at = match error {
                    _ if error.is_timeout() => self.breaker.timed_out(now, begun, row),
                    _ => self.breaker.failed(now, begun, row),
                };
                if let Some(probe_at) = probe_at {
                    self.pace.hold_until(probe_at);
                    let answers = error.status().is_some() || error.unanswered().is_some();
                    self.last_failure = Some((error.to_string(), answers));
                }
            }
            Err(error) if error.kind() == FailureKind::Throttled => {
                self.breaker.answered(begun, again);
                self.pace.refused(now, begun, error.retry_after(), in_flight);
            }
            Err(_) | Ok(_) => {
                if self.breaker.answered(begun, again) {
                    self.pace.restart(now);
                }
                self.pace.answered(begun);
            }
        }
    }
}

/// Whether an error shows that there is no server, or that it fails or does not answer in time.
fn shows_no_server(error: &CallError) -> bool {
    error.is_timeout() || error.kind() == FailureKind::Unavailable
}

/// Whether an error came from a server.
fn comes_from_server(error: &CallError) -> bool {
    !shows_no_server(error) && !error.is_of_lane()
}
