//! Disks that are full or cannot be written. A limit on file sizes stands for the full disk: it needs no mount, and
//! lifting it is the space that somebody frees.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::support::job::{Job, OLD_ANSWERS, Running};

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
        .says("hint: free some space; `")
        .says("resume answers.csv` then continues");
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
        .file("answers.csv", OLD_ANSWERS);
    let mut running = job.start();
    running.wait_for_calls(1);
    running.limit_files(Some(200_000));
    fs::write(job.path("go"), "").unwrap();
    running.wait().expect(1).says("answers.csv`: File too large").says("export answers.csv` writes them");
    assert_eq!(job.read("answers.csv"), OLD_ANSWERS);
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

/// One row of which four sessions in a row can record no outcome; each is ended by `end`.
fn four_sessions_without_room(grace: &str, end: impl Fn(Running)) -> Job {
    let job = Job::new().questions(1).predictor(HELD).args(["-c", "1", "--grace", grace]);
    for session in 0..4 {
        let mut running = if session == 0 { job.start() } else { job.spawn(&["resume", "answers.csv"]) };
        running.wait_for_calls(session + 1);
        let written = fs::metadata(job.path("answers.csv.journal")).unwrap().len();
        running.limit_files(Some(written + 10));
        fs::write(job.path("go"), "").unwrap();
        end(running);
        // As file systems do that know no rights (FAT, CIFS): nothing may hang on these.
        let mode = if session % 2 == 0 { 0o600 } else { 0o700 };
        fs::set_permissions(job.path("answers.csv.journal"), fs::Permissions::from_mode(mode)).unwrap();
        fs::remove_file(job.path("go")).unwrap();
    }
    fs::write(job.path("go"), "").unwrap();
    job
}

#[test]
fn a_row_whose_outcome_found_no_room_is_not_taken_for_one_that_crashes() {
    let job = four_sessions_without_room("200ms", |running| {
        running.wait().expect(1).says("waiting up to 200 ms for space");
    });
    job.resume().expect(0).says("may be billed twice (row 0)");
    assert_eq!((job.column("status"), job.calls().len()), (vec!["ok".to_owned()], 5));
}

#[test]
fn a_row_that_crashes_is_blamed_whatever_rights_the_file_system_shows() {
    let job = Job::new().questions(3).args(["-c", "1"]).predictor(
        "async def predict(question, row_id):
             called(row_id)
             if row_id == 1:
                 os.kill(os.getpid(), 9)
             return question",
    );
    // At the first death a row that waits is in flight too; after three alone the row is set aside.
    for session in 0..4 {
        let done = if session == 0 { job.process() } else { job.resume() };
        assert_eq!(done.code, -9, "{}", done.stderr);
        fs::set_permissions(job.path("answers.csv.journal"), fs::Permissions::from_mode(0o700)).unwrap();
    }
    job.resume().expect(3).says("row 1 was set aside: ");
    assert_eq!(job.calls().len(), 6, "{:?}", job.calls());
    assert_eq!(job.column("status"), ["ok", "failed", "ok"]);
}

#[test]
fn no_row_is_to_blame_for_a_kill_while_the_program_waits_for_space() {
    let job = four_sessions_without_room("30s", |mut running| {
        running.wait_for(".stderr", "for space on the disk", 1);
        running.signal(Signal::KILL);
        assert_eq!(running.wait().code, -9);
    });
    job.resume().expect(0).says("may be billed twice (row 0)");
    assert_eq!(job.column("status"), ["ok"]);
}

#[test]
fn no_row_is_to_blame_for_a_disk_that_cannot_sync() {
    let job = Job::new().questions(1).predictor(HELD).args(["-c", "1"]).disk_may_break();
    for session in 0..4 {
        let mut running = if session == 0 { job.start() } else { job.spawn(&["resume", "answers.csv"]) };
        running.wait_for_calls(session + 1);
        fs::write(job.path("broken"), "").unwrap();
        fs::write(job.path("go"), "").unwrap();
        running.wait().expect(1).says("failed to sync");
        fs::remove_file(job.path("broken")).unwrap();
        // Whether the outcome was written before the sync failed is a race that a broken disk is not asked to decide.
        let journal = job.read("answers.csv.journal");
        let before_outcome = journal.find("{\"outcome\"").map_or(&*journal, |at| &journal[..at - 9]);
        fs::write(job.path("answers.csv.journal"), before_outcome).unwrap();
        fs::remove_file(job.path("go")).unwrap();
    }
    fs::write(job.path("go"), "").unwrap();
    job.resume().expect(0);
    assert_eq!(job.column("status"), ["ok"]);
}

#[test]
fn a_first_signal_does_not_end_the_wait_for_space_and_a_second_does() {
    let (job, mut running) = nearly_full("30s");
    running.wait_for(".stderr", "for space on the disk", 1);
    running.signal(Signal::INT);
    running.wait_for(".stderr", "still waiting for space", 1);
    running.limit_files(None);
    running.wait().expect(1);
    let answered = job.column("status").iter().filter(|status| *status == "ok").count();
    assert_eq!(job.calls().len(), answered, "what was called is recorded");

    let (_job, mut running) = nearly_full("30s");
    running.wait_for(".stderr", "for space on the disk", 1);
    running.signal(Signal::INT);
    running.wait_for(".stderr", "still waiting for space", 1);
    running.signal(Signal::INT);
    let done = running.wait().expect(1);
    assert!(done.took.as_secs() < 20, "{:?}", done.took);
}
