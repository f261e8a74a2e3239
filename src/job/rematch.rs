//! Compares the last session of a job with this one. A difference is refused, or with `--allow-changed` the journal is
//! matched to the changed input. A changed source file is only reported, because people fix bugs in their predictors.

use std::collections::BTreeMap;
use std::path::Path;

use super::answerer::now;
use super::error::{JobError, refuse};
use super::paths::JobPaths;
use super::prepare::Prepared;
use super::spec::{FieldDifference, Identity};
use crate::input::{Records, Source};
use crate::journal::{Header, Index, InputIdentity, Journal, Reader, Recovered};
use crate::matching::Matching;
use crate::observe::{Level, Observer};
use crate::prompt::{Difference, Text};
use crate::report::text::{brief, count, counted, list};
use crate::row::RowHash;
use crate::selection::Selection;
use crate::stats::Fold;
use crate::usage::Spent;

/// The most differences in the prompts that are reported one by one.
const TOLD: usize = 3;
/// The most characters shown of a text.
const SHOWN: usize = 60;
/// Characters shown before the place where two texts differ.
const BEFORE: usize = 20;
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
    /// Compares the last session of a journal with this one, which `header` describes.
    pub(super) fn between(
        recovered: &Recovered,
        header: &Header,
        source: &Source,
        journal: &Path,
    ) -> Result<Self, JobError> {
        let before = recovered.sessions.last().ok_or_else(|| JobError::no_session(journal))?;
        let (earlier, now) = (Identity::recorded(before), Identity::recorded(header));
        let mut options = differing(&earlier, &now);
        let (was, is) = (&before.input, &header.input);
        for (name, was, is) in
            [("encoding", &was.encoding, &is.encoding), ("format", &was.format, &is.format)]
        {
            if was != is {
                options.push(format!("`--{name}` was `{was}` in the earlier run and is `{is}` now"));
            }
        }
        // In a file that was saved again with another delimiter, the rows differ.
        if was.sha256 == is.sha256 && was.delimiter != is.delimiter {
            let [was, is] =
                [was, is].map(|input| input.delimiter.unwrap_or_default().escape_debug().to_string());
            options.push(format!("`--delimiter` was `{was}` in the earlier run and is `{is}` now"));
        }
        let read =
            |input: &InputIdentity| (input.sha256.clone(), input.encoding.clone(), input.format.clone());
        let input = if read(was) == read(is) {
            None
        } else {
            let same_columns = was.header_hash == is.header_hash && was.delimiter == is.delimiter;
            mismatches(source, journal, &recovered.index, is.rows, same_columns)?
        };
        // Another predictor, signature or model implies other prompts.
        let same_predictor = now.is_predictor_of(&earlier)
            && (&earlier.signature, &earlier.model) == (&now.signature, &now.model);
        let (prompts, sources) = match (&before.prompt, &header.prompt) {
            _ if !same_predictor => (Vec::new(), Vec::new()),
            (Some(was), Some(is)) => {
                let mut sources: Vec<_> = was.changed_sources(is).map(str::to_owned).collect();
                // It may come from another file than before, or from none.
                if sources.is_empty() && was.is_rewritten(is) {
                    sources.push(now.predictor.clone());
                }
                (sentences(&was.differences(is)), sources)
            }
            _ if before.predictor_sha256 != header.predictor_sha256 => {
                let spec = &*now.predictor;
                (Vec::new(), vec![spec.rsplit_once(':').map_or(spec, |(file, _)| file).to_owned()])
            }
            _ => (Vec::new(), Vec::new()),
        };
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
            observer.message(Level::Warning, &format!("{text}: {}", list(&files, 2 * SHOWN)));
        }
    }
}

