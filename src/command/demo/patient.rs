//! A bridge that waits for each answer only so long: what `timeout.rs` does by hand, around every call to the model.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::bridge::Bridge;
use crate::bridge::any::AnyBridge;
use crate::call::{Attempt, CallError};
use crate::row::Answer;

/// The way to the model.
pub(super) struct Patient {
    /// The way without a limit.
    pub(super) bridge: Arc<AnyBridge>,
    /// For each call.
    pub(super) patience: Duration,
}

impl Bridge for Patient {
    async fn call(&self, attempt: Attempt) -> Result<Answer, CallError> {
        let answer = timeout(self.patience, self.bridge.call(attempt)).await;
        answer.unwrap_or(Err(CallError::Timeout(self.patience)))
    }

    fn stalled(&self) -> Duration {
        self.bridge.stalled()
    }

    fn stalled_now(&self) -> Duration {
        self.bridge.stalled_now()
    }
}
