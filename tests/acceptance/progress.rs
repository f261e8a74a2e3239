//! What is said while a run goes on, and where: progress on standard error, the summary alone on standard output.

use super::support::job::Job;
use serde_json::Value;

/// 50 rows that take some 2.5 seconds.
fn slow() -> Job {
    Job::new().questions(50).args(["-c", "1"]).predictor(
        "async def predict(question):\n    called(question)\n    await asyncio.sleep(0.05)\n    return question\n",
    )
}

#[test]
fn without_a_terminal_progress_is_plain_lines() {
    let done = slow().process().expect(0);
    assert!(!done.stderr.contains(['\r', '\u{1b}']), "{:?}", done.stderr);
    let lines: Vec<_> = done.stderr.lines().filter(|line| line.contains("/50 rows, ")).collect();
    assert!(lines.len() >= 2, "{}", done.stderr);
    assert!(lines.last().unwrap().starts_with("50/50 rows, "), "{}", done.stderr);
    assert!(lines.iter().all(|line| line.contains(" rows/s")), "{}", done.stderr);
    assert!(!done.stdout.contains("/50 rows"), "{}", done.stdout);
}

#[test]
fn progress_for_programs_is_one_json_object_a_line() {
    let done = slow().args(["--progress", "json"]).process().expect(0);
    let lines: Vec<Value> =
        done.stderr.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert!(of("message").iter().any(|line| line["text"].as_str().unwrap().contains("50 rows")));
    let progress = of("progress");
    assert!(progress.len() >= 2, "{}", done.stderr);
    for pair in progress.windows(2) {
        assert!(pair[0]["ok"].as_u64() <= pair[1]["ok"].as_u64());
    }
    assert!(progress.iter().all(|line| line["total"] == 50 && line["in_flight"].as_u64() <= Some(1)));
    let last = lines.last().unwrap();
    assert_eq!((&last["type"], &last["ok"], &last["failed"]), (&"finish".into(), &50.into(), &0.into()));
}

#[test]
fn quiet_says_nothing_at_all_of_a_run_that_went_well() {
    let job = Job::new().questions(20).echo().args(["-q"]);
    let done = job.process().expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(job.column("answer"), job.column("question"));
    let done = job.run(&["process", "missing.csv"]).expect(1).says("missing.csv");
    assert_eq!(done.stdout, "");
}

#[test]
fn the_summary_alone_goes_to_standard_output() {
    let job = Job::new().questions(3).predictor(
        "
import ctypes, subprocess, sys
print('from the import')
async def predict(question):
    print('from print')
    sys.stdout.write('from sys.stdout\\n')
    sys.__stdout__.write('from sys.__stdout__\\n')
    os.write(1, b'from os.write\\n')
    subprocess.run(['echo', 'from a child'])
    ctypes.CDLL(None).puts(b'from the C library')
    return question
",
    );
    let done = job.process().expect(0);
    for printed in
        ["the import", "print", "sys.stdout", "sys.__stdout__", "os.write", "a child", "the C library"]
    {
        assert!(done.stderr.contains(&format!("from {printed}\n")), "no {printed} in {}", done.stderr);
    }
    assert!(!done.stdout.contains("from "), "{}", done.stdout);
    assert!(done.stdout.contains("Attempts"), "{}", done.stdout);
    assert!(job.column("answer") == job.column("question"));
}

#[test]
fn a_closed_standard_output_never_stops_a_run() {
    let job = Job::new().questions(20).stdout_closed().predictor(
        "async def predict(question):\n    called(question)\n    print(question)\n    os.write(1, b'x')\n    return question\n",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    assert!(job.path("answers.csv.report.json").exists());
    job.run(&["export", "answers.csv"]).expect(0);
    job.run(&["report", "answers.csv"]).expect(0);
}
