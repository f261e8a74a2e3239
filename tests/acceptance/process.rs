//! The main job: rows go in, answers and a report come out.

use serde_json::{Value, json};

use super::support::job::Job;

/// What the published schema finds wrong with a report.
fn faults(report: &Value) -> Vec<String> {
    let schema = serde_json::from_str(include_str!("../../schema/report.schema.json")).unwrap();
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
    validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_row_is_called_once_and_answered_beside_itself() {
    let job = Job::new().questions(500).echo();
    job.process().expect(0).prints("Answered 500 of 500 rows");
    assert_eq!(job.calls().len(), 500);
    assert_eq!(job.column("answer"), job.column("question"));
    assert!(job.column("status").iter().all(|status| status == "ok"));
}

#[test]
fn answers_stand_in_input_order_whatever_the_order_of_completion() {
    let job = Job::new().questions(16).predictor(
        "answered = [asyncio.Event() for _ in range(17)]
answered[16].set()
async def predict(question, row_id):
    await answered[row_id + 1].wait()
    called(question)
    answered[row_id].set()
    return f'answer to {question}'",
    );
    job.process().expect(0);
    let questions: Vec<_> = (0..16).map(|i| format!("Question {i}?")).collect();
    let reversed: Vec<_> = questions.iter().rev().map(|question| json!(question)).collect();
    assert_eq!(job.calls(), reversed);
    assert_eq!(job.column("question"), questions);
    let answers: Vec<_> = questions.iter().map(|question| format!("answer to {question}")).collect();
    assert_eq!(job.column("answer"), answers);
}

#[test]
fn a_failed_row_is_marked_and_the_others_are_answered() {
    let job = Job::new().questions(10).predictor(
        "async def predict(question):
             called(question)
             if question == 'Question 3?':
                 raise ValueError('no such number')
             return question",
    );
    job.process().expect(3).prints("Answered 9 of 10 rows").prints("1 row: 1 ValueError");
    assert_eq!(job.calls().len(), 10);
    let failed = &job.answers()[3];
    assert_eq!([&*failed["status"], &*failed["answer"], &*failed["attempts"]], ["failed", "", "1"]);
    assert_eq!(failed["error"], "ValueError: no such number");
    assert_eq!(job.column("status").iter().filter(|status| *status == "ok").count(), 9);
    assert_eq!(job.report()["rows"]["failed_by_class"], json!({"ValueError": 1}));
}

#[test]
fn a_limit_takes_the_first_rows_only() {
    let job = Job::new().questions(10).echo().args(["-n", "3"]);
    job.process().expect(0);
    assert_eq!(job.calls().len(), 3);
    assert_eq!(job.column("id"), ["0", "1", "2"]);
    let rows = job.report()["rows"].clone();
    assert_eq!([&rows["total"], &rows["ok"], &rows["skipped"]], [3, 3, 7]);
}

#[test]
fn a_range_takes_the_rows_from_its_start_to_before_its_end() {
    let job = Job::new().questions(10).echo().args(["--range", "4:6"]);
    job.process().expect(0);
    assert_eq!(job.calls().len(), 2);
    assert_eq!(job.column("id"), ["4", "5"]);
    assert_eq!(job.column("answer"), ["Question 4?", "Question 5?"]);
}

#[test]
fn a_dry_run_checks_everything_and_calls_and_writes_nothing() {
    let job = Job::new().questions(10).echo().args(["--dry-run"]);
    let before = job.files();
    job.process().expect(0).says("10 rows").says("dry run: nothing is called");
    assert!(job.calls().is_empty());
    assert_eq!(job.files(), before);

    let broken = job.file("questions.csv", "id,question\n1,a\n2\n");
    broken.process().expect(1).says("line 3 has 1 field, the header has 2");
}

#[test]
fn a_dry_run_on_standard_input_leaves_no_copy_of_it() {
    let job = Job::new().echo().stdin("question\na\n").args(["--format", "csv", "--dry-run"]);
    job.process_file("-", "answers.csv").expect(0);
    assert_eq!(job.files(), ["predictor.py"]);
}

#[test]
fn a_blank_question_fails_its_row_and_is_never_called() {
    let job = Job::new().echo().file("questions.csv", "id,question\n1,a\n2,\n3,\" \n\"\n4,b\n");
    job.process().expect(3).says("4 rows, 2 without a question");
    assert_eq!(job.calls(), ["a", "b"]);
    assert_eq!(job.column("status"), ["ok", "failed", "failed", "ok"]);
    assert_eq!(job.column("attempts"), ["1", "0", "0", "1"]);
    assert_eq!(job.column("error")[1], "input: the question is blank");
    let report = job.report();
    assert_eq!(report["rows"]["failed_by_class"], json!({"input": 2}));
    assert_eq!(report["attempts"]["total"], 2);
}

#[test]
fn a_null_question_fails_its_row_and_is_never_called() {
    let lines = "{\"question\":null}\n{\"question\":\"a\"}\n{\"question\":\"\"}\n";
    let job = Job::new().echo().file("questions.jsonl", lines);
    job.process_file("questions.jsonl", "answers.jsonl").expect(3);
    assert_eq!(job.calls(), ["a"]);
    let answers = job.lines("answers.jsonl");
    assert_eq!(answers[0]["status"], "failed");
    assert_eq!(answers[0]["question"], Value::Null);
    assert_eq!(answers[1]["answer"], "a");
}

#[test]
fn a_file_of_blank_questions_alone_does_not_look_like_a_broken_predictor() {
    let job = Job::new().echo().file("questions.csv", format!("question,x\n{}", ",1\n".repeat(50)));
    job.process().expect(3);
    assert_eq!(job.report()["rows"]["failed"], 50);
    assert!(job.calls().is_empty());
}

#[test]
fn the_report_is_what_its_published_schema_says() {
    let job = Job::new().questions(60).predictor(
        "async def predict(question, row_id, attempt):
             await asyncio.sleep(0.01)
             if row_id % 10 == 0 and attempt == 1:
                 raise ConnectionError('lost')
             if row_id == 59:
                 raise KeyError('no')
             return question",
    );
    job.process_with(&["--backoff", "1ms", "-c", "8"]).expect(3);
    let report = job.report();
    assert_eq!(faults(&report), Vec::<String>::new());
    assert_eq!(report["schema_version"], 1);
    let rows = &report["rows"];
    assert_eq!([&rows["total"], &rows["ok"], &rows["failed"], &rows["unfinished"]], [60, 59, 1, 0]);
    let attempts = &report["attempts"];
    assert_eq!([&attempts["total"], &attempts["retries"], &attempts["first_try_ok"]], [66, 6, 53]);
    assert_eq!(attempts["by_error"], json!({"ConnectionError": 6, "KeyError": 1}));
    assert_eq!(report["latency_ms"]["ok"]["count"], 59);
    assert!(report["latency_ms"]["ok"]["p50"].as_f64().unwrap() >= 10.0);
    assert_eq!([&report["concurrency"]["requested"], &report["concurrency"]["achieved_max"]], [8, 8]);
    assert_eq!(report["run"]["predictor"], "predictor.py:predict");
    assert!(report["journal"]["bytes"].as_u64().unwrap() > 60);
    assert_eq!(report["cost_usd"], Value::Null);
}

#[test]
fn what_python_prints_stays_out_of_standard_output() {
    let job = Job::new().questions(3).predictor(
        "import subprocess, sys
print('at import')
async def predict(question):
    print('from the predictor')
    os.write(1, b'from below Python\\n')
    subprocess.run([sys.executable, '-c', 'print(\"from a child\")'])
    return question",
    );
    let done = job.process().expect(0);
    for text in ["at import", "from the predictor", "from below Python", "from a child"] {
        assert!(done.stderr.contains(text), "{}", done.stderr);
        assert!(!done.stdout.contains(text), "{}", done.stdout);
    }
    assert!(done.stdout.starts_with("Answered 3 of 3 rows"), "{}", done.stdout);
}

#[test]
fn a_quiet_run_says_nothing_at_all() {
    let job = Job::new().questions(3).echo().args(["-q"]);
    let done = job.process().expect(0);
    assert_eq!([done.stdout, done.stderr], ["", ""]);
    assert_eq!(job.column("answer").len(), 3);
}

#[test]
fn progress_for_programs_is_json_line_by_line_and_ends_with_the_counts() {
    let job = Job::new().questions(3).echo().args(["--progress", "json"]);
    let done = job.process().expect(0);
    let lines: Vec<Value> = done.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!([&last["type"], &last["ok"], &last["failed"]], [&json!("finish"), &json!(3), &json!(0)]);
}

#[test]
fn without_a_name_the_answers_stand_in_the_current_directory() {
    let job = Job::new().echo().file("rows.jsonl", "{\"question\":\"a\"}\n");
    job.run(&["process", "rows.jsonl", "--predictor", "predictor.py:predict"]).expect(0);
    assert_eq!(
        job.files(),
        [
            "predictor.py",
            "rows.answers.jsonl",
            "rows.answers.jsonl.journal",
            "rows.answers.jsonl.report.html",
            "rows.answers.jsonl.report.json",
            "rows.jsonl"
        ]
    );
}
