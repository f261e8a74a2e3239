//! What reports, summaries and pages tell of workers, and when workers are recommended. The workers are those of the fake
//! bridge, which has as many as asked for.

use rustix::process::Signal;
use serde_json::Value;

use super::support::browser::show;
use super::support::job::Job;

const RUN: [&str; 5] = ["process", "questions.csv", "-o", "answers.csv", "--bridge"];

fn sum(workers: &[Value], of: &str) -> u64 {
    workers.iter().map(|worker| worker[of].as_u64().unwrap()).sum()
}

#[test]
fn each_workers_calls_rows_and_deaths_are_in_the_report_the_summary_and_on_the_page() {
    let job = Job::new().questions(300);
    let done = job.run(&[&RUN[..], &["fake:seed=1,workers=3,lost=0.1"]].concat()).expect(0);
    let report = job.report();
    let workers = report["workers"].as_array().unwrap();
    assert_eq!((workers.len(), sum(workers, "rows")), (3, 300));
    assert_eq!(sum(workers, "calls"), report["attempts"]["total"]);
    assert_eq!(sum(workers, "deaths"), report["attempts"]["by_error"]["lost"]);
    let told = format!(" calls each, {} deaths\n", sum(workers, "deaths"));
    assert!(
        done.stdout.contains("\n  Workers        3 with ") && done.stdout.contains(&told),
        "{}",
        done.stdout
    );
    let again = job.run(&["report", "answers.csv"]).expect(0).stdout;
    assert!(again.contains(&told), "{again}");
    let shown = show(&job.path("answers.csv.report.html"));
    assert_eq!(shown.console, Vec::<String>::new());
    let third = ["rows", "calls", "deaths"].map(|of| format!("<td>{}</td>", workers[2][of])).concat();
    assert!(shown.dom.contains("<section id=\"workers\""), "no section");
    assert!(shown.dom.contains(&format!("<th scope=\"row\">3</th>{third}")), "no `{third}`");
    // The journal alone does not know what each did.
    std::fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    let rebuilt = job.run(&["report", "answers.csv"]).expect(0).stdout;
    assert!(rebuilt.contains("Answered 300 of 300 rows") && !rebuilt.contains("Workers"), "{rebuilt}");
}

#[test]
fn a_run_in_its_own_process_tells_of_no_workers() {
    let job = Job::new().questions(30);
    let done = job.run(&[&RUN[..], &["fake:seed=1"]].concat()).expect(0);
    assert!(!done.stdout.contains("Workers") && job.report().get("workers").is_none());
    assert!(!job.read("answers.csv.report.html").contains("id=\"workers\""));
}

/// What is said by the session after three in which the process was killed while one row was alone in flight.
fn after_three_kills(bridge: &str) -> String {
    let job = Job::new().questions(1);
    for session in 1..=3 {
        let mut running = job.spawn(&[&RUN[..], &[bridge]].concat());
        running.wait_for("answers.csv.journal", "{\"started\"", session);
        running.signal(Signal::KILL);
        running.wait();
    }
    let mut running = job.spawn(&[&RUN[..], &[bridge]].concat());
    running.wait_for(".stderr", "may be billed twice (row 0)", 1);
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    running.wait().stderr
}

#[test]
fn no_row_is_to_blame_for_the_death_of_a_process_whose_workers_made_the_calls() {
    let said = after_three_kills("fake:min=20s");
    assert!(said.contains("row 0 was set aside: "), "{said}");
    let said = after_three_kills("fake:min=20s,workers=2");
    assert!(!said.contains("set aside") && !said.contains("one at a time"), "{said}");
}

#[test]
fn workers_are_recommended_where_the_one_event_loop_uses_a_core_for_most_of_the_run() {
    // The predictor notes how much of a core the loop's thread got, for other programs may take their part.
    let job = Job::new().questions(60).predictor(
        "
from time import monotonic, thread_time
async def predict(question, row_id):
    called([monotonic(), thread_time()])
    for _ in range(8_000_000):
        pass
    await asyncio.sleep(0)
    return question
",
    );
    let done = job.process().expect(0);
    let calls = job.calls();
    let [first, last] = [&calls[0], &calls[59]].map(|call| [0, 1].map(|clock| call[clock].as_f64().unwrap()));
    let share = (last[1] - first[1]) / (last[0] - first[0]);
    let cores = std::thread::available_parallelism().unwrap();
    let hint = format!("hint: `--workers {cores}` makes the calls in {cores} processes");
    if cores.get() == 1 || share < 0.45 {
        assert!(!done.stderr.contains("--workers"), "{share}: {}", done.stderr);
    } else if share > 0.97 {
        assert!(done.stderr.contains(&hint), "{share}: {}", done.stderr);
    }
}

#[test]
fn a_comparison_tells_how_many_workers_made_its_calls() {
    let job = Job::new().questions(20);
    let compare = ["compare", "questions.csv", "-c", "4", "--runs", "1", "--export-json", "compared.json"];
    for (bridge, workers) in [("fake:min=1ms", None), ("fake:min=1ms,workers=2", Some(2))] {
        job.run(&[&compare[..], &["--bridge", bridge]].concat()).expect(0);
        let compared: Value = serde_json::from_str(&job.read("compared.json")).unwrap();
        assert_eq!(compared["modes"][0]["runs"][0]["workers"].as_u64(), workers, "{compared}");
    }
}
