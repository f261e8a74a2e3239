//! What a bridge is loaded from, as plain data: another process that is given it starts the very same bridge.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event_loop::LoopKind;
use super::exchange::Exchange;
use super::interpreter::{Interpreter, InterpreterError, SetError, Variables};
use super::predictor::{Model, ModelProvider, Request, Target};

/// What a bridge is loaded from. The language model is provided by whoever starts the bridge.
#[derive(Clone, Serialize, Deserialize)]
pub struct Load {
    /// The executable of the interpreter; `None` for the one that [`Interpreter::find`] finds by itself.
    pub python: Option<PathBuf>,
    /// Variables of the environment that are to be set, unless they are set already.
    pub variables: Vec<(String, String)>,
    /// The event loop.
    pub event_loop: LoopKind,
    /// The SPEC of the predictor, unless an object takes its place.
    pub predictor: String,
    /// The DSPy signature of the predictor `dspy`: its fields, or a class.
    pub signature: String,
    /// A saved DSPy program: a file with the state of a module, or the directory of a whole program.
    pub program: Option<PathBuf>,
    /// The most calls in flight.
    pub calls: usize,
    /// Whether the user named the model.
    pub names_model: bool,
    /// Whether the model is the one that is served on this machine.
    pub is_model_local: bool,
    /// Whether libraries that call models are to log errors only.
    pub quiet: bool,
}

/// Why a bridge has no interpreter to be loaded in.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Python cannot be started.
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    /// The variables cannot be set.
    #[error("failed to set the variables of the env file: {0}")]
    Variables(#[from] SetError),
}

impl Load {
    /// Finds or starts the interpreter and sets the variables, for as long as those that are returned live.
    ///
    /// # Errors
    ///
    /// Fails if Python cannot be started, or if another job has set one of the variables to another value.
    pub fn interpreter(&self) -> Result<(Interpreter, Option<Variables>), StartError> {
        let interpreter = self.found()?;
        let variables = self.set_variables(&interpreter)?;
        Ok((interpreter, variables))
    }

    /// Finds or starts the interpreter.
    ///
    /// # Errors
    ///
    /// Fails if Python cannot be started.
    pub fn found(&self) -> Result<Interpreter, InterpreterError> {
        Interpreter::find(self.python.as_deref())
    }

    /// Sets the variables in a running interpreter, for as long as what is returned lives.
    ///
    /// # Errors
    ///
    /// Fails if another job has set one of them to another value.
    pub fn set_variables(&self, interpreter: &Interpreter) -> Result<Option<Variables>, SetError> {
        if self.variables.is_empty() {
            return Ok(None);
        }
        interpreter.set_variables(self.variables.clone()).map(Some)
    }

    /// The request of a bridge. `object` takes the place of the SPEC.
    pub fn request(
        &self,
        target: Target,
        provider: ModelProvider,
        exchange: Option<Arc<Exchange>>,
    ) -> Request {
        Request {
            target,
            signature: self.signature.clone(),
            program: self.program.clone(),
            calls: self.calls,
            model: Model { explicit: self.names_model, is_local: self.is_model_local, provider },
            exchange,
        }
    }
}
