//! `compare`: which modes run, in which order, how often they call, and what is written.

use std::fs;

use super::support::job::{Done, Job, Running};
use super::support::terminal::Terminal;
use rustix::process::Signal;
use serde_json::{Value, json};

/// 12 rows of 50 ms, noting how many calls run.
fn job() -> Job {
    Job::new().questions(12).predictor(
        "
running = 0
async def predict(question):
    global running
    running += 1
    called(running)
    await asyncio.sleep(0.05)
    running -= 1
    return question
",
    )
}

pub(super) fn compare(job: &Job, options: &[&str]) -> Done {
    spawn(job, options).wait()
}

pub(super) fn spawn(job: &Job, options: &[&str]) -> Running {
    let all =
        ["compare", "questions.csv", "--predictor", "predictor.py:predict", "--export-json", "compare.json"];
    job.spawn(&[&all, options].concat())
}

/// What was exported, which the published schema describes, and nothing beyond it.
pub(super) fn exported(job: &Job) -> Value {
    fn close(schema: &mut Value) {
        if let Some(object) = schema.as_object_mut() {
            if object.contains_key("properties") {
                object.insert("additionalProperties".into(), json!(false));
            }
            object.values_mut().for_each(close);
        }
    }
    let exported = serde_json::from_str(&job.read("compare.json")).unwrap();
    let mut schema = serde_json::from_str(include_str!("../../schema/compare.schema.json")).unwrap();
    close(&mut schema);
    let schema = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<_> = schema.iter_errors(&exported).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?} in {exported}");
    exported
}

/// The warnings of one kind.
fn warnings(job: &Job, kind: &str) -> Vec<Value> {
    let exported = exported(job);
    let warnings = exported["warnings"].as_array().unwrap();
    warnings.iter().filter(|warning| warning["kind"] == kind).cloned().collect()
}

