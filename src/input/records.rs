//! Reads the records of a file one at a time and refuses malformed ones.

use std::fs::File;
use std::io::Read;

use super::csv::{fields, is_empty, width};
use super::delimiter::separator;
use super::encoding::Utf8Reader;
use super::error::InputError;
use super::fault::{Fault, Located};
use super::source::{Format, Source};
use super::splitter::{Piece, Rule, Splitter, line_ends};

/// The first record of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvHeader {
    /// 1-based physical line on which it starts.
    pub line: u64,
    /// Its text in UTF-8, without the line ending.
    pub raw: Vec<u8>,
    /// The column names, in order. They may be blank or repeated.
    pub names: Vec<String>,
}

/// One data record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// 0-based position among the data records of the file.
    pub id: u64,
    /// 1-based physical line on which it starts.
    pub line: u64,
    /// Its text, without the line ending.
    pub raw: &'a str,
}

/// The records of a file, in order.
pub struct Records<R = File> {
    source: Source,
    splitter: Splitter<Utf8Reader<R>>,
    header: Option<CsvHeader>,
    has_separator_line: bool,
    line_ending: &'static [u8],
    /// JSONL: the first line, which was read in advance for its line ending.
    first: Option<Piece>,
    next_id: u64,
}

impl Records<File> {
    /// Opens the file and, if it is CSV, reads its header.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, is empty, or has a malformed header.
    pub fn open(source: &Source) -> Result<Self, InputError> {
        Self::from_reader(source, source.open()?)
    }
}

impl<R: Read> Records<R> {
    /// Reads the bytes of the source from `reader`. The path of the source is used only in messages.
    ///
    /// # Errors
    ///
    /// As [`Records::open`].
    pub fn from_reader(source: &Source, reader: R) -> Result<Self, InputError> {
        match Self::start(source, reader)? {
            (records, None) => Ok(records),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// As [`Records::from_reader`], but a malformed header is returned beside the records, so that further faults of
    /// the file can be found.
    pub(super) fn start(source: &Source, reader: R) -> Result<(Self, Option<InputError>), InputError> {
        let refuse = |fault: Located| InputError::new(source, fault);
        let reader =
            Utf8Reader::new(reader, source.encoding).map_err(|error| refuse(Fault::Io(error).into()))?;
        let mut splitter = Splitter::new(reader, source.rule());
        let empty = || refuse(Fault::Empty(source.format).into());
        let mut first = splitter.next().map_err(refuse)?.ok_or_else(empty)?;
        let has_separator_line = source.format == Format::Csv && separator(splitter.bytes(&first)).is_some();
        if has_separator_line {
            first = splitter.next().map_err(refuse)?.ok_or_else(empty)?;
        }
        let line_ending = if first.ending.is_empty() { b"\n" } else { first.ending };
        let (mut header, mut fault) = (None, None);
        if source.format == Format::Csv {
            let raw = text(&splitter, &first, source).map_err(refuse)?;
            fault = width(raw, source.delimiter).err().map(|fault| refuse(fault.on_line(first.line)));
            header = Some(CsvHeader::new(raw, first.line, source.delimiter));
        }
        let first = header.is_none().then_some(first);
        let source = source.clone();
        Ok((Self { source, splitter, header, has_separator_line, line_ending, first, next_id: 0 }, fault))
    }

    /// The header record; `None` for JSONL.
    pub fn header(&self) -> Option<&CsvHeader> {
        self.header.as_ref()
    }

    /// Whether the file starts with a line such as `sep=;`, which is meant for Excel.
    pub fn has_separator_line(&self) -> bool {
        self.has_separator_line
    }

    /// The line ending of the first line: LF, CRLF or CR. LF if the file has none.
    pub fn line_ending(&self) -> &'static [u8] {
        self.line_ending
    }

    /// The next record, or `None` at the end of the file. After a malformed record, reading can continue with the one
    /// that follows.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or the record is malformed.
    #[expect(
        clippy::should_implement_trait,
        reason = "lending: a record lives in the buffer until the next one is read"
    )]
    pub fn next(&mut self) -> Result<Option<RawRecord<'_>>, InputError> {
        let refuse = |located| InputError::new(&self.source, located);
        let piece = loop {
            let piece = match self.first.take() {
                Some(first) => Some(first),
                None => self.splitter.next().map_err(refuse)?,
            };
            let Some(piece) = piece else { return Ok(None) };
            let blank = self.header.is_none() && self.splitter.bytes(&piece).trim_ascii().is_empty();
            if !blank {
                break piece;
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let raw = text(&self.splitter, &piece, &self.source).map_err(refuse)?;
        if let Some(header) = &self.header {
            let (header, delimiter) = (header.names.len(), self.source.delimiter);
            match width(raw, delimiter).map_err(|fault| refuse(fault.on_line(piece.line)))? {
                fields if fields == header => {}
                fields => return Err(refuse(Fault::Uneven { fields, header }.on_line(piece.line))),
            }
        }
        Ok(Some(RawRecord { id, line: piece.line, raw }))
    }

    /// How the records are read.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The id of the next record.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Bytes read so far, decoded.
    pub(super) fn position(&self) -> u64 {
        self.splitter.position()
    }

    /// The underlying reader.
    pub(crate) fn into_inner(self) -> R {
        self.splitter.into_inner().into_inner()
    }
}

impl CsvHeader {
    fn new(raw: &str, line: u64, delimiter: u8) -> Self {
        let mut names = csv::StringRecord::new();
        fields(raw, delimiter, &mut names);
        Self { line, raw: raw.into(), names: names.iter().map(str::to_owned).collect() }
    }
}

impl Source {
    /// Whether a CSV record is blank in every field. Such records at the end of a file are not rows. Always false for
    /// JSONL.
    pub fn is_empty(&self, record: &RawRecord<'_>) -> bool {
        self.format == Format::Csv && is_empty(record.raw, self.delimiter)
    }

    fn rule(&self) -> Rule {
        match self.format {
            Format::Csv => Rule::Csv { delimiter: self.delimiter },
            Format::Jsonl => Rule::Lines,
        }
    }
}

/// The text of a piece; a fault on the line of the first invalid byte if it is not UTF-8.
fn text<'a, R: Read>(splitter: &'a Splitter<R>, piece: &Piece, source: &Source) -> Result<&'a str, Located> {
    let bytes = splitter.bytes(piece);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = piece.line + line_ends(&bytes[..error.valid_up_to()], source.rule());
        Fault::Encoding("UTF-8").on_line(line)
    })
}
