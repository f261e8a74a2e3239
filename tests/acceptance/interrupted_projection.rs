//! Signals while files are read and written. The program is stopped there, so that they find it there.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::job::{Done, Job, OLD_ANSWERS, Running};

/// Records before the ten that are asked; the writing passes over them too.
const BEFORE: usize = 1_000_000;

/// Rows answered by a session before, which take the next one a second to recover.
const RECOVERED: usize = 200_000;

/// How `/proc` names a file that has no name yet, as the answers while they are written.
const UNNAMED: &str = "#";

const HELD: &str = "
async def predict(question):
    called(question)
    while not os.path.exists('go'):
        await asyncio.sleep(0.005)
    return question
";

/// Runs a job with an old answers file up to the middle of the writing of the new one, sends the signals one after the
/// other, and lets it go on.
fn signalled(signals: &[Signal]) -> (Job, Done) {
    let job = Job::new()
        .questions(BEFORE + 10)
        .predictor(HELD)
        .file("answers.csv", OLD_ANSWERS)
        .env("TAB_RANGE", &format!("{BEFORE}:"));
    let mut running = job.start();
    running.wait_for_calls(10);
    fs::write(job.path("go"), "").unwrap();
    let started = Instant::now();
    while !has_open(&running, UNNAMED) {
        assert!(running.is_running() && started.elapsed() < Duration::from_secs(20), "nothing is written");
    }
    running.signal(Signal::STOP);
    running.wait_until_stopped();
    assert!(has_open(&running, UNNAMED), "it was stopped too late");
    for signal in signals {
        running.signal(*signal);
    }
    running.signal(Signal::CONT);
    let done = running.wait();
    (job, done)
}

#[test]
fn one_signal_while_the_answers_are_written_changes_nothing() {
    let (job, done) = signalled(&[Signal::TERM]);
    let done = done.expect(0);
    assert!(done.stdout.starts_with("Answered 10 of 10 rows"), "{}", done.stdout);
    assert_eq!(job.column("answer"), job.column("question"));
    assert_eq!(job.answers().len(), 10);
}

#[test]
fn a_second_one_leaves_the_old_file_and_export_writes_the_new() {
    let (job, done) = signalled(&[Signal::TERM, Signal::INT]);
    let done = done.says("answers.csv` writes them");
    // Of two that come at once, either may be seen first.
    assert!([130, 143].contains(&done.code), "{}", done.code);
    assert_eq!(done.stdout, "");
    assert_eq!(job.read("answers.csv"), OLD_ANSWERS);
    let left = ["answers.csv", "answers.csv.journal", "go", "predictor.py", "questions.csv"];
    assert_eq!(job.files(), left, "nothing else is left behind");

    job.run(&["export", "answers.csv", "-o", "exported.csv"]).expect(0);
    let exported = job.records("exported.csv");
    assert!(exported.len() == 10 && exported.iter().all(|record| record["answer"] == record["question"]));
    job.resume().expect(0);
    assert_eq!(job.read("answers.csv"), job.read("exported.csv"));
    assert_eq!(job.calls().len(), 10, "no row was asked again");
}

/// Whether the program has a file open whose name begins so.
fn has_open(running: &Running, name: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{}/fd", running.pid())) else { return false };
    let paths = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    paths.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).any(|file| file.starts_with(name))
}

/// Runs a command until it has a file open, and stops it there. On a busy machine it may have closed the file by then,
/// and is run again.
fn stopped_with_open(job: &Job, command: &[&str], file: &str) -> Running {
    let stopped = (0..20).find_map(|_| {
        let _ = fs::remove_file(job.path("exported.csv"));
        let (mut running, started) = (job.spawn(command), Instant::now());
        while running.is_running() {
            assert!(started.elapsed() < Duration::from_secs(20), "{file} is not opened");
            if has_open(&running, file) {
                running.signal(Signal::STOP);
                running.wait_until_stopped();
                return (running.is_running() && has_open(&running, file)).then_some(running);
            }
        }
        None
    });
    stopped.unwrap_or_else(|| panic!("{file} is not open"))
}

/// Says when it has been loaded.
const LOADED: &str = "
open('loaded', 'w').close()
async def predict(question):
    called(question)
    return question
";

#[test]
fn a_signal_while_the_journal_is_recovered_ends_the_program_and_changes_nothing() {
    let job = Job::new().questions(RECOVERED + 10).predictor(LOADED).args(["--grace", "60s"]);
    let first = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    job.run(&[&first[..], &["-n", &RECOVERED.to_string()]].concat()).expect(0);
    let journal = fs::read(job.path("answers.csv.journal")).unwrap();
    fs::remove_file(job.path("loaded")).unwrap();
    let mut running = job.start();
    let started = Instant::now();
    while !(job.path("loaded").exists() && has_open(&running, "answers.csv.journal")) {
        assert!(started.elapsed() < Duration::from_secs(60), "the journal is not opened");
    }
    running.signal(Signal::STOP);
    running.wait_until_stopped();
    assert!(fs::read(job.path("answers.csv.journal")).unwrap() == journal, "it was stopped too late");
    running.signal(Signal::INT);
    running.signal(Signal::CONT);
    running.wait().expect(130);
    assert!(fs::read(job.path("answers.csv.journal")).unwrap() == journal, "a session has begun");
    job.process().expect(0);
    assert_eq!(job.calls().len(), RECOVERED + 10, "each row was asked once");
}

#[test]
fn a_signal_ends_export_and_verify_and_nothing_is_left_behind() {
    let job = Job::new().questions(BEFORE + 10).echo().env("TAB_RANGE", &format!("{BEFORE}:"));
    job.process().expect(0);
    let files = job.files();
    let export = ["export", "answers.csv", "-o", "exported.csv"];
    for (command, file) in
        [(&export[..], UNNAMED), (&["verify", "questions.csv", "answers.csv"], "questions.csv")]
    {
        let running = stopped_with_open(&job, command, file);
        running.signal(Signal::INT);
        running.signal(Signal::CONT);
        let done = running.wait().expect(130);
        assert_eq!((&*done.stdout, &*done.stderr), ("", ""));
        assert_eq!(job.files(), files);
    }
}
