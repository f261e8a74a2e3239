//! Faults of the program itself, and what it reads that cannot be: a panic, figures beyond their bounds, a clock that
//! is wrong. None of them may hang a run, nor make its sums nonsense.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::support::job::Job;

/// What cannot happen by any input any more is made to happen on the bridge that follows a script.
#[test]
fn a_panic_in_a_rows_task_ends_the_run_with_the_row_named_and_all_answers_kept() {
    let mut job = Job::new().questions(400);
    job.patience = Duration::from_secs(30);
    let done = job.run(&[
        "process",
        "questions.csv",
        "-o",
        "answers.csv",
        "--bridge",
        "fake:seed=1,min=5ms,max=20ms,panic=100",
        "-c",
        "8",
    ]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    let done = done.says("stopping: internal error: the task of row 99 panicked: as the script says");
    let done = done.says("resume answers.csv` calls the row again");
    assert!(done.took < Duration::from_secs(20), "{:?}", done.took);
    let statuses = job.column("status");
    let answered = statuses.iter().filter(|status| *status == "ok").count();
    assert!((90..200).contains(&answered), "{answered} rows were answered");
    assert_eq!(statuses[99], "unfinished");

    let resumed = job.resume_with(&["--bridge", "fake"]);
    assert!(!resumed.stderr.contains("torn") && !resumed.stderr.contains("damaged"), "{}", resumed.stderr);
    resumed.expect(0).says(&format!("{answered} rows answered before")).says("(row 99, ");
    assert_eq!(job.column("answer"), job.column("question"));
}

/// This process has one event loop, which nothing outlives: one of several is made to die on the same bridge.
#[test]
fn an_event_loop_that_dies_costs_its_calls_another_attempt_and_no_row_a_retry() {
    let mut job = Job::new().questions(200);
    job.patience = Duration::from_secs(30);
    let bridge = ["--bridge", "fake:seed=1,min=1ms,max=5ms,lost=0.1", "--retries", "0"];
    job.run(&[&["process", "questions.csv", "-o", "answers.csv"], &bridge[..]].concat()).expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    let attempts = &job.report()["attempts"];
    let lost = attempts["by_error"]["lost"].as_u64().unwrap();
    assert!((5..60).contains(&lost), "{attempts}");
    assert_eq!((&attempts["total"], &attempts["abandoned"]), (&(200 + lost).into(), &0.into()));
}

#[test]
fn a_panic_is_told_to_programs_in_their_own_form() {
    let process = ["process", "questions.csv", "-o", "answers.csv", "--progress", "json"];
    let bridge = ["--bridge", "fake:seed=1,min=5ms,max=20ms,panic=100", "-c", "8"];
    let done = Job::new().questions(400).run(&[&process[..], &bridge].concat());
    assert_eq!(done.code, 1, "{}", done.stderr);
    for line in done.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["time"].is_string(), "{line}");
    }
    done.says("panicked at ");
}

#[test]
fn a_duration_that_no_clock_can_hold_is_for_ever_wherever_it_comes_from() {
    let mut job = Job::new().questions(6).args(["--retries", "1", "--backoff", "1ms"]).predictor(
        "async def predict(question, attempt):
             called(question)
             if attempt == 1:
                 raise ConnectionError
             if os.path.exists('broken'):
                 raise ValueError
             return question",
    );
    job.patience = Duration::from_secs(30);
    let for_ever = "400000000000y";
    let job = job.file("broken", "");
    let options =
        ["--timeout", "--row-timeout", "--deadline", "--grace", "--backoff-max"].map(|name| [name, for_ever]);
    job.process_with(&options.concat()).expect(3);
    assert_eq!(job.calls().len(), 12);
    std::fs::remove_file(job.path("broken")).unwrap();
    // `resume` reads them from the journal.
    job.resume().expect(0);
    assert_eq!(job.calls().len(), 24);

    let variables = ["TAB_TIMEOUT", "TAB_ROW_TIMEOUT", "TAB_DEADLINE", "TAB_GRACE", "TAB_BACKOFF_MAX"];
    let job = variables.iter().fold(job, |job, name| job.env(name, for_ever));
    job.process_with(&["--force"]).expect(0);
    assert_eq!((job.calls().len(), job.column("answer")), (36, job.column("question")));
}

#[test]
fn a_cost_that_is_none_counts_for_nothing_and_sums_of_tokens_stop_at_their_bound() {
    let job = Job::new().questions(4).predictor(
        "class Told(str):
             pass
         COSTS = [0.5, float('nan'), -10.0, float('inf')]
         async def predict(question, row_id):
             called(row_id)
             told = Told(question)
             told._bridge_usage = (2 ** 63, 2 ** 63, 1, COSTS[row_id], 'stop', None)
             return told"
            .replace("\n         ", "\n")
            .as_str(),
    );
    job.process().expect(0);
    assert_eq!(job.calls().len(), 4);
    let report = job.report();
    assert_eq!(report["cost_usd"], 0.5, "{report}");
    assert_eq!([&report["tokens"]["input"], &report["tokens"]["output"]], [u64::MAX, u64::MAX]);
    job.run(&["report", "answers.csv", "--json", "again.json"]).expect(0);
}

/// Blank rows are no calls: their outcomes come as fast as they can be recorded.
#[test]
fn ticks_go_on_while_outcomes_pour_in() {
    const ROWS: usize = 400_000;
    let lines: String = (0..ROWS).map(|row| if row % 1000 == 0 { "Why?\n" } else { "\"\"\n" }).collect();
    let job = Job::new().echo().file("questions.csv", format!("question\n{lines}"));
    let job = job.args(["--max-failures", "100%", "--progress", "json", "--no-html"]);
    let mut running = job.start();
    running.wait_for_calls(3);
    std::fs::remove_file(job.path("answers.csv.journal")).unwrap();
    let done = running.wait().expect(1).says("the journal was removed while the run recorded into it");
    let counts = |status: &str| job.column("status").iter().filter(|found| *found == status).count();
    let (open, calls) = (counts("unfinished"), job.calls().len());
    assert!(open > ROWS / 4 && calls >= 3, "{open} rows were open after {calls} calls");
    assert_eq!(counts("ok"), calls, "no answer is lost");
    let seen: BTreeSet<_> = done.stderr.lines().filter(|line| line.contains(r#""failed""#)).collect();
    assert!(!seen.is_empty(), "{}", done.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_clock_before_1970_stops_nothing() {
    let job = Job::new().questions(3).predictor(
        "async def predict(question):
             called(question)
             if os.path.exists('broken'):
                 raise ValueError
             return question",
    );
    let job = job.clock(-1_000_000).file("broken", "");
    job.process_with(&["--progress", "json"]).expect(3).says(r#""time":"1970-01-01T00:00:00.000Z""#);
    std::fs::remove_file(job.path("broken")).unwrap();
    job.resume().expect(0);
    assert_eq!((job.calls().len(), job.column("answer")), (6, job.column("question")));
    std::fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv"]).expect(0);
}
