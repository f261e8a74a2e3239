//! `resume`: the rows of an earlier run that are not answered yet.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::changed::{self, Change};
use super::job::{self, Opened};
use super::prepared::Prepared;
use super::streams::Streams;
use crate::config::paths::JobPaths;
use crate::config::{OnlyChoice, ProcessOptions, WhichOptions};
use crate::journal::{Journal, Recovered};
use crate::report::progress::{Level, Reporter};
use crate::report::text::{count, counted};
use crate::run::Wanted;
use crate::stats::Fold;

/// How many rows in flight are named one by one.
const NAMED: usize = 20;

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
    which: WhichOptions,
    given: Vec<String>,
    spooled: bool,
    streams: &mut Streams,
) -> anyhow::Result<u8> {
    let kept = job::kept_options(&options, given)?;
    job::run(options, kept, spooled, streams, |paths, prepared, reporter| {
        reopen(paths, prepared, which, reporter)
    })
    .await
}

fn reopen(
    paths: &JobPaths,
    prepared: &Prepared,
    which: WhichOptions,
    reporter: &mut dyn Reporter,
) -> anyhow::Result<Opened> {
    let header = &prepared.header;
    let mut fold = Fold::new(&header.selection);
    let (mut journal, recovered) = Journal::recover(&paths.journal, |record| fold.recovered(record))?;
    let before = recovered.sessions.last().context("the journal has no session")?;
    let change = Change::between(before, header);
    if which.allow_changed {
        change.tell(reporter);
    } else {
        change.refuse(&prepared.source, &paths.journal, &recovered.index)?;
    }
    tell(&recovered, reporter);
    if before.predictor_sha256 != header.predictor_sha256 {
        reporter.message(Level::Warning, "the predictor's source has changed since the last session");
    }
    if change.rows() {
        fold = Fold::new(&header.selection);
        journal = changed::rematch(journal, paths, prepared, &mut fold, reporter)?;
    } else {
        journal.append_header(header)?;
        journal.commit()?;
    }
    fold.close_session();
    let wanted: Wanted = match which.only {
        None => |_| true,
        Some(OnlyChoice::Failed) => |status| status.is_some(),
        Some(OnlyChoice::Unfinished) => |status| status.is_none(),
    };
    Ok(Opened { journal, fold, wanted })
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
    if recovered.end.is_none() && !recovered.in_flight.is_empty() {
        let mut rows: Vec<String> = recovered.in_flight.iter().take(NAMED).map(u64::to_string).collect();
        if recovered.in_flight.len() > NAMED {
            rows.push("…".to_owned());
        }
        let text = format!(
            "the last session did not end in order: up to {} may have been under way and may be billed twice (row {})",
            counted(recovered.in_flight.len() as u64, "call"),
            rows.join(", ")
        );
        reporter.message(Level::Warning, &text);
    }
}
