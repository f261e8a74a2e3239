//! `resume`: the rows of an earlier run that are not answered yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::job::{self, Opened};
use super::streams::Streams;
use crate::call::CallError;
use crate::config::ProcessOptions;
use crate::config::paths::JobPaths;
use crate::journal::{CRASHES, Header, Journal, Poison, Recovered};
use crate::report::progress::{Level, Reporter};
use crate::report::text::{count, counted, numbers};
use crate::row::{Outcome, Timing};
use crate::stats::Fold;

/// What an earlier run was asked for, read back from its journal.
pub struct Earlier {
    /// Its input.
    pub input: PathBuf,
    /// The input's format.
    pub format: String,
    /// Whether it came by standard input.
    pub stdin: bool,
    /// The options it was given.
    pub options: Vec<String>,
    /// The directory it ran in.
    pub directory: PathBuf,
}

/// Reads what the run of `answers` was asked for. Changes nothing.
pub fn earlier(answers: &Path) -> anyhow::Result<Earlier> {
    let paths = JobPaths::of(answers);
    if !paths.journal.exists() {
        bail!(
            "`{}` has no journal `{}`\nhint: name the answers file of an earlier `process`",
            answers.display(),
            paths.journal.display()
        );
    }
    let recovered = Recovered::read(&paths.journal, |_| {})?;
    let header = recovered.sessions.last().context("the journal has no session")?;
    let options = header.settings["options"].as_array().into_iter().flatten();
    Ok(Earlier {
        input: PathBuf::from(&header.input.path),
        format: header.input.format.clone(),
        stdin: header.settings["stdin"].as_bool().unwrap_or_default(),
        options: options.filter_map(|option| option.as_str().map(str::to_owned)).collect(),
        directory: PathBuf::from(header.settings["directory"].as_str().unwrap_or(".")),
    })
}

/// Runs `resume`; `options` are the earlier run's with this session's laid over them. `spooled` is [`Earlier::stdin`].
pub async fn resume(
    options: ProcessOptions,
    given: Vec<String>,
    spooled: bool,
    streams: &mut Streams,
) -> anyhow::Result<u8> {
    let kept = job::kept_options(&options, given)?;
    job::run(options, kept, spooled, streams, |paths, header, reporter| reopen(paths, header, reporter)).await
}

fn reopen(paths: &JobPaths, header: &Header, reporter: &mut dyn Reporter) -> anyhow::Result<Opened> {
    let mut fold = Fold::new(&header.selection);
    let (mut journal, recovered) = Journal::recover(&paths.journal, |record| fold.recovered(record))?;
    fold.close_session();
    let before = recovered.sessions.last().context("the journal has no session")?;
    refuse_changed(before, header)?;
    tell(&recovered, reporter);
    if before.predictor_sha256 != header.predictor_sha256 {
        reporter.message(Level::Warning, "the predictor's source has changed since the last session");
    }
    journal.append_header(header)?;
    let mut left_out = recovered.suspects.set_aside().clone();
    for poison in recovered.suspects.poison() {
        left_out.insert(poison.row);
        let outcome = set_aside(&poison);
        journal.append_outcome(&outcome)?;
        fold.live(&outcome);
    }
    journal.commit()?;
    tell_left_out(&left_out, reporter);
    Ok(Opened { journal, fold, suspects: recovered.suspects.in_order(), left_out })
}

/// Refuses to continue with another job than was started.
fn refuse_changed(before: &Header, now: &Header) -> anyhow::Result<()> {
    let differs = |(name, value): (&String, &String), other: &BTreeMap<String, String>| {
        (other.get(name) != Some(value)).then(|| name.clone())
    };
    let changed: Vec<String> =
        now.identity.iter().filter_map(|entry| differs(entry, &before.identity)).collect();
    if let Some(name) = changed.first() {
        let text = |header: &Header| header.identity.get(name).cloned().unwrap_or_default();
        // No one flag is the selection: `--limit` and `--range` both make it.
        let what = if name == "selection" { "the selection".to_owned() } else { format!("`--{name}`") };
        bail!(
            "{what} was `{}` in the earlier run and is `{}` now: the answers would not belong together\n\
             hint: leave it out, or start a new run with `process --output`",
            text(before),
            text(now)
        );
    }
    if before.input.sha256 != now.input.sha256 {
        bail!(
            "`{}` has changed since the earlier run\nhint: restore the file, or start a new run with `process --output`",
            now.input.path
        );
    }
    Ok(())
}

/// The outcome of a row that the process does not survive.
fn set_aside(poison: &Poison) -> Outcome {
    let text = format!(
        "the run crashed {} times while this row alone was in flight, in the sessions started {}",
        poison.crashes.len(),
        poison.crashes.join(", ")
    );
    Outcome {
        row: poison.row,
        hash: poison.hash,
        result: Err(CallError::Crash(text)),
        attempts: 0,
        errors: Vec::new(),
        abandoned: 0,
        usage: None,
        timing: Timing::default(),
    }
}

fn tell_left_out(rows: &BTreeSet<u64>, reporter: &mut dyn Reporter) {
    if rows.is_empty() {
        return;
    }
    let text = format!(
        "the run crashed {CRASHES} times with one row alone in flight: {} set aside (row {})\n\
         hint: `resume --only failed` calls what is set aside again",
        counted(rows.len() as u64, "row"),
        numbers(rows.iter().copied())
    );
    reporter.message(Level::Warning, &text);
}

/// Says what the journal holds, and which calls may be billed twice.
fn tell(recovered: &Recovered, reporter: &mut dyn Reporter) {
    let counts = recovered.index.counts();
    let open = counts.failed + counts.unfinished;
    let text = format!(
        "{} answered before; {} to go ({} failed, {} unfinished)",
        counted(counts.ok, "row"),
        count(open),
        count(counts.failed),
        count(counts.unfinished)
    );
    reporter.message(Level::Note, &text);
    if recovered.torn_bytes > 0 {
        let text =
            format!("the journal's last line was torn; its {} bytes are cut", count(recovered.torn_bytes));
        reporter.message(Level::Warning, &text);
    }
    for damaged in &recovered.damaged {
        let text = format!(
            "line {} of the journal is damaged: the row it decided counts as unfinished",
            damaged.line
        );
        reporter.message(Level::Warning, &text);
    }
    let cut_off = recovered.end.as_ref().is_none_or(|end| end.hurried);
    if cut_off && !recovered.in_flight.is_empty() {
        let text = format!(
            "the last session did not end in order: up to {} may have been under way and may be billed twice (row {})",
            counted(recovered.in_flight.len() as u64, "call"),
            numbers(recovered.in_flight.iter().copied())
        );
        reporter.message(Level::Warning, &text);
    }
}
