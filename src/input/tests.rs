//! Whole files through [`validate`] and [`RowReader`]: what is refused, with which line and hint, and what rows come
//! out.

use std::io::Write;
use std::ops::Range;

use proptest::prelude::*;

use super::validate::Warning;
use super::*;
use crate::error::CallError;
use crate::row::{Row, RowHash, Value};

const ALL: Range<u64> = 0..u64::MAX;

/// A file in a temporary place, and how to read it.
struct Fixture {
    source: Source,
    wanted: Wanted,
    file: tempfile::NamedTempFile,
}

impl Fixture {
    fn new(format: Format, content: impl AsRef<[u8]>) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_ref()).unwrap();
        let parameters = vec![Parameter { name: "question".to_owned(), required: true, kind: None }];
        let wanted = Wanted { parameters, ..Wanted::default() };
        Self { source: Source::new(file.path(), format), wanted, file }
    }

    fn optional(mut self, name: &str) -> Self {
        self.wanted.parameters.push(Parameter { name: name.to_owned(), required: false, kind: None });
        self
    }

    fn takes_all(mut self) -> Self {
        self.wanted.takes_all = true;
        self
    }

    fn encoding(mut self, label: &str) -> Self {
        self.source.encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        self
    }

    fn validate(&self) -> Result<Validated, InputError> {
        validate(&self.source, &self.wanted, ALL)
    }

    /// The message without the path.
    #[track_caller]
    fn refusal(&self) -> String {
        let path = format!("failed to read `{}`: ", self.file.path().display());
        self.validate().unwrap_err().to_string().strip_prefix(&path).unwrap().to_owned()
    }

    #[track_caller]
    fn rows(&self, selection: Range<u64>) -> Vec<Row> {
        let validated = validate(&self.source, &self.wanted, selection).unwrap();
        let mut rows = RowReader::open(&self.source, &validated.binding, validated.selected).unwrap();
        let mut read = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            read.push(row);
        }
        assert_eq!(read.len() as u64, validated.selected.len());
        assert_eq!(validated.unaskable, read.iter().filter(|row| row.arguments.is_err()).count() as u64);
        read
    }

    /// `line name=json …` of every row.
    #[track_caller]
    fn calls(&self) -> Vec<String> {
        self.rows(ALL).iter().map(|row| format!("{} {}", row.line, arguments(row))).collect()
    }
}

fn csv_file(content: impl AsRef<[u8]>) -> Fixture {
    Fixture::new(Format::Csv, content)
}

fn jsonl_file(content: impl AsRef<[u8]>) -> Fixture {
    Fixture::new(Format::Jsonl, content)
}

