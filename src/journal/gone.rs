//! The record of what was used for rows that are gone from the input. Not which rows those were.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::row::Usage;

/// What attempts came to whose rows the journal no longer has: they bound the job as before, and are no row's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    /// Calls handed to the bridge.
    pub attempts: u64,
    /// Those after the first of a row in its session.
    pub retries: u64,
    /// Those that took longer than they were allowed.
    pub timeouts: u64,
    /// Those that ignored cancellation.
    pub abandoned: u64,
    /// Failed ones by class.
    pub by_error: BTreeMap<Arc<str>, u64>,
    /// What they told that they used.
    pub usage: Usage,
    /// Those that may be billed and told nothing.
    pub untold: u64,
    /// Calls that may have been under way when a session died, beyond the attempts.
    pub lost: u64,
}
