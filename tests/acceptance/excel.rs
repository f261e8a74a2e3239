//! What spreadsheets make of a CSV file: empty rows at its end, a line that names the delimiter, columns twice.

use std::fs;

use serde_json::Value;

use super::support::job::Job;

/// Two questions, an empty row between them and three behind them.
const PADDED: &str = "id;question;note\n1;a;\n;;\n2;b;x\n;;\n;;\n\"\"; ;\n";

fn semicolons(input: &str) -> Job {
    Job::new().echo().file("questions.csv", input).args(["--delimiter", ";"])
}

#[test]
fn empty_rows_at_the_end_are_skipped_and_counted_and_one_between_rows_fails() {
    let job = semicolons(PADDED);
    let done = job.process().expect(3).says("without a question");
    let said = "3 rows at the end of the input have no value in any cell: skipped";
    assert_eq!(done.stderr.matches(said).count(), 1, "{}", done.stderr);
    assert_eq!(job.calls(), ["a", "b"]);
    let lines = job.read("answers.csv").lines().count();
    assert_eq!(lines, 1 + 3);
    let rows = &job.report()["rows"];
    assert_eq!([&rows["total"], &rows["ok"], &rows["failed"], &rows["skipped"]], [3, 2, 1, 3], "{rows}");
    job.run_alone(&["verify", "questions.csv", "answers.csv"])
        .expect(0)
        .prints("3 rows of")
        .prints("no fault");

    // Without the report that the run wrote itself, from the journal alone.
    fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run_alone(&["report", "answers.csv", "--json", "again.json"]).expect(0);
    let again: Value = serde_json::from_str(&job.read("again.json")).unwrap();
    assert_eq!(again["rows"]["skipped"], 3);
    let before = job.read("answers.csv");
    job.run_alone(&["export", "answers.csv"]).expect(0);
    assert_eq!(job.read("answers.csv"), before);
    job.run_alone(&["resume", "answers.csv"]).expect(3);
    assert_eq!(job.read("answers.csv"), before);
}

#[test]
fn a_file_padded_with_empty_rows_ends_with_exit_code_0() {
    let job = semicolons(&PADDED.replace(";;\n2", "2"));
    job.process().expect(0);
    assert_eq!(job.column_by(b';', "status"), ["ok", "ok"]);
    job.run_alone(&["resume", "answers.csv"]).expect(0);
    assert_eq!(job.calls(), ["a", "b"]);
}

#[test]
fn empty_rows_at_the_end_are_no_values_of_the_wrong_type() {
    let predictor = "async def predict(n: int = 0, m: int = 0):\n    called([n, m])\n    return str(n + m)\n";
    let job = Job::new().predictor(predictor).file("questions.csv", "n,m\n1,2\n,\n3,4\n,\n,\n");
    job.process().expect(0).says("2 rows at the end of the input");
    // The row in the middle has no question to be blank, and takes the defaults.
    assert_eq!(job.column("answer"), ["3", "0", "7"]);
}

#[test]
fn a_line_that_names_the_delimiter_is_obeyed_and_stays_for_excel() {
    let input = "sep=;\r\nid;question\r\n1;\"a; x\"\r\n2;b, y\r\n";
    let job = Job::new().echo().file("questions.csv", input);
    job.process().expect(0);
    assert_eq!(job.calls(), ["a; x", "b, y"]);
    let answers = job.read("answers.csv");
    let head = "sep=;\r\nid;question;answer;status;error;attempts;latency_ms\r\n1;\"a; x\";\"a; x\";ok;;1;";
    assert!(answers.starts_with(head), "{answers}");
    job.run(&["verify", "questions.csv", "answers.csv"])
        .expect(0)
        .prints("2 records for 2 rows")
        .prints("no fault");
    job.run(&["export", "answers.csv"]).expect(0);
    assert_eq!(job.read("answers.csv"), answers);
    job.run(&["export", "answers.csv", "-o", "answers.jsonl"]).expect(0);
    assert_eq!(job.lines("answers.jsonl").len(), 2);
    job.resume().expect(0);
    fs::remove_file(job.path("answers.csv.journal")).unwrap();
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0).prints("no fault");
}

#[test]
fn a_delimiter_that_is_given_beats_the_line_that_names_one() {
    let job = Job::new().echo().file("questions.csv", "sep=;\nid,question\n1,a;b\n");
    job.process_with(&["--delimiter", ","]).expect(0);
    assert_eq!(job.calls(), ["a;b"]);
    assert!(job.read("answers.csv").starts_with("sep=,\nid,question,answer,"), "{}", job.read("answers.csv"));
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0).prints("no fault");
    job.resume().expect(0);
}

#[test]
fn the_line_of_a_fault_counts_the_line_that_names_the_delimiter() {
    let job = Job::new().echo().file("questions.csv", "sep=;\nid;question\n1;a\n2;b;c\n");
    job.process().expect(1).says("line 4 has 3 fields, the header has 2");
    let job = Job::new().echo().stdin("sep=;\nid;question\n1;a\n");
    job.run(&["process", "-", "--format", "csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"])
        .expect(0);
    assert_eq!(job.calls(), ["a"]);
}

#[test]
fn columns_of_one_name_are_refused_only_where_the_predictor_gets_them() {
    let input = "id,id,question,note,note,answer,answer\n1,2,a,x,y,p,q\n";
    let job = Job::new().echo().file("questions.csv", input);
    job.process_with(&["--id-column", "id"]).expect(0);
    assert!(job.read("answers.csv").contains("1,2,a,x,y,p,q,a,ok,"), "{}", job.read("answers.csv"));
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0).prints("no fault");
    job.resume().expect(0);
    for (predictor, options) in [
        ("async def predict(question, note): return question", &[][..]),
        ("async def predict(question, other): return question", &["--map", "other=note"][..]),
        ("async def predict(**row): return 'A'", &[][..]),
    ] {
        let job = Job::new().predictor(predictor).file("questions.csv", input);
        job.process_with(options).expect(1).says("has 2 columns named `");
    }
}
