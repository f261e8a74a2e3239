//! JSON lines: records are the lines that are not blank, and whatever is accepted, `serde_json` reads alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tokio_asyncio_bridge::input::{Format, Records, Source, entries};

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)))
        .filter(|line| !line.trim_ascii().is_empty())
}

fuzz_target!(|bytes: &[u8]| {
    let source = Source::new("fuzz.jsonl", Format::Jsonl);
    let Ok(mut records) = Records::from_reader(&source, bytes) else { return };
    let mut lines = lines(bytes);
    loop {
        let record = match records.next() {
            Ok(Some(record)) => record,
            Ok(None) => return assert_eq!(lines.next(), None),
            Err(_) => return assert!(lines.any(|line| std::str::from_utf8(line).is_err())),
        };
        assert_eq!(Some(record.raw.as_bytes()), lines.next());
        let theirs = serde_json::from_str::<Map<String, Value>>(record.raw);
        let Ok(ours) = entries(record.raw) else {
            assert!(theirs.is_err(), "{} is refused", record.raw);
            continue;
        };
        // Halves of surrogate pairs and numbers beyond 64-bit floats are passed on as they are; they have no `Value`.
        let Ok(theirs) = theirs else { continue };
        let ours: Map<String, Value> = ours
            .into_iter()
            .map(|(key, value)| (key.into_owned(), serde_json::from_str(value.get()).expect("it is JSON")))
            .collect();
        assert_eq!(ours, theirs);
    }
});
