//! Compares the last session of a job with this one. A difference is refused, or with `--allow-changed` the journal is
//! matched to the changed input. A changed source file is only reported, because people fix bugs in their predictors.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use super::answerer::now;
use super::difference::{Differences, Sides};
use super::error::{ErrorKind, JobError, refuse};
use super::paths::JobPaths;
use super::prepare::Prepared;
use super::spec::Identity;
use super::telling::Stopped;
use crate::fs::Stoppable;
use crate::input::{InputError, Records, Source};
use crate::journal::{Header, Index, InputIdentity, Journal, Reader, Recovered};
use crate::matching::Matching;
use crate::observe::{Level, Observer};
use crate::report::text::{TOLD, count, counted, list, numbers};
use crate::row::RowHash;
use crate::selection::Shard;
use crate::stats::Fold;
use crate::usage::Spent;

/// The most characters of the list of changed files.
const SHOWN: usize = 120;
/// Stands for a row that the input no longer has.
const GONE: u64 = u64::MAX;
/// How many rows are matched at once, at 17 bytes each. More rows are matched in several passes.
const ROWS_A_PASS: u64 = 2 << 20;

/// The differences between two sessions of one job. Neither another selection nor rows appended to the input make a
/// difference.
pub(super) struct Change {
    /// A sentence for each option that differs.
    options: Vec<String>,
    /// A sentence for each part of a prompt that differs.
    prompts: Vec<String>,
    /// The predictor's source files whose bytes differ.
    sources: Vec<String>,
    /// How the input's rows differ, if they do.
    input: Option<String>,
    /// What to do about the options and prompts.
    remedy: &'static str,
}

impl Change {
    /// Compares the last session of a journal with this one, which `header` describes. Fails once `stopped` says so.
    pub(super) fn between(
        recovered: &Recovered,
        header: &Header,
        source: &Source,
        journal: &Path,
        stopped: Stopped<'_>,
    ) -> Result<Self, JobError> {
        let before = recovered.sessions.last().ok_or_else(|| JobError::no_session(journal))?;
        let Differences { options, prompts, sources } = Differences::between(before, header, Sides::Sessions);
        let (was, is) = (&before.input, &header.input);
        let read =
            |input: &InputIdentity| (input.sha256.clone(), input.encoding.clone(), input.format.clone());
        let input = if read(was) == read(is) {
            None
        } else {
            let same_columns = was.header_hash == is.header_hash && was.delimiter == is.delimiter;
            mismatches(source, journal, (&recovered.index, is.rows), same_columns, stopped)?
        };
        let (earlier, now) = (Identity::recorded(before), Identity::recorded(header));
        let is_given = earlier.object || now.object;
        let remedy = match prompts.is_empty() {
            true if is_given && !now.is_predictor_of(&earlier) => "give the same one",
            true => "leave it out",
            false => "restore it",
        };
        Ok(Self { options, prompts, sources, input, remedy })
    }

    /// Whether there is nothing to refuse.
    pub(super) fn is_none(&self) -> bool {
        self.options.is_empty() && self.prompts.is_empty() && self.input.is_none()
    }

    /// Whether the input's rows differ from those in the journal.
    pub(super) fn rows(&self) -> bool {
        self.input.is_some()
    }

    /// Refuses to go on if anything differs. `anew` is the part of the hint that says how to start anew.
    pub(super) fn refuse(&self, source: &Source, anew: &str) -> Result<(), JobError> {
        if !(self.options.is_empty() && self.prompts.is_empty()) {
            refuse!(
                Changed,
                &source.path,
                "{}: the answers would not belong together\nhint: {}, {anew}, or go on all the same with \
                 `--allow-changed`",
                [&self.options[..], &self.prompts].concat().join("; "),
                self.remedy,
            );
        }
        if let Some(how) = &self.input {
            refuse!(
                Changed,
                &source.path,
                "`{}` has changed since the earlier run: {how}\nhint: restore the file, {anew}, or keep the answers \
                 of the rows that are still there with `--allow-changed`",
                source.path.display(),
            );
        }
        Ok(())
    }

    /// Warns of each difference that was allowed.
    pub(super) fn tell(&self, observer: &mut dyn Observer) {
        for sentence in self.options.iter().chain(&self.prompts) {
            observer.message(Level::Warning, &format!("{sentence}: earlier answers stay"));
        }
    }

