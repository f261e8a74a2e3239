//! Disks that do not answer, as a file server that is gone: a signal ends the run all the same.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::job::{Job, Running, called};

const HELD: &str = r#"
async def predict(question):
    called(question)
    while not os.path.exists("go"):
        await asyncio.sleep(0.005)
    return question
"#;

/// A job whose first calls are answered and whose disk does not take the answers.
fn hanging(syncs: bool, grace: &str, options: &[&str]) -> (Job, Running) {
    let job = Job::new().questions(50).predictor(HELD).args(["-c", "4", "--grace", grace]);
    let job = job.args(options.iter().copied()).disk_may_hang(syncs);
    let mut running = job.start();
    running.wait_for_calls(4);
    fs::write(job.path("hang"), "").unwrap();
    fs::write(job.path("go"), "").unwrap();
    let since = Instant::now();
    while !job.path("hang.met").exists() {
        assert!(running.is_running() && since.elapsed() < Duration::from_secs(60), "nothing hangs");
        sleep(Duration::from_millis(2));
    }
    (job, running)
}

/// The run ends by the signal within so long, and `resume` goes on.
fn ends(job: &Job, running: Running, within: Duration) {
    let signalled = Instant::now();
    let done = running.wait().expect(130);
    assert!(signalled.elapsed() < within, "it took {:?}", signalled.elapsed());
    let resume = format!("`{} resume answers.csv` goes on", called().display());
    let done = done.says("the disk does not answer, or a long journal is still being read").says(&resume);
    if done.stderr.starts_with('{') {
        let lines: Vec<serde_json::Value> =
            done.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = lines.last().unwrap();
        assert_eq!((&last["type"], &last["exit_code"]), (&"finish".into(), &130.into()), "{last}");
        assert_eq!(last["journal"], "answers.csv.journal");
    }
    let calls = job.calls().len();
    assert!((4..=50).contains(&calls) && !job.path("answers.csv").exists());
    fs::remove_file(job.path("hang")).unwrap();
    job.resume().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_first_signal_ends_a_run_whose_write_hangs_once_the_grace_has_passed() {
    let (job, running) = hanging(false, "1s", &[]);
    assert!(job.calls().len() < 50, "rows were still open");
    running.signal(Signal::INT);
    ends(&job, running, Duration::from_secs(10));
}

#[test]
fn a_second_signal_ends_a_run_whose_write_hangs_at_once() {
    let (job, running) = hanging(false, "60s", &["--progress", "json"]);
    assert!(job.calls().len() < 50, "rows were still open");
    running.signal(Signal::INT);
    sleep(Duration::from_millis(300));
    running.signal(Signal::INT);
    ends(&job, running, Duration::from_secs(10));
}

#[test]
fn signals_end_a_run_whose_sync_hangs() {
    let (job, mut running) = hanging(true, "60s", &[]);
    running.wait_for_calls(50);
    running.signal(Signal::INT);
    sleep(Duration::from_millis(300));
    running.signal(Signal::INT);
    ends(&job, running, Duration::from_secs(10));
}
