//! The journals that are merged: of one job, each read once and copied.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::rows::{Found, MOST_PARTS, Marks, line_at};
use crate::input::Source;
use crate::job::answerer::now;
use crate::job::damage;
use crate::job::difference::{Differences, Sides};
use crate::job::error::{ErrorKind, Explain, JobError, refuse};
use crate::job::export::source_of;
use crate::job::paths::JobPaths;
use crate::job::spec;
use crate::job::verify::asked_of;
use crate::journal::{
    Fresh, Header, Index, InputIdentity, JournalError, RUN, Record, VERSION, headers, open_at_rest,
};
use crate::observe::{Level, Observer};
use crate::report::text::{counted, list};
use crate::run::control::Control;
use crate::secret::Secrets;
use crate::selection::Shard;

/// The most characters of a list.
const SHOWN: usize = 200;

/// The journal of one shard.
pub(super) struct Part {
    /// The answers file, as it was named.
    pub answers: PathBuf,
    /// The journal.
    pub journal: PathBuf,
    /// The headers of its sessions, of which there is at least one.
    sessions: Vec<Header>,
}

/// Finds the journals of these answers files. The observer is warned if the source of their predictor was not the same.
///
/// # Errors
///
/// Fails if a journal is missing, is in use or is named twice, or if they are of different jobs.
pub(super) fn parts(answers: Vec<PathBuf>, observer: &mut dyn Observer) -> Result<Vec<Part>, JobError> {
    let usage = |text| Err(JobError::new(ErrorKind::Usage, text));
    if answers.len() > MOST_PARTS {
        return usage(format!("at most {MOST_PARTS} files can be merged"));
    }
    let mut parts: Vec<Part> = Vec::with_capacity(answers.len());
    let mut files = BTreeSet::new();
    let (mut sources, mut changed) = (BTreeSet::new(), Vec::new());
    for answers in answers {
        let part = Part::open(answers)?;
        if !files.insert(part.journal.canonicalize().unwrap_or_else(|_| part.journal.clone())) {
            return usage(format!("`{}` is named twice", part.answers.display()));
        }
        if let Some(first) = parts.first() {
            let sides = Sides::Files(&first.answers, &part.answers);
            let differences = Differences::between(first.last(), part.last(), sides);
            let told = [differences.options, differences.prompts].concat();
            if !told.is_empty() {
                refuse!(
                    Changed,
                    &part.journal,
                    "{}: their answers do not belong together\nhint: merge the answers of one job",
                    told.join("; ")
                );
            }
            if !differences.sources.is_empty() {
                changed.push(format!("`{}`", part.answers.display()));
                sources.extend(differences.sources.iter().map(|file| format!("`{file}`")));
            }
        }
        parts.push(part);
    }
    let Some(first) = parts.first() else { return usage("name the answers files to merge".to_owned()) };
    if !changed.is_empty() {
        let text = format!(
            "the predictor's source ({}) differs between `{}` and {}",
            list(&sources.into_iter().collect::<Vec<_>>(), SHOWN),
            first.answers.display(),
            list(&changed, SHOWN)
        );
        observer.message(Level::Warning, &text);
    }
    Ok(parts)
}

impl Part {
    fn open(answers: PathBuf) -> Result<Self, JobError> {
        let JobPaths { journal, .. } = JobPaths::of_run(&answers)?;
        let io = |source| JournalError::Io { action: "read", path: journal.clone(), source };
        let sessions = headers(open_at_rest(&journal)?).map_err(io)?;
        if sessions.is_empty() {
            return Err(JournalError::NoHeader { path: journal }.into());
        }
        Ok(Self { answers, journal, sessions })
    }

    /// The last session.
    #[allow(clippy::expect_used, reason = "a journal has a session")]
    pub(super) fn last(&self) -> &Header {
        self.sessions.last().expect("there is a session")
    }

    /// The input as the last session read it, in this file.
    pub(super) fn source(&self, input: &Path) -> Result<Source, JobError> {
        let read = source_of(self.last(), &self.answers)?;
        Ok(Source { delimiter: read.delimiter, encoding: read.encoding, ..Source::new(input, read.format) })
    }

    /// The line of the journal at an offset.
    pub(super) fn line(&self, offset: u64) -> Result<u64, JobError> {
        let failed = || format!("failed to read `{}`", self.journal.display());
        line_at(&self.journal, offset).explain(ErrorKind::Journal, &self.journal, failed)
    }

