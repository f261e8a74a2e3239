//! Writes the records of a CSV answers file.

use csv_core::{Terminator, Writer, WriterBuilder};

use super::cell::Cell;

/// Writes records into a buffer.
#[derive(Debug, Clone)]
pub(super) struct CsvEncoder {
    writer: Writer,
    delimiter: u8,
}

impl CsvEncoder {
    pub(super) fn new(delimiter: u8, line_ending: &[u8]) -> Self {
        let terminator = match line_ending {
            b"\r\n" => Terminator::CRLF,
            b"\r" => Terminator::Any(b'\r'),
            _ => Terminator::Any(b'\n'),
        };
        Self { writer: WriterBuilder::new().delimiter(delimiter).terminator(terminator).build(), delimiter }
    }

    /// Appends one record: first the record of the input that is to be copied, byte for byte, if any; then the cells.
    pub(super) fn record(&mut self, copied: Option<&[u8]>, cells: &[Cell<'_>], out: &mut Vec<u8>) {
        if let Some(raw) = copied {
            out.extend_from_slice(raw);
            out.push(self.delimiter);
        }
        for (place, cell) in cells.iter().enumerate() {
            if place > 0 {
                self.append(out, 2, |writer, room| writer.delimiter(room).1);
            }
            let text = cell.text();
            // In the worst case every byte is a quote, which is doubled.
            self.append(out, 2 * text.len() + 2, |writer, room| writer.field(text.as_bytes(), room).2);
        }
        self.append(out, 4, |writer, room| writer.terminator(room).1);
    }

    /// Lets `write` append up to `room` bytes, which must be enough.
    fn append(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        write: impl FnOnce(&mut Writer, &mut [u8]) -> usize,
    ) {
        let start = out.len();
        out.resize(start + room, 0);
        let written = write(&mut self.writer, &mut out[start..]);
        out.truncate(start + written);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(delimiter: u8, line_ending: &[u8], copied: Option<&str>, cells: &[&str]) -> String {
        let cells: Vec<_> = cells.iter().map(|cell| Cell::Text((*cell).into())).collect();
        let mut out = Vec::new();
        CsvEncoder::new(delimiter, line_ending).record(copied.map(str::as_bytes), &cells, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_record_is_copied_and_cells_are_quoted_where_they_must_be() {
        assert_eq!(
            encode(b',', b"\n", Some(r#"a, "b" ,"c""#), &["plain", "a,b", "a\"b", "", "a\rb", "a;b"]),
            "a, \"b\" ,\"c\",plain,\"a,b\",\"a\"\"b\",,\"a\rb\",a;b\n"
        );
        assert_eq!(encode(b';', b"\r\n", None, &["a;b", "a,b"]), "\"a;b\";a,b\r\n");
    }

    proptest! {
        #[test]
        fn any_cells_come_back(
            cells in proptest::collection::vec("[a-c\",;\r\n\t \u{1f600}\\x00]{0,8}", 1..6),
            delimiter in proptest::sample::select(vec![b',', b';', b'\t']),
            line_ending in proptest::sample::select(vec![&b"\n"[..], b"\r\n", b"\r"]),
        ) {
            let text = encode(delimiter, line_ending, None, &cells.iter().map(String::as_str).collect::<Vec<_>>());
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(text.as_bytes());
            let records: Vec<_> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(records.len(), 1);
            prop_assert_eq!(records[0].iter().collect::<Vec<_>>(), cells);
        }
    }
}
