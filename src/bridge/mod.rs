//! The seam to whatever answers: one trait, and its implementations. The retries, timeouts and permits are the engine's.

pub mod into_future;
pub mod python;
pub mod scripted;

mod call;
mod description;
mod health;

use std::time::Duration;

pub use self::call::{Call, CancelCall, Reply};
pub use self::description::{Description, Metered};
pub use self::health::{Health, LaneHealth, Nulled};
use crate::call::Attempt;
use crate::input::Types;

/// Runs predictor calls.
pub trait Bridge: Send + Sync + 'static {
    /// What the predictor is and takes.
    fn describe(&self) -> &Description;

    /// Who checks values for those parameters that have a type; none where no parameter has one.
    fn types(&self) -> Option<&dyn Types> {
        None
    }

    /// Hands a call over, at once. Dropping what is returned cancels the call.
    ///
    /// The bridge tells the attempt's clock which lane runs the call (`CallClock::runs_on`) if that may fail to turn. A call
    /// whose lane dies ends as `CallError::Lost`, and one that no lane is left for as `CallError::Bridge`.
    fn submit(&self, attempt: Attempt) -> Call;

    /// How it is now. Takes what was found to block a lane since this was asked last.
    fn health(&self) -> Health;

    /// Cancels what is left and ends all lanes; calls that are made or still run end as `CallError::Bridge`. Blocks the
    /// thread for at most so long, and returns whether that was enough.
    fn close(&self, within: Duration) -> bool;
}
