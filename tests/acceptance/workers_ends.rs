//! How workers begin and end: what is printed last, Ctrl-C while they load, a machine that is full.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::support::job::Job;

#[test]
fn what_is_printed_at_the_end_is_shown_as_in_one_process() {
    let printing = "import atexit
atexit.register(lambda: print('ends', os.environ['MY_TOKEN']))
async def predict(question):
    print(question, end=';')
    return question";
    let failing = format!("print('begins', end=';')\n{printing}\nraise ValueError('no key')");
    for workers in ["0", "1"] {
        let job = Job::new().questions(3).args(["--workers", workers, "-c", "1"]);
        let job = job.env("MY_TOKEN", "tok-planted-0007").predictor(printing);
        job.process().expect(0).says("Question 0?;Question 1?;Question 2?;ends ***\n");
        job.predictor(&failing).process_with(&["--force"]).expect(1).says("begins;ends ***\n");
    }
}

#[test]
fn ctrl_c_while_workers_load_leaves_none() {
    let job = Job::new().questions(3).args(["--workers", "2"]);
    let job = job.predictor("called(os.getpid())\ntime.sleep(60)\nasync def predict(question): pass\n");
    let mut running = job.start();
    running.wait_for_calls(2);
    running.signal(Signal::INT);
    let begun = Instant::now();
    running.wait().expect(130);
    let lives = |pid: &Value| Path::new(&format!("/proc/{pid}")).exists();
    while job.calls().iter().any(lives) {
        assert!(begun.elapsed() < Duration::from_secs(2), "a worker is left");
    }
    assert_eq!(job.files(), ["predictor.py", "questions.csv"]);
}

#[test]
fn a_machine_that_is_full_before_the_start_is_told_with_the_remedy() {
    let job = Job::new().questions(3).echo();
    let script = "ulimit -n 32; \"$PROGRAM\" process questions.csv -o answers.csv --predictor predictor.py:predict --workers 16";
    job.bash(script)
        .expect(1)
        .says("error: failed to load the predictor")
        .says("hint: the machine allows no more processes, memory or open files: lower `--workers`");
    assert_eq!(job.files(), ["predictor.py", "questions.csv"]);
}
