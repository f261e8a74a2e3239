//! Compares an answers file with its input and, if there is one, its journal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use indexmap::IndexSet;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::blocks::STRIDE;
use super::cell::{self, Cell};
use super::columns;
use super::error::OutputError;
use super::input_columns::InputColumns;
use crate::input::{Fault, Format, Records, Source, entries};
use crate::journal::{Fields, Index, Reader};
use crate::matching::Matching;
use crate::selection::Selection;

/// How many places are listed for each kind of fault.
const TOLD: usize = 5;
/// How many columns every answers file has: `status`, `error`, `attempts`, `latency_ms`.
const OURS: usize = 4;

/// What to compare.
pub(crate) struct Inspection<'a> {
    /// The input.
    pub source: &'a Source,
    /// The answers file.
    pub answers: &'a Source,
    /// Ids of the rows that were asked for. Ids beyond the end of the input, and the blank records there, are not
    /// missing.
    pub selection: Selection,
    /// The journal: its path, its index, and the field names of the predictor.
    pub journal: Option<(&'a Path, &'a Index, &'a Fields)>,
    /// Whether to give up, asked every thousand records.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// What an audit found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Rows of the input that were asked for.
    pub rows: u64,
    /// Records of the answers file, including torn ones.
    pub records: u64,
    /// Rows without a record. The places are 0-based row ids.
    pub missing: Faults,
    /// Records of rows that have one already. The places, here and below, are lines of the answers file.
    pub duplicate: Faults,
    /// Records that belong to no row of the input.
    pub foreign: Faults,
    /// Records that stand in the place of a row but differ from it in the columns of the input.
    pub drifted: Faults,
    /// Incomplete records.
    pub torn: Faults,
    /// Records that follow one of a later row.
    pub unordered: Faults,
    /// Records whose answer differs from the one in the journal.
    pub altered: Faults,
    /// Records with an outcome of a row that has none in the journal.
    pub unrecorded: Faults,
}

/// Faults of one kind.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// How many there are.
    pub count: u64,
    /// Places of the first ones.
    pub first: Vec<u64>,
}

impl Faults {
    fn at(&mut self, place: u64) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(place);
        }
    }
}

impl Findings {
    /// The kinds of faults with their names.
    pub fn kinds(&self) -> [(&'static str, &Faults); 8] {
        [
            ("missing", &self.missing),
            ("duplicate", &self.duplicate),
            ("foreign", &self.foreign),
            ("drifted", &self.drifted),
            ("torn", &self.torn),
            ("unordered", &self.unordered),
            ("altered", &self.altered),
            ("unrecorded", &self.unrecorded),
        ]
    }

    /// Number of faults of all kinds.
    pub fn faults(&self) -> u64 {
        self.kinds().iter().map(|(_, found)| found.count).sum()
    }
}

/// A record that matches no row.
struct Stray {
    line: u64,
    /// The row that it should be for, judged by its position.
    row: u64,
    torn: bool,
}

impl Inspection<'_> {
    /// Reads the input once, or twice if it is JSONL, and the answers once. Takes 17 bytes a row.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, the input is malformed, the answers lack a column, or when cancelled. Other
    /// faults of the answers are findings.
    pub(crate) fn run(&self) -> Result<Findings, OutputError> {
        let mut findings = Findings::default();
        let own = self.own_names()?;
        let fields: Vec<String> =
            self.journal.iter().flat_map(|(_, _, fields)| fields.names()).map(str::to_owned).collect();
        let (added, _) = columns::added(&own, &fields);
        let (mut rows, end) = self.rows(&own)?;
        findings.rows = rows.left().iter().filter(|row| **row < end).count() as u64;
        let strays = self.records(&own, &added, &fields, &mut rows, &mut findings)?;
        let mut left = rows.left();
        left.retain(|row| *row < end);
        for stray in strays {
            let row = left.binary_search(&stray.row).map(|place| left.remove(place));
            match row {
                _ if stray.torn => findings.torn.at(stray.line),
                Ok(_) => findings.drifted.at(stray.line),
                Err(_) => findings.foreign.at(stray.line),
            }
        }
        for row in left {
            findings.missing.at(row);
        }
        Ok(findings)
    }

