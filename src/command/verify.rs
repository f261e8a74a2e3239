//! `verify`: whether an answers file is what its input and its journal make of it. Changes nothing, calls nothing.

use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use encoding_rs::Encoding;

use super::damage;
use super::export::source_of;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::input::{Format, Source};
use crate::job::paths::JobPaths;
use crate::job::spec::values::{delimiter, encoding, range};
use crate::job::spec::{self, FormatChoice};
use crate::journal::Recovered;
use crate::output::{Audit, Findings};
use crate::report::text::{count, counted, escape};
use crate::selection::Selection;

/// The options of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyOptions {
    /// The input of the run
    pub input: PathBuf,
    /// Its answers file; the journal beside it, if there is one, is held against it too
    pub answers: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// The rows that were asked for, where no journal tells: A to B, 0-based, end exclusive
    #[arg(long, value_name = "A:B", value_parser = range)]
    pub range: Option<Range<u64>>,
    /// The CSV field delimiter [default: what the journal says, or the input's first line (`sep=;`), or ,]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, env = "TAB_DELIMITER")]
    pub delimiter: Option<u8>,
    /// The input's encoding [default: what the journal says, or utf-8]
    #[arg(long, value_name = "LABEL", value_parser = encoding, env = "TAB_ENCODING")]
    pub encoding: Option<&'static Encoding>,
    /// The input's format, where neither its name nor the journal tells
    #[arg(long, value_name = "FORMAT", env = "TAB_FORMAT")]
    pub format: Option<FormatChoice>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `verify`.
pub fn verify(options: &VerifyOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let JobPaths { answers: target, journal, .. } = JobPaths::find(&options.answers);
    let running = damage::is_running(&journal);
    let mut recovered = if journal.exists() { Some(Recovered::read(&journal, |_| {})?) } else { None };
    if let Some(recovered) = recovered.as_mut().filter(|_| running) {
        recovered.torn_bytes = 0;
    }
    let source = options.source(recovered.as_ref(), &target)?;
    let format = Format::from_path(&target).unwrap_or(source.format);
    let answers = Source {
        // From JSONL to CSV there is no delimiter to keep.
        delimiter: if source.format == Format::Csv { source.delimiter } else { b',' },
        ..Source::new(&options.answers, format)
    };
    let selection = match (&options.range, &recovered) {
        (Some(range), _) => range.clone().into(),
        (None, Some(recovered)) => asked(recovered),
        (None, None) => (0..u64::MAX).into(),
    };
    let recovered = recovered.as_ref();
    let spec = recovered.and_then(|recovered| recovered.sessions.last()).map(spec::of_header).transpose()?;
    let asked = spec.as_ref().map_or(&[][..], |spec| spec.fields.names());
    let fields = recovered.map(|recovered| recovered.fields.only(asked)).unwrap_or_default();
    let journal = recovered.map(|recovered| (&*journal, &*recovered.index, &fields));
    let findings = Audit { source: &source, answers: &answers, selection, journal }.run()?;
    if options.json {
        let faults = findings.faults();
        let mut json = serde_json::to_value(&findings)?;
        json["faults"] = faults.into();
        json["journal"] = recovered.is_some().into();
        json["journal_faults"] = recovered.map(damage::of).into();
        streams.say(&options.show, &format!("{json:#}\n"))?;
    } else {
        streams.say(&options.show, &options.table(&findings, recovered))?;
    }
    Ok(u8::from(findings.faults() > 0))
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

impl VerifyOptions {
    /// The input as the run read it, unless the options say otherwise.
    fn source(&self, recovered: Option<&Recovered>, answers: &Path) -> anyhow::Result<Source> {
        let read = match recovered {
            Some(recovered) => {
                Some(source_of(recovered.sessions.last().context("the journal has no session")?, answers)?)
            }
            None => None,
        };
        let format = match (self.format, &read) {
            (Some(FormatChoice::Csv), _) => Format::Csv,
            (Some(FormatChoice::Jsonl), _) => Format::Jsonl,
            (None, Some(read)) => read.format,
            (None, None) => Format::from_path(&self.input)?,
        };
        let source = Source::new(&self.input, format);
        let encoding = self.encoding.or(read.as_ref().map(|read| read.encoding)).unwrap_or(source.encoding);
        let source = Source { encoding, ..source };
        let delimiter = self.delimiter.or(read.map(|read| read.delimiter)).or_else(|| source.own_delimiter());
        Ok(Source { delimiter: delimiter.unwrap_or(source.delimiter), ..source })
    }

    fn table(&self, findings: &Findings, journal: Option<&Recovered>) -> String {
        let mut text = format!(
            "{}: {} for {} of {}\n",
            escape(&self.answers.to_string_lossy()),
            counted(findings.records, "record"),
            counted(findings.rows, "row"),
            escape(&self.input.to_string_lossy())
        );
        for (kind, found) in findings.kinds() {
            if found.count == 0 {
                continue;
            }
            let unit = if kind == "missing" { "row" } else { "line" };
            let mut places: Vec<String> = found.first.iter().map(u64::to_string).collect();
            if found.count > places.len() as u64 {
                places.push("…".to_owned());
            }
            let _ = writeln!(text, "  {kind:<11}{:>9}   {unit} {}", count(found.count), places.join(", "));
        }
        if findings.faults() == 0 {
            text += "  no fault\n";
        }
        if findings.altered.count > 0 {
            text += "  (altered, or older than the journal: `export` writes them anew)\n";
        }
        if findings.unrecorded.count > 0 {
            text += "  (unrecorded: their records in the journal are damaged or lost; keep a copy of this file, for `export` and \
                     `resume` write it anew without them)\n";
        }
        for fault in journal.map(damage::of).unwrap_or_default() {
            let _ = writeln!(text, "  {fault}");
        }
        if journal.is_none() {
            text += "  there is no journal: what the predictor answered could not be checked\n";
        }
        text
    }
}