    /// Copies all records to a journal of the marked rows, and marks those that they decide. The observer is told what is
    /// wrong with the journal.
    ///
    /// # Errors
    ///
    /// Fails if an outcome is of no row of the input: its answer would stand beside another row.
    pub(super) fn copy(
        &self,
        number: usize,
        source: &Source,
        fresh: &mut Fresh,
        marks: &mut Marks,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<(), JobError> {
        let (mut foreign, mut written) = (Found::none(), Ok(()));
        let recovered = damage::read_from(open_at_rest(&self.journal)?, &self.journal, control, |record| {
            if let Record::Outcome(outcome) = record
                && !marks.knows(outcome)
            {
                foreign.add(outcome.row);
            }
            if written.is_ok() && foreign.count == 0 {
                written = fresh.append_within(record, marks.rows);
            }
        })?;
        written?;
        if foreign.count > 0 {
            return Err(self.foreign(&foreign, &recovered.index, source)?);
        }
        for fault in damage::of(&recovered) {
            observer.message(Level::Warning, &format!("`{}`: {fault}", self.journal.display()));
        }
        marks.add(number, &recovered.index);
        Ok(())
    }

    /// Says that outcomes are of no row of the input. `foreign` are the rows that they name.
    fn foreign(&self, foreign: &Found<u64>, index: &Index, source: &Source) -> Result<JobError, JobError> {
        let mut told = Vec::new();
        for row in &foreign.first {
            told.push(format!("line {} (row {row})", self.line(index.offset(*row).unwrap_or_default())?));
        }
        let text = format!(
            "{} of `{}` {} of no row of `{}`: {}\nhint: name the input that the shards are of; if it has changed since, run \
             that shard again with `--allow-changed`, which matches its rows by content",
            counted(foreign.count, "outcome"),
            self.journal.display(),
            if foreign.count == 1 { "is" } else { "are" },
            source.path.display(),
            foreign.told(&told)
        );
        Ok(JobError::new(ErrorKind::Changed, text).at(&self.journal))
    }
}

/// The shards that no journal is of, if all are of shards of the same number.
pub(super) fn absent(parts: &[Part]) -> Option<String> {
    let mut shards = parts.iter().map(|part| part.last().selection.shard);
    let of = shards.clone().next()?.divided()?.of();
    if !shards.clone().all(|shard| shard.of() == of) {
        return None;
    }
    let there: BTreeSet<_> = shards.by_ref().map(Shard::number).collect();
    let absent: Vec<_> =
        (0..of).filter(|number| !there.contains(number)).map(|number| format!("{number}/{of}")).collect();
    let what = if absent.len() == 1 { "shard" } else { "shards" };
    (!absent.is_empty()).then(|| format!("{what} {}", list(&absent, SHOWN)))
}

/// The rows that the journals were asked for, and those between them.
pub(super) fn asked(parts: &[Part]) -> Range<u64> {
    let asked = || parts.iter().flat_map(|part| &part.sessions).map(asked_of);
    let start = asked().map(|rows| rows.start).min().unwrap_or_default();
    start..asked().map(|rows| rows.end).max().unwrap_or(u64::MAX)
}

/// The header of the session that merges: its job is that of the shards, for the rows `asked` of the input. Its budgets
/// are those of the shards together.
pub(super) fn header(
    parts: &[Part],
    input: InputIdentity,
    asked: Range<u64>,
    argv: &[String],
) -> Result<Header, JobError> {
    let specs = parts.iter().map(|part| spec::of_header(part.last())).collect::<Result<Vec<_>, _>>()?;
    let first = parts[0].last();
    let mut spec = specs[0].clone();
    spec.input = PathBuf::from(&input.path);
    spec.stream = false;
    (spec.rows.shard, spec.rows.limit) = (None, None);
    spec.rows.range = Some(asked).filter(|asked| *asked != (0..u64::MAX));
    spec.money.max_cost = specs.iter().map(|spec| spec.money.max_cost).sum();
    spec.money.max_total_tokens = specs
        .iter()
        .map(|spec| spec.money.max_total_tokens)
        .reduce(|sum, tokens| sum?.checked_add(tokens?.get()))
        .flatten();
    spec.access.private = specs.iter().any(|spec| spec.access.private);
    let program = first.identity.get("program").and_then(|program| program.strip_prefix("sha256 "));
    let secrets = Secrets::from_environment();
    let mut settings = spec::settings(&spec);
    settings[RUN] = first.settings[RUN].clone();
    Ok(Header {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: now(),
        pid: std::process::id(),
        argv: argv.iter().map(|word| secrets.mask(word).into_owned()).collect(),
        selection: spec.rows.selection().up_to(input.rows),
        input,
        identity: spec.recorded_identity(program.map(str::to_owned)),
        predictor_sha256: first.predictor_sha256.clone(),
        prompt: first.prompt.clone(),
        settings,
    })
}
