//! `--max-cost` and `--max-total-tokens`: decides whether there is room for one more call.
//!
//! Calls in flight count before they end. A call that has not yet reported what it used is budgeted at the mean of
//! those that have, and before any has, at an estimate. So the bounds are exceeded at most by what the calls in flight
//! use beyond the mean.

use serde::{Deserialize, Serialize};

use super::stop::StopReason;
use crate::usage::{Spent, Usage};

/// Relative tolerance for rounding errors in sums of dollars: a budget that is used up exactly is not exceeded.
const ROUNDING: f64 = 1e-9;

/// The price of a model, in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// For the prompt.
    pub input: f64,
    /// For the answer.
    pub output: f64,
}

impl Price {
    /// The cost of this usage, in US dollars.
    pub fn of(self, usage: &Usage) -> f64 {
        (usage.input as f64 * self.input + usage.output as f64 * self.output) / 1e6
    }
}

/// What a job may use in all its sessions together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// `--max-cost`, in US dollars.
    pub cost: Option<f64>,
    /// `--max-total-tokens`, in and out.
    pub tokens: Option<u64>,
}

impl Bounds {
    /// Whether there is no bound.
    pub fn is_empty(&self) -> bool {
        self.cost.is_none() && self.tokens.is_none()
    }
}

/// Whether a call may be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Room {
    /// It may be made, and counts from now on.
    Now,
    /// Perhaps later, once a call in flight has ended.
    Later,
    /// No call may be made any more.
    Never(StopReason),
}

/// The bounds, and what has been used.
#[derive(Debug)]
pub struct Budget {
    bounds: Bounds,
    /// Used for calls that report their tokens but no cost.
    price: Option<Price>,
    spent: Sum,
    /// Calls that reported what they used.
    told: u64,
    /// What a call is budgeted at until one has reported what it used.
    estimate: Sum,
    in_flight: u64,
    /// Calls that reported nothing but may be billed.
    untold: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    tokens: f64,
    cost: f64,
}

impl Budget {
    /// A budget of which nothing is used yet. `estimate` is what one call is estimated to use.
    pub fn new(bounds: Bounds, price: Option<Price>, estimate: &Usage) -> Self {
        let mut budget = Self {
            bounds,
            price,
            spent: Sum::default(),
            told: 0,
            estimate: Sum::default(),
            in_flight: 0,
            untold: 0,
        };
        budget.estimate = budget.sum(estimate);
        budget
    }

    /// Counts what earlier sessions of the job used.
    #[must_use]
    pub fn resuming(mut self, spent: &Spent) -> Self {
        self.spent = self.sum(&spent.usage);
        // Refused attempts used nothing, and a call that reports its usage may have made several requests.
        self.told = spent.usage.calls.min(spent.calls().saturating_sub(spent.unknown()));
        self.untold = spent.unknown();
        self
    }

    /// Asks whether one more call may be made.
    pub fn reserve(&mut self) -> Room {
        let Some(reason) = self.lacking(self.in_flight + self.untold + 1) else {
            self.in_flight += 1;
            return Room::Now;
        };
        // The estimate alone must not refuse the first call, which shows what a call really uses.
        let unknown = self.told + self.untold == 0 && self.lacking(0).is_none();
        match (self.in_flight, unknown) {
            (0, true) => {
                self.in_flight += 1;
                Room::Now
            }
            (0, false) => Room::Never(reason),
            _ => Room::Later,
        }
    }

    /// Notes that a call has ended. `used` is what it reported; `untold` says that it may be billed for more, which is
    /// then budgeted at the mean.
    pub fn settle(&mut self, used: Option<&Usage>, untold: bool) {
        self.in_flight -= 1;
        self.untold += u64::from(untold);
        if let Some(used) = used {
            let used = self.sum(used);
            self.spent = Sum { tokens: self.spent.tokens + used.tokens, cost: self.spent.cost + used.cost };
            self.told += 1;
        }
    }

    /// Returns the room of a call that was not made after all.
    pub fn give_back(&mut self) {
        self.in_flight -= 1;
    }

    fn sum(&self, usage: &Usage) -> Sum {
        let cost = usage.cost_usd.or_else(|| Some(self.price?.of(usage)));
        Sum { tokens: usage.tokens() as f64, cost: cost.unwrap_or_default() }
    }

    fn a_call(&self) -> Sum {
        match self.told {
            0 => self.estimate,
            told => Sum { tokens: self.spent.tokens / told as f64, cost: self.spent.cost / told as f64 },
        }
    }

