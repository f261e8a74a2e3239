//! The types of parameters, and the check of all values of a file against them on another thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use serde::{Deserialize, Serialize};

use crate::row::{Arguments, Value};

/// How many values are checked at once,
const BATCH: usize = 4096;
/// or fewer, once they have this many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// How many batches may wait to be checked.
const WAITING: usize = 2;

/// The type of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// Its name as Python writes it: `int`, `list[str]`.
    pub name: String,
    /// Whether `None` is one of its values.
    pub takes_null: bool,
    /// Whether an empty string is one of its values, or can be converted to one.
    pub takes_blank: bool,
}

/// A value to be checked.
#[derive(Debug)]
pub struct TypedValue {
    /// 1-based line on which its record starts.
    pub line: u64,
    /// The parameter that takes it.
    pub parameter: Arc<str>,
    /// The value.
    pub value: Value,
}

/// A value that cannot be converted to the type of its parameter.
#[derive(Debug)]
pub struct Misfit {
    /// 1-based line on which its record starts.
    pub line: u64,
    /// The parameter that takes it.
    pub parameter: Arc<str>,
    /// The value.
    pub value: Value,
    /// The type.
    pub kind: Arc<Kind>,
    /// Why the value cannot be converted.
    pub reason: String,
}

/// Checks values against the types of the parameters. Implemented by the bridge, since only Python knows the types.
pub trait Types: Sync {
    /// Checks all batches and passes each value that does not fit its type to `told`, until `told` returns false. A
    /// value that is a relative path is looked for in `directory` first.
    ///
    /// # Errors
    ///
    /// Fails with the reason if the types themselves cannot be used.
    fn check(
        &self,
        directory: &Path,
        batches: &mut (dyn Iterator<Item = Vec<TypedValue>> + Send),
        told: &mut dyn FnMut(Misfit) -> bool,
    ) -> Result<(), String>;
}

/// A check that runs on its own thread while the file is read.
pub(super) struct Checking<'scope> {
    /// The parameters that have a type.
    parameters: Vec<Arc<str>>,
    batch: Vec<TypedValue>,
    bytes: usize,
    batches: Option<SyncSender<Vec<TypedValue>>>,
    misfits: Receiver<Misfit>,
    thread: ScopedJoinHandle<'scope, Result<(), String>>,
}

impl<'scope> Checking<'scope> {
    /// Starts the thread, which stops after `most` misfits.
    pub(super) fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        types: &'env dyn Types,
        directory: &'env Path,
        most: usize,
    ) -> Self {
        let (batches, waiting) = sync_channel::<Vec<TypedValue>>(WAITING);
        let (found, misfits) = channel();
        let thread = scope.spawn(move || {
            let mut told = 0;
            types.check(directory, &mut waiting.into_iter(), &mut |misfit| {
                told += 1;
                found.send(misfit).is_ok() && told < most
            })
        });
        Self { parameters: Vec::new(), batch: Vec::new(), bytes: 0, batches: Some(batches), misfits, thread }
    }

    /// Sets the parameters that have a type.
    pub(super) fn bind(&mut self, parameters: Vec<Arc<str>>) {
        self.parameters = parameters;
    }

    /// Takes the values of a row. Returns the misfits found since the last call.
    pub(super) fn take(&mut self, line: u64, arguments: Arguments) -> Vec<Misfit> {
        if self.parameters.is_empty() {
            return Vec::new();
        }
        for (parameter, value) in arguments {
            if self.parameters.contains(&parameter) {
                self.bytes += match &value {
                    Value::Text(text) => text.len(),
                    Value::Json(raw) => raw.get().len(),
                };
                self.batch.push(TypedValue { line, parameter, value });
            }
        }
        if self.batch.len() < BATCH && self.bytes < BATCH_BYTES {
            return Vec::new();
        }
        self.flush();
        self.misfits.try_iter().collect()
    }

    fn flush(&mut self) {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        // Sending fails once the thread has found enough misfits.
        if let Some(batches) = &self.batches
            && batches.send(batch).is_err()
        {
            self.batches = None;
        }
    }

    /// Waits until all values are checked, and returns the remaining misfits. Fails with the reason if the types cannot
    /// be used.
    pub(super) fn finish(mut self) -> Result<Vec<Misfit>, String> {
        self.flush();
        self.batches = None;
        let checked = self.thread.join();
        checked.unwrap_or_else(|_| Err("the thread that checks types panicked".to_owned()))?;
        Ok(self.misfits.try_iter().collect())
    }
}