    /// The names that the columns of the input have in the answers.
    fn own_names(&self) -> Result<Vec<String>, OutputError> {
        let mut records = Records::open(self.source)?;
        if let Some(header) = records.header() {
            let names = header.names.clone();
            let same = self.answers.format == Format::Csv;
            return Ok(if same { names } else { columns::numbered(&names).0 });
        }
        let mut keys = IndexSet::new();
        while let Some(record) = records.next()? {
            self.go_on(record.id)?;
            if self.selection.contains(record.id) {
                let entries = entries(record.raw)
                    .map_err(|fault| OutputError::malformed(self.source, record.line, fault))?;
                for (key, _) in entries {
                    if !keys.contains(&*key) {
                        keys.insert(key.into_owned());
                    }
                }
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// The rows of the input by their fingerprints, and the id after the last row that is not blank. The blank ones
    /// after it are included because version 0.1 answered them.
    fn rows(&self, own: &[String]) -> Result<(Matching, u64), OutputError> {
        let mut records = Records::open(self.source)?;
        let mut columns = InputColumns::new(self.source, own.to_vec());
        let (mut rows, mut end) = (Vec::new(), 0);
        while let Some(record) = records.next()? {
            self.go_on(record.id)?;
            if self.selection.contains(record.id) {
                let mut cells = Vec::with_capacity(own.len());
                columns
                    .cells(record.raw, &mut cells)
                    .map_err(|fault| OutputError::malformed(self.source, record.line, fault))?;
                rows.push((self.fingerprint(&cells), record.id));
                if !self.source.is_empty(&record) {
                    end = record.id + 1;
                }
            }
        }
        Ok((Matching::new(rows), end))
    }

    /// Reads the answers and takes the row of each record that matches one. Returns the records that match none.
    fn records(
        &self,
        own: &[String],
        added: &[String],
        fields: &[String],
        rows: &mut Matching,
        findings: &mut Findings,
    ) -> Result<Vec<Stray>, OutputError> {
        let mut records = Records::open(self.answers)?;
        let places = self.places(records.header().map(|header| &header.names[..]), own, added)?;
        let names = own.iter().chain(added).cloned().collect();
        let mut columns = InputColumns::new(self.answers, names);
        let mut journal = self.journal.map(|(path, ..)| Reader::open(path)).transpose()?;
        let mut strays: Vec<Stray> = Vec::new();
        // The place in the shard of the row that the next record should be for.
        let (shard, mut expected) = (self.selection.shard(), self.selection.places().start);
        let (mut last, mut previous) = (1, None);
        loop {
            self.go_on(findings.records)?;
            let record = match records.next() {
                Ok(None) => break,
                Ok(Some(record)) => record,
                Err(error) if matches!(error.fault(), Fault::Io(_)) => return Err(error.into()),
                Err(error) => {
                    findings.records += 1;
                    last = error.line().unwrap_or(last);
                    strays.push(Stray { line: last, row: shard.row(expected), torn: true });
                    expected += 1;
                    continue;
                }
            };
            findings.records += 1;
            last = record.line;
            let mut cells = Vec::new();
            let whole = columns.cells(record.raw, &mut cells).is_ok()
                && places[places.len() - OURS].is_some_and(|status| !matches!(cells[status], Cell::Absent));
            if !whole {
                strays.push(Stray { line: record.line, row: shard.row(expected), torn: true });
                expected += 1;
                continue;
            }
            let fingerprint = self.fingerprint(&cells[..own.len()]);
            match rows.take(fingerprint) {
                Some(row) => {
                    if previous.replace(row).is_some_and(|previous| previous > row) {
                        findings.unordered.at(record.line);
                    }
                    expected = shard.place(row).map_or(expected, |place| place + 1);
                    if let (Some((_, index, _)), Some(journal)) = (self.journal, &mut journal) {
                        let outcome = journal.outcome(index, row)?;
                        let status = places[places.len() - OURS].map(|at| cells[at].text());
                        let lost = outcome.is_none()
                            && status.is_some_and(|status| status == "ok" || status == "failed");
                        let answer = places.iter().map(|place| place.map_or(&Cell::Absent, |at| &cells[at]));
                        let mut recorded = Vec::new();
                        cell::added(outcome.as_ref(), fields, &mut recorded);
                        if !answer.zip(&recorded).all(|(one, other)| one.text() == other.text()) {
                            let found = if lost { &mut findings.unrecorded } else { &mut findings.altered };
                            found.at(record.line);
                        }
                    }
                }
                None if rows.knows(fingerprint) => findings.duplicate.at(record.line),
                None => {
                    strays.push(Stray { line: record.line, row: shard.row(expected), torn: false });
                    expected += 1;
                }
            }
        }
        // Every record is written with a line ending, so a last one without it is torn.
        let last_is_told = strays.last().is_some_and(|stray| stray.torn && stray.line == last);
        if !last_is_told && !ends_with_a_line(&self.answers.path).map_err(|error| self.unreadable(error))? {
            findings.torn.at(last);
        }
        Ok(strays)
    }

    /// Positions of the added columns among the cells of a record; `None` for those that the file lacks, as an older
    /// one may.
    fn places(
        &self,
        header: Option<&[String]>,
        own: &[String],
        added: &[String],
    ) -> Result<Vec<Option<usize>>, OutputError> {
        let Some(header) = header else {
            return Ok((own.len()..own.len() + added.len()).map(Some).collect());
        };
        let place = |name: &String| {
            let behind = header.get(own.len()..)?;
            Some(own.len() + behind.iter().position(|column| column == name)?)
        };
        let places: Vec<_> = added.iter().map(place).collect();
        let missing = own.iter().zip(header.iter().map(Some).chain(std::iter::repeat(None)));
        let mut missing = missing.filter(|(name, column)| Some(*name) != *column).map(|(name, _)| name);
        let ours = added.len() - OURS..;
        let absent = added[ours.clone()].iter().zip(&places[ours]).find(|(_, place)| place.is_none());
        match missing.next().or(absent.map(|(name, _)| name)) {
            None => Ok(places),
            Some(column) => {
                Err(OutputError::Columns { path: self.answers.path.clone(), column: column.clone() })
            }
        }
    }

    /// A hash of the input columns of a row that is the same for the input and for the answers.
    fn fingerprint(&self, cells: &[Cell<'_>]) -> u64 {
        let json = self.answers.format == Format::Jsonl;
        let mut hasher = Xxh3::new();
        for cell in cells {
            let text = match cell {
                // CSV cannot express an absent value.
                Cell::Absent if json => {
                    hasher.update(&[0]);
                    continue;
                }
                Cell::Json(raw) if json && self.source.format == Format::Jsonl => raw.get().into(),
                cell => cell.text(),
            };
            hasher.update(&[1]);
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.digest()
    }

    /// Refuses to go on past this many records if cancelled.
    fn go_on(&self, records: u64) -> Result<(), OutputError> {
        if records.is_multiple_of(STRIDE) && (self.cancelled)() {
            Err(OutputError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn unreadable(&self, source: io::Error) -> OutputError {
        OutputError::Read { path: self.answers.path.clone(), source }
    }
}

fn ends_with_a_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(matches!(last, [b'\n' | b'\r']))
}
