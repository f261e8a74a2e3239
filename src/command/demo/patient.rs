//! A bridge that waits for each answer only so long: what `timeout.rs` does by hand, around every call to the model.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::bridge::{Bridge, Call, Description, Health};
use crate::call::Attempt;
use crate::error::CallError;

/// The way to the model.
pub(super) struct Patient {
    /// The way without a limit.
    pub(super) bridge: Arc<dyn Bridge>,
    /// For each call.
    pub(super) patience: Duration,
}

impl Bridge for Patient {
    fn submit(&self, attempt: Attempt) -> Call {
        let (call, patience) = (self.bridge.submit(attempt), self.patience);
        Call::driven(
            async move { timeout(patience, call).await.unwrap_or(Err(CallError::Timeout(patience))) },
        )
    }

    fn describe(&self) -> &Description {
        self.bridge.describe()
    }

    fn health(&self) -> Health {
        self.bridge.health()
    }

    fn close(&self, within: Duration) -> bool {
        self.bridge.close(within)
    }
}
