//! The attempts of rows left open: whatever ends the session, what is known of them is in every figure, once.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Job, Running};

const MINI: [&str; 2] = ["--model", "openai/gpt-4o-mini"];

/// Questions whose first reply cannot be parsed; each reply is of 100 tokens in and 10 out.
fn garbled_at_first(rows: std::ops::Range<usize>) -> Fixtures {
    rows.fold(Fixtures::default(), |fixtures, row| {
        let question = format!("Question {row}?");
        let asked =
            json!({"userMessage": format!("[[ ## question ## ]]\n{question}\n\n"), "sequenceIndex": 0});
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
        let garbled = json!({"content": "I would rather not.", "usage": usage});
        fixtures.fixture(&asked, &garbled).answer(&question, &format!("Answer {row}"))
    })
}

/// The default predictor on the server, under way with four calls at once.
fn asking(job: &Job, server: &Aimock, options: &[&str]) -> Running {
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "-c", "4", "--api-base", &base];
    job.spawn(&[&process[..], &MINI, options].concat())
}

/// The report as the journal alone has it.
fn rebuilt(job: &Job) -> Value {
    let _ = fs::remove_file(job.path("answers.csv.report.json"));
    job.run(&["report", "answers.csv", "--json", "rebuilt.json"]).expect(0);
    serde_json::from_str(&job.read("rebuilt.json")).unwrap()
}

