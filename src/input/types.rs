//! Values that are to be of a type: what is blank, and the check of a whole file by whoever knows the types.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use serde::{Deserialize, Serialize};

use crate::row::{Arguments, Value};

/// Values that are checked at once, and their bytes.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;
/// Batches that wait to be checked.
const WAITING: usize = 2;

/// The type of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// As it is written: `int`, `list[str]`.
    pub name: String,
    /// Whether null is one of its values.
    pub takes_null: bool,
    /// Whether the empty text is, or can be made one.
    pub takes_blank: bool,
}

/// One value that is to be checked.
#[derive(Debug)]
pub struct TypedValue {
    /// 1-based line on which its record starts.
    pub line: u64,
    /// The parameter that takes it.
    pub parameter: Arc<str>,
    /// The value.
    pub value: Value,
}

/// A value that its parameter's type cannot be made of.
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
    /// Why it is none.
    pub reason: String,
}

/// Whoever knows what the types of the parameters take.
pub trait Types: Sync {
    /// Tells every value of the batches that is none of its type, until `told` wants no more. Relative paths among the
    /// values are looked for in `directory` first.
    ///
    /// # Errors
    ///
    /// Fails with the reason where the types themselves cannot be used.
    fn check(
        &self,
        directory: &Path,
        batches: &mut (dyn Iterator<Item = Vec<TypedValue>> + Send),
        told: &mut dyn FnMut(Misfit) -> bool,
    ) -> Result<(), String>;
}

/// A check that runs on a thread of its own while the file is read.
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
    /// Starts the thread. No more than so many misfits are told.
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

    /// Sets which parameters have a type.
    pub(super) fn bind(&mut self, parameters: Vec<Arc<str>>) {
        self.parameters = parameters;
    }

    /// Takes a row's values; the ones that were found amiss so far come out.
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
        // It fails where the thread has told enough.
        if let Some(batches) = &self.batches
            && batches.send(batch).is_err()
        {
            self.batches = None;
        }
    }

    /// Waits until all are checked. Fails with the reason where the types cannot be used.
    pub(super) fn finish(mut self) -> Result<Vec<Misfit>, String> {
        self.flush();
        self.batches = None;
        let checked = self.thread.join();
        checked.unwrap_or_else(|_| Err("the thread that checks types panicked".to_owned()))?;
        Ok(self.misfits.try_iter().collect())
    }
}
