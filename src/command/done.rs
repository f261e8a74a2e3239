//! A job that `process` finds done: no interpreter is started, and no file is written.

use anyhow::Context;

use super::changed::differing;
use super::export::sha256;
use super::setup::program_sha256;
use super::show::ShowOptions;
use super::streams::Streams;
use crate::job::paths::JobPaths;
use crate::job::spec::{self, JobSpec, RowSpec};
use crate::journal::{Counts, Recovered};
use crate::report::progress::Level;
use crate::report::text::{count, counted};

/// A job without a row to call.
pub(super) struct Done {
    counts: Counts,
}

impl Done {
    /// Looks whether the journal holds the same job, whole, with an outcome of every selected row. None where anything is
    /// left to do or to be looked at.
    pub(super) fn of(spec: &JobSpec, paths: &JobPaths, skip_failed: bool) -> anyhow::Result<Option<Self>> {
        if spec.stream {
            return Ok(None);
        }
        let recovered = Recovered::read(&paths.journal, |_| {})?;
        let header = recovered.sessions.last().context("the journal has no session")?;
        let in_order = recovered.end.as_ref().is_some_and(|end| end.in_order() && !end.hurried);
        if !in_order || !recovered.damaged.is_empty() || recovered.torn_bytes > 0 {
            return Ok(None);
        }
        let program = spec.predictor.program.as_deref().map(program_sha256).transpose()?;
        let before = spec::of_header(header)?;
        let reading = |spec: &JobSpec| RowSpec { limit: None, range: None, ..spec.rows.clone() };
        let same = differing(&header.identity, &spec.identity(program)).is_empty()
            && reading(&before) == reading(spec)
            && (&before.fields, &before.page, &before.access) == (&spec.fields, &spec.page, &spec.access)
            && sha256(&spec.input).is_ok_and(|sum| sum == header.input.sha256);
        let written = paths.answers.exists() && paths.report.exists();
        let mut selection = spec.rows.selection();
        selection.end = selection.end.min(header.input.rows);
        let counts = recovered.index.count(selection);
        let left = counts.unfinished + if skip_failed { 0 } else { counts.failed };
        Ok((same && written && left == 0).then_some(Self { counts }))
    }

    /// Says so; the exit code.
    pub(super) fn tell(&self, show: &ShowOptions, paths: JobPaths, streams: &mut Streams) -> u8 {
        let Counts { ok, failed, .. } = self.counts;
        let mut text =
            format!("nothing to do: {} answered in `{}`", counted(ok, "row"), paths.answers.display());
        if failed > 0 {
            text += &format!(", and {} that failed stay as they are", count(failed));
        }
        text += "\nhint: `--force` starts anew";
        streams.reporter(show).message(Level::Note, &text);
        streams.files.page = Some(paths.page.clone()).filter(|page| page.exists());
        streams.files.paths = Some(paths);
        streams.files.reported = true;
        if failed > 0 { 3 } else { 0 }
    }
}
