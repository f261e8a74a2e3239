//! Recognizes an answers file of this program by its columns.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::columns;
use crate::input::{Format, Records, Source, entries};

/// How many bytes are searched for the header or the first object.
const HEAD: u64 = 1 << 20;
/// The delimiters of most files.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// Whether the last columns of the file are those of an answers file. `delimiter` is tried besides the common ones.
pub(crate) fn is_answers(path: &Path, delimiter: Option<u8>) -> bool {
    let csv = Source::new(path, Format::Csv);
    let delimiters = csv.own_delimiter().into_iter().chain(delimiter).chain(DELIMITERS);
    let names = |source: &Source| {
        let file = File::open(path).ok()?;
        let mut records = Records::from_reader(source, file.take(HEAD)).ok()?;
        if let Some(header) = records.header() {
            return Some(header.names.clone());
        }
        let record = records.next().ok()??;
        Some(entries(record.raw).ok()?.into_iter().map(|(key, _)| key.into_owned()).collect())
    };
    std::iter::once(Source::new(path, Format::Jsonl))
        .chain(delimiters.map(|delimiter| Source { delimiter, ..csv.clone() }))
        .any(|source| names(&source).is_some_and(|names| columns::end_in_ours(&names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_file_is_told_from_others_by_its_last_columns() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let is = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            is_answers(file.path(), Some(b'^'))
        };
        for text in [
            "question,answer,status,error,attempts,latency_ms\n",
            "\"a\nb\";status;run_status;error;attempts;run_run_latency_ms\r\n1;2;3;4;5;6\r\n",
            "q^status^error^attempts^latency_ms",
            "sep=:\nq:status:error:attempts:latency_ms\n",
            "{\"q\": 1, \"status\": \"ok\", \"error\": null, \"attempts\": 1, \"latency_ms\": 2.0}\n",
        ] {
            assert!(is(text), "{text}");
        }
        for text in [
            "question,answer,status\n",
            "status,error,attempts,latency_ms,note\n",
            "{\"status\": \"ok\"}\n",
            "status error attempts latency_ms\n",
            "\"",
        ] {
            assert!(!is(text), "{text}");
        }
    }
}
