//! Takes the records of the input apart, for output in another format, into which they cannot be copied.

use std::borrow::Cow;

use indexmap::IndexSet;

use super::cell::Cell;
use crate::input::{Fault, Format, Source, entries, fields};

/// The columns of the input.
#[derive(Debug)]
pub(super) enum InputColumns {
    /// Each field is a string.
    Csv { delimiter: u8, record: csv::StringRecord },
    /// Each key is placed where it first appeared.
    Jsonl { keys: IndexSet<String> },
}

impl InputColumns {
    /// The columns with these names.
    pub(super) fn new(source: &Source, names: Vec<String>) -> Self {
        match source.format {
            Format::Csv => Self::Csv { delimiter: source.delimiter, record: csv::StringRecord::new() },
            Format::Jsonl => Self::Jsonl { keys: names.into_iter().collect() },
        }
    }

    /// Appends the values of a record, in the order of the names. Of a repeated key the last value counts, as in most
    /// parsers.
    pub(super) fn cells<'a>(&'a mut self, raw: &'a str, cells: &mut Vec<Cell<'a>>) -> Result<(), Fault> {
        match self {
            Self::Csv { delimiter, record } => {
                fields(raw, *delimiter, record);
                cells.extend(record.iter().map(|field| Cell::Text(Cow::Borrowed(field))));
            }
            Self::Jsonl { keys } => {
                let start = cells.len();
                cells.resize(start + keys.len(), Cell::Absent);
                for (key, value) in entries(raw)? {
                    if let Some(place) = keys.get_index_of(&*key) {
                        cells[start + place] = Cell::Json(value);
                    }
                }
            }
        }
        Ok(())
    }
}
