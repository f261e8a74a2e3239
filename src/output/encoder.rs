//! Writes the header and the records of the answers file in either format.

use super::cell::Cell;
use super::csv::CsvEncoder;
use super::jsonl::{self, Key};
use crate::input::{Format, Source};

/// Writes records into a buffer.
#[derive(Clone)]
pub(super) enum Encoder {
    Csv(Box<CsvEncoder>),
    Jsonl { keys: Vec<Key>, line_ending: &'static [u8] },
}

impl Encoder {
    /// `names` are the columns of the cells: all columns, without those that are copied with the record of the input.
    pub(super) fn new(format: Format, source: &Source, names: &[String], line_ending: &'static [u8]) -> Self {
        match (format, source.format) {
            (Format::Csv, Format::Csv) => Self::Csv(CsvEncoder::new(source.delimiter, line_ending).into()),
            (Format::Csv, Format::Jsonl) => Self::Csv(CsvEncoder::new(b',', line_ending).into()),
            (Format::Jsonl, _) => {
                Self::Jsonl { keys: names.iter().map(|name| Key::new(name)).collect(), line_ending }
            }
        }
    }

    /// Appends the header, if the format has one: the header of the input that is to be copied, if any, then the names.
    pub(super) fn header(&mut self, copied: Option<&[u8]>, names: &[String], out: &mut Vec<u8>) {
        if let Self::Csv(encoder) = self {
            let cells: Vec<_> = names.iter().map(|name| Cell::Text(name.into())).collect();
            encoder.record(copied, &cells, out);
        }
    }

    /// Appends one record: the record of the input that is to be copied, if any, then the cells.
    pub(super) fn record(&mut self, copied: Option<&str>, cells: &[Cell<'_>], out: &mut Vec<u8>) {
        match self {
            Self::Csv(encoder) => encoder.record(copied.map(str::as_bytes), cells, out),
            Self::Jsonl { keys, line_ending } => {
                jsonl::record(copied, keys.iter().zip(cells), line_ending, out);
            }
        }
    }
}
