//! The subcommand `verify`, which checks an answers file against its input and its journal.

use std::fmt::Write;
use std::ops::Range;
use std::path::PathBuf;

use clap::Args;
use encoding_rs::Encoding;

use super::show::ShowOptions;
use super::streams::Streams;
use crate::job::spec::FormatChoice;
use crate::job::spec::values::{delimiter, encoding, range};
use crate::job::verify::{self, Audit, Reading};
use crate::report::text::{count, counted, escape};
use crate::run::control::Control;

/// The arguments and options of `verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyOptions {
    /// The input of the run
    pub input: PathBuf,
    /// The answers file of the run; it is checked against the journal beside it, too, if there is one
    pub answers: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// The rows that the run was asked for: A to B, 0-based, end exclusive [default: what the journal says, or all]
    #[arg(long, value_name = "A:B", value_parser = range)]
    pub range: Option<Range<u64>>,
    /// The CSV field delimiter [default: what the journal says, or the input's first line (`sep=;`), or ,]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, env = "TAB_DELIMITER")]
    pub delimiter: Option<u8>,
    /// The input's encoding [default: what the journal says, or utf-8]
    #[arg(long, value_name = "LABEL", value_parser = encoding, env = "TAB_ENCODING")]
    pub encoding: Option<&'static Encoding>,
    /// The input's format [default: what the journal says, or the extension]
    #[arg(long, value_name = "FORMAT", env = "TAB_FORMAT")]
    pub format: Option<FormatChoice>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `verify` and returns the exit code, which is 1 if the answers have a fault.
///
/// # Errors
///
/// Fails as [`verify::verify`] does, or if standard output cannot be written to.
pub(crate) fn verify(
    options: &VerifyOptions,
    streams: &mut Streams,
    control: &Control,
) -> anyhow::Result<u8> {
    let VerifyOptions { range, delimiter, encoding, format, .. } = options;
    let reading =
        Reading { range: range.clone(), delimiter: *delimiter, encoding: *encoding, format: *format };
    // The result lists the faults of the journal, so that no observer has to tell them.
    let audit = verify::verify(&options.input, &options.answers, &reading, &mut (), control)?;
    let text = if options.json {
        let mut json = serde_json::to_value(&audit.findings)?;
        json["faults"] = audit.faults().into();
        json["journal"] = audit.journal_faults.is_some().into();
        json["journal_faults"] = serde_json::json!(audit.journal_faults);
        format!("{json:#}\n")
    } else {
        options.table(&audit)
    };
    streams.say(&options.show, &text)?;
    Ok(u8::from(audit.faults() > 0))
}

impl VerifyOptions {
    fn table(&self, audit: &Audit) -> String {
        let findings = &audit.findings;
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
        for fault in audit.journal_faults.iter().flatten() {
            let _ = writeln!(text, "  {fault}");
        }
        if audit.journal_faults.is_none() {
            text += "  there is no journal: what the predictor answered could not be checked\n";
        }
        text
    }
}