fn arguments(row: &Row) -> String {
    match &row.arguments {
        Ok(arguments) => {
            let words: Vec<_> =
                arguments.iter().map(|(name, value)| format!("{name}={}", value.to_json())).collect();
            words.join(" ")
        }
        Err(CallError::Input(text)) => text.clone(),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn csv_rows_come_in_order_with_line_hash_and_text() {
    let file = csv_file("id,question\r\n7,\"a,\r\nb\"\r\n\r\n8,007\r\n");
    assert_eq!(file.calls(), [r#"2 question="a,\r\nb""#, r#"5 question="007""#]);
    let rows = file.rows(ALL);
    assert_eq!(rows[1].id, 1);
    assert_eq!(rows[0].hash, RowHash::of(b"7,\"a,\r\nb\""));
}

#[test]
fn jsonl_values_keep_their_types_and_tokens() {
    let file =
        jsonl_file("{\"question\": 100000000000000000000, \"x\": [1.0]}\n\n{\"question\":\"\\u00e9\"}")
            .optional("x");
    assert_eq!(file.calls(), ["1 question=100000000000000000000 x=[1.0]", "3 question=\"é\""]);
}

#[test]
fn the_hash_and_the_length_are_those_of_the_bytes_on_disk() {
    let validated = csv_file("\u{feff}question\nabc\n").validate().unwrap();
    assert_eq!(validated.bytes, 16);
    assert_eq!(validated.sha256, "7e84f91c9fd48b7e87da7f8447d1d65aebc7e1a114d49ad3e5354e1a49db00fc");
    assert_eq!(validated.header_hash, Some(RowHash::of(b"question")));
}

#[test]
fn a_selection_bounds_what_is_read_and_what_is_required() {
    let file = jsonl_file("{\"a\":1}\n{\"question\":\"x\"}\n{\"question\":\"y\"}\n{\"b\":1}\n");
    let lines: Vec<_> = file.rows(1..3).iter().map(|row| (row.id, row.line)).collect();
    assert_eq!(lines, [(1, 2), (2, 3)]);
    let error = validate(&file.source, &file.wanted, 1..9).unwrap_err();
    assert_eq!(error.line(), Some(4));
    assert!(matches!(error.fault(), Fault::MissingKey(key) if key == "question"));
    let beyond = validate(&file.source, &file.wanted, 9..12).unwrap();
    assert_eq!(beyond.warnings, [Warning::NothingSelected { rows: 4 }]);
}

#[test]
fn blank_and_null_questions_are_rows_that_are_never_asked() {
    let blank = "the question is blank";
    assert_eq!(
        csv_file("id,question\n1,\n2,\" \n\"\n3,x\n").calls()[..2],
        [format!("2 {blank}"), format!("3 {blank}")]
    );
    let file = jsonl_file("{\"question\":null}\n{\"question\":\"\\n\"}\n{\"question\":0}\n");
    assert_eq!(file.calls(), [format!("1 {blank}"), format!("2 {blank}"), "3 question=0".to_owned()]);
}

#[test]
fn half_a_surrogate_pair_fails_its_row_only_where_it_is_used() {
    let file = jsonl_file("{\"question\":\"\\ud800\"}\n{\"question\":\"x\",\"y\":\"\\ud800\"}\n");
    let refused = "1 `question` is not valid text: it escapes half a surrogate pair";
    assert_eq!(file.calls(), [refused, "2 question=\"x\""]);
}

#[test]
fn a_predictor_of_all_columns_gets_them_in_order() {
    let file = csv_file("id,question,\n1,x,y\n").takes_all();
    assert_eq!(file.calls(), [r#"2 question="x" id="1""#]);
    let file = jsonl_file("{\"id\":1,\"question\":\"x\"}\n{\"question\":\"y\",\"z\":{}}\n").takes_all();
    assert_eq!(file.calls(), [r#"1 question="x" id=1"#, r#"2 question="y" z={}"#]);
}

#[test]
fn repeated_columns_are_refused_only_where_they_are_used() {
    assert_eq!(csv_file("question,x,x\na,b,c\n").calls(), [r#"2 question="a""#]);
    let refusal = csv_file("question,x,x\na,b,c\n").takes_all().refusal();
    assert_eq!(refusal, "line 1 has 2 columns named `x`\nhint: rename all but one of them");
    assert_eq!(jsonl_file("{\"question\":\"a\",\"x\":1,\"x\":2}").calls(), [r#"1 question="a""#]);
    let refusal = jsonl_file("{\"question\":\"a\"}\n{\"question\":\"a\",\"question\":\"b\"}").refusal();
    assert!(refusal.starts_with("line 2 has 2 columns named `question`"), "{refusal}");
}

#[test]
fn an_uneven_row_is_refused_with_its_line_and_further_faults_are_told() {
    let refusal = csv_file("id,question\r\n1,\"a\r\nb\"\r\n2,a,b\r\n3\r\n").refusal();
    let expected = "line 4 has 3 fields, the header has 2\n  also line 5 has 1 field, the header has 2\n\
                    hint: quote the field that holds a delimiter";
    assert_eq!(refusal, expected);
}

#[test]
fn every_fault_of_a_csv_file_is_refused_with_its_line() {
    for (content, message) in [
        (&b"question\na\n\"b\nc\n"[..], "line 3 opens a quote that is never closed"),
        (b"question\n\"a\"b\n", "line 2 has text after a closing quote"),
        (b"question\na\0\n", "line 2 holds a NUL byte"),
        (b"id,question\n1,\"a\n\xE9\"\n", "line 3 is not valid UTF-8"),
        (b"", "it is empty: line 1 should be the header"),
        (b"\n\r\n", "it is empty: line 1 should be the header"),
    ] {
        let refusal = csv_file(content).refusal();
        assert!(refusal.starts_with(message), "{refusal}");
        assert!(refusal.contains("\nhint: "), "{refusal}");
    }
}

#[test]
fn every_fault_of_a_jsonl_file_is_refused_with_its_line() {
    let good = "{\"question\":\"a\"}\n";
    let deep = format!("{good}{{\"question\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    for (content, message) in [
        (format!("{good}{{\"question\":\"b"), "line 2 is torn"),
        (format!("{good}\n[1]\n{good}"), "line 3 is not a JSON object but an array"),
        (format!("{good}{{question: 1}}\n"), "line 2 is not valid JSON: key must be a string at byte 2"),
        (format!("{good}{{\"q\": 1}}\n"), "line 2 has no key `question`"),
        (deep, "line 2 nests deeper than 128 levels"),
        (" \n\n".to_owned(), "it is empty: line 1 should be a JSON object"),
    ] {
        let refusal = jsonl_file(content).refusal();
        assert!(refusal.starts_with(message), "{refusal}");
        assert!(refusal.contains("\nhint: "), "{refusal}");
    }
}

#[test]
fn a_named_key_that_no_row_has_is_refused() {
    let mut file =
        jsonl_file("{\"question\":\"a\",\"id\":1}\n{\"question\":\"b\",\"ctx\":1}\n").optional("context");
    file.wanted.map = vec![("context".to_owned(), "ctx".to_owned())];
    assert_eq!(file.calls(), [r#"1 question="a""#, r#"2 question="b" context=1"#]);
    file.wanted.id_column = Some("key".to_owned());
    assert!(file.refusal().starts_with("it has no key `key` in any selected row"));
}

#[test]
fn a_header_without_rows_is_accepted() {
    let validated = csv_file("question\n").validate().unwrap();
    assert_eq!((validated.rows, validated.selected), (0, (0..0).into()));
}

#[test]
fn a_missing_column_is_refused_with_what_mends_it() {
    let refusal = csv_file("id;question\n1;a\n").refusal();
    assert_eq!(
        refusal,
        "line 1 has no column `question`, only `id;question`\nhint: the file looks `;`-separated: add `--delimiter ';'`"
    );
    let refusal = jsonl_file("{\"Question\":\"a\"}\n").refusal();
    assert_eq!(
        refusal,
        "line 1 has no column `question`, only `Question`\nhint: did you mean `--column 'Question'`?"
    );
}

#[test]
fn pretty_printed_json_is_refused_with_the_command_that_mends_it() {
    let refusal = jsonl_file("[\n  {\"question\": 1}\n]\n").refusal();
    assert!(refusal.contains("jq -c '.[]'"), "{refusal}");
}

#[test]
fn other_encodings_are_read_and_refused_without_the_option() {
    let text = "question\r\n\"zwölf\r\n東京\"\r\n";
    let utf_16: Vec<u8> = ['\u{feff}']
        .into_iter()
        .chain(text.chars())
        .collect::<String>()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(csv_file(&utf_16).refusal().contains("--encoding utf-16le"));
    assert_eq!(csv_file(&utf_16).encoding("utf-16le").calls(), ["2 question=\"zwölf\\r\\n東京\""]);
    assert_eq!(csv_file(b"question\nzw\xF6lf\n").encoding("latin1").calls(), ["2 question=\"zwölf\""]);
    let refusal = csv_file(b"question\na\nb\x81\x20\n").encoding("shift_jis").refusal();
    assert!(refusal.starts_with("line 3 is not valid text in the given encoding"), "{refusal}");
}

#[test]
fn what_cannot_be_read_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refuse = |path: &std::path::Path| {
        validate(&Source::new(path, Format::Csv), &Wanted::default(), ALL).unwrap_err().to_string()
    };
    assert!(refuse(directory.path()).contains("it is a directory"));
    assert!(refuse(&directory.path().join("none.csv")).contains("No such file"));
    assert!(refuse(std::path::Path::new("/dev/null")).contains("is not a regular file"));
}

#[test]
fn the_format_follows_the_extension() {
    let format = |path: &str| Format::from_path(std::path::Path::new(path));
    assert_eq!(format("a/b.CSV").unwrap(), Format::Csv);
    assert_eq!(format("b.jsonl").unwrap(), Format::Jsonl);
    assert!(format("b.csv.gz").unwrap_err().to_string().contains("gunzip -k 'b.csv.gz'"));
    assert!(format("b").is_err());
}

#[test]
fn records_keep_the_bytes_and_the_line_ending() {
    let file = csv_file("\u{feff}a;b\r\n\"x\"; y\r\n1;2");
    let mut records = Records::open(&Source { delimiter: b';', ..file.source.clone() }).unwrap();
    assert_eq!(records.line_ending(), b"\r\n");
    assert_eq!(records.header().unwrap().raw, b"a;b");
    assert_eq!(records.next().unwrap().unwrap(), RawRecord { id: 0, line: 2, raw: "\"x\"; y" });
    assert_eq!(records.next().unwrap().unwrap(), RawRecord { id: 1, line: 3, raw: "1;2" });
    assert_eq!(records.next().unwrap(), None);
    let file = jsonl_file("\n{}\r\n{}\n");
    let records = Records::open(&file.source).unwrap();
    assert_eq!((records.line_ending(), records.header()), (&b"\r\n"[..], None));
}

#[test]
fn a_line_of_a_hundred_megabytes_is_read() {
    let long = "x".repeat(100 << 20);
    let rows = jsonl_file(format!("{{\"question\":\"{long}\"}}\n")).rows(ALL);
    let arguments = rows[0].arguments.as_ref().unwrap();
    assert!(matches!(&arguments[0].1, Value::Text(text) if text.len() == long.len()));
}

proptest! {
    #[test]
    fn a_table_written_by_the_csv_crate_is_read_back(
        table in prop::collection::vec(prop::collection::vec("[a,\" \r\n😀]{0,5}", 3), 0..6),
        crlf: bool,
    ) {
        let terminator = if crlf { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') };
        let mut writer = ::csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
        writer.write_record(["question", "b", "c"]).unwrap();
        for row in &table {
            writer.write_record(row).unwrap();
        }
        let file = csv_file(writer.into_inner().unwrap());
        let mut records = Records::open(&file.source).unwrap();
        for row in &table {
            let mut read = ::csv::StringRecord::new();
            fields(records.next().unwrap().unwrap().raw, b',', &mut read);
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), row.clone());
        }
        prop_assert_eq!(records.next().unwrap(), None);
        let empty = table.iter().rev().take_while(|row| row.iter().all(|cell| cell.trim().is_empty())).count();
        prop_assert_eq!(file.rows(ALL).len(), table.len() - empty);
    }

    #[test]
    fn an_accepted_file_has_the_records_that_the_csv_crate_reads(text in "[ab\",\r\n]{0,40}") {
        let file = csv_file(&text);
        let mut expected = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let mut expected = expected.records();
        let Ok(mut records) = Records::open(&file.source) else { return Ok(()) };
        let mut read = ::csv::StringRecord::new();
        fields(std::str::from_utf8(&records.header().unwrap().raw).unwrap(), b',', &mut read);
        prop_assert_eq!(&read, &expected.next().unwrap().unwrap());
        loop {
            match records.next() {
                Ok(Some(record)) => {
                    fields(record.raw, b',', &mut read);
                    prop_assert_eq!(&read, &expected.next().unwrap().unwrap());
                }
                Ok(None) => break prop_assert!(expected.next().is_none()),
                Err(_) => break,
            }
        }
    }

    #[test]
    fn random_bytes_never_panic_and_what_is_validated_is_read(
        bytes in prop::collection::vec(prop::sample::select(&b"question{}\":,\\u0d8\n\r\xFF\0 "[..]), 0..60),
        header: bool,
    ) {
        for format in [Format::Csv, Format::Jsonl] {
            let head: &[u8] = if header && format == Format::Csv { b"question,b\n" } else { b"" };
            let mut file = Fixture::new(format, [head, &bytes].concat());
            file.wanted.parameters[0].required = false;
            if file.validate().is_ok() {
                file.rows(ALL);
            }
        }
    }
}
