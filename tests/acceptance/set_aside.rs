//! Rows that end the process that calls them while the run goes on, and rows that block an event loop until it is ended:
//! on the fake bridge, which has as many of both as asked for.

use serde_json::json;

use super::support::job::Job;

const RUN: [&str; 4] = ["process", "questions.csv", "-o", "answers.csv"];

#[test]
fn a_row_that_ends_its_process_while_the_run_goes_on_is_called_again_only_on_request() {
    let job = Job::new().questions(60);
    job.run(&[&RUN[..], &["--bridge", "fake:seed=3,crash=0.1"]].concat()).expect(3);
    let report = job.report();
    let set_aside = report["rows"]["failed_by_class"]["crash"].as_u64().unwrap();
    assert!((2..15).contains(&set_aside), "{report}");
    assert_eq!(report["attempts"]["total"], 60);
    let done = job.run(&["resume", "answers.csv"]).expect(3);
    done.says(&format!("{set_aside} rows were set aside (row "));
    let done = job.run(&[&RUN[..], &["--bridge", "fake:seed=3,crash=0.1"]].concat()).expect(3);
    done.says(&format!("and {set_aside} that failed stay as they are\n"))
        .says(" resume answers.csv --only failed` calls those again, and `--force` starts anew\n");
    assert_eq!(job.report()["attempts"]["total"], 60);
    let done = job.run(&["report", "answers.csv"]).expect(0);
    assert!(done.stdout.contains("resume answers.csv --only failed"), "{}", done.stdout);
    job.run(&["resume", "answers.csv", "--only", "failed"]).expect(3);
    assert_eq!(job.report()["attempts"]["total"], 60 + set_aside);
}

#[test]
fn an_exception_that_is_called_crash_sets_no_row_aside() {
    let job = Job::new().questions(3).predictor(
        "
class crash(Exception):
    pass
async def predict(question, row_id):
    called(row_id)
    if row_id == 1 and not os.path.exists('mended'):
        raise crash('of its own')
    return question
",
    );
    job.process_with(&["--retries", "0"]).expect(3);
    let job = job.file("mended", "");
    job.resume().expect(0);
    assert_eq!(job.calls(), [0, 1, 2, 1].map(|row| json!(row)));
}

#[test]
fn a_row_that_blocks_its_event_loop_fails_with_its_stack_and_what_may_help_and_is_called_again() {
    let job = Job::new().questions(60);
    let done = job.run(&[&RUN[..], &["--bridge", "fake:seed=3,blocked=0.1", "-c", "4"]].concat()).expect(3);
    let done = done.says("the call kept its event loop from turning for 1m 5s, and its worker was ended");
    let done = done.says("hint: allow more time with `--timeout`");
    assert!(done.stdout.contains("\n  Blocked        allow more time with `--timeout`"), "{}", done.stdout);
    let blocked = job.report()["rows"]["failed_by_class"]["blocked"].as_u64().unwrap();
    assert!(blocked > 1, "{blocked}");
    let listed = job.run(&["report", "answers.csv", "--failures"]).expect(0).stdout;
    assert_eq!(
        listed.matches("\n  predictor.py:7 in ask: while True: pass\n").count() as u64,
        blocked,
        "{listed}"
    );
    assert_eq!(listed.matches("\n  hint: allow more time").count() as u64, blocked, "{listed}");
    assert!(job.read("answers.csv.report.html").contains("(hint: allow more time with"));
    job.run(&["resume", "answers.csv"]).expect(3);
    let report = job.report();
    assert_eq!(
        (&report["attempts"]["total"], &report["attempts"]["retries"]),
        (&(60 + blocked).into(), &0.into())
    );
}

#[test]
fn a_row_that_kills_the_process_is_known_again_where_other_rows_have_changed() {
    let job = Job::new().questions(7).args(["-c", "1"]).predictor(
        "
async def predict(question):
    called(question)
    if question == 'Question 5?':
        os._exit(9)
    return question
",
    );
    job.process().expect(9);
    let mut before = job.calls().len();
    let mut resumed = |gone: usize| {
        let lines: String = (gone + 1..7).map(|row| format!("{row},Question {row}?\n")).collect();
        std::fs::write(job.path("questions.csv"), format!("id,question\n{lines}7,Question 7?\n")).unwrap();
        let done = job.resume_with(&["--allow-changed"]);
        let calls = job.calls().split_off(before);
        before += calls.len();
        (done, calls)
    };
    let suspects = [
        ("2 rows", &["Question 5?"][..]),
        ("2 rows", &["Question 6?", "Question 5?"]),
        ("1 row", &["Question 5?"]),
    ];
    for (gone, (rows, first)) in suspects.into_iter().enumerate() {
        let (done, calls) = resumed(gone);
        done.expect(9).says(&format!("{rows} in flight when a session died: run first and one at a time"));
        assert_eq!(calls, first);
    }
    let (done, calls) = resumed(3);
    done.expect(3).says("row 1 was set aside: the process died each time only this row was in flight");
    assert_eq!(calls, ["Question 7?"]);
    let (done, calls) = resumed(4);
    done.expect(3).says("row 0 was set aside: ");
    assert_eq!(calls, [""; 0]);
    let failed = &job.answers()[0];
    assert!(failed["error"].starts_with("crash: the run crashed 3 times"), "{failed:?}");
}
