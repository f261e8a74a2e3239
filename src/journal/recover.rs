//! Reads a journal from its first line to its last whole record. Changes nothing, also beside a running job.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use super::error::JournalError;
use super::fields::Fields;
use super::index::Index;
use super::line;
use super::record::{End, Header, Record, VERSION, Verdict};

const BUFFER: usize = 1 << 20;

/// What a journal says.
#[derive(Debug)]
pub struct Recovered {
    /// The header of each session; there is at least one.
    pub sessions: Vec<Header>,
    /// Where each row was decided.
    pub index: Arc<Index>,
    /// The predictor's field names.
    pub fields: Fields,
    /// Rows that the last session had started and not finished: their calls may have been billed.
    pub in_flight: BTreeSet<u64>,
    /// How the last session ended, if it did so in order.
    pub end: Option<End>,
    /// Lines that cost one row each.
    pub damaged: Vec<Damaged>,
    /// Bytes after the last line feed: a write cut short, or one just being made.
    pub torn_bytes: u64,
    /// Bytes up to there.
    pub whole_bytes: u64,
}

/// A line that contradicts its checksum, or names a row outside the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged {
    /// 1-based.
    pub line: u64,
    /// Of its first byte.
    pub offset: u64,
}

impl Recovered {
    /// Reads the journal up to its last whole record, taking no lock. `visit` is given every record in order, of each
    /// session's header one copy.
    pub fn read(path: &Path, visit: impl FnMut(&Record<'_>)) -> Result<Self, JournalError> {
        let file = File::open(path);
        let file =
            file.map_err(|source| JournalError::Io { action: "open", path: path.to_owned(), source })?;
        Self::scan(&file, path, visit)
    }

    /// Reads from where the file stands.
    pub(super) fn scan(
        file: &File,
        path: &Path,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<Self, JournalError> {
        let mut recovered = Self::nothing();
        let mut lines = Lines::of(file);
        let io = |source| JournalError::Io { action: "read", path: path.to_owned(), source };
        while let Some(position) = lines.next().map_err(io)? {
            let Some(json) = line::decode(&lines.line) else {
                recovered.damaged.push(position);
                continue;
            };
            let foreign = || JournalError::Foreign { path: path.to_owned(), line: position.line };
            let record: Record<'_> = serde_json::from_slice(json).map_err(|_| foreign())?;
            match recovered.take(&record, position) {
                Taken::Yes => visit(&record),
                Taken::Copy => {}
                Taken::No => recovered.damaged.push(position),
                Taken::Foreign => return Err(foreign()),
            }
        }
        if recovered.sessions.is_empty() {
            return Err(JournalError::NoHeader { path: path.to_owned() });
        }
        recovered.whole_bytes = lines.offset;
        recovered.torn_bytes = lines.line.len() as u64;
        Ok(recovered)
    }

    fn nothing() -> Self {
        Self {
            sessions: Vec::new(),
            index: Arc::new(Index::new(0..0)),
            fields: Fields::default(),
            in_flight: BTreeSet::new(),
            end: None,
            damaged: Vec::new(),
            torn_bytes: 0,
            whole_bytes: 0,
        }
    }

    fn take(&mut self, record: &Record<'_>, position: Damaged) -> Taken {
        match record {
            Record::Header(header) if header.version != VERSION => return Taken::Foreign,
            Record::Header(header) if self.sessions.last() == Some(header) => return Taken::Copy,
            Record::Header(header) => {
                if self.sessions.is_empty() {
                    self.index = Arc::new(Index::new(header.selection.clone()));
                }
                self.in_flight.clear();
                self.end = None;
                self.sessions.push(header.clone().into_owned());
            }
            Record::Started(rows) => self.in_flight.extend(rows.iter().map(|(row, _)| row)),
            Record::Outcome(outcome) => {
                if !self.index.decide(outcome.row, position.offset, outcome.result.is_ok()) {
                    return Taken::No;
                }
                if let Verdict::Ok { fields, .. } = &outcome.result {
                    self.fields.see(outcome.row, fields.0.iter().map(|(name, _)| &**name));
                }
                self.in_flight.remove(&outcome.row);
            }
            Record::End(end) => self.end = Some(end.clone().into_owned()),
        }
        Taken::Yes
    }
}

enum Taken {
    Yes,
    /// The second copy of a header.
    Copy,
    /// The row is none of the selection's.
    No,
    /// Another version of the format.
    Foreign,
}

/// The header of the last session, for whoever finds the journal locked. Parses nothing else.
pub(super) fn last_header(file: &File) -> io::Result<Option<Header>> {
    let mut last = None;
    let mut lines = Lines::of(file);
    while lines.next()?.is_some() {
        if let Some(json) = lines.line.get(9..).filter(|json| json.starts_with(br#"{"header""#))
            && let Ok(Record::Header(header)) = serde_json::from_slice::<Record<'_>>(json)
        {
            last = Some(header.into_owned());
        }
    }
    Ok(last)
}

/// The file's lines that are neither empty nor without their line feed.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    /// The last line without its line feed; after the end, what follows the last line feed.
    line: Vec<u8>,
    number: u64,
    /// Of the first byte not yet passed.
    offset: u64,
}

impl<'a> Lines<'a> {
    fn of(file: &'a File) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, file), line: Vec::new(), number: 0, offset: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Damaged>> {
        loop {
            self.line.clear();
            let length = self.reader.read_until(b'\n', &mut self.line)? as u64;
            if self.line.pop_if(|last| *last == b'\n').is_none() {
                return Ok(None);
            }
            self.number += 1;
            let position = Damaged { line: self.number, offset: self.offset };
            self.offset += length;
            if !self.line.is_empty() {
                return Ok(Some(position));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::journal::testing::{answered, failed, hash_of, header};
    use crate::journal::{Journal, Reader, Status};

    /// Eight rows in two sessions: 0 to 5 answered, 6 failed and then answered, 7 in flight.
    fn two_sessions(path: &Path) -> Vec<u8> {
        let mut journal = Journal::create(path, &header(1, 0..8)).unwrap();
        journal.append_started(&(0..8).map(|row| (row, hash_of(row))).collect::<Vec<_>>()).unwrap();
        for row in 0..6 {
            journal.append_outcome(&answered(row)).unwrap();
        }
        journal.append_outcome(&failed(6)).unwrap();
        journal.append_header(&header(2, 0..8)).unwrap();
        journal.append_started(&[(6, hash_of(6)), (7, hash_of(7))]).unwrap();
        journal.append_outcome(&answered(6)).unwrap();
        journal.checkpoint().unwrap();
        fs::read(path).unwrap()
    }

    fn answered_rows(recovered: &Recovered) -> Vec<u64> {
        recovered.index.selection().filter(|row| recovered.index.status(*row) == Some(Status::Ok)).collect()
    }

    /// Reads every row that counts as answered and holds it against what was asked.
    fn assert_no_wrong_answer(path: &Path, recovered: &Recovered) {
        let mut reader = Reader::open(path).unwrap();
        for row in answered_rows(recovered) {
            let outcome = reader.outcome(&recovered.index, row).unwrap().unwrap();
            let Verdict::Ok { fields, .. } = outcome.result else {
                panic!("row {row} is indexed as answered")
            };
            assert_eq!(outcome.hash, hash_of(row));
            assert_eq!(fields.0[0].1.get(), format!("\"answer {row}\""));
        }
    }

    #[test]
    fn sessions_outcomes_and_rows_in_flight_are_recovered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        two_sessions(&path);
        let mut outcomes = 0;
        let recovered =
            Recovered::read(&path, |record| outcomes += u32::from(matches!(record, Record::Outcome(_))))
                .unwrap();
        assert_eq!(outcomes, 8);
        assert_eq!(recovered.sessions, [header(1, 0..8), header(2, 0..8)]);
        assert_eq!(answered_rows(&recovered), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(recovered.in_flight, BTreeSet::from([7]));
        assert_eq!(recovered.fields.names(), ["answer", "reasoning"]);
        assert_eq!((recovered.damaged.len(), recovered.torn_bytes, recovered.end.as_ref()), (0, 0, None));
        assert_no_wrong_answer(&path, &recovered);
    }

    #[test]
    fn a_journal_cut_at_any_byte_keeps_every_whole_record_and_takes_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = two_sessions(&directory.path().join("whole"));
        let path = directory.path().join("cut");
        let first_header = memchr::memchr(b'\n', &bytes).unwrap() + 1;
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let read = Recovered::read(&path, |_| ());
            assert_eq!(fs::read(&path).unwrap(), bytes[..length], "reading changes nothing");
            if length < first_header {
                assert!(matches!(read, Err(JournalError::NoHeader { .. })), "cut to {length}");
                assert!(matches!(Journal::recover(&path, |_| ()), Err(JournalError::NoHeader { .. })));
                assert_eq!(fs::read(&path).unwrap(), bytes[..length], "what is no journal is not cut");
                continue;
            }
            let whole = memchr::memrchr(b'\n', &bytes[..length]).unwrap() + 1;
            let (mut journal, recovered) = Journal::recover(&path, |_| ()).unwrap();
            assert_eq!(recovered.torn_bytes, (length - whole) as u64);
            assert_eq!(answered_rows(&recovered), answered_rows(&read.unwrap()));
            assert_eq!(fs::read(&path).unwrap(), bytes[..whole]);
            journal.append_outcome(&answered(7)).unwrap();
            journal.commit().unwrap();
            drop(journal);
            let again = Recovered::read(&path, |_| ()).unwrap();
            assert_eq!((again.damaged.len(), again.torn_bytes), (0, 0));
            assert_eq!(again.index.status(7), Some(Status::Ok));
            assert_no_wrong_answer(&path, &again);
        }
    }

    #[test]
    fn no_flipped_bit_costs_more_than_its_row_or_gives_a_wrong_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flipped");
        let bytes = two_sessions(&path);
        let whole = answered_rows(&Recovered::read(&path, |_| ()).unwrap()).len();
        for bit in (0..bytes.len() * 8).step_by(3) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            let recovered = Recovered::read(&path, |_| ()).unwrap();
            let lost = whole - answered_rows(&recovered).len();
            let allowed = if bytes[bit / 8] == b'\n' { 2 } else { 1 };
            assert!(lost <= allowed, "bit {bit} cost {lost} rows");
            let blank = bit / 8 > 0 && bytes[bit / 8 - 1..=bit / 8] == *b"\n\n";
            assert!(
                blank || !recovered.damaged.is_empty() || recovered.torn_bytes > 0,
                "bit {bit} went unseen"
            );
            assert_no_wrong_answer(&path, &recovered);
        }
    }

    #[test]
    fn a_damaged_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("damaged");
        let mut bytes = two_sessions(&path);
        let offset = Recovered::read(&path, |_| ()).unwrap().index.offset(2).unwrap();
        bytes[offset as usize + 20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let recovered = Recovered::read(&path, |_| ()).unwrap();
        assert_eq!(recovered.damaged, [Damaged { line: 7, offset }]);
        assert_eq!(answered_rows(&recovered), [0, 1, 3, 4, 5, 6]);
    }

    #[test]
    fn a_row_outside_the_selection_counts_as_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut journal = Journal::create(&path, &header(1, 0..2)).unwrap();
        journal.append_outcome(&answered(2)).unwrap();
        journal.commit().unwrap();
        assert_eq!(Recovered::read(&path, |_| ()).unwrap().damaged.len(), 1);
    }

    #[test]
    fn a_journal_of_another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let mut later = header(1, 0..2);
        later.version = VERSION + 1;
        drop(Journal::create(&path, &later).unwrap());
        assert!(matches!(Journal::recover(&path, |_| ()), Err(JournalError::Foreign { line: 1, .. })));
    }