#[test]
fn failed_attempts_survive_kill_9_in_every_figure_and_bound_the_next_session() {
    // Others are asked while failed rows wait, for one was answered.
    let server = Aimock::start(&garbled_at_first(1..41).answer("Question 0?", "Answer 0"));
    let job = Job::new().questions(41);
    // Each other row fails once, and waits for long.
    let mut running = asking(&job, &server, &["--backoff", "10h", "--backoff-max", "10h"]);
    running.wait_for("answers.csv.journal", r#""attempt""#, 40);
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(server.journal().len(), 41);

    let report = rebuilt(&job);
    let attempts = &report["attempts"];
    assert_eq!((&attempts["total"], &attempts["retries"]), (&json!(41), &json!(0)), "{attempts}");
    assert_eq!(attempts["by_error"], json!({"AdapterParseError": 40}));
    // As many calls as were allowed may have been under way.
    assert_eq!(report["tokens"], json!({"input": 4_100, "output": 410, "calls": 41, "untold": 4}));
    assert_eq!(report["rows"]["unfinished"], 40);

    // Room for 41 calls that are known, 4 that may have been made, and 5 more.
    job.resume_with(&["--max-total-tokens", "5500", "--backoff", "1ms"]).expect(4);
    assert_eq!(server.journal().len(), 46);
    let report = rebuilt(&job);
    assert_eq!((&report["attempts"]["total"], &report["rows"]["ok"]), (&json!(46), &json!(6)));
    assert_eq!(report["attempts"]["by_error"], json!({"AdapterParseError": 40}));

    job.resume_with(&["--max-total-tokens", "100000", "--backoff", "1ms"]).expect(0);
    assert_eq!(server.journal().len(), 1 + 2 * 40);
    let report = job.report();
    assert_eq!((&report["attempts"]["total"], &report["attempts"]["retries"]), (&json!(81), &json!(0)));
    assert_eq!(report["attempts"]["by_error"], json!({"AdapterParseError": 40}));
    assert_eq!(report["tokens"], json!({"input": 8_100, "output": 810, "calls": 81, "untold": 4}));
    assert_eq!(job.column("answer"), (0..41).map(|row| format!("Answer {row}")).collect::<Vec<_>>());
}

/// Even rows fail once and wait for long, odd ones hang.
const FAILS_OR_HANGS: &str = "
async def predict(question, row_id):
    called(row_id)
    if row_id % 2 == 0 and not os.path.exists('mended'):
        raise ConnectionError('lost')
    while not os.path.exists('mended'):
        await asyncio.sleep(0.02)
    return question
";

#[test]
fn calls_cut_off_at_a_stop_are_attempts_too() {
    for second_signal in [false, true] {
        let job = Job::new().questions(40).predictor(FAILS_OR_HANGS);
        let process = [
            "process",
            "questions.csv",
            "-o",
            "answers.csv",
            "--predictor",
            "predictor.py:predict",
            "-c",
            "4",
        ];
        let grace = if second_signal { "1h" } else { "200ms" };
        let mut running = job
            .spawn(&[&process[..], &["--backoff", "10h", "--backoff-max", "10h", "--grace", grace]].concat());
        // Four of the 8 rows in hand have failed, the others are in flight.
        running.wait_for("answers.csv.journal", r#""attempt""#, 4);
        running.wait_for_calls(8);
        running.signal(Signal::INT);
        if second_signal {
            running.wait_for(".stderr", "stopping: ", 1);
            running.signal(Signal::INT);
        }
        running.wait().expect(130);
        let reports = if second_signal { vec![rebuilt(&job)] } else { vec![job.report(), rebuilt(&job)] };
        for report in reports {
            let attempts = &report["attempts"];
            assert_eq!((&attempts["total"], &attempts["retries"]), (&json!(8), &json!(0)), "{attempts}");
            assert_eq!(attempts["by_error"], json!({"ConnectionError": 4, "cancelled": 4}));
            assert_eq!(report["tokens"]["untold"], 4);
        }
        assert_eq!(job.calls().len(), 8);

        fs::write(job.path("mended"), "").unwrap();
        job.resume().expect(0);
        let attempts = job.report()["attempts"].clone();
        assert_eq!((&attempts["total"], &attempts["retries"]), (&json!(48), &json!(0)), "{attempts}");
        assert_eq!(job.calls().len(), 48);
    }
}

#[test]
fn calls_in_flight_are_lost_once_the_process_is_dead_and_not_while_it_runs() {
    let job = Job::new().questions(40).predictor(FAILS_OR_HANGS);
    let waits = ["-c", "4", "--backoff", "10h", "--backoff-max", "10h"];
    let process = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    let mut running = job.spawn(&[&process[..], &waits].concat());
    running.wait_for("answers.csv.journal", r#""attempt""#, 4);
    running.wait_for_calls(8);
    let told = |job: &Job| {
        job.run(&["report", "answers.csv", "--json", "rebuilt.json"]).expect(0);
        let report: Value = serde_json::from_str(&job.read("rebuilt.json")).unwrap();
        (report["attempts"]["total"].clone(), report["tokens"]["untold"].clone())
    };
    assert_eq!(told(&job), (json!(4), Value::Null));
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(told(&job), (json!(4), json!(4)));
}

#[test]
fn a_call_that_timed_out_keeps_its_room_in_the_budget_over_all_sessions() {
    let server = Aimock::start(&Fixtures::numbered(60));
    server.chaos(&json!({"latencyMs": 50}));
    let job = Job::new().questions(60);
    let bound = ["--max-total-tokens", "2200", "--timeout", "1s", "--retries", "0", "--max-failures", "2"];
    let mut running = asking(&job, &server, &bound);
    running.wait_for("answers.csv.journal", r#""ok""#, 4);
    server.chaos(&json!({"latencyMs": 30_000}));
    running.wait().expect(4).says("finished rows failed");
    let report = job.report();
    let timeouts = report["attempts"]["timeouts"].as_u64().unwrap();
    assert_eq!((report["tokens"]["untold"].as_u64().unwrap(), timeouts >= 2), (timeouts, true));

    server.chaos(&json!({"latencyMs": 0}));
    job.resume_with(&["--max-failures", "100%"])
        .expect(4)
        .says("`--max-total-tokens 2200`")
        .says("did not report what");
    // Each of the 20 calls that there is room for is either answered or may have been billed.
    let report = job.report();
    assert_eq!(report["rows"]["ok"].as_u64().unwrap() + timeouts, 20, "{report}");
    assert_eq!(report["tokens"]["untold"], timeouts);
}

#[test]
fn a_timeout_of_the_client_is_bounded_and_told_like_ours() {
    // Every second question is never answered in time, in any session.
    let fixtures = (0..60)
        .filter(|row| row % 2 == 1)
        .fold(Fixtures::default(), |fixtures, row| fixtures.slow(&format!("Question {row}?")));
    let fixtures = (0..60).filter(|row| row % 2 == 0).fold(fixtures, |fixtures, row| {
        fixtures.answer(&format!("Question {row}?"), &format!("Answer {row}"))
    });
    let server = Aimock::start(&fixtures);
    let job = Job::new().questions(60);
    let bound = ["--lm", "timeout=0.5", "--retries", "1", "--backoff", "1ms", "--max-failures", "100%"];
    let tokens = ["--max-total-tokens", "1100"];
    asking(&job, &server, &[&bound[..], &tokens].concat()).wait().expect(4).says("`--max-total-tokens 1100`");
    let check = |report: &Value, room: u64| {
        let untold = report["tokens"]["untold"].as_u64().unwrap();
        assert_eq!(report["attempts"]["by_error"]["LMTransportError"], untold, "{report}");
        assert!(untold >= 2, "{report}");
        assert_eq!(report["tokens"]["calls"].as_u64().unwrap() + untold, room, "{report}");
        assert!(server.journal().len() as u64 <= room);
    };
    check(&job.report(), 10);
    check(&rebuilt(&job), 10);
    job.resume_with(&["--max-total-tokens", "1760"]).expect(4);
    check(&rebuilt(&job), 16);
}

#[test]
fn each_attempt_of_a_retried_row_is_drawn_where_it_was() {
    let job = Job::new().questions(10).predictor(
        "async def predict(question, row_id, attempt):
             await asyncio.sleep(0.05)
             if row_id < 4 and attempt <= 2:
                 raise ConnectionError('lost')
             return question",
    );
    job.process_with(&["-c", "2", "--backoff", "20ms"]).expect(0);
    let page = job.read("answers.csv.report.html");
    // Two bars a row, and the word in the legend.
    assert_eq!(page.matches("class=\"earlier\"").count(), 4 * 2 + 1, "{page}");
    let records = job.read("answers.csv.journal");
    let attempts: Vec<Value> = records
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.get(9..)?).ok()?.get("attempt").cloned())
        .collect();
    assert_eq!(attempts.len(), 8);
    for attempt in attempts {
        let length = attempt["ended_ns"].as_u64().unwrap() - attempt["began_ns"].as_u64().unwrap();
        assert!((40_000_000..1_000_000_000).contains(&length), "{attempt}");
    }
}
