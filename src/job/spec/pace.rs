//! How fast: calls at once, and calls a minute.

use std::num::NonZeroU32;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::values::concurrency;
use super::words::Words;
use crate::policy::rate::Rates;

/// One at a time, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One call in flight.
    Sequential,
    /// As many as the concurrency allows.
    Concurrent,
}

/// How many calls at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PaceSpec {
    /// One at a time, or several.
    pub mode: Mode,
    /// Calls in flight at most, where there may be several.
    pub concurrency: usize,
}

impl Default for PaceSpec {
    fn default() -> Self {
        Self { mode: Mode::Concurrent, concurrency: 16 }
    }
}

impl PaceSpec {
    /// Calls in flight at most, in the mode chosen.
    pub fn calls(&self) -> usize {
        if self.mode == Mode::Sequential { 1 } else { self.concurrency }
    }

    /// Lays over it what was given.
    pub fn lay(&mut self, patch: &PacePatch) {
        self.mode = patch.mode().unwrap_or(self.mode);
        self.concurrency = patch.concurrency.unwrap_or(self.concurrency);
    }

    pub(super) fn words(&self, words: &mut Vec<(String, Vec<String>)>) {
        words.push(("sequential".to_owned(), (self.mode == Mode::Sequential).words()));
        words.push(("concurrency".to_owned(), self.concurrency.words()));
    }
}

/// How many calls at once.
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
    /// The mode, where one was given.
    pub fn mode(&self) -> Option<Mode> {
        match (self.sequential, self.concurrent) {
            (true, _) => Some(Mode::Sequential),
            (_, true) => Some(Mode::Concurrent),
            _ => None,
        }
    }
}

group! {
    /// How many calls a minute.
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
    /// The policy they make.
    pub fn rates(&self) -> Rates {
        Rates { rpm: self.rpm, tpm: self.tpm }
    }
}
