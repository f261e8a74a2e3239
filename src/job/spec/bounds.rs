//! The groups of timeouts, retries, stop conditions and budgets.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::group::group;
use super::values::{amount, budget, duration, wait};
use super::words::{Words, chosen};
use crate::policy::budget::{Bounds, Price};
use crate::policy::limits::MaxFailures;
use crate::policy::retry::RetryPolicy;

group! {
    /// Timeouts.
    [next_help_heading = "Time"] TimeSpec TimePatch {
        /// Time limit for each attempt, from its hand-over to Python, or `none`
        [value_name = "DURATION", value_parser = duration, env = "TAB_TIMEOUT"]
        timeout: Duration as (Duration) = Duration::from_secs(60),
        /// Time limit for all attempts of a row together, or `none`
        [value_name = "DURATION", value_parser = duration, env = "TAB_ROW_TIMEOUT"]
        row_timeout: Option<Duration> as (Duration) = None,
        /// Time limit for the whole run, or for all runs of `compare` together, or `none`; then no new calls are made
        [value_name = "DURATION", value_parser = duration, env = "TAB_DEADLINE"]
        deadline: Option<Duration> as (Duration) = None,
        /// How much longer than the timeout the event loop may be blocked before the run ends
        [value_name = "DURATION", value_parser = duration, hide = true, env = "TAB_STUCK_AFTER"]
        stuck_after: Duration as (Duration) = Duration::from_secs(10),
        /// How long calls in flight may go on once the run is stopping (Kubernetes kills 30 s after it asks to stop)
        [value_name = "DURATION", value_parser = wait, env = "TAB_GRACE"]
        grace: Duration as (Duration) = Duration::from_secs(20),
    }
}

group! {
    /// Retries.
    [next_help_heading = "Retry"] RetrySpec RetryPatch {
        /// Retries of a row, at most; attempts that the server throttled do not count
        [value_name = "N", env = "TAB_RETRIES"]
        retries: u32 as (u32) = 3,
        /// Longest wait before the first retry; it doubles with every retry
        [value_name = "DURATION", value_parser = wait, env = "TAB_BACKOFF"]
        backoff: Duration as (Duration) = Duration::from_secs(1),
        /// Longest wait before any retry
        [value_name = "DURATION", value_parser = wait, env = "TAB_BACKOFF_MAX"]
        backoff_max: Duration as (Duration) = Duration::from_secs(60),
        /// Whether an answer that was cut off at `max_tokens` is kept and counted, or fails its row
        [value_name = "WHAT", env = "TAB_CUT_OFF"]
        cut_off: CutOffChoice as (CutOffChoice) = CutOffChoice::Keep,
    }
}

/// The values of `--cut-off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum CutOffChoice {
    Keep,
    Fail,
}

chosen!(CutOffChoice);

impl RetrySpec {
    /// The retry policy of these values.
    pub fn policy(&self) -> RetryPolicy {
        RetryPolicy { retries: self.retries, base: self.backoff, cap: self.backoff_max }
    }
}

group! {
    /// Conditions that stop the run.
    [next_help_heading = "Stop"] StopSpec StopPatch {
        /// Stop at N failed rows, or when more than P% of at least 20 finished rows have failed; 100% never stops
        [value_name = "N|P%", env = "TAB_MAX_FAILURES"]
        max_failures: Option<MaxFailures> as (MaxFailures) = None,
    }
}

group! {
    /// Prices and budgets.
    [next_help_heading = "Money"] MoneySpec MoneyPatch {
        /// US dollars for a million prompt tokens, in place of the model's known price (with `--price-out`)
        [value_name = "USD", value_parser = amount, requires = "price_out", env = "TAB_PRICE_IN"]
        price_in: Option<f64> as (f64) = None,
        /// US dollars for a million tokens of answers (with `--price-in`)
        [value_name = "USD", value_parser = amount, requires = "price_in", env = "TAB_PRICE_OUT"]
        price_out: Option<f64> as (f64) = None,
        /// Stop before the whole job, all its sessions together, has cost more; needs a price
        [value_name = "USD", value_parser = budget, env = "TAB_MAX_COST"]
        max_cost: Option<f64> as (f64) = None,
        /// Stop before the whole job has used more tokens, in and out
        [value_name = "N", env = "TAB_MAX_TOTAL_TOKENS"]
        max_total_tokens: Option<NonZeroU64> as (NonZeroU64) = None,
    }
}

impl MoneySpec {
    /// The price, if both parts were given.
    pub fn price(&self) -> Option<Price> {
        Some(Price { input: self.price_in?, output: self.price_out? })
    }

    /// The budgets.
    pub fn bounds(&self) -> Bounds {
        Bounds { cost: self.max_cost, tokens: self.max_total_tokens.map(NonZeroU64::get) }
    }
}
