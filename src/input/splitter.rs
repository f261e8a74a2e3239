//! Splits a stream of bytes into records and counts its physical lines.
//!
//! [`Scanner`] is the state machine, without I/O; [`Splitter`] feeds it. Only quotes and line ends matter here, so
//! `memchr` can skip everything else many bytes at a time.

use std::io::Read;
use std::ops::Range;

use memchr::{memchr, memchr3};

use super::encoding::Malformed;
use super::fault::{Fault, Located};

const CHUNK: usize = 256 << 10;
/// A longer record is taken for an unclosed quote, or for a file that is not text.
const LONGEST: usize = 256 << 20;

/// What ends a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// LF, CRLF or CR outside quotes. A quote opens only at the start of a field.
    Csv {
        /// What separates fields.
        delimiter: u8,
    },
    /// LF or CRLF.
    Lines,
}

/// Where a record lies in the splitter's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The record without its line ending; never empty.
    pub(super) range: Range<usize>,
    /// 1-based physical line on which it starts.
    pub(super) line: u64,
    /// The line ending; empty for a last record without one.
    pub(super) ending: &'static [u8],
}

/// The state within one record.
#[derive(Debug)]
struct Scanner {
    rule: Rule,
    /// How many bytes of the record have been scanned.
    at: usize,
    quoted: bool,
    /// Line ends within the record before the last opening quote.
    opened: u64,
    /// Position of the last closing quote.
    closed: Option<usize>,
    /// Line ends within quotes so far.
    breaks: u64,
}

impl Scanner {
    fn new(rule: Rule) -> Self {
        Self { rule, at: 0, quoted: false, opened: 0, closed: None, breaks: 0 }
    }

    /// The length of the record and its line ending, or `None` if more input is needed.
    fn scan(&mut self, bytes: &[u8], ended: bool) -> Option<(usize, &'static [u8])> {
        match self.rule {
            Rule::Csv { delimiter } => self.scan_csv(bytes, delimiter, ended),
            Rule::Lines => self.scan_line(bytes),
        }
    }

    fn scan_line(&mut self, bytes: &[u8]) -> Option<(usize, &'static [u8])> {
        let Some(found) = memchr(b'\n', &bytes[self.at..]) else {
            self.at = bytes.len();
            return None;
        };
        let length = self.at + found;
        Some(match bytes[..length].strip_suffix(b"\r") {
            Some(record) => (record.len(), b"\r\n"),
            None => (length, b"\n"),
        })
    }

    fn scan_csv(&mut self, bytes: &[u8], delimiter: u8, ended: bool) -> Option<(usize, &'static [u8])> {
        while let Some(found) = memchr3(b'"', b'\n', b'\r', &bytes[self.at..]) {
            let here = self.at + found;
            match bytes[here] {
                b'"' => self.quote(bytes, here, delimiter),
                // This LF belongs to a CRLF whose CR was counted.
                b'\n' if self.quoted && bytes[here - 1] == b'\r' => {}
                _ if self.quoted => self.breaks += 1,
                b'\n' => return Some((here, b"\n")),
                _ => match bytes.get(here + 1) {
                    Some(b'\n') => return Some((here, b"\r\n")),
                    None if !ended => {
                        self.at = here;
                        return None;
                    }
                    _ => return Some((here, b"\r")),
                },
            }
            self.at = here + 1;
        }
        self.at = bytes.len();
        None
    }

    fn quote(&mut self, bytes: &[u8], here: usize, delimiter: u8) {
        let before = here.checked_sub(1);
        if self.quoted {
            self.quoted = false;
            self.closed = Some(here);
        } else if before.is_some() && before == self.closed {
            // This is the second of a doubled quote, so the field continues.
            self.quoted = true;
        } else if before.is_none_or(|before| bytes[before] == delimiter) {
            self.quoted = true;
            self.opened = self.breaks;
        }
    }
}

/// Cuts records out of a reader. Holds one record and one chunk at a time.
pub(super) struct Splitter<R> {
    reader: R,
    rule: Rule,
    buffer: Vec<u8>,
    /// The part of the buffer that has been read but not yet cut.
    unread: Range<usize>,
    ended: bool,
    /// 1-based line at the start of `unread`.
    line: u64,
    /// Bytes read so far.
    position: u64,
}

