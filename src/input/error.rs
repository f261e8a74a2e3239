//! The error that refuses an input file.

use std::path::Path;

use super::fault::{Fault, Located};
use super::hint;
use super::source::{Format, Source};

/// A refused input file: what is wrong with it, and on which line.
///
/// Displayed, it is a whole message: the first fault, further faults and the hint, each on a line of its own. The hint
/// may depend on the first bytes of the file, which are read when the error is displayed.
#[derive(Debug)]
pub struct InputError(Box<Details>);

#[derive(Debug)]
struct Details {
    source: Source,
    first: Located,
    also: Vec<Located>,
}

impl InputError {
    pub(super) fn new(source: &Source, located: impl Into<Located>) -> Self {
        Self(Box::new(Details { source: source.clone(), first: located.into(), also: Vec::new() }))
    }

    /// Refuses a file because its name tells no format.
    pub(super) fn unknown_format(path: &Path) -> Self {
        // No file is read with this format: the message shows only the path.
        Self::new(&Source::new(path, Format::Csv), Fault::UnknownFormat)
    }

    /// Adds another fault of the same file.
    pub(super) fn add(&mut self, error: Self) {
        self.0.also.push(error.0.first);
    }

    /// The file, as the user named it.
    pub fn path(&self) -> &Path {
        &self.0.source.path
    }

    /// The first fault.
    pub fn fault(&self) -> &Fault {
        &self.0.first.fault
    }

    /// The 1-based physical line of the first fault; `None` if the file as a whole is at fault.
    pub fn line(&self) -> Option<u64> {
        self.0.first.line
    }

    /// The option or command that mends the first fault. Some hints depend on the first bytes of the file, which are
    /// read now.
    pub fn hint(&self) -> Option<String> {
        hint::of(&self.0.source, self.fault())
    }
}

impl std::fmt::Display for InputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Details { source, first, also } = &*self.0;
        write!(f, "failed to read `{}`: {first}", source.path.display())?;
        for fault in also {
            write!(f, "\n  also {fault}")?;
        }
        self.hint().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for InputError {}
