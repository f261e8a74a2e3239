//! The seam to the predictor: one trait and its implementations. Not the retries, timeouts or permits.

pub mod any;
pub mod fake;
pub mod into_future;
pub mod python;

use std::future::Future;
use std::time::Duration;

use crate::call::{Attempt, CallError};
use crate::event::Blockage;
use crate::row::Answer;

/// Runs predictor calls.
pub trait Bridge: Send + Sync + 'static {
    /// Makes one call. Dropping the future cancels the call; whatever of it is left running afterwards keeps the
    /// attempt's clock alive (`CallWatch::over`).
    fn call(&self, attempt: Attempt) -> impl Future<Output = Result<Answer, CallError>> + Send;

    /// For how long in all, since the bridge was made, the event loop did not turn (gaps over 250 ms, the running
    /// one included). Such time is charged to no attempt's timeout.
    fn stalled(&self) -> Duration;

    /// For how long the event loop has not turned at this moment: zero, or over 250 ms.
    fn stalled_now(&self) -> Duration;

    /// What was found to keep the event loop from turning since this was asked last; each blockage is told once, soon
    /// after it has begun.
    fn blocked(&self) -> Vec<Blockage> {
        Vec::new()
    }
}