    /// Warns of source files that have changed since the last session.
    pub(super) fn tell_sources(&self, observer: &mut dyn Observer) {
        if !self.sources.is_empty() {
            let files: Vec<_> = self.sources.iter().map(|file| format!("`{file}`")).collect();
            let text = "the predictor's source has changed since the last session";
            observer.message(Level::Warning, &format!("{text}: {}", list(&files, SHOWN)));
        }
    }
}

/// Describes how the input differs from the rows in the journal: how many do not match, and where the first ones are.
/// Returns `None` if each recorded row is unchanged and no selected row is missing.
fn mismatches(
    source: &Source,
    journal: &Path,
    (index, rows): (&Index, u64),
    same_columns: bool,
    stopped: Stopped<'_>,
) -> Result<Option<String>, JobError> {
    let (mut reader, mut records) = (Reader::open(journal)?, records(source, stopped)?);
    let (mut recorded, mut differ) = (0, 0);
    // As many of the lines that differ, and of the rows after the file's end, as are told and one more.
    let (mut lines, mut gone) = (Vec::new(), Vec::new());
    let mut ended = false;
    let end = index.selection().hull().end;
    for row in 0..end {
        // Rows that were not selected have to be read, too, to get past them.
        let record = if ended { None } else { records.next()? };
        ended = record.is_none();
        let Some(outcome) = reader.outcome(index, row)? else { continue };
        recorded += 1;
        let (into, number) = match record {
            None => (&mut gone, row),
            Some(record) if RowHash::of(record.raw.as_bytes()) != outcome.hash => (&mut lines, record.line),
            Some(_) => continue,
        };
        differ += 1;
        if into.len() <= TOLD {
            into.push(number);
        }
    }
    if differ == 0 {
        return Ok(if rows < end {
            Some(format!("it has {}, and {} were selected", counted(rows, "row"), count(end)))
        } else {
            (!same_columns).then(|| "its columns are not the same".to_owned())
        });
    }
    let mut text = format!("{} of {} no longer match", count(differ), counted(recorded, "recorded row"));
    if !lines.is_empty() {
        text += &format!(" (line {})", numbers(lines));
    }
    if !gone.is_empty() {
        text += &format!("; the file ends before row {}", numbers(gone));
    }
    Ok(Some(text))
}

fn records<'a>(source: &Source, stopped: Stopped<'a>) -> Result<Records<Stoppable<'a, File>>, InputError> {
    Records::from_reader(source, Stoppable { reader: source.open()?, stopped })
}

/// Rewrites the journal for the rows of the changed input, matched by their content. `open` are the rows that were
/// started and have no outcome, and `whole` is what all attempts so far used. Returns the new journal, what it says, and
/// its figures. They keep the usage of rows that are gone, so that it still counts against the budget.
///
/// Fails once `stopped` says so, and then the journal stays as it was.
///
/// Among rows with the same content, answered rows are matched first, then failed rows, each in the order of the input.
/// So no answer is given up while the input still has a copy of its row.
pub(super) fn rematch(
    journal: Journal,
    paths: &JobPaths,
    prepared: &Prepared,
    open: &BTreeMap<u64, RowHash>,
    whole: &Spent,
    observer: &mut dyn Observer,
    stopped: Stopped<'_>,
) -> Result<(Journal, Recovered, Fold), JobError> {
    let (before, shard) = (journal.index().selection().places(), prepared.header.selection.shard);
    let passes = (before.end - before.start).div_ceil(ROWS_A_PASS);
    let (moved, kept) =
        moves(&paths.journal, journal.index(), open, (&prepared.source, shard), passes, stopped)?;
    let gone = journal.index().counts().ok - kept;
    let moved = move |row: u64| {
        let place = shard.place(row)?.checked_sub(before.start)?;
        moved.get(usize::try_from(place).ok()?).copied().filter(|row| *row != GONE)
    };
    let time = now().replace(':', "-");
    let mut fold = Fold::new(prepared.header.selection);
    let mut rewrite = journal.rewrite(stopped, moved, |record| fold.recovered(record))?;
    fold.close_session();
    if let Some(gone) = whole.beyond(fold.stats.spent()) {
        rewrite.carry(&gone)?;
        fold.stats.add_spent(&gone);
    }
    let rewritten = rewrite.replace(&prepared.header, &time)?;
    let text = format!(
        "rows are matched by content: {} kept, {} gone from the {}; the earlier journal is kept as `{}`",
        counted(kept, "answer"),
        count(gone),
        if shard.is_whole() { "input" } else { "shard" },
        rewritten.aside.display()
    );
    observer.message(Level::Warning, &text);
    Ok((rewritten.journal, rewritten.recovered, fold))
}

