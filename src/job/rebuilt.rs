//! Rebuilds the report of any run from its journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::damage;
use super::error::{ErrorKind, Explain, JobError};
use super::paths::JobPaths;
use super::spec;
use crate::fs::Access;
use crate::journal::{Header, RUN, Record, Recovered, timestamp};
use crate::observe::Observer;
use crate::report::{EventLoop, Facts, JournalFigures, Report, RunInfo, json};
use crate::run::control::Control;
use crate::stats::Fold;

/// What the report needs of a session beyond its header and its outcomes. The journal keeps it in the session's
/// settings, under [`RUN`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The most calls in flight.
    pub calls: u64,
    /// How many processes of their own made the calls; 0 if the session's process did.
    #[serde(default)]
    pub workers: u64,
    /// The name of the bridge.
    pub bridge: String,
    /// Versions of this program, of Python and of its packages, by name.
    pub versions: BTreeMap<String, String>,
    /// Cores that the process may use.
    pub cores: usize,
}

impl Kept {
    /// The value that the settings hold.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

/// The number of cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A run as its journal records it.
pub struct Rebuilt {
    /// The report that the last session wrote. If there is none, or it does not agree with the journal, a report of
    /// what the journal holds.
    pub report: Report,
    /// The figures of all sessions.
    pub fold: Fold,
    /// Who may read files that are written from these figures.
    pub access: Access,
}

/// Returns the report of a run from its journal. The run may have been killed, or may still go on. The observer is told
/// what is wrong with the journal.
///
/// # Errors
///
/// Fails if the journal cannot be read, or if `control` stops the reading.
pub fn rebuilt(
    paths: &JobPaths,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<Rebuilt, JobError> {
    let mut fold = None;
    let mut resumed = 0;
    let (recovered, running) = damage::read(&paths.journal, control, |record| {
        let selection = if let Record::Header(header) = record { header.selection } else { (0..0).into() };
        let fold = fold.get_or_insert_with(|| Fold::new(selection));
        fold.recovered(record);
        if let Record::Header(header) = record {
            resumed = fold.decided(&header.selection).ok;
        }
    })?;
    let mut fold = fold.unwrap_or_default();
    if running {
        fold.goes_on();
    }
    fold.close_session();
    let header = recovered.sessions.last().ok_or_else(|| JobError::no_session(&paths.journal))?;
    damage::tell(&recovered, observer);
    let facts = facts(paths, &recovered, header, resumed, running)?;
    let known = Report::new(&fold, facts);
    let agrees = |report: &Report| report.run.started_at == header.started_at && report.rows == known.rows;
    let report = json::read(&paths.report).ok().filter(agrees).unwrap_or(known);
    Ok(Rebuilt { report, fold, access: spec::of_header(header)?.access.access() })
}

fn failed_to_read(journal: &Path) -> String {
    format!("failed to read `{}`", journal.display())
}

/// The facts about a session that wrote no report. Figures that only its process knew are zero.
fn facts(
    paths: &JobPaths,
    recovered: &Recovered,
    header: &Header,
    resumed: u64,
    running: bool,
) -> Result<Facts, JobError> {
    let metadata = std::fs::metadata(&paths.journal)
        .explain(ErrorKind::Journal, &paths.journal, || failed_to_read(&paths.journal))?;
    let kept: Kept = serde_json::from_value(header.settings[RUN].clone()).unwrap_or_default();
    let end = recovered.end.as_ref();
    let stopped = match end {
        _ if running => Some("the run still goes on".to_owned()),
        Some(end) => end.reason.clone(),
        None => Some("the last session did not end in order".to_owned()),
    };
    // For a session that was killed, the journal's last write is the last sign of life.
    let last_write = || metadata.modified().map(timestamp);
    Ok(Facts {
        selected: header.selection,
        input_rows: header.input.rows + header.input.empty,
        resumed,
        concurrency: kept.calls.max(1),
        startup: Duration::ZERO,
        validate: Duration::ZERO,
        project: Duration::ZERO,
        stopped,
        journal: JournalFigures { bytes: metadata.len(), ..JournalFigures::default() },
        event_loop: EventLoop::default(),
        workers: Vec::new(),
        run: RunInfo {
            argv: header.argv.clone(),
            input: header.input.path.clone(),
            input_sha256: header.input.sha256.clone(),
            shard: header.selection.shard.divided(),
            predictor: header.identity.get("predictor").cloned().unwrap_or_default(),
            bridge: kept.bridge,
            versions: kept.versions,
            started_at: header.started_at.clone(),
            finished_at: end.map_or_else(last_write, |end| Ok(end.finished_at.clone())).explain(
                ErrorKind::Journal,
                &paths.journal,
                || failed_to_read(&paths.journal),
            )?,
            host_cores: kept.cores.max(1),
        },
    })
}
