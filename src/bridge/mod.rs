//! The seam to whatever answers: one trait, and its implementations. Retries, timeouts and permits belong to the
//! engine.

pub mod into_future;
pub(crate) mod lease;
pub mod python;
pub mod remote;
pub mod scripted;
pub mod workers;

mod call;
mod description;
mod health;

use std::pin::Pin;
use std::time::Duration;

pub use self::call::{Call, CancelCall, Reply};
pub use self::description::{Description, Metered};
pub use self::health::{Health, LaneHealth, Nulled};
pub use crate::call::{Attempt, CallClock, CallWatch, Lane, call_clock};
use crate::input::Types;
pub use crate::secret::Secrets;

/// What a row keeps from the moment at which its call can be handed over until the call has ended.
pub type Turn = Box<dyn Send + Sync>;

/// Resolves when a row's call can be handed over.
pub type AwaitTurn = Pin<Box<dyn Future<Output = Turn> + Send>>;

/// Runs predictor calls.
pub trait Bridge: Send + Sync + 'static {
    /// What the predictor is and takes.
    fn describe(&self) -> &Description;

    /// Checks values for parameters that have a type. None if the bridge knows no types.
    fn types(&self) -> Option<&dyn Types> {
        None
    }

    /// Hands a call over without waiting. Dropping what is returned cancels the call.
    ///
    /// The bridge tells the attempt's clock which lane runs the call (`CallClock::runs_on`) if that lane may fail to
    /// turn. A call whose lane dies ends as `CallError::Lost`, and a call for which no lane is left as
    /// `CallError::Bridge`.
    fn submit(&self, attempt: Attempt) -> Call;

    /// The wait for the moment at which a call for this row can be handed over; `None` where that is now, as a rule. The
    /// row holds no permit meanwhile, and keeps its turn until the call has ended.
    fn turn(&self, row: u64) -> Option<AwaitTurn> {
        let _ = row;
        None
    }

    /// The state of the bridge. Takes the blockages that were found since the last call.
    fn health(&self) -> Health;

    /// Takes what went wrong in the bridge itself since this was asked last, in words for people, each with its remedy.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// How long calls that the bridge has lost sight of may still run.
    fn left_behind(&self) -> Duration {
        Duration::ZERO
    }

    /// Cancels the calls that are left and ends all lanes. Calls that still run, or are made later, end as
    /// `CallError::Bridge`. Blocks for at most `within`, and returns whether all lanes have ended. May be called on any
    /// thread, and again.
    ///
    /// A bridge that is dropped ends in the same way, without anybody waiting for it.
    fn close(&self, within: Duration) -> bool;
}
