//! What a job has used counts against its bounds and is reported, whatever becomes of its input.

use std::fmt::Write;
use std::fs;
use std::ops::Range;

use rustix::process::Signal;
use serde_json::json;

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Done, Job};

const MINI: [&str; 2] = ["--model", "openai/gpt-4o-mini"];
/// What each call uses, in and out.
const A_CALL: u64 = 110;

fn questions(rows: Range<usize>) -> String {
    rows.fold("id,question\n".to_owned(), |mut lines, row| {
        writeln!(lines, "{row},Question {row}?").unwrap();
        lines
    })
}

fn resume(job: &Job, options: &[&str]) -> Done {
    job.run(&[&["resume", "answers.csv", "--allow-changed", "--backoff", "1ms"], options].concat())
}

/// The report's attempts and tokens are the server's.
#[track_caller]
fn agrees(job: &Job, server: &Aimock) {
    let (report, calls) = (job.report(), server.journal().len() as u64);
    assert_eq!(report["attempts"]["total"], calls, "{report}");
    let tokens = &report["tokens"];
    let used = tokens["input"].as_u64().unwrap() + tokens["output"].as_u64().unwrap();
    assert_eq!((used, &tokens["calls"]), (calls * A_CALL, &json!(calls)), "{report}");
}

#[test]
fn what_rows_left_open_have_tried_counts_whether_they_are_still_in_the_input_or_not() {
    // So many calls may be lost, and this is the input then.
    for (signal, lost, rows) in [(Signal::INT, 0, 0..42), (Signal::KILL, 4, 0..42), (Signal::KILL, 4, 50..60)]
    {
        // What is asked first cannot be parsed, but for one row, so that others are asked while failed ones wait, and
        // for the rows that come in later.
        let fixtures = (0..60).fold(Fixtures::default(), |fixtures, row| {
            let question = format!("Question {row}?");
            let asked =
                json!({"userMessage": format!("[[ ## question ## ]]\n{question}\n\n"), "sequenceIndex": 0});
            let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": A_CALL});
            let garbled = json!({"content": "I would rather not.", "usage": usage});
            let fixtures = if (1..41).contains(&row) { fixtures.fixture(&asked, &garbled) } else { fixtures };
            fixtures.answer(&question, &format!("Answer {row}"))
        });
        let server = Aimock::start(&fixtures);
        let job = Job::new().questions(41);
        let base = server.base_url();
        let process = ["process", "questions.csv", "-o", "answers.csv", "-c", "4", "--api-base", &base];
        let waits = ["--backoff", "10h", "--backoff-max", "10h"];
        let mut running = job.spawn(&[&process[..], &MINI, &waits].concat());
        // Each other row fails once, and waits for long.
        running.wait_for("answers.csv.journal", r#""attempt""#, 40);
        running.signal(signal);
        running.wait();
        assert_eq!(server.journal().len(), 41);

        let left = rows.start == 0;
        fs::write(job.path("questions.csv"), questions(rows)).unwrap();
        resume(&job, &["--max-total-tokens", "5500"]).expect(4).says("`--max-total-tokens 5500`");
        // Room for 50 calls, of which some may be lost.
        assert_eq!(server.journal().len(), 50 - lost);
        agrees(&job, &server);
        let untold = if lost == 0 { json!(null) } else { json!(lost) };
        assert_eq!(job.report()["tokens"]["untold"], untold);

        resume(&job, &["--max-total-tokens", "100000"]).expect(0);
        assert_eq!(server.journal().len(), if left { 1 + 2 * 40 + 1 } else { 41 + 10 });
        agrees(&job, &server);
        assert_eq!(job.report()["attempts"]["by_error"], json!({"AdapterParseError": 40}));
    }
}

#[test]
fn rows_replaced_again_and_again_share_one_budget_and_those_gone_are_no_rows() {
    let server = Aimock::start(&Fixtures::numbered(60));
    let job = Job::new().questions(20);
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "-c", "4", "--api-base", &base];
    job.run(&[&process[..], &MINI, &["--max-total-tokens", "1100"]].concat()).expect(4);
    assert_eq!(server.journal().len(), 10);

    fs::write(job.path("questions.csv"), questions(20..40)).unwrap();
    resume(&job, &[]).expect(4).says("0 answers kept, 10 gone").says("1100 of `--max-total-tokens 1100`");
    assert_eq!(server.journal().len(), 10, "nothing is left to other rows");
    agrees(&job, &server);
    let rows = &job.report()["rows"];
    assert_eq!((&rows["ok"], &rows["failed"], &rows["unfinished"]), (&json!(0), &json!(0), &json!(20)));

    resume(&job, &["--max-total-tokens", "2200"]).expect(4);
    fs::write(job.path("questions.csv"), questions(40..60)).unwrap();
    resume(&job, &["--max-total-tokens", "2750"]).expect(4);
    assert_eq!(server.journal().len(), 25);
    agrees(&job, &server);
    // The journal alone has it too.
    fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv", "--json", "answers.csv.report.json"]).expect(0);
    agrees(&job, &server);
    assert_eq!(job.report()["rows"]["ok"], 5);
}
