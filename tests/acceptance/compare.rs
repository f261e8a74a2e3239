//! `compare`: which modes run, in which order, how often they call, and what is written. Not the statistics.

use super::support::job::{Done, Job};
use serde_json::Value;

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

fn compare(job: &Job, options: &[&str]) -> Done {
    let all =
        ["compare", "questions.csv", "--predictor", "predictor.py:predict", "--export-json", "compare.json"];
    job.run(&[&all, options].concat())
}

fn exported(job: &Job) -> Value {
    serde_json::from_str(&job.read("compare.json")).unwrap()
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

    // Sequential, concurrent, concurrent, sequential: by the most calls that ran at once in each run.
    let calls = job.calls();
    assert_eq!(calls.len(), 48);
    let most = |run: &[Value]| run.iter().filter_map(Value::as_u64).max().unwrap();
    assert_eq!(calls.chunks(12).map(most).collect::<Vec<_>>(), [1, 4, 4, 1]);

    let exported = exported(&job);
    let modes = &exported["modes"];
    for (mode, (name, concurrency)) in [("sequential", 1), ("concurrent -c 4", 4)].into_iter().enumerate() {
        let mode = &modes[mode];
        assert_eq!((&mode["name"], &mode["concurrency"]), (&name.into(), &concurrency.into()));
        assert_eq!((&mode["failed"], &mode["attempts"]), (&0.into(), &24.into()));
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
    assert!(exported["warnings"].as_array().unwrap().iter().any(|warning| warning["kind"] == "few_runs"));

    assert!(
        done.stdout.contains("Speedup (ideal)") && done.stdout.contains("times as fast as"),
        "{}",
        done.stdout
    );
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
    let done = compare(&job, &["--runs", "1"]).expect(3);
    let modes = &exported(&job)["modes"];
    assert_eq!((&modes[0]["failed"], &modes[1]["failed"]), (&1.into(), &1.into()));
    assert!(done.stdout.contains("had 1 failed row"), "{}", done.stdout);
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