    #[test]
    fn the_end_of_the_last_session_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let end = End {
            finished_at: "2026-01-01T00:00:09Z".to_owned(),
            exit_code: 3,
            reason: None,
            totals: serde_json::json!({"rows": 2}),
        };
        let mut journal = Journal::create(&path, &header(1, 0..2)).unwrap();
        journal.append_end(&end).unwrap();
        journal.commit().unwrap();
        assert_eq!(Recovered::read(&path, |_| ()).unwrap().end, Some(end));
        journal.append_header(&header(2, 0..2)).unwrap();
        journal.commit().unwrap();
        assert_eq!(Recovered::read(&path, |_| ()).unwrap().end, None);
    }

    /// `cargo test --release --lib a_million -- --ignored --nocapture`
    #[test]
    #[ignore = "takes seconds and 400 MB; for measurements"]
    fn a_million_rows_are_recovered_in_three_seconds() {
        use std::time::{Duration, Instant};

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("million");
        let mut journal = Journal::create(&path, &header(1, 0..1_000_000)).unwrap();
        let begun = Instant::now();
        for batch in 0..10_000 {
            let rows = batch * 100..batch * 100 + 100;
            journal.append_started(&rows.clone().map(|row| (row, hash_of(row))).collect::<Vec<_>>()).unwrap();
            rows.for_each(|row| journal.append_outcome(&answered(row)).unwrap());
            journal.commit().unwrap();
        }
        let written = begun.elapsed();
        journal.checkpoint().unwrap();
        let stats = journal.stats();
        drop(journal);
        let begun = Instant::now();
        let (_, recovered) = Journal::recover(&path, |_| ()).unwrap();
        let read = begun.elapsed();
        let begun = Instant::now();
        let mut reader = Reader::open(&path).unwrap();
        assert!((0..1_000_000).all(|row| reader.outcome(&recovered.index, row).unwrap().is_some()));
        eprintln!(
            "written in {written:?} ({stats:?}), recovered in {read:?}, read by row in {:?}",
            begun.elapsed()
        );
        assert!(read < Duration::from_secs(3));
    }
}
