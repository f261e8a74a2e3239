//! Projections from real journals, in all four directions.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{OutputError, Projected, Projection};
use crate::error::CallError;
use crate::input::{Format, Records, Source};
use crate::journal::testing::{answered, failed, header};
use crate::journal::{Counts, Journal};
use crate::outcome::{Answer, Outcome};
use crate::row::{RowHash, Value};

/// An input file and the journal of a run over it that still holds the lock.
struct Case {
    directory: tempfile::TempDir,
    source: Source,
    journal: Journal,
}

impl Case {
    fn over(format: Format, input: &str) -> Self {
        let rows = {
            let probe = Self::source(format, input);
            let mut records = Records::open(&probe.1).unwrap();
            std::iter::from_fn(|| records.next().unwrap().map(|_| ())).count() as u64
        };
        Self::over_range(format, input, 0..rows)
    }

    fn over_range(format: Format, input: &str, selection: std::ops::Range<u64>) -> Self {
        let (directory, source) = Self::source(format, input);
        let journal = Journal::create(&directory.path().join("journal"), &header(1, selection)).unwrap();
        Self { directory, source, journal }
    }

    fn source(format: Format, input: &str) -> (tempfile::TempDir, Source) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("input");
        fs::write(&path, input).unwrap();
        (directory, Source::new(path, format))
    }

    fn delimited_by(mut self, delimiter: u8) -> Self {
        self.source.delimiter = delimiter;
        self
    }

    /// The outcome's row gets the hash of the record that the input has there.
    fn record(&mut self, outcome: Outcome) {
        let mut records = Records::open(&self.source).unwrap();
        let hash = loop {
            let record = records.next().unwrap().unwrap();
            if record.id == outcome.row {
                break RowHash::of(record.raw.as_bytes());
            }
        };
        self.journal.append_outcome(&Outcome { hash, ..outcome }).unwrap();
        self.journal.commit().unwrap();
    }

    fn answer(mut self, row: u64, fields: &[(&str, Value)]) -> Self {
        let fields = fields.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect();
        let result = Ok(Answer { fields, ..Answer::default() });
        self.record(Outcome { result, ..answered(row) });
        self
    }

    fn fail(mut self, row: u64) -> Self {
        self.record(failed(row));
        self
    }

    fn destination(&self) -> PathBuf {
        self.directory.path().join("answers")
    }

    fn project_unless(&self, format: Format, cancelled: bool) -> Result<Projected, OutputError> {
        Projection {
            source: &self.source,
            journal: &self.directory.path().join("journal"),
            index: self.journal.index(),
            fields: self.journal.fields(),
            destination: &self.destination(),
            format,
            access: crate::fs::Access::Usual,
        }
        .write(|| cancelled)
    }

    fn project(&self, format: Format) -> Result<Projected, OutputError> {
        self.project_unless(format, false)
    }

    fn answers(&self, format: Format) -> String {
        self.project(format).unwrap();
        fs::read_to_string(self.destination()).unwrap()
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn json(json: &str) -> Value {
    Value::Json(RawValue::from_string(json.to_owned()).unwrap())
}

#[test]
fn csv_records_are_copied_and_the_answers_appended() {
    let run = Case::over_range(Format::Csv, "\u{feff}question; id\r\n\"a;\r\nb\"; 1\r\nc;2\r\nd;3", 0..3)
        .delimited_by(b';')
        .answer(0, &[("answer", text("x;\"y\"\nz")), ("score", json("1.0"))])
        .fail(2);
    assert_eq!(
        run.answers(Format::Csv),
        "question; id;answer;score;status;error;attempts;latency_ms\r\n\
         \"a;\r\nb\"; 1;\"x;\"\"y\"\"\nz\";1.0;ok;;1;1234.567\r\n\
         c;2;;;unfinished;;0;\r\n\
         d;3;;;failed;timeout: no answer within 1s;1;1234.567\r\n"
    );
}

#[test]
fn json_objects_are_copied_and_the_answers_inserted() {
    let run = Case::over(Format::Jsonl, "{\"q\": 100000000000000000000} \n\n{}\n{\"q\":\"}\"}")
        .answer(0, &[("answer", json("{\"a\": [1.0, null]}"))])
        .fail(2);
    assert_eq!(
        run.answers(Format::Jsonl),
        concat!(
            r#"{"q": 100000000000000000000,"answer":{"a": [1.0, null]},"status":"ok","error":null,"attempts":1,"latency_ms":1234.567} "#,
            "\n",
            r#"{"status":"unfinished","error":null,"attempts":0,"latency_ms":null}"#,
            "\n",
            r#"{"q":"}","status":"failed","error":"timeout: no answer within 1s","attempts":1,"latency_ms":1234.567}"#,
            "\n",
        )
    );
}

#[test]
fn csv_values_become_json_strings() {
    let run = Case::over(Format::Csv, "q,n,q\n\"a \"\"b\"\"\",01,\n").answer(0, &[("answer", json("true"))]);
    let projected = run.project(Format::Jsonl).unwrap();
    assert_eq!(projected.renamed.len(), 1, "an object holds `q` once");
    assert_eq!(
        fs::read_to_string(run.destination()).unwrap(),
        r#"{"q":"a \"b\"","n":"01","q_2":"","answer":true,"status":"ok","error":null,"attempts":1,"latency_ms":1234.567}"#.to_owned() + "\n"
    );
}

#[test]
fn json_keys_become_the_union_of_columns() {
    let run = Case::over(
        Format::Jsonl,
        "{\"b\":null,\"a\":1.50}\n{\"c\":{\"d\": [1]},\"a\":1,\"a\":\"x\\ny\"}\n{\"e\":\"\\ud800\"}",
    )
    .answer(1, &[("answer", json("null"))]);
    assert_eq!(
        run.answers(Format::Csv),
        "b,a,c,e,answer,status,error,attempts,latency_ms\n\
         ,1.50,,,,unfinished,,0,\n\
         ,\"x\ny\",\"{\"\"d\"\": [1]}\",,,ok,,1,1234.567\n\
         ,,,\"\"\"\\ud800\"\"\",,unfinished,,0,\n"
    );
}

#[test]
fn the_order_of_completion_does_not_show() {
    let input = "q\na\nb\nc\n";
    let answer = |run: Case, row: u64| match row {
        0 => run.answer(0, &[("answer", text("A"))]),
        1 => run.answer(1, &[("reasoning", text("r")), ("answer", text("B"))]),
        _ => run.answer(2, &[("score", json("3")), ("answer", text("C"))]),
    };
    let forward = [0, 1, 2].into_iter().fold(Case::over(Format::Csv, input), answer);
    let backward = [2, 1, 0].into_iter().fold(Case::over(Format::Csv, input), answer);
    assert_eq!(forward.answers(Format::Csv), backward.answers(Format::Csv));
    assert!(forward.answers(Format::Csv).starts_with("q,answer,reasoning,score,status"));
}

#[test]
fn the_last_answer_stands_and_a_later_failure_does_not_replace_it() {
    let run = Case::over(Format::Csv, "q\na\nb\n")
        .fail(0)
        .answer(0, &[("answer", text("old"))])
        .answer(0, &[("answer", text("new"))])
        .fail(0)
        .fail(1)
        .answer(1, &[("answer", text("second"))]);
    assert_eq!(
        run.answers(Format::Csv),
        "q,answer,status,error,attempts,latency_ms\na,new,ok,,1,1234.567\nb,second,ok,,1,1234.567\n"
    );
}

#[test]
fn only_the_selection_is_written() {
    let run = Case::over_range(Format::Csv, "q\na\nb\nc\nd\n", 1..3).answer(2, &[("answer", text("C"))]);
    let projected = run.project(Format::Csv).unwrap();
    assert_eq!(projected.rows, Counts { ok: 1, failed: 0, unfinished: 1 });
    assert_eq!(
        fs::read_to_string(run.destination()).unwrap(),
        "q,answer,status,error,attempts,latency_ms\nb,,unfinished,,0,\nc,C,ok,,1,1234.567\n"
    );
}

#[test]
fn taken_names_are_prefixed_in_every_format() {
    let csv = Case::over(Format::Csv, "answer,status\na,b\n").answer(0, &[("answer", text("A"))]);
    assert!(csv.answers(Format::Csv).starts_with("answer,status,predicted_answer,run_status,error"));
    let jsonl = Case::over(Format::Jsonl, "{\"q\":1}\n{\"answer\":2}\n").answer(0, &[("answer", text("A"))]);
    assert_eq!(jsonl.project(Format::Jsonl).unwrap().renamed.len(), 1);
    assert!(jsonl.answers(Format::Jsonl).starts_with("{\"q\":1,\"predicted_answer\":\"A\",\"status\""));
}

#[test]
fn a_changed_record_is_refused_with_its_line_and_the_old_file_stays() {
    let run = Case::over(Format::Csv, "q\n\"a\n\"\nb\nc\n").answer(0, &[("answer", text("A"))]).fail(2);
    let before = run.answers(Format::Csv);
    fs::write(&run.source.path, "q\n\"a\n\"\nb\nC\n").unwrap();
    let error = run.project(Format::Csv).unwrap_err();
    assert!(matches!(error, OutputError::Changed { line: 5, .. }), "{error}");
    assert_eq!(fs::read_to_string(run.destination()).unwrap(), before);
}

#[test]
fn a_record_moved_to_another_row_is_refused() {
    let run = Case::over(Format::Csv, "q\na\nb\n").answer(0, &[("answer", text("A"))]);
    fs::write(&run.source.path, "q\nb\na\n").unwrap();
    assert!(matches!(run.project(Format::Csv), Err(OutputError::Changed { line: 2, .. })));
}

#[test]
fn missing_records_are_refused() {
    let run = Case::over(Format::Jsonl, "{}\n{}\n");
    fs::write(&run.source.path, "{}\n").unwrap();
    assert!(matches!(run.project(Format::Csv), Err(OutputError::Shrunk { records: 1, wanted: 2, .. })));
}

#[test]
fn cancelling_leaves_the_old_file() {
    let run = Case::over(Format::Csv, "q\na\n");
    let before = run.answers(Format::Csv);
    let run = run.fail(0);
    assert!(matches!(run.project_unless(Format::Csv, true), Err(OutputError::Cancelled)));
    assert_eq!(fs::read_to_string(run.destination()).unwrap(), before);
    assert_eq!(fs::read_dir(run.directory.path()).unwrap().count(), 3, "input, journal, answers");
}

#[test]
fn a_journal_changed_under_the_index_is_refused() {
    let run = Case::over(Format::Csv, "q\na\n").answer(0, &[("answer", text("right"))]);
    let path = run.directory.path().join("journal");
    let altered = fs::read_to_string(&path).unwrap().replace("right", "wrong");
    fs::write(&path, altered).unwrap();
    assert!(matches!(run.project(Format::Csv), Err(OutputError::Journal(_))));
}

#[test]
fn a_field_of_a_megabyte_passes_every_way() {
    let large = "x\"\r\n,\u{1f600}".repeat(100_000);
    let input = format!("q\n\"{}\"\n", large.replace('"', "\"\""));
    let run = Case::over(Format::Csv, &input).answer(0, &[("answer", text(&large))]);
    let csv = run.answers(Format::Csv);
    let record = csv::Reader::from_reader(csv.as_bytes()).records().next().unwrap().unwrap();
    assert!(record[0] == *large && record[1] == *large);
    let object: serde_json::Value = serde_json::from_str(&run.answers(Format::Jsonl)).unwrap();
    assert!(object["q"] == *large && object["answer"] == *large);
}

#[test]
fn a_failure_without_a_message_shows_its_class_and_one_never_called_no_latency() {
    let mut run = Case::over(Format::Csv, "q\na\n");
    run.record(Outcome { result: Err(CallError::Input(String::new()).into()), attempts: 0, ..failed(0) });
    assert_eq!(run.answers(Format::Csv), "q,status,error,attempts,latency_ms\na,failed,input,0,\n");
}

const HOSTILE: &str = "[ab\",;\\\\\r\n\t{}\u{1f600}\u{e9}\u{2028}]{0,6}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn hostile_values_come_back_from_all_four_directions(
        rows in proptest::collection::vec((HOSTILE, HOSTILE, proptest::option::of(HOSTILE)), 1..5),
    ) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["a", "b"]).unwrap();
        let mut lines = String::new();
        for (a, b, _) in &rows {
            writer.write_record([a, b]).unwrap();
            lines.push_str(&serde_json::json!({"a": a, "b": b}).to_string());
            lines.push('\n');
        }
        let csv_input = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        for (format, input) in [(Format::Csv, csv_input), (Format::Jsonl, lines)] {
            let mut run = Case::over(format, &input);
            for (row, (_, _, answer)) in rows.iter().enumerate().rev() {
                if let Some(answer) = answer {
                    run = run.answer(row as u64, &[("answer", text(answer))]);
                }
            }
            let answered = rows.iter().any(|(_, _, answer)| answer.is_some());
            let expected: Vec<[Option<&str>; 3]> =
                rows.iter().map(|(a, b, answer)| [Some(&**a), Some(&**b), answer.as_deref()]).collect();

            let csv = run.answers(Format::Csv);
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            let records: Vec<_> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(records.len(), rows.len());
            for (record, expected) in records.iter().zip(&expected) {
                let columns = if answered { 3 } else { 2 };
                let read: Vec<_> = record.iter().take(columns).collect();
                let wanted: Vec<_> = expected.iter().take(columns).map(|value| value.unwrap_or_default()).collect();
                prop_assert_eq!(read, wanted);
            }

            let jsonl = run.answers(Format::Jsonl);
            let objects: Vec<serde_json::Value> = jsonl.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(objects.len(), rows.len());
            for (object, expected) in objects.iter().zip(&expected) {
                prop_assert_eq!(["a", "b", "answer"].map(|name| object.get(name).and_then(|value| value.as_str())), *expected);
            }
        }
    }
}
