//! Holds an answers file against its input and its journal. Changes nothing, calls nothing.

use std::ops::Range;
use std::path::Path;

use encoding_rs::Encoding;

use super::damage;
use super::error::JobError;
use super::export::source_of;
use super::paths::JobPaths;
use super::spec::{self, FormatChoice};
use crate::input::{Format, Source};
use crate::journal::Recovered;
use crate::output::{Findings, Inspection};
use crate::selection::Selection;

/// How the input is read, where the journal does not tell or tells it wrong.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The rows that were asked for: 0-based, the end exclusive. None for those that the journal names, or for all.
    pub range: Option<Range<u64>>,
    /// The delimiter of CSV fields.
    pub delimiter: Option<u8>,
    /// The input's encoding.
    pub encoding: Option<&'static Encoding>,
    /// The input's format.
    pub format: Option<FormatChoice>,
}

/// What was found of an answers file.
#[derive(Debug)]
pub struct Audit {
    /// What is wrong with its records, by kind.
    pub findings: Findings,
    /// One sentence for each fault of the journal; none where there is no journal, and what the predictor answered could
    /// not be checked.
    pub journal_faults: Option<Vec<String>>,
}

impl Audit {
    /// How many faults the answers file has.
    pub fn faults(&self) -> u64 {
        self.findings.faults()
    }
}

/// Checks an answers file against its input and, where there is one, the journal beside it.
///
/// # Errors
///
/// Fails where a file cannot be read.
pub fn verify(input: &Path, answers: &Path, reading: &Reading) -> Result<Audit, JobError> {
    let JobPaths { answers: target, journal, .. } = JobPaths::find(answers);
    let running = damage::is_running(&journal);
    let mut recovered = if journal.exists() { Some(Recovered::read(&journal, |_| {})?) } else { None };
    if let Some(recovered) = recovered.as_mut().filter(|_| running) {
        // A line that is just being written is not torn.
        recovered.torn_bytes = 0;
    }
    let source = reading.source(input, recovered.as_ref(), &target)?;
    let format = Format::from_path(&target).unwrap_or(source.format);
    let written = Source {
        // From JSONL to CSV there is no delimiter to keep.
        delimiter: if source.format == Format::Csv { source.delimiter } else { b',' },
        ..Source::new(answers, format)
    };
    let selection = match (&reading.range, &recovered) {
        (Some(range), _) => range.clone().into(),
        (None, Some(recovered)) => asked(recovered),
        (None, None) => (0..u64::MAX).into(),
    };
    let recovered = recovered.as_ref();
    let spec = recovered.and_then(|recovered| recovered.sessions.last()).map(spec::of_header).transpose()?;
    let only = spec.as_ref().map_or(&[][..], |spec| spec.fields.names());
    let fields = recovered.map(|recovered| recovered.fields.only(only)).unwrap_or_default();
    let journal = recovered.map(|recovered| (&*journal, &*recovered.index, &fields));
    let findings = Inspection { source: &source, answers: &written, selection, journal }.run()?;
    Ok(Audit { findings, journal_faults: recovered.map(damage::of) })
}

/// The rows that the run was asked for, those too that the input had not got yet when it was read.
fn asked(recovered: &Recovered) -> Selection {
    let mut asked = recovered.index.selection().clone();
    for header in &recovered.sessions {
        // Only the end of the file cut it short; `-n` does not.
        let cut = header.selection.end >= header.input.rows;
        let end = header.identity.get("selection").and_then(|given| Some(given.split_once(':')?.1));
        if let Some(end) = end.filter(|_| cut) {
            asked.cover(header.selection.start..end.parse().unwrap_or(u64::MAX));
        }
    }
    asked
}

impl Reading {
    /// The input as the run read it, unless this says otherwise.
    fn source(
        &self,
        input: &Path,
        recovered: Option<&Recovered>,
        answers: &Path,
    ) -> Result<Source, JobError> {
        let last = recovered.and_then(|recovered| recovered.sessions.last());
        let read = last.map(|header| source_of(header, answers)).transpose()?;
        let format = match (self.format, &read) {
            (Some(FormatChoice::Csv), _) => Format::Csv,
            (Some(FormatChoice::Jsonl), _) => Format::Jsonl,
            (None, Some(read)) => read.format,
            (None, None) => Format::from_path(input)?,
        };
        let source = Source::new(input, format);
        let encoding = self.encoding.or(read.as_ref().map(|read| read.encoding)).unwrap_or(source.encoding);
        let source = Source { encoding, ..source };
        let delimiter = self.delimiter.or(read.map(|read| read.delimiter)).or_else(|| source.own_delimiter());
        Ok(Source { delimiter: delimiter.unwrap_or(source.delimiter), ..source })
    }
}
