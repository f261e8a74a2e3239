//! `export`: the answers so far, from the journal. Calls nothing, and works beside a running job.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use sha2::{Digest, Sha256};

use super::damage;
use super::destination::{self, Kind};
use super::session::project;
use super::setup::now;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::input::{Format, Source, hexadecimal};
use crate::job::paths::JobPaths;
use crate::job::spec::{self, FieldPatch};
use crate::journal::{Header, Recovered, directory_of};
use crate::report::progress::Level;
use crate::report::text::{count, counted, escape};

/// The options of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportOptions {
    /// The answers file of a run
    pub answers: PathBuf,
    /// Where to write instead of ANSWERS itself
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that this program did not write; it is kept as `<FILE>.<time>`
    #[arg(long)]
    pub force: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub fields: FieldPatch,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub show: ShowOptions,
}

/// Runs `export`.
pub fn export(options: &ExportOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    let mut paths = JobPaths::find(&options.answers);
    let running = damage::is_running(&paths.journal);
    let mut recovered = Recovered::read(&paths.journal, |_| {})?;
    if running {
        recovered.torn_bytes = 0;
    }
    let header = recovered.sessions.last().context("the journal has no session")?;
    let source = source_of(header, &paths.answers)?;
    let mut spec = spec::of_header(header)?;
    spec.fields.lay(options.fields.clone());
    let fields = recovered.fields.only(spec.fields.names());
    let to = options.output.as_deref().unwrap_or(&options.answers);
    destination::check(to, "--output", &[("the journal", &paths.journal), ("the input", &source.at)])?;
    let mut reporter = streams.reporter(&options.show);
    if options.output.is_some() {
        let other = JobPaths::find(to);
        if !other.journal.exists() {
            let kind = Kind::Answers(Some(source.delimiter));
            destination::check_extension(&other.answers)?;
            destination::check_kind(&other.answers, "--output", kind, options.force)?;
            destination::set_aside(&other.answers, kind, &now(), reporter.as_mut())?;
        }
        paths.answers = other.answers;
    }
    let projected = project(&source, &paths, spec.access.access(), &recovered.index, &fields, || false)?;
    damage::tell(&recovered, reporter.as_mut());
    for renamed in &projected.renamed {
        reporter.message(Level::Warning, &renamed.to_string());
    }
    let rows = projected.rows;
    let text = format!(
        "{}: {} ({} answered, {} failed, {} unfinished)\n",
        escape(&paths.answers.to_string_lossy()),
        counted(rows.ok + rows.failed + rows.unfinished, "row"),
        count(rows.ok),
        count(rows.failed),
        count(rows.unfinished)
    );
    streams.say(&options.show, &text)?;
    Ok(0)
}

/// The input as a session read it.
pub fn source_of(header: &Header, answers: &Path) -> anyhow::Result<Source> {
    let input = &header.input;
    let format = if input.format == "jsonl" { Format::Jsonl } else { Format::Csv };
    Ok(Source {
        delimiter: input.delimiter.and_then(|delimiter| u8::try_from(delimiter).ok()).unwrap_or(b','),
        encoding: encoding_rs::Encoding::for_label(input.encoding.as_bytes())
            .ok_or_else(|| anyhow!("the journal names an unknown encoding `{}`", input.encoding))?,
        ..Source::new(input_of(header, answers), format)
    })
}

/// The input of a session; where it is gone, the same file beside the answers, for both may have been moved.
pub(super) fn input_of(header: &Header, answers: &Path) -> PathBuf {
    let recorded = PathBuf::from(&header.input.path);
    let beside = directory_of(answers).join(recorded.file_name().unwrap_or_default());
    let is_it = || sha256(&beside).is_ok_and(|sum| sum == header.input.sha256);
    if !recorded.exists() && is_it() { std::path::absolute(beside).unwrap_or(recorded) } else { recorded }
}

/// The SHA-256 of a file of any size, in lower-case hexadecimal.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    loop {
        let read = file.fill_buf()?;
        if read.is_empty() {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(read);
        let length = read.len();
        file.consume(length);
    }
}