/// Finds the new number of each row in the journal's selection, or [`GONE`], among the rows of the shard. Also returns
/// how many answered rows were found.
fn moves(
    journal: &Path,
    index: &Index,
    open: &BTreeMap<u64, RowHash>,
    (source, shard): (&Source, Shard),
    passes: u64,
    stopped: Stopped<'_>,
) -> Result<(Vec<u64>, u64), JobError> {
    let before = index.selection().places();
    let mut moved = vec![GONE; (before.end - before.start) as usize];
    let mut kept = 0;
    for pass in 0..passes {
        let in_turn = |hash: u64| hash % passes == pass;
        let [mut answered, mut failed, mut open] = recorded(journal, index, open, in_turn, stopped)?;
        let mut records = records(source, stopped)?;
        while let Some(record) = records.next()? {
            let hash = RowHash::of(record.raw.as_bytes()).0;
            if !in_turn(hash) || shard.place(record.id).is_none() {
                continue;
            }
            let was_answered = answered.take_first(hash);
            kept += u64::from(was_answered.is_some());
            let row = was_answered.or_else(|| failed.take_first(hash)).or_else(|| open.take_first(hash));
            if let Some(place) = row.and_then(|row| shard.place(row)) {
                moved[(place - before.start) as usize] = record.id;
            }
        }
    }
    Ok((moved, kept))
}

/// The rows of a journal whose hashes are wanted, by hash: answered rows, failed rows, and rows without an outcome.
fn recorded(
    journal: &Path,
    index: &Index,
    open: &BTreeMap<u64, RowHash>,
    wanted: impl Fn(u64) -> bool,
    stopped: Stopped<'_>,
) -> Result<[Matching; 3], JobError> {
    let mut reader = Reader::open(journal)?;
    let (mut answered, mut failed) = (Vec::new(), Vec::new());
    for row in index.selection().rows() {
        if stopped() {
            return Err(JobError::new(ErrorKind::Internal, "the matching was stopped"));
        }
        if let Some(outcome) = reader.outcome(index, row)?.filter(|outcome| wanted(outcome.hash.0)) {
            let rows = if outcome.result.is_ok() { &mut answered } else { &mut failed };
            rows.push((outcome.hash.0, row));
        }
    }
    let open = open.iter().filter(|(row, hash)| wanted(hash.0) && index.status(**row).is_none());
    let open = open.map(|(row, hash)| (hash.0, *row)).collect();
    Ok([answered, failed, open].map(Matching::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Format;
    use crate::journal::testing::{answered, failed, header};

    #[test]
    fn in_several_passes_rows_are_matched_as_in_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, input) = (directory.path().join("a.journal"), directory.path().join("q.csv"));
        let mut journal = Journal::create(&path, &header(1, 0..40)).unwrap();
        for row in 0..40 {
            journal.append_outcome(&if row % 4 == 0 { failed(row) } else { answered(row) }).unwrap();
        }
        journal.commit().unwrap();
        // Two rows new, the last ten in turn, the others gone.
        let lines: Vec<_> = (30..42).rev().map(|row| format!("question {row}\n")).collect();
        std::fs::write(&input, format!("question\n{}", lines.concat())).unwrap();
        let source = Source::new(&input, Format::Csv);
        let open = BTreeMap::new();
        let moves = |passes| {
            moves(&path, journal.index(), &open, (&source, Shard::WHOLE), passes, &|| false).unwrap()
        };
        let (moved, kept) = moves(1);
        assert_eq!((moved[29], moved[30], moved[39], kept), (GONE, 11, 2, 8));
        assert_eq!(moves(5), (moved, kept));
    }
}
