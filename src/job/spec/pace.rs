//! The groups about pace: calls in flight, and requests and tokens per minute.

use std::num::NonZeroU32;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::values::concurrency;
use super::words::Words;
use crate::policy::rate::Rates;

/// Whether several calls may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One call is in flight at a time.
    Sequential,
    /// As many calls are in flight as [`PaceSpec::concurrency`] allows.
    Concurrent,
}

/// How many calls may be in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PaceSpec {
    /// Whether several calls may be in flight.
    pub mode: Mode,
    /// The most calls in flight in [`Mode::Concurrent`].
    pub concurrency: usize,
}

impl Default for PaceSpec {
    fn default() -> Self {
        Self { mode: Mode::Concurrent, concurrency: 16 }
    }
}

impl PaceSpec {
    /// The most calls in flight.
    pub fn calls(&self) -> usize {
        if self.mode == Mode::Sequential { 1 } else { self.concurrency }
    }

    /// Replaces the values that the patch gives.
    pub fn lay(&mut self, patch: &PacePatch) {
        self.mode = patch.mode().unwrap_or(self.mode);
        self.concurrency = patch.concurrency.unwrap_or(self.concurrency);
    }

    pub(super) fn words(&self, words: &mut Vec<(String, Vec<String>)>) {
        words.push(("sequential".to_owned(), (self.mode == Mode::Sequential).words()));
        words.push(("concurrency".to_owned(), self.concurrency.words()));
    }
}

/// How many calls may be in flight.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Pace")]
pub struct PacePatch {
    /// One call at a time (or set `TAB_SEQUENTIAL`)
    #[arg(long, overrides_with = "concurrent")]
    pub sequential: bool,
    /// Several calls at a time (the default, or set `TAB_CONCURRENT`)
    #[arg(long, overrides_with = "sequential")]
    pub concurrent: bool,
    /// Calls in flight at most
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency, env = "TAB_CONCURRENCY")]
    pub concurrency: Option<usize>,
}

impl PacePatch {
    /// The mode; `None` if no option gives one.
    pub fn mode(&self) -> Option<Mode> {
        match (self.sequential, self.concurrent) {
            (true, _) => Some(Mode::Sequential),
            (_, true) => Some(Mode::Concurrent),
            _ => None,
        }
    }
}

group! {
    /// How many requests and tokens per minute.
    [next_help_heading = "Pace"] RateSpec RatePatch {
        /// Requests a minute at most, evenly spread
        [value_name = "N", env = "TAB_RPM"]
        rpm: Option<NonZeroU32> as (NonZeroU32) = None,
        /// Tokens a minute at most, in and out: estimated before each call, settled by what it used
        [value_name = "N", env = "TAB_TPM"]
        tpm: Option<NonZeroU32> as (NonZeroU32) = None,
    }
}

impl RateSpec {
    /// The rate limits of these values.
    pub fn rates(&self) -> Rates {
        Rates { rpm: self.rpm, tpm: self.tpm }
    }
}
