//! Checks an answers file against its input and its journal, without changing any of them.

use std::ops::Range;
use std::path::Path;

use clap::Args;
use encoding_rs::Encoding;
use serde_json::{Value, json};

use super::damage;
use super::error::JobError;
use super::export::source_of;
use super::paths::JobPaths;
use super::spec::shard::shard;
use super::spec::values::{delimiter, encoding, range};
use super::spec::{self, FormatChoice};
use crate::input::{Format, Source};
use crate::journal::{Header, Recovered};
use crate::observe::Observer;
pub use crate::output::Findings;
use crate::output::Inspection;
use crate::run::control::Control;
use crate::selection::{Rows, Selection, Shard};

/// How to read the input. Each field that is `None` is taken from the journal, or else from the input itself.
#[derive(Debug, Clone, Default, Args)]
pub struct Reading {
    /// The rows that the run was asked for: A to B, 0-based, end exclusive [default: what the journal says, or all]
    #[arg(long, value_name = "A:B", value_parser = range)]
    pub range: Option<Range<u64>>,
    /// The shard that the run was asked for [default: what the journal says, or all rows]
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// The CSV field delimiter [default: what the journal says, or the input's first line (`sep=;`), or ,]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, env = "TAB_DELIMITER")]
    pub delimiter: Option<u8>,
    /// The input's encoding [default: what the journal says, or utf-8]
    #[arg(long, value_name = "LABEL", value_parser = encoding, env = "TAB_ENCODING")]
    pub encoding: Option<&'static Encoding>,
    /// The input's format [default: what the journal says, or the extension]
    #[arg(long, value_name = "FORMAT", env = "TAB_FORMAT")]
    pub format: Option<FormatChoice>,
}

/// The result of checking an answers file.
#[derive(Debug)]
pub struct Audit {
    /// The faults of its records, by kind.
    pub findings: Findings,
    /// One sentence for each fault of the journal. `None` if there is no journal: then the answers themselves could not
    /// be checked.
    pub journal_faults: Option<Vec<String>>,
}

impl Audit {
    /// The number of faults in the answers file.
    pub fn faults(&self) -> u64 {
        self.findings.faults()
    }

    /// The audit as JSON, as `verify --json` prints it.
    pub fn to_json(&self) -> Value {
        let mut json = json!(self.findings);
        json["faults"] = self.faults().into();
        json["journal"] = self.journal_faults.is_some().into();
        json["journal_faults"] = json!(self.journal_faults);
        json
    }
}

/// Checks an answers file against its input and against the journal beside it, if there is one. The observer is told
/// what is wrong with the journal.
///
/// # Errors
///
/// Fails if a file cannot be read, or if `control` stops the check.
pub fn verify(
    input: &Path,
    answers: &Path,
    reading: &Reading,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<Audit, JobError> {
    let JobPaths { answers: target, journal, .. } = JobPaths::find(answers);
    let recovered = if journal.exists() { Some(damage::read(&journal, control, |_| {})?.0) } else { None };
    let source = reading.source(input, recovered.as_ref(), &target)?;
    let format = Format::from_path(&target).unwrap_or(source.format);
    let written = Source {
        // A JSONL input has no delimiter that CSV answers could take over.
        delimiter: if source.format == Format::Csv { source.delimiter } else { b',' },
        ..Source::new(answers, format)
    };
    let selection = match &recovered {
        Some(recovered) if reading.range.is_none() && reading.shard.is_none() => asked(recovered),
        _ => {
            let last = recovered.as_ref().and_then(|recovered| recovered.sessions.last());
            let shard = reading.shard.or(last.map(|header| header.selection.shard));
            Rows::new(reading.range.clone().unwrap_or(0..u64::MAX), shard.unwrap_or_default()).into()
        }
    };
    let recovered = recovered.as_ref();
    let spec = recovered.and_then(|recovered| recovered.sessions.last()).map(spec::of_header).transpose()?;
    let only = spec.as_ref().map_or(&[][..], |spec| spec.fields.names());
    let fields = recovered.map(|recovered| recovered.fields.only(only)).unwrap_or_default();
    let journal = recovered.map(|recovered| (&*journal, &*recovered.index, &fields));
    let cancelled = &|| control.asked().is_some();
    let inspection = Inspection { source: &source, answers: &written, selection, journal, cancelled };
    let findings = inspection.run().map_err(|error| JobError::of_step("the check", error, control))?;
    if let Some(recovered) = recovered {
        damage::tell(recovered, observer);
    }
    Ok(Audit { findings, journal_faults: recovered.map(damage::of) })
}

/// The rows that the run was asked for, including those that the input did not have yet when the run read it.
fn asked(recovered: &Recovered) -> Selection {
    let mut asked = recovered.index.selection().clone();
    for rows in recovered.sessions.iter().map(asked_of) {
        if asked.takes(&rows) {
            asked.cover(rows);
        }
    }
    asked
}

/// The rows that a session was asked for, including those that the input did not have yet.
pub(super) fn asked_of(header: &Header) -> Rows {
    // The selection ends where the file ended, so more may have been asked for; with `-n` it ends before.
    let cut = header.selection.end >= header.input.rows;
    let end = header.identity.get("selection").and_then(|given| Some(given.split_once(':')?.1));
    match end.filter(|_| cut) {
        Some(end) => Rows { end: end.parse().unwrap_or(u64::MAX), ..header.selection },
        None => header.selection,
    }
}

impl Reading {
    /// The input as the run read it, except for what `self` gives.
    fn source(
        &self,
        input: &Path,
        recovered: Option<&Recovered>,
        answers: &Path,
    ) -> Result<Source, JobError> {
        let last = recovered.and_then(|recovered| recovered.sessions.last());
        let read = last.map(|header| source_of(header, answers)).transpose()?;
        let format = match (self.format, &read) {
            (Some(choice), _) => choice.into(),
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
