//! Reads a journal from its first line to its last whole record. It changes nothing and takes no lock, so it can read
//! beside a running job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::blame::CrashBlame;
use super::error::JournalError;
use super::fields::Fields;
use super::format::{self, Record, Unread};
use super::index::{Index, Status};
use super::line;
use super::session::{End, Header, VERSIONS};
use super::version_1::Version1;
use crate::row::RowHash;

const BUFFER: usize = 1 << 20;
/// The beginning of a header's JSON.
const HEADER: &[u8] = br#"{"header""#;

/// What a journal says.
#[derive(Debug)]
pub struct Recovered {
    /// The header of each session, of which there is at least one.
    pub sessions: Vec<Header>,
    /// The deciding record of each row.
    pub index: Arc<Index>,
    /// The predictor's field names.
    pub fields: Fields,
    /// Rows that a session started and left without an outcome when it did not end in order: their calls may have been
    /// billed. No later session has an outcome for them either.
    pub in_flight: BTreeSet<u64>,
    /// Rows that any session started and that have no outcome since.
    pub open: BTreeMap<u64, RowHash>,
    /// Rows that the session being read has started and not finished.
    started: BTreeMap<u64, RowHash>,
    /// Which rows were in flight when a session died.
    pub blame: CrashBlame,
    /// How the last session ended, if it says so.
    pub end: Option<End>,
    /// Damaged lines, each of which costs one row.
    pub damaged: Vec<Damaged>,
    /// Bytes after the last line feed: a write that was cut short, or one that is under way.
    pub torn_bytes: u64,
    /// Bytes up to and including the last line feed.
    pub whole_bytes: u64,
}

/// A line that contradicts its checksum, cannot be read, or names a row outside the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged {
    /// 1-based number of the line.
    pub line: u64,
    /// Offset of its first byte.
    pub offset: u64,
    /// Whether it begins as a session's header does. There are two copies of each.
    pub header: bool,
}

impl Recovered {
    /// Reads the journal up to its last whole record. `visit` is given every record in order, and each session's header
    /// once.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, has no header, or has a version or a kind of record that is unknown.
    pub fn read(path: &Path, visit: impl FnMut(&Record<'_>)) -> Result<Self, JournalError> {
        let file = File::open(path);
        let file =
            file.map_err(|source| JournalError::Io { action: "open", path: path.to_owned(), source })?;
        Self::from_reader(file, path, visit)
    }

    /// Reads the journal's bytes from a reader. The path serves only for messages.
    ///
    /// # Errors
    ///
    /// As [`Recovered::read`].
    pub fn from_reader(
        reader: impl Read,
        path: &Path,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<Self, JournalError> {
        let mut recovered = Self::nothing();
        let mut lines = Lines::of(reader);
        let mut version_1 = None;
        let io = |source| JournalError::Io { action: "read", path: path.to_owned(), source };
        'lines: while let Some(mut position) = lines.next().map_err(io)? {
            let mut rest = Some(&*lines.line);
            while let Some(line) = rest.take() {
                let json = line::decode(line);
                if json.is_some_and(is_foreign) {
                    return Err(JournalError::Foreign { path: path.to_owned(), line: position.line });
                }
                let mut record = match json.map(format::parse) {
                    Some(Ok(record)) => record,
                    Some(Err(Unread::Ancillary)) => continue,
                    Some(Err(Unread::Unknown(kind))) => {
                        return Err(JournalError::Unknown {
                            path: path.to_owned(),
                            line: position.line,
                            kind,
                        });
                    }
                    Some(Err(Unread::Nothing)) | None => {
                        recovered.damage(position);
                        // If its line feed is what was damaged, the next line follows it and is whole.
                        if let Some(at) = line::whole_end(line) {
                            position.offset += at as u64;
                            rest = Some(&line[at..]);
                        }
                        continue;
                    }
                };
                if let Record::Header(header) = &record {
                    version_1 = (header.version == 1).then(Version1::default);
                }
                if let (Some(version_1), Some(json)) = (&mut version_1, json) {
                    version_1.update(&mut record, json);
                }
                match recovered.take(&record, position) {
                    Taken::Yes => {
                        recovered.blame.see(&record);
                        visit(&record);
                    }
                    Taken::Copy => {}
                    // Without the selection every row would seem to be outside it, and would be called and billed
                    // again.
                    Taken::No if recovered.sessions.is_empty() => break 'lines,
                    Taken::No => recovered.damage(position),
                }
            }
        }
        if recovered.sessions.is_empty() {
            return Err(JournalError::NoHeader { path: path.to_owned() });
        }
        recovered.blame.close();
        recovered.close();
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
            open: BTreeMap::new(),
            started: BTreeMap::new(),
            blame: CrashBlame::default(),
            end: None,
            damaged: Vec::new(),
            torn_bytes: 0,
            whole_bytes: 0,
        }
    }

