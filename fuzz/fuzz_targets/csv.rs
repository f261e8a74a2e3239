//! CSV files: whatever is accepted, the `csv` crate reads alike, field for field. The first byte chooses the delimiter.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use tokio_asyncio_bridge::input::{Format, InputError, Records, Source, fields};

/// One byte at a time, as a slow pipe would.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = into.len().min(1);
        self.0.read(&mut into[..count])
    }
}

/// The records as written, the header first, each with its line.
fn records(source: &Source, reader: impl Read) -> Result<Vec<(u64, String)>, InputError> {
    let mut records = Records::from_reader(source, reader)?;
    let header = records.header().expect("CSV has one");
    let mut read = vec![(0, String::from_utf8(header.raw.clone()).expect("it is text"))];
    while let Some(record) = records.next()? {
        assert_eq!(record.id as usize, read.len() - 1);
        read.push((record.line, record.raw.to_owned()));
    }
    Ok(read)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let delimiter = b",;\t|"[usize::from(choice % 4)];
    let source = Source { delimiter, ..Source::new("fuzz.csv", Format::Csv) };
    let read = match (records(&source, bytes), records(&source, Trickle(bytes))) {
        (Ok(read), Ok(trickled)) => {
            assert_eq!(read, trickled);
            read
        }
        (Err(error), Err(trickled)) => return assert_eq!(error.to_string(), trickled.to_string()),
        (read, trickled) => panic!("{read:?} at once, {trickled:?} by the byte"),
    };
    assert!(read.is_sorted_by(|(line, _), (next, _)| line < next));

    // It strips the byte order mark too.
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).flexible(true).from_reader(bytes);
    let theirs: Vec<csv::StringRecord> =
        reader.records().map(|record| record.expect("it was accepted")).collect();
    assert_eq!(read.len(), theirs.len());
    let mut ours = csv::StringRecord::new();
    for ((_, raw), theirs) in read.iter().zip(&theirs) {
        fields(raw, delimiter, &mut ours);
        assert_eq!(&ours, theirs);
    }
});