/// A sentence for each of the first differences, and one for the rest.
fn sentences(differences: &[Difference<'_>]) -> Vec<String> {
    let sentence = |difference: &Difference<'_>| match difference {
        Difference::New(name) => format!("the module has a predictor `{name}` that it did not have"),
        Difference::Gone(name) => format!("the module no longer has its predictor `{name}`"),
        Difference::Part { was, is, .. } if was.text == is.text => {
            format!(
                "the {difference} changed after the first {} characters",
                count(is.text.chars().count() as u64)
            )
        }
        Difference::Part { part, was, is, .. } => {
            let [was, is] = apart(was, is);
            let [before, now] = if *part == "signature" { ["was", "is"] } else { ["were", "are"] };
            format!("the {difference} {before} `{was}` in the earlier run and {now} `{is}` now")
        }
    };
    let mut sentences: Vec<_> = differences.iter().take(TOLD).map(sentence).collect();
    if let Some(more) = differences.len().checked_sub(TOLD).filter(|more| *more > 0) {
        sentences.push(format!("{} of its prompts changed", counted(more as u64, "other part")));
    }
    sentences
}

/// Shortens two texts to what surrounds the place where they differ.
fn apart(was: &Text, is: &Text) -> [String; 2] {
    let same = was.text.chars().zip(is.text.chars()).take_while(|(was, is)| was == is).count();
    let words = was.text.chars().take(same.saturating_sub(BEFORE)).collect::<String>();
    // Texts that differ near the beginning are shown from the beginning.
    let skipped = words.rfind([' ', '\n']).filter(|skipped| *skipped > BEFORE).map_or(0, |at| at + 1);
    [was, is].map(|text| {
        let before = if skipped > 0 { "…" } else { "" };
        format!("{before}{}", brief(&text.text[skipped..], SHOWN))
    })
}

/// A sentence for each option that makes this another job.
fn differing(before: &Identity, now: &Identity) -> Vec<String> {
    let shown = |value: &str| if value.is_empty() { "not given".to_owned() } else { format!("`{value}`") };
    let object = |identity: &Identity| if identity.object { "the Python object " } else { "" };
    let sentence = |FieldDifference { name, was, is }: FieldDifference<'_>| {
        if name == "predictor" && (before.object || now.object) {
            let (of_was, of_is) = (object(before), object(now));
            return format!("the predictor was {of_was}`{was}` in the earlier run and is {of_is}`{is}` now");
        }
        format!("`--{name}` was {} in the earlier run and is {} now", shown(was), shown(is))
    };
    now.differences(before).into_iter().map(sentence).collect()
}

/// Describes how the input differs from the rows in the journal: how many do not match, and where the first one is.
/// Returns `None` if each recorded row is unchanged and no selected row is missing.
fn mismatches(
    source: &Source,
    journal: &Path,
    index: &Index,
    rows: u64,
    same_columns: bool,
) -> Result<Option<String>, JobError> {
    let (mut reader, mut records) = (Reader::open(journal)?, Records::open(source)?);
    let (mut recorded, mut differ, mut first) = (0, 0, None);
    let mut ended = false;
    let end = index.selection().hull().end;
    for row in 0..end {
        // Rows that were not selected have to be read, too, to get past them.
        let record = if ended { None } else { records.next()? };
        ended = record.is_none();
        let Some(outcome) = reader.outcome(index, row)? else { continue };
        recorded += 1;
        if record.is_none_or(|record| RowHash::of(record.raw.as_bytes()) != outcome.hash) {
            differ += 1;
            first = first.or_else(|| Some(record.map_or(Err(row), |record| Ok(record.line))));
        }
    }
    let of = format!("of {} no longer", counted(recorded, "recorded row"));
    Ok(match first {
        None if rows < end => {
            Some(format!("it has {}, and {} were selected", counted(rows, "row"), count(end)))
        }
        None if !same_columns => Some("its columns are not the same".to_owned()),
        None => None,
        Some(Ok(line)) => Some(format!("{} {of} match, the first on line {line}", count(differ))),
        Some(Err(row)) => Some(format!("{} {of} match, for the file ends before row {row}", count(differ))),
    })
}

