//! The subcommand `verify`, which checks an answers file against its input and its journal.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::show::ShowOptions;
use super::streams::Streams;
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
    #[allow(missing_docs)]
    #[command(flatten)]
    pub reading: Reading,
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
    // The result lists the faults of the journal, so that no observer has to tell them.
    let audit = verify::verify(&options.input, &options.answers, &options.reading, &mut (), control)?;
    let text = if options.json { format!("{:#}\n", audit.to_json()) } else { options.table(&audit) };
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
