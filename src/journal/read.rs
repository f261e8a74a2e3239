//! Reads outcomes by row, for whoever walks the rows in order.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::format;
use super::index::Index;
use super::line;
use crate::outcome::Outcome;

/// Size of a window of the journal, in bytes, and how many are kept.
const WINDOW: usize = 64 << 10;
const WINDOWS: usize = 32;

/// Reads outcomes at the offsets an [`Index`] gives.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    lines: LineCache,
}

impl Reader {
    /// Opens the journal, taking no lock.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        match File::open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), lines: LineCache::new(file, WINDOW, WINDOWS) }),
            Err(source) => Err(JournalError::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// The outcome that decides the row, if there is one.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if another record is in that place by now.
    pub fn outcome(&mut self, index: &Index, row: u64) -> Result<Option<Outcome>, JournalError> {
        let Some(offset) = index.offset(row) else { return Ok(None) };
        let line = self.lines.line(offset);
        let line =
            line.map_err(|source| JournalError::Io { action: "read", path: self.path.clone(), source })?;
        match line.and_then(line::decode).map(format::parse_outcome) {
            Some(Some(outcome)) if outcome.row == row => Ok(Some(outcome)),
            _ => Err(JournalError::Changed { path: self.path.clone(), row, offset }),
        }
    }
}

/// Lines of a file by their offsets, read through a few windows. Rows end nearly in order, so the next line is nearly
/// always in a window that was read already. There are several, because each session of a journal, and the rows that
/// came late, progress in a place of their own.
#[derive(Debug)]
struct LineCache {
    file: File,
    size: usize,
    /// Most recently used first.
    recent: Vec<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl LineCache {
    fn new(file: File, size: usize, count: usize) -> Self {
        Self { file, size, recent: (0..count).map(|_| Window::default()).collect() }
    }

    /// The line that starts at the offset, without its line feed; none if the file ends before the line does.
    fn line(&mut self, offset: u64) -> io::Result<Option<&[u8]>> {
        let place = self.recent.iter().position(|window| window.find(offset).is_some());
        let place = if let Some(place) = place {
            place
        } else {
            let last = self.recent.len() - 1;
            self.recent[last].read(&self.file, offset, self.size)?;
            last
        };
        self.recent[..=place].rotate_right(1);
        let window = &self.recent[0];
        Ok(window.find(offset).map(|line| &window.bytes[line]))
    }
}

impl Window {
    fn find(&self, offset: u64) -> Option<Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let length = memchr::memchr(b'\n', self.bytes.get(start..)?)?;
        Some(start..start + length)
    }

    /// Reads around the offset: a quarter of the window before it, for the rows that were overtaken, and on to the end
    /// of the line however long that is.
    fn read(&mut self, file: &File, offset: u64, size: usize) -> io::Result<()> {
        self.start = offset.saturating_sub(size as u64 / 4);
        self.bytes.clear();
        let mut wanted = size;
        loop {
            let filled = self.bytes.len();
            self.bytes.resize(wanted, 0);
            let end = fill(file, &mut self.bytes, filled, self.start)?;
            self.bytes.truncate(end);
            if end < wanted || self.find(offset).is_some() {
                return Ok(());
            }
            wanted *= 2;
        }
    }
}

/// Fills the buffer from `filled` on with the file's bytes, and returns how far it is filled. That is short of its end
/// only at the end of the file.
fn fill(file: &File, buffer: &mut [u8], mut filled: usize, start: u64) -> io::Result<usize> {
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    proptest! {
        #[test]
        fn any_line_is_found_in_any_order_through_windows_of_any_size(
            lengths in proptest::collection::vec(0_usize..200, 1..60),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..120),
            size in 1_usize..300,
            count in 1_usize..4,
        ) {
            let lines: Vec<_> = lengths.iter().enumerate().map(|(n, length)| format!("{n}{}", "x".repeat(*length))).collect();
            let mut bytes = Vec::new();
            let mut offsets = Vec::new();
            for line in &lines {
                offsets.push(bytes.len() as u64);
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
            let mut cache = LineCache::new(file_of(&bytes), size, count);
            for place in order {
                let place = place.index(lines.len());
                prop_assert_eq!(cache.line(offsets[place]).unwrap(), Some(lines[place].as_bytes()));
            }
        }
    }

    #[test]
    fn a_line_without_its_end_is_none() {
        let mut cache = LineCache::new(file_of(b"whole\ntorn"), 4, 2);
        assert_eq!(cache.line(0).unwrap(), Some(&b"whole"[..]));
        assert_eq!(cache.line(6).unwrap(), None);
        assert_eq!(cache.line(600).unwrap(), None);
    }

    #[test]
    fn nothing_is_read_twice_while_two_places_progress_in_turn() {
        let file = file_of("0123456\n".repeat(64).as_bytes());
        let mut cache = LineCache::new(file, 256, 2);
        for row in 0..16 {
            cache.line(row * 8).unwrap();
            cache.line(256 + row * 8).unwrap();
        }
        let mut starts: Vec<_> = cache.recent.iter().map(|window| window.start).collect();
        starts.sort_unstable();
        assert_eq!(starts, [0, 256 - 64]);
    }
}