fn names(job: &Job) -> Vec<String> {
    let exported = exported(job);
    exported["modes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mode| mode["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn both_modes_alternate_over_the_same_rows() {
    let job = job();
    let done = compare(&job, &["--runs", "2", "-c", "4"]).expect(0);

    // Sequential, concurrent, concurrent, sequential: by the most calls that ran at once in each run. Before them a few
    // to warm up.
    let calls = job.calls();
    assert_eq!(calls.len(), 4 + 48);
    let (warm_up, calls) = calls.split_at(4);
    assert_eq!(warm_up.iter().filter_map(Value::as_u64).max(), Some(4));
    let most = |run: &[Value]| run.iter().filter_map(Value::as_u64).max().unwrap();
    assert_eq!(calls.chunks(12).map(most).collect::<Vec<_>>(), [1, 4, 4, 1]);

    let exported = exported(&job);
    assert_eq!(exported["warm_up"], json!({"rows": 4, "attempts": 4}));
    let modes = &exported["modes"];
    for (mode, (name, concurrency)) in [("sequential", 1), ("concurrent -c 4", 4)].into_iter().enumerate() {
        let mode = &modes[mode];
        assert_eq!((&mode["name"], &mode["concurrency"]), (&name.into(), &concurrency.into()));
        assert_eq!((&mode["failed"], &mode["attempts"]), (&json!(0.0), &json!(12.0)));
        let in_flight = mode["in_flight_mean"].as_f64().unwrap() / f64::from(concurrency);
        assert!(in_flight > 0.6 && in_flight < 1.05, "{mode}");
        for run in mode["runs"].as_array().unwrap() {
            assert_eq!((&run["attempts"], &run["in_flight_max"]), (&json!(12), &json!(concurrency)));
        }
        let walls: Vec<_> =
            mode["wall_s"].as_array().unwrap().iter().map(|wall| wall.as_f64().unwrap()).collect();
        assert_eq!(walls.len(), 2);
        let mean = mode["mean_s"].as_f64().unwrap();
        assert!((mean - f64::midpoint(walls[0], walls[1])).abs() < 1e-9);
        assert!((mode["rows_per_s"].as_f64().unwrap() - 12.0 / mean).abs() < 1e-6);
        assert!(mode["stddev_s"].as_f64().unwrap() >= 0.0);
    }
    assert!(modes[0]["mean_s"].as_f64().unwrap() >= 0.6, "12 calls of 50 ms, one after another");
    assert_eq!(exported["ideal_speedup"], 4.0);
    let speedup = exported["speedup"]["mean"].as_f64().unwrap();
    assert!(speedup > 2.0 && speedup < 4.5, "{speedup}");
    let interval = exported["speedup"]["ci95"].as_array().unwrap();
    assert!(interval[0].as_f64().unwrap() <= speedup && speedup <= interval[1].as_f64().unwrap());
    assert!(exported["warnings"].as_array().unwrap().iter().any(|warning| warning["kind"] == "uncertain"));

    assert!(done.stdout.contains("In flight") && done.stdout.contains("times as fast as"), "{}", done.stdout);
    assert!(!job.path("questions.answers.csv").exists(), "no job of the user's");
}

#[test]
fn the_modes_are_both_by_default_or_those_asked_for() {
    let job = job();
    for (options, expected) in [
        (&[][..], &["sequential", "concurrent -c 16"][..]),
        (&["-c", "3", "-c", "6"], &["sequential", "concurrent -c 3", "concurrent -c 6"]),
        (&["--sequential", "--concurrent", "-c", "3"], &["sequential", "concurrent -c 3"]),
        (&["--concurrent", "-c", "3"], &["concurrent -c 3"]),
        (&["--concurrent"], &["concurrent -c 16"]),
        (&["--sequential"], &["sequential"]),
    ] {
        compare(&job, &[&["--runs", "1", "--limit", "2"], options].concat()).expect(0);
        assert_eq!(names(&job), expected, "{options:?}");
    }
    assert_eq!(exported(&job)["speedup"], Value::Null, "one mode has nothing to be compared with");
}

#[test]
fn failed_rows_are_counted_and_told() {
    let job = Job::new().questions(4).predictor(
        "async def predict(question):\n    called(question)\n    if question == 'Question 0?':\n        raise ValueError('odd')\n    return question\n",
    );
    let done = compare(&job, &["--runs", "2"]).expect(3);
    let modes = &exported(&job)["modes"];
    assert_eq!((&modes[0]["failed"], &modes[1]["failed"]), (&json!(1.0), &json!(1.0)));
    // In each run: not as many times as there were runs.
    assert!(done.stdout.contains("had 1 failed row:"), "{}", done.stdout);
}

#[test]
fn what_cannot_be_compared_is_a_usage_error() {
    let job = job();
    for options in [&["-c", "0"][..], &["-c", "many"], &["--runs", "0"], &["--output", "a.csv"]] {
        compare(&job, options).expect(2);
    }
    job.run(&["compare", "-", "--predictor", "predictor.py:predict"]).expect(2).says("give it a file");
    assert_eq!(job.calls().len(), 0);
}

#[test]
fn a_selection_without_rows_is_refused_and_nothing_called() {
    let job = job();
    compare(&job, &["--range", "12:20"]).expect(1).says("has no row to compare").says("hint: ");
    assert_eq!(job.calls().len(), 0);
}

#[test]
fn answers_that_differ_are_counted_by_row() {
    let job = Job::new().questions(6).predictor(
        "
asked = 0
async def predict(question, row_id):
    global asked
    asked += 1
    return f'{question} {asked}' if row_id in (4, 5) else question
",
    );
    let done = compare(&job, &["--runs", "2", "-c", "2", "--export-markdown", "compare.md"]).expect(0);
    let different =
        |exported: &Value, mode: usize, run: usize| exported["modes"][mode]["runs"][run]["different"].clone();
    let exported = exported(&job);
    assert_eq!(different(&exported, 0, 0), Value::Null, "the run that the others are held against");
    for (mode, run) in [(0, 1), (1, 0), (1, 1)] {
        assert_eq!(different(&exported, mode, run), json!(2), "mode {mode}, run {run}");
    }
    let told = "2 in sequential, 2 in concurrent -c 2";
    assert!(done.stdout.contains(told), "{}", done.stdout);

    let markdown = job.read("compare.md");
    let lines: Vec<_> = markdown.lines().collect();
    assert!(lines[0].starts_with("| Mode | Wall (mean ± σ) |"), "{markdown}");
    assert!(lines[2].starts_with("| `sequential` |") && lines[3].starts_with("| `concurrent -c 2` |"));
    assert!(lines[..4].iter().all(|line| line.matches('|').count() == 9), "{markdown}");
    assert!(markdown.contains(told), "{markdown}");

    let steady = job_of("async def predict(question):\n    return question\n");
    let done = compare(&steady, &["--runs", "1"]).expect(0);
    assert!(done.stdout.contains("the answers were the same in every run"), "{}", done.stdout);
    let texts = |done: &Done| format!("{}{}", done.stdout, done.stderr).replace("\n  ", " ");
    assert!(texts(&done).contains(": give it more rows"), "{}", texts(&done));
}

#[test]
fn a_first_run_that_answered_no_row_is_none_to_hold_the_others_against() {
    // 3 calls warm up; later answers are all different.
    let job = Job::new().questions(6).predictor(
        "
asked = 0
async def predict(question):
    global asked
    asked += 1
    if 3 < asked <= 9:
        raise ValueError('odd')
    return f'{question} {asked}'
",
    );
    let done = compare(&job, &["--runs", "2", "-c", "3", "--max-failures", "100%"]).expect(3);
    let exported = exported(&job);
    let modes = exported["modes"].as_array().unwrap();
    assert!(modes.iter().all(|mode| mode["different"] == 0), "{exported}");
    let text = done.stdout.replace("\n  ", " ");
    assert!(text.contains("the first run of sequential answered no row"), "{text}");
}

fn job_of(predictor: &str) -> Job {
    Job::new().questions(12).predictor(predictor)
}

#[test]
fn a_cache_within_the_predictor_is_found_out() {
    let job = job_of(
        "
known = {}
async def predict(question):
    if question not in known:
        await asyncio.sleep(0.03)
        known[question] = question
    return known[question]
",
    );
    compare(&job, &["--runs", "2", "-c", "4"]).expect(0);
    assert_eq!(warnings(&job, "cached").len(), 1);
}

#[test]
fn a_mode_that_a_rate_held_back_is_told_so() {
    let job = job_of("async def predict(question):\n    return question\n");
    compare(&job, &["--runs", "1", "--rpm", "1200"]).expect(0);
    let limited = warnings(&job, "limited");
    assert!(limited.iter().any(|warning| warning["by"] == "rpm"), "{limited:?}");
}

#[test]
fn a_pool_smaller_than_the_concurrency_is_found_out() {
    let job = job_of(
        "
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
async def predict(question):
    await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 0.05)
    return question
",
    );
    compare(&job, &["--runs", "1", "-c", "6"]).expect(0);
    let slower = warnings(&job, "slower_calls");
    assert!(slower.len() == 1 && slower[0]["times"].as_f64().unwrap() > 1.5, "{slower:?}");
}

#[test]
fn processor_time_is_measured_for_each_run() {
    let job = job_of(
        "
async def predict(question):
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    return question
",
    );
    compare(&job, &["--runs", "2", "-c", "4"]).expect(0);
    for mode in exported(&job)["modes"].as_array().unwrap() {
        for run in mode["runs"].as_array().unwrap() {
            let cpu = run["cpu_s"].as_f64().unwrap();
            assert!((0.2..1.0).contains(&cpu), "12 rows of 20 ms: {run}");
        }
    }
}

#[test]
fn a_long_comparison_is_announced_and_leaves_nothing_behind_however_it_ends() {
    for signal in [Signal::KILL, Signal::INT] {
        let job = Job::new().questions(2_000).predictor(
            "async def predict(question):\n    called(question)\n    await asyncio.sleep(0.05)\n    return question\n",
        );
        fs::create_dir(job.path("temporary")).unwrap();
        let temporary = job.path("temporary");
        let job = job.env("TMPDIR", temporary.to_str().unwrap());
        let mut running = job.spawn(&["compare", "questions.csv", "--predictor", "predictor.py:predict"]);
        running.wait_for(".stderr", "3 runs of 2,000 rows in 2 modes; `-n` picks fewer rows", 1);
        // 16 warm up; then it is in its first run.
        running.wait_for_calls(20);
        running.signal(signal);
        let done = running.wait();
        assert_eq!(done.code, if signal == Signal::KILL { -9 } else { 130 }, "{}", done.stderr);
        let left: Vec<_> =
            fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn the_deadline_bounds_all_runs_together() {
    // A run of each mode alone would be over in time.
    let job = job();
    compare(&job, &["--runs", "8", "-c", "4", "--deadline", "2s"]).expect(5).says("the deadline has passed");
    let exported = exported(&job);
    assert_eq!(exported["stopped"]["reason"], "the deadline has passed");
    assert!(job.calls().len() < 4 + 12 * 16, "{exported}");
}

#[test]
fn a_dry_run_estimates_all_runs_and_the_warm_up() {
    let job = job();
    compare(&job, &["--runs", "2", "-c", "4", "--dry-run"]).expect(0).says("estimate: 52 calls, ");
    assert_eq!(job.calls().len(), 0);
}

#[test]
fn a_file_that_cannot_be_written_does_not_cost_the_table() {
    let job = job_of(
        "async def predict(question):\n    if os.path.isdir('there'):\n        os.rmdir('there')\n    return question\n",
    );
    fs::create_dir(job.path("there")).unwrap();
    let done = compare(&job, &["--runs", "1", "--export-markdown", "there/compare.md"]).expect(1);
    done.says("failed to write `there/compare.md`").prints("times as fast as");
    assert_eq!(names(&job), ["sequential", "concurrent -c 16"]);
}

#[test]
fn the_table_keeps_to_the_width_of_its_terminal() {
    for columns in [40, 60, 80] {
        let terminal = Terminal::new(columns);
        let job = job().stdout_to(terminal.path().to_str().unwrap()).env("NO_COLOR", "1");
        compare(&job, &["--runs", "2", "-c", "128"]).expect(0);
        let text = terminal.text();
        assert!(text.contains("In flight") && text.contains("times as fast as"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= columns.into(), "{columns} columns: {line}\n{text}");
        }
        // A block a mode, or one table.
        let headed = text.lines().filter(|line| line.contains("Rows/s")).count();
        assert_eq!(headed, if columns < 80 { 2 } else { 1 }, "{columns} columns:\n{text}");
    }
}
