//! The bridge a run was asked for, whichever it is, behind one type.

use std::sync::Arc;
use std::time::Duration;

use super::Bridge;
use super::fake::FakeBridge;
use super::into_future::IntoFutureBridge;
use super::python::PythonBridge;
use super::python::predictor::Description;
use crate::call::{Attempt, CallError};
use crate::event::Blockage;
use crate::row::Answer;

/// One of the bridges.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub enum AnyBridge {
    /// The production one.
    Python(PythonBridge),
    /// The textbook one.
    IntoFuture(IntoFutureBridge),
    /// The one without Python.
    Fake(FakeBridge),
}

impl AnyBridge {
    /// The name that chooses it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Python(_) => "python",
            Self::IntoFuture(_) => "into_future",
            Self::Fake(_) => "fake",
        }
    }

    /// What the predictor is and takes; the fake one takes a `question`.
    pub fn description(&self) -> Description {
        match self {
            Self::Python(bridge) => bridge.description().clone(),
            Self::IntoFuture(bridge) => bridge.description().clone(),
            Self::Fake(_) => Description {
                spec: "fake".to_owned(),
                kind: "the fake bridge".to_owned(),
                parameters: vec![("question".to_owned(), true)],
                types: Arc::default(),
                takes_all: false,
                source: None,
                threaded: false,
                metered: None,
                outputs: Vec::new(),
                repeating: Vec::new(),
                cautions: Vec::new(),
            },
        }
    }

    /// The event loop's name and the latest that it came to a turn it had asked for.
    pub fn event_loop(&self) -> (String, Duration) {
        match self {
            Self::Python(bridge) => (bridge.loop_name().to_owned(), bridge.longest_lag()),
            Self::IntoFuture(bridge) => (bridge.loop_name().to_owned(), bridge.longest_lag()),
            Self::Fake(_) => ("none".to_owned(), Duration::ZERO),
        }
    }

    /// The longest times in which the event loop did not turn, in the order of their beginning.
    pub fn blockages(&self) -> Vec<Blockage> {
        match self {
            Self::Python(bridge) => bridge.blockages(),
            Self::IntoFuture(bridge) => bridge.blockages(),
            Self::Fake(_) => Vec::new(),
        }
    }

    /// How many numbers in answers became null because JSON cannot hold them (NaN, the infinities) since this was last
    /// asked, and the first row that has one.
    pub fn take_nulled(&self) -> Option<(u64, u64)> {
        match self {
            Self::Python(bridge) => bridge.take_nulled(),
            Self::IntoFuture(bridge) => bridge.take_nulled(),
            Self::Fake(_) => None,
        }
    }

    /// Cancels what is left and ends the event loop. Returns whether that was done within the bound.
    pub fn shut_down(&self, bound: Duration) -> bool {
        match self {
            Self::Python(bridge) => bridge.shut_down(bound),
            Self::IntoFuture(bridge) => bridge.shut_down(bound),
            Self::Fake(_) => true,
        }
    }
}

impl Bridge for AnyBridge {
    async fn call(&self, attempt: Attempt) -> Result<Answer, CallError> {
        match self {
            Self::Python(bridge) => bridge.call(attempt).await,
            Self::IntoFuture(bridge) => bridge.call(attempt).await,
            Self::Fake(bridge) => bridge.call(attempt).await,
        }
    }

    fn stalled(&self) -> Duration {
        match self {
            Self::Python(bridge) => bridge.stalled(),
            Self::IntoFuture(bridge) => bridge.stalled(),
            Self::Fake(bridge) => bridge.stalled(),
        }
    }

    fn stalled_now(&self) -> Duration {
        match self {
            Self::Python(bridge) => bridge.stalled_now(),
            Self::IntoFuture(bridge) => bridge.stalled_now(),
            Self::Fake(bridge) => bridge.stalled_now(),
        }
    }

    fn blocked(&self) -> Vec<Blockage> {
        match self {
            Self::Python(bridge) => bridge.blocked(),
            Self::IntoFuture(bridge) => bridge.blocked(),
            Self::Fake(bridge) => bridge.blocked(),
        }
    }
}