    /// Ends the session being read.
    fn close(&mut self) {
        let started = std::mem::take(&mut self.started);
        if self.end.as_ref().is_none_or(|end| !end.in_order()) {
            self.in_flight.extend(started.keys());
        }
        self.open.extend(started);
    }

    fn damage(&mut self, position: Damaged) {
        self.blame.see_damage();
        self.damaged.push(position);
    }

    fn take(&mut self, record: &Record<'_>, position: Damaged) -> Taken {
        match record {
            Record::Header(header) if self.sessions.last() == Some(header) => return Taken::Copy,
            Record::Header(header) if header.selection.start > header.selection.end => return Taken::No,
            Record::Header(header) => {
                if self.sessions.is_empty() || !self.index.covers(&header.selection) {
                    let Some(index) = self.index.covering(&header.selection) else { return Taken::No };
                    self.index = Arc::new(index);
                }
                self.close();
                self.end = None;
                self.sessions.push(header.clone().into_owned());
            }
            Record::Started(rows) => self.started.extend(rows.iter().copied()),
            Record::Attempt(attempt) if !self.index.selection().contains(attempt.row) => return Taken::No,
            Record::Attempt(_) | Record::Gone(_) => {}
            Record::Outcome(outcome) => {
                if !self.index.decide(outcome.row, position.offset, Status::of(outcome)) {
                    return Taken::No;
                }
                if let Ok(answer) = &outcome.result {
                    self.fields.see(outcome.row, answer.fields.iter().map(|(name, _)| &**name));
                }
                self.started.remove(&outcome.row);
                self.in_flight.remove(&outcome.row);
                self.open.remove(&outcome.row);
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
    /// The row is outside the selection, or the selection is impossible.
    No,
}

/// Whether it is a header of another version of the format, whatever else such a header may hold.
fn is_foreign(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        header: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    json.starts_with(HEADER)
        && serde_json::from_slice::<Versioned>(json)
            .is_ok_and(|versioned| !VERSIONS.contains(&versioned.header.version))
}

/// The headers of the sessions whose lines are whole. Parses no other record.
///
/// # Errors
///
/// Fails if the file cannot be read.
pub fn headers(reader: impl Read) -> io::Result<Vec<Header>> {
    let mut headers: Vec<Header> = Vec::new();
    let mut lines = Lines::of(reader);
    while let Some(line) = lines.next()? {
        if line.header
            && let Some(json) = line::decode(&lines.line)
            && let Ok(Record::Header(header)) = serde_json::from_slice::<Record<'_>>(json)
            && headers.last() != Some(&*header)
        {
            headers.push(header.into_owned());
        }
    }
    Ok(headers)
}

/// Whether the file begins with a session's header, damaged or not.
pub(super) fn begins_with_header(mut file: &File) -> bool {
    let mut beginning = [0; 9 + HEADER.len()];
    file.read_exact(&mut beginning).is_ok() && beginning[9..] == *HEADER
}

/// Whether the file has a whole line.
pub(super) fn has_lines(file: &File) -> io::Result<bool> {
    Ok(Lines::of(file).next()?.is_some())
}

/// The lines of a file that end in a line feed and are not blank.
struct Lines<R> {
    reader: BufReader<R>,
    /// The last line without its line feed. At the end of the file, what follows the last line feed.
    line: Vec<u8>,
    number: u64,
    /// Offset of the first byte that was not read yet.
    offset: u64,
}

impl<R: Read> Lines<R> {
    fn of(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, reader), line: Vec::new(), number: 0, offset: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Damaged>> {
        loop {
            self.line.clear();
            let length = self.reader.read_until(b'\n', &mut self.line)? as u64;
            if self.line.pop_if(|last| *last == b'\n').is_none() {
                return Ok(None);
            }
            self.number += 1;
            let position = Damaged {
                line: self.number,
                offset: self.offset,
                header: self.line.get(9..).is_some_and(|json| json.starts_with(HEADER)),
            };
            self.offset += length;
            if self.line.iter().any(|byte| *byte != b' ') {
                return Ok(Some(position));
            }
        }
    }
}
