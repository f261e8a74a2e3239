//! Disks that are full or cannot be written. A limit on file sizes stands for the full disk: it needs no mount, and
//! lifting it is the space that somebody frees.

use std::fs;

use super::support::job::{Job, Running};

const ROWS: usize = 200;
const CALLS: usize = 4;

/// Answers of 1 kB, none before the file `go` is there.
const HELD: &str = r#"
async def predict(question):
    called(question)
    while not os.path.exists("go"):
        await asyncio.sleep(0.005)
    return question + "x" * 1000
"#;

/// A job whose first calls are under way, on a disk with room for some 20 answers.
fn nearly_full(grace: &str) -> (Job, Running) {
    let job = Job::new().questions(ROWS).predictor(HELD);
    let concurrency = CALLS.to_string();
    let mut running = job.spawn(&[
        "process",
        "questions.csv",
        "-o",
        "answers.csv",
        "--predictor",
        "predictor.py:predict",
        "--grace",
        grace,
        "-c",
        &concurrency,
    ]);
    running.wait_for_calls(CALLS);
    let written = fs::metadata(job.path("answers.csv.journal")).unwrap().len();
    running.limit_files(Some(written + 30_000));
    fs::write(job.path("go"), "").unwrap();
    (job, running)
}

#[test]
fn a_full_disk_stops_the_calls_and_resume_goes_on_once_there_is_space() {
    let (job, running) = nearly_full("500ms");
    running
        .wait()
        .expect(1)
        .says("waiting up to 500 ms for space")
        .says("hint: free some space; `resume` then continues");
    let first = job.calls().len();
    assert!((20..ROWS / 2).contains(&first), "{first} calls");
    assert!(!job.path("answers.csv").exists());

    job.resume().expect(0);
    let again = job.calls().len() - ROWS;
    assert!(again <= 3 * CALLS, "{again} rows were asked again");
    assert!(job.column("status").iter().all(|status| status == "ok"));
}

#[test]
fn answers_kept_in_memory_are_recorded_when_space_is_freed() {
    let (job, mut running) = nearly_full("30s");
    running.wait_for(".stderr", "for space on the disk", 1);
    running.limit_files(None);
    running.wait().expect(1);
    let answered = job.column("status").iter().filter(|status| *status == "ok").count();
    assert_eq!(job.calls().len(), answered, "what was called is recorded");
    job.resume().expect(0);
    assert_eq!(job.calls().len(), ROWS, "no row was asked twice");
}

#[test]
fn answers_that_do_not_fit_leave_the_old_file_and_can_be_exported() {
    let padding = "p".repeat(10_000);
    let lines: String = (0..30).map(|row| format!("Question {row}?,{padding}\n")).collect();
    let job = Job::new()
        .file("questions.csv", format!("question,padding\n{lines}"))
        .predictor(HELD)
        .file("answers.csv", "old");
    let mut running = job.start();
    running.wait_for_calls(1);
    running.limit_files(Some(200_000));
    fs::write(job.path("go"), "").unwrap();
    running.wait().expect(1).says("answers.csv`: File too large").says("`export` writes them");
    assert_eq!(job.read("answers.csv"), "old");
    let mut names: Vec<_> = fs::read_dir(job.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.starts_with("answers") || name.starts_with(".tmp"));
    names.sort_unstable();
    assert_eq!(names, ["answers.csv", "answers.csv.journal"]);
    job.run(&["export", "answers.csv"]).expect(0);
    assert_eq!(job.answers().len(), 30);
    assert_eq!(job.calls().len(), 30);
}

#[test]
fn where_nothing_can_be_written_nothing_is_called() {
    let job = Job::new().questions(3).echo();
    for (output, text) in [
        ("/proc/answers.csv", "failed to write into `/proc`"),
        ("/dev/full", "`/dev/full` is no regular file"),
        ("missing/answers.csv", "failed to write into `missing`"),
        (".", "`.` is a directory"),
    ] {
        job.run(&["process", "questions.csv", "--predictor", "predictor.py:predict", "-o", output])
            .expect(1)
            .says(text);
    }
    assert_eq!(job.calls().len(), 0);
}

#[test]
fn a_summary_that_cannot_be_printed_is_an_error_after_everything_is_written() {
    let job = Job::new().questions(3).echo().stdout_to("/dev/full");
    job.process()
        .expect(1)
        .says("failed to write to standard output: No space left on device")
        .says("hint: the answers are in `answers.csv`");
    assert_eq!(job.column("answer"), job.column("question"));
    assert_eq!(job.report()["rows"]["ok"], 3);
}
