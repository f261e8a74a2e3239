//! When a run stops by itself before all rows are done: exit code 4 or 5, nothing lost, the rest unfinished.

use std::collections::BTreeMap;

use super::support::job::Job;

fn statuses(job: &Job) -> BTreeMap<String, usize> {
    job.column("status").into_iter().fold(BTreeMap::new(), |mut counts, status| {
        *counts.entry(status).or_default() += 1;
        counts
    })
}

const TYPO: &str = "async def predict(question):
    called(question)
    return quesion.upper()";

#[test]
fn a_predictor_broken_for_every_row_stops_after_the_first_20_and_shows_the_line() {
    let job = Job::new().questions(1319).predictor(TYPO);
    let done = job
        .process()
        .expect(4)
        .says("the first 20 finished rows all failed with `NameError`")
        .says("predictor.py:9 in predict: return quesion.upper()");
    // Some were in flight when the 20th was seen.
    let calls = job.calls().len();
    assert!((20..=20 + 2 * 16).contains(&calls), "{calls} calls: {}", done.stderr);
    let counts = statuses(&job);
    assert_eq!(counts["failed"], calls);
    assert_eq!(counts["unfinished"], 1319 - calls);
    assert_eq!(job.report()["rows"]["unfinished"], 1319 - calls);
    assert!(job.report()["stopped"].as_str().unwrap().contains("NameError"));
}

#[test]
fn an_error_of_many_lines_is_one_short_line_where_it_stops_the_run() {
    let job = Job::new().questions(30).predictor(
        "async def predict(question):
             raise ValueError('first\\nsecond\\n' + 'x' * 5000)",
    );
    let done = job.process().expect(4).says("the last: ValueError: first second xxx").prints("first second");
    for line in done.stdout.lines().chain(done.stderr.lines()) {
        assert!(line.len() < 500 && !line.starts_with("second"), "{line}");
    }
    assert!(
        done.stderr.contains("; waiting up to 20 s for ") || done.stderr.contains("; no call is in flight"),
        "{}",
        done.stderr
    );
}

#[test]
fn one_at_a_time_a_broken_predictor_costs_exactly_20_calls() {
    let job = Job::new().questions(100).predictor(TYPO).args(["--sequential"]);
    job.process().expect(4);
    assert_eq!(job.calls().len(), 20);
}

#[test]
fn errors_that_may_pass_are_no_reason_to_call_more_rows_of_a_broken_predictor() {
    let job = Job::new().questions(1_000).args(["-c", "16", "--backoff", "500ms"]).predictor(
        "async def predict(question):
             called(question)
             await asyncio.sleep(0.02)
             raise RuntimeError('no such field')",
    );
    job.process().expect(4).says("the first 20 finished rows all failed");
    // Twice the rows in flight are in hand, and as many as have finished took a place, four calls each.
    assert!(job.calls().len() <= 4 * (32 + 32), "{}", job.calls().len());
}

#[test]
fn a_hundred_per_cent_of_failures_may_be_asked_for() {
    let job = Job::new().questions(100).predictor(TYPO).args(["--max-failures", "100%"]);
    job.process().expect(3);
    assert_eq!(job.calls().len(), 100);
    assert_eq!(statuses(&job)["failed"], 100);
}

#[test]
fn one_answer_among_the_first_20_lets_the_run_go_on() {
    let job = Job::new().questions(100).predictor(
        "async def predict(question):
             called(question)
             return question if question == 'Question 5?' else quesion",
    );
    job.process().expect(3);
    assert_eq!(job.calls().len(), 100);
}

#[test]
fn a_number_of_failures_stops_the_run() {
    let job = Job::new().questions(100).args(["--max-failures", "3", "--sequential"]).predictor(
        "async def predict(question, row_id):
             called(row_id)
             if row_id % 5 == 4:
                 raise ValueError('a fifth')
             return question",
    );
    job.process().expect(4).says("3 of 15 finished rows failed");
    assert_eq!(job.calls().len(), 15);
    assert_eq!(statuses(&job)["unfinished"], 85);
}

#[test]
fn a_share_of_failures_stops_the_run_from_20_finished_rows_on() {
    let job = Job::new().questions(100).args(["--max-failures", "10%", "--sequential"]).predictor(
        "async def predict(question, row_id):
             called(row_id)
             if row_id < 3:
                 raise ValueError('at first')
             return question",
    );
    job.process().expect(4).says("3 of 20 finished rows failed");
    assert_eq!(job.calls().len(), 20);
}

#[test]
fn a_refused_key_or_payment_stops_the_run_at_once() {
    for status in [401, 402] {
        let job = Job::new().questions(100).args(["--sequential"]).predictor(&format!(
            "class Refused(Exception):
                 status_code = {status}
async def predict(question):
    called(question)
    raise Refused('incorrect API key provided')"
        ));
        job.process().expect(4).says("this error affects every row: Refused: incorrect API key provided");
        assert_eq!(job.calls().len(), 1);
    }
}

#[test]
fn an_exhausted_quota_is_not_taken_for_a_busy_server() {
    let job = Job::new().questions(100).args(["--sequential"]).predictor(
        "class Limited(Exception):
             status_code = 429
             code = 'insufficient_quota'
async def predict(question):
    called(question)
    raise Limited('you exceeded your current quota')",
    );
    job.process().expect(4);
    assert_eq!(job.calls().len(), 1);
}

#[test]
fn at_its_deadline_a_run_ends_with_what_it_has() {
    let job = Job::new().questions(100).args(["--deadline", "500ms", "-c", "4"]).predictor(
        "async def predict(question):
             called(question)
             await asyncio.sleep(0.1)
             return question",
    );
    let done = job.process().expect(5).says("the deadline has passed").prints("resume answers.csv");
    assert!(done.took.as_secs_f64() < 30.0, "{:?}", done.took);
    let calls = job.calls().len();
    assert!((4..100).contains(&calls), "{calls}");
    let counts = statuses(&job);
    // The calls in flight were let finish.
    assert_eq!([counts["ok"], counts["unfinished"]], [calls, 100 - calls]);
}

#[test]
fn a_key_refused_after_the_deadline_is_what_a_scheduler_is_told() {
    let job = Job::new().questions(100).args(["--deadline", "300ms", "-c", "4"]).predictor(
        "class Refused(Exception):
             status_code = 401
async def predict(question, row_id):
    called(question)
    await asyncio.sleep(1)
    if row_id == 3:
        raise Refused('expired')
    return question",
    );
    job.process().expect(4).says("stopping: the deadline has passed").prints("Refused: expired");
    assert_eq!(statuses(&job)["unfinished"], 97);
}