/// Rewrites the journal for the rows of the changed input, matched by their content. `open` are the rows that were
/// started and have no outcome, and `whole` is what all attempts so far used. Returns the new journal and its figures.
/// They keep the usage of rows that are gone, so that it still counts against the budget.
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
) -> Result<(Journal, Fold), JobError> {
    let before = journal.index().selection().hull();
    let passes = (before.end - before.start).div_ceil(ROWS_A_PASS);
    let (moved, kept) = moves(&paths.journal, journal.index(), open, &prepared.source, passes)?;
    let gone = journal.index().counts().ok - kept;
    // An answer is kept even if this session does not select its row.
    let mut selection = Selection::from(prepared.header.selection.clone());
    moved.iter().filter(|row| **row != GONE).for_each(|row| selection.cover(*row..*row + 1));
    let selection = selection.hull();
    let moved = move |row: u64| {
        let row = moved.get(usize::try_from(row.checked_sub(before.start)?).ok()?).copied();
        row.filter(|row| *row != GONE)
    };
    let time = now().replace(':', "-");
    let mut fold = Fold::new(&selection);
    let mut rewrite = journal.rewrite(&selection, moved, |record| fold.recovered(record))?;
    fold.close_session();
    if let Some(gone) = whole.beyond(fold.stats.spent()) {
        rewrite.carry(&gone)?;
        fold.stats.add_spent(&gone);
    }
    let rewritten = rewrite.replace(&prepared.header, &time)?;
    let text = format!(
        "rows are matched by content: {} kept, {} gone from the input; the earlier journal is kept as `{}`",
        counted(kept, "answer"),
        count(gone),
        rewritten.aside.display()
    );
    observer.message(Level::Warning, &text);
    Ok((rewritten.journal, fold))
}

/// Finds the new number of each row in the journal's selection, or [`GONE`]. Also returns how many answered rows were
/// found.
fn moves(
    journal: &Path,
    index: &Index,
    open: &BTreeMap<u64, RowHash>,
    source: &Source,
    passes: u64,
) -> Result<(Vec<u64>, u64), JobError> {
    let before = index.selection().hull();
    let mut moved = vec![GONE; (before.end - before.start) as usize];
    let mut kept = 0;
    for pass in 0..passes {
        let in_turn = |hash: u64| hash % passes == pass;
        let [mut answered, mut failed, mut open] = recorded(journal, index, open, in_turn)?;
        let mut records = Records::open(source)?;
        while let Some(record) = records.next()? {
            let hash = RowHash::of(record.raw.as_bytes()).0;
            if !in_turn(hash) {
                continue;
            }
            let was_answered = answered.take_first(hash);
            kept += u64::from(was_answered.is_some());
            let row = was_answered.or_else(|| failed.take_first(hash)).or_else(|| open.take_first(hash));
            if let Some(row) = row {
                moved[(row - before.start) as usize] = record.id;
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
) -> Result<[Matching; 3], JobError> {
    let mut reader = Reader::open(journal)?;
    let (mut answered, mut failed) = (Vec::new(), Vec::new());
    for row in index.selection().rows() {
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
    use crate::prompt::tests::prompt;

    #[test]
    fn what_is_no_longer_given_makes_another_job() {
        let before = Identity { program: "sha256 1".to_owned(), ..Identity::default() };
        let now = Identity::default();
        let differs = ["`--program` was `sha256 1` in the earlier run and is not given now"];
        assert_eq!(differing(&before, &now), differs);
        assert!(differing(&before, &before).is_empty());
    }

    #[test]
    fn two_prompts_are_shown_from_where_they_differ() {
        let said = |was: &str, is: &str| sentences(&prompt(was, "1").differences(&prompt(is, "1")));
        assert_eq!(
            said("Answer briefly.", "Answer in\nFrench."),
            [
                "the instructions of `predict` were `Answer briefly.` in the earlier run and are `Answer in French.` now"
            ]
        );
        let long = "Read the question twice before you answer it, then answer ";
        let [sentence] = &said(&format!("{long}briefly."), &format!("{long}in French."))[..] else {
            panic!()
        };
        assert!(sentence.contains("were `…answer it, then answer briefly.` in"), "{sentence}");
        assert!(sentence.ends_with("and are `…answer it, then answer in French.` now"), "{sentence}");
        let [sentence] = &said(&"a ".repeat(2_000), &"a ".repeat(2_001))[..] else { panic!() };
        assert_eq!(sentence, "the instructions of `predict` changed after the first 2,000 characters");
    }

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
        let moves = |passes| moves(&path, journal.index(), &open, &source, passes).unwrap();
        let (moved, kept) = moves(1);
        assert_eq!((moved[29], moved[30], moved[39], kept), (GONE, 11, 2, 8));
        assert_eq!(moves(5), (moved, kept));
    }
}
