//! Lines of a file by their offsets, read through a few windows. Not what the lines mean.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Rows end nearly in order, so the next line is nearly always in a window already read. Each session of a journal, and
/// the rows that came late, progress in a place of their own: hence more than one.
#[derive(Debug)]
pub(super) struct LineCache {
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
    pub(super) fn new(file: File, size: usize, count: usize) -> Self {
        Self { file, size, recent: (0..count).map(|_| Window::default()).collect() }
    }

    /// The line that starts there, without its line feed; none if the file ends before it does.
    pub(super) fn line(&mut self, offset: u64) -> io::Result<Option<&[u8]>> {
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

    /// Reads around the offset, a quarter before it for the rows that were overtaken, and on to the end of the line
    /// however long it is.
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

/// Reads into the buffer from `filled` on and returns up to where it is filled then, short only at the end of the file.
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
