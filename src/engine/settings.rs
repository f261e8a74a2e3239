//! What bounds an engine's attempts, and the moments from which a row's times are counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::rate::{Rates, RequestsACall};
use crate::policy::retry::RetryPolicy;

/// What bounds the attempts.
#[derive(Debug, Clone, Copy)]
pub struct EngineSettings {
    /// The most calls in flight at once.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// When the clock of that timeout starts.
    pub clock: Clock,
    /// How long all attempts of a row may take together, with the waits between them. It counts from the row's first
    /// hand-over and leaves out the waits for a permit.
    pub row_timeout: Option<Duration>,
    /// An event loop counts as stuck once it has not turned for the timeout and this much longer.
    pub stuck_after: Duration,
    /// Which failed attempts are tried again, and when.
    pub retry: RetryPolicy,
    /// The most requests and tokens a minute.
    pub rates: Rates,
    /// What is known in advance of the requests that a call makes.
    pub requests: RequestsACall,
    /// Seeds the jitter of the backoff.
    pub seed: u64,
}

/// When the clock of an attempt's timeout starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// When the call is handed over to the bridge.
    Handover,
    /// When the predictor begins: for a plain function, which may have to wait for a thread.
    Begin,
}

/// The moments from which a row's times are counted.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// When the row was read.
    pub read: Instant,
    /// When the session handed over its first call.
    pub first_call: Instant,
}