impl<R: Read> Splitter<R> {
    pub(super) fn new(reader: R, rule: Rule) -> Self {
        Self::with_chunk(reader, rule, CHUNK)
    }

    pub(super) fn with_chunk(reader: R, rule: Rule, chunk: usize) -> Self {
        Self { reader, rule, buffer: vec![0; chunk], unread: 0..0, ended: false, line: 1, position: 0 }
    }

    /// The next record; empty lines are skipped. After an error the stream counts as ended.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Located> {
        loop {
            match self.cut() {
                Ok(Some(piece)) if piece.range.is_empty() => {}
                Ok(piece) => return Ok(piece),
                Err(error) => {
                    self.ended = true;
                    self.unread = 0..0;
                    return Err(error);
                }
            }
        }
    }

    /// The bytes of a piece. Valid until the next call of [`Self::next`].
    pub(super) fn bytes(&self, piece: &Piece) -> &[u8] {
        &self.buffer[piece.range.clone()]
    }

    /// Bytes read so far, decoded.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    fn cut(&mut self) -> Result<Option<Piece>, Located> {
        let mut scanner = Scanner::new(self.rule);
        loop {
            if let Some((length, ending)) = scanner.scan(&self.buffer[self.unread.clone()], self.ended) {
                let piece = self.take(length, ending);
                self.line += scanner.breaks + 1;
                return Ok(Some(piece));
            }
            if self.ended && scanner.quoted {
                return Err(Fault::UnclosedQuote.on_line(self.line + scanner.opened));
            }
            if self.ended {
                let piece = self.take(self.unread.len(), b"");
                self.line += scanner.breaks;
                return Ok((!piece.range.is_empty()).then_some(piece));
            }
            self.fill(self.line + scanner.opened)?;
        }
    }

    fn take(&mut self, length: usize, ending: &'static [u8]) -> Piece {
        let range = self.unread.start..self.unread.start + length;
        self.unread.start = range.end + ending.len();
        Piece { range, line: self.line, ending }
    }

    /// Reads once from the reader, making room in the buffer first. `opened` is the line to blame if the record is too
    /// long.
    fn fill(&mut self, opened: u64) -> Result<(), Located> {
        // Afterwards the record starts at 0, so even a long one is moved only once.
        if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.buffer.len() {
            if self.buffer.len() >= LONGEST {
                return Err(Fault::TooLong(LONGEST).on_line(opened));
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let count = loop {
            match self.reader.read(&mut self.buffer[self.unread.end..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match count {
            Ok(count) => {
                self.unread.end += count;
                self.position += count as u64;
                self.ended = count == 0;
                Ok(())
            }
            Err(error) if is_malformed(&error) => {
                let line = self.line + line_ends(&self.buffer[self.unread.clone()], self.rule);
                Err(Fault::Encoding("text in the given encoding").on_line(line))
            }
            Err(error) => Err(Fault::Io(error).into()),
        }
    }
}

fn is_malformed(error: &std::io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Malformed>()).is_some()
}

/// How many physical line ends there are in some bytes, by the line ends that the rule knows.
pub(super) fn line_ends(bytes: &[u8], rule: Rule) -> u64 {
    let count = match rule {
        Rule::Lines => memchr::memchr_iter(b'\n', bytes).count(),
        Rule::Csv { .. } => memchr::memchr2_iter(b'\n', b'\r', bytes)
            .filter(|&at| bytes[at] == b'\r' || at == 0 || bytes[at - 1] != b'\r')
            .count(),
    };
    count as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CSV: Rule = Rule::Csv { delimiter: b',' };

    /// Reads at most this many bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(into.len());
            self.0.read(&mut into[..count])
        }
    }

    type Split = Vec<(u64, String, &'static str)>;

    fn split(bytes: &[u8], rule: Rule, chunk: usize) -> (Split, Option<(Option<u64>, String)>) {
        let mut splitter = Splitter::with_chunk(Trickle(bytes, chunk), rule, chunk);
        let mut pieces = Vec::new();
        loop {
            match splitter.next() {
                Ok(Some(piece)) => {
                    let text = String::from_utf8_lossy(splitter.bytes(&piece)).into_owned();
                    pieces.push((piece.line, text, std::str::from_utf8(piece.ending).unwrap()));
                }
                Ok(None) => return (pieces, None),
                Err(error) => return (pieces, Some((error.line, error.fault.to_string()))),
            }
        }
    }

    fn lines(text: &str, rule: Rule) -> Vec<(u64, String)> {
        let (pieces, error) = split(text.as_bytes(), rule, 4096);
        assert_eq!(error, None);
        pieces.into_iter().map(|(line, text, _)| (line, text)).collect()
    }

    fn owned(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|&(line, text)| (line, text.to_owned())).collect()
    }

    #[test]
    fn lines_are_counted_alike_with_lf_crlf_and_cr() {
        let expected = owned(&[(1, "q"), (2, "a"), (4, "b")]);
        assert_eq!(lines("q\na\n\nb\n", CSV), expected);
        assert_eq!(lines("q\r\na\r\n\r\nb", CSV), expected);
        assert_eq!(lines("q\ra\r\rb\r", CSV), expected);
    }

    #[test]
    fn quoted_line_breaks_belong_to_the_record_and_are_counted() {
        let expected = owned(&[(1, "q"), (2, "\"a\r\nb\n\rc\""), (6, "d")]);
        assert_eq!(lines("q\r\n\"a\r\nb\n\rc\"\r\nd", CSV)[..2], expected[..2]);
        assert_eq!(lines("q\r\n\"a\r\nb\n\rc\"\r\nd", CSV)[2], (6, "d".to_owned()));
    }

    #[test]
    fn a_quote_inside_an_unquoted_field_is_a_character() {
        assert_eq!(lines("6\" pipe\nb, \"c\n", CSV), owned(&[(1, "6\" pipe"), (2, "b, \"c")]));
    }

    #[test]
    fn an_unclosed_quote_is_named_by_the_line_it_opens_on() {
        let (pieces, error) = split(b"q\n\"a\nb\",\"c\nd", CSV, 4096);
        assert_eq!(pieces.len(), 1);
        assert_eq!(error, Some((Some(3), "opens a quote that is never closed".to_owned())));
    }

    #[test]
    fn json_lines_end_at_lf_only() {
        assert_eq!(
            lines("{\"a\":\n1}\r\n\n\"\rx", Rule::Lines),
            owned(&[(1, "{\"a\":"), (2, "1}"), (4, "\"\rx")])
        );
    }

    fn csv_like() -> impl Strategy<Value = String> {
        "[a\",\r\n]{0,40}"
    }

    proptest! {
        #[test]
        fn the_chunk_size_changes_nothing(text in csv_like(), chunk in 1usize..9) {
            for rule in [CSV, Rule::Lines] {
                prop_assert_eq!(split(text.as_bytes(), rule, chunk), split(text.as_bytes(), rule, 4096));
            }
        }

        #[test]
        fn pieces_and_endings_put_together_are_the_file(text in csv_like()) {
            // Only LF ends a line of JSON, so a lone CR would be a record.
            for (rule, text) in [(CSV, text.clone()), (Rule::Lines, text.replace('\r', "\""))] {
                let (pieces, error) = split(text.as_bytes(), rule, 4096);
                let mut rest = text.as_str();
                for (line, piece, ending) in &pieces {
                    let whole = format!("{piece}{ending}");
                    let skipped = rest.find(&whole).unwrap();
                    prop_assert!(rest[..skipped].chars().all(|c| c == '\r' || c == '\n'));
                    let before = &text.as_bytes()[..text.len() - rest.len() + skipped];
                    prop_assert_eq!(*line, 1 + line_ends(before, rule));
                    rest = &rest[skipped + whole.len()..];
                }
                prop_assert!(error.is_some() || rest.chars().all(|c| c == '\r' || c == '\n'));
            }
        }
    }
}