    /// The bound that would be exceeded if `calls` more calls were counted beyond those that have reported.
    fn lacking(&self, calls: u64) -> Option<StopReason> {
        let a_call = self.a_call();
        let (Sum { tokens, cost }, untold) = (self.spent, self.untold);
        let over = |max: f64, spent: f64, a_call: f64| spent + calls as f64 * a_call > max * (1.0 + ROUNDING);
        if let Some(max) = self.bounds.cost.filter(|max| over(*max, cost, a_call.cost)) {
            return Some(StopReason::MaxCost { spent: cost, a_call: a_call.cost, untold, max });
        }
        let max = self.bounds.tokens.filter(|max| over(*max as f64, tokens, a_call.tokens))?;
        Some(StopReason::MaxTokens { spent: tokens as u64, a_call: a_call.tokens as u64, untold, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price { input: 1.0, output: 10.0 };

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output, calls: 1, cost_usd: None }
    }

    fn tokens(max: u64) -> Budget {
        Budget::new(Bounds { cost: None, tokens: Some(max) }, None, &usage(100, 400))
    }

    fn used(usage: Usage, attempts: u64, untold: u64) -> Spent {
        Spent { attempts, usage, untold, ..Spent::default() }
    }

    /// Calls let through until one has to wait or none is any more.
    fn wave(budget: &mut Budget) -> u64 {
        (0..1_000).find(|_| budget.reserve() != Room::Now).unwrap()
    }

    #[test]
    fn calls_in_flight_count_as_their_estimate_until_one_has_told() {
        let mut budget = tokens(2_000);
        assert_eq!(wave(&mut budget), 4);
        budget.settle(Some(&usage(90, 10)), false);
        assert_eq!(wave(&mut budget), 16, "100 are spent, 300 in flight at 100 each, and 16 more make 2,000");
    }

    #[test]
    fn nothing_is_exceeded_by_calls_that_use_the_mean_and_all_of_it_is_used() {
        let mut budget = tokens(1_000);
        let mut made = 0;
        loop {
            match wave(&mut budget) {
                0 => break,
                calls => (0..calls).for_each(|_| budget.settle(Some(&usage(70, 30)), false)),
            }
            made = budget.told;
        }
        assert_eq!(made, 10);
        assert_eq!(
            budget.reserve(),
            Room::Never(StopReason::MaxTokens { spent: 1_000, a_call: 100, untold: 0, max: 1_000 })
        );
    }

    #[test]
    fn the_first_call_shows_what_one_uses_however_much_it_was_estimated_to() {
        let mut budget = tokens(250);
        assert_eq!((budget.reserve(), budget.reserve()), (Room::Now, Room::Later));
        budget.settle(Some(&usage(50, 50)), false);
        assert_eq!((budget.reserve(), budget.reserve()), (Room::Now, Room::Later));
    }

    #[test]
    fn sessions_add_up_and_none_has_a_first_call_of_its_own() {
        let mut budget = tokens(1_000).resuming(&used(usage(900, 50), 1, 0));
        assert!(matches!(budget.reserve(), Room::Never(StopReason::MaxTokens { spent: 950, .. })));
        let earlier = Usage { calls: 9, ..usage(900, 0) };
        assert_eq!(
            wave(&mut tokens(1_000).resuming(&used(earlier, 30, 0))),
            1,
            "21 attempts were refused, and told nothing"
        );
        assert_eq!(wave(&mut tokens(1_000).resuming(&used(earlier, 3, 0))), 0, "of three requests each");
        let five = Usage { calls: 5, ..usage(500, 0) };
        assert_eq!(wave(&mut tokens(1_000).resuming(&used(five, 7, 2))), 3, "two have not told theirs");
    }

    #[test]
    fn costs_are_those_told_or_by_the_price() {
        let bounds = Bounds { cost: Some(0.01), tokens: None };
        let mut budget = Budget::new(bounds, Some(PRICE), &usage(100, 90));
        assert_eq!(wave(&mut budget), 10, "a tenth of a cent each");
        budget.settle(Some(&Usage { cost_usd: Some(0.002), ..usage(100, 90) }), false);
        (0..9).for_each(|_| budget.settle(None, false));
        assert_eq!(wave(&mut budget), 4);
        budget.settle(Some(&usage(100, 90)), false);
        (0..3).for_each(|_| budget.settle(None, false));
        assert_eq!(wave(&mut budget), 4, "0.003 by two calls: 0.0015 each");
    }

    #[test]
    fn a_call_given_up_counts_as_the_mean_and_one_refused_as_nothing() {
        let mut budget = tokens(1_000).resuming(&used(usage(50, 50), 1, 0));
        assert_eq!(wave(&mut budget), 9);
        (0..4).for_each(|_| budget.settle(None, true));
        (0..5).for_each(|_| budget.settle(None, false));
        assert_eq!(wave(&mut budget), 5);
    }

    #[test]
    fn the_reason_names_the_calls_that_take_room_and_told_nothing() {
        for (untold, named) in [
            (
                1,
                "0 of `--max-total-tokens 900` used, no room for a call of 500; 1 call that did not report what it used is taken as 500\nhint",
            ),
            (
                2,
                "no room for a call of 500; 2 calls that did not report what they used are taken as 500 each\nhint",
            ),
        ] {
            let mut budget = tokens(900).resuming(&used(Usage::default(), untold, untold));
            let Room::Never(reason) = budget.reserve() else { panic!("there is no room") };
            assert!(reason.to_string().contains(named), "{reason}");
        }
        let bounds = Bounds { cost: Some(0.0015), tokens: None };
        let mut budget = Budget::new(bounds, Some(PRICE), &usage(100, 90));
        budget = budget.resuming(&used(Usage::default(), 1, 1));
        let Room::Never(reason) = budget.reserve() else { panic!("there is no room") };
        let named = "$0.00 of `--max-cost 0.0015` spent, no room for a call of $0.00100; 1 call that did not report what it used is taken as $0.00100";
        assert!(reason.to_string().starts_with(named), "{reason}");
    }

    #[test]
    fn what_was_not_called_after_all_leaves_its_room() {
        let mut budget = tokens(1_000);
        assert_eq!(wave(&mut budget), 2);
        budget.give_back();
        assert_eq!(wave(&mut budget), 1);
    }
}
