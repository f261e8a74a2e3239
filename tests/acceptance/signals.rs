//! Signals at every stage of a run: which calls may finish, what is written, and the exit code.

use std::time::{Duration, Instant};

use super::support::job::{Job, OLD_ANSWERS, Running, called};
use rustix::process::Signal;

const AT_ONCE: Duration = Duration::from_millis(500);

/// Row 0 fails and is told to wait for ten minutes, which holds back no other (a 429 would); these wait for the file
/// `gate`.
const WAITS: &str = "
class Failed(Exception):
    status, retry_after = 500, 600

async def predict(question):
    called(question)
    if question == 'Question 0?':
        raise Failed
    while not os.path.exists('gate'):
        await asyncio.sleep(0.005)
    return question
";

/// 50 rows at `-c 4`: row 0 in backoff, rows 1 to 4 in flight.
fn under_way(job: &Job) -> Running {
    let mut running = job.start();
    running.wait_for_calls(5);
    running
}

fn ends_at_once(running: Running) -> super::support::job::Done {
    let signalled = Instant::now();
    let done = running.wait();
    assert!(signalled.elapsed() < AT_ONCE, "it took {:?}", signalled.elapsed());
    done
}

fn drains(signal: Signal, code: i32) {
    let job = Job::new().questions(50).predictor(WAITS).args(["-c", "4"]);
    let mut running = under_way(&job);
    running.signal(signal);
    running.wait_for(".stderr", "stopping: ", 1);
    std::fs::write(job.path("gate"), "").unwrap();
    let done = running.wait().expect(code);
    assert!(done.stdout.contains(&format!("{} resume answers.csv", called().display())), "{}", done.stdout);
    assert_eq!(job.calls().len(), 5, "no new calls");
    for (row, record) in job.answers().iter().enumerate() {
        let status = if (1..=4).contains(&row) { "ok" } else { "unfinished" };
        assert_eq!(record["status"], status, "row {row}");
    }
    assert_eq!(job.answers().len(), 50);
    assert_eq!(job.report()["rows"]["unfinished"], 46);
}

#[test]
fn sigint_lets_calls_in_flight_finish_and_writes_everything() {
    drains(Signal::INT, 130);
}

#[test]
fn sigterm_lets_calls_in_flight_finish_and_writes_everything() {
    drains(Signal::TERM, 143);
}

#[test]
fn sighup_lets_calls_in_flight_finish_and_writes_everything() {
    drains(Signal::HUP, 129);
}

#[test]
fn the_first_ctrl_c_says_what_is_waited_for_and_for_how_long() {
    let job = Job::new().questions(50).predictor(WAITS).args(["-c", "4"]);
    let mut running = under_way(&job);
    running.signal(Signal::INT);
    let text = "warning: stopping: waiting up to 20 s for 4 calls (Ctrl-C again to stop now)\n";
    running.wait_for(".stderr", text, 1);
    running.signal(Signal::INT);
    let done = ends_at_once(running).expect(130);
    let resume = format!("hint: `{} resume answers.csv` goes on\n", called().display());
    assert!(done.stderr.ends_with(&resume), "{}", done.stderr);
}

#[test]
fn sigusr1_tells_how_the_run_stands_in_one_line_and_ends_nothing() {
    let slow = "open('importing', 'w').write('yes')\nimport time\nwhile not os.path.exists('go'): time.sleep(0.005)\n";
    for json in [false, true] {
        let job =
            Job::new().questions(50).predictor(&format!("{slow}{FIVE_AT_ONCE}")).args(["-c", "4", "-q"]);
        let job = if json { job.args(["--progress", "json"]) } else { job };
        let mut running = job.start();
        running.wait_for("importing", "yes", 1);
        running.signal(Signal::USR1);
        running.wait_for(
            ".stderr",
            if json { r#""type":"status""# } else { "no call has been made yet\n" },
            1,
        );
        std::fs::write(job.path("go"), "").unwrap();
        running.wait_for_calls(9);
        // The fifth answer is in a snapshot a tick later.
        let told = if json { r#""ok":5,"# } else { "5/50 rows, 10 %, 0:" };
        let started = Instant::now();
        while !running.text(".stderr").contains(told) {
            assert!(started.elapsed() < Duration::from_secs(30), "{}", running.text(".stderr"));
            running.signal(Signal::USR1);
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::write(job.path("gate"), "").unwrap();
        running.wait().expect(0);
        assert_eq!(job.column("answer"), job.column("question"));
    }
}

#[test]
fn sigusr1_at_any_moment_ends_nothing() {
    let job = Job::new().questions(20_000);
    let process = ["process", "questions.csv", "-o", "answers.csv", "-c", "64", "--bridge", "fake:min=0ms"];
    let mut running = job.spawn(&process);
    // Before its own handler is there, while the loader is still at it, nobody's can be.
    running.wait_for(".stderr", "20,000 rows", 1);
    let mut asked = 0;
    while running.is_running() {
        running.signal(Signal::USR1);
        asked += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let done = running.wait().expect(0);
    assert!(asked > 20, "{asked}");
    assert!(done.stderr.contains("; the calls have ended\n"), "projecting takes its time: {}", done.stderr);
    assert_eq!(job.answers().len(), 20_000);
}

#[test]
fn calls_in_flight_are_cancelled_when_the_grace_has_passed() {
    let job = Job::new().questions(50).predictor(WAITS).args(["-c", "4", "--grace", "200ms"]);
    let running = under_way(&job);
    running.signal(Signal::INT);
    running.wait().expect(130).says("the grace period is over");
    assert!(job.column("status").iter().all(|status| status == "unfinished"));
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_the_old_answers_and_a_whole_journal() {
    let job = Job::new().questions(50).predictor(WAITS).args(["-c", "4"]);
    let first = under_way(&job);
    first.signal(Signal::INT);
    std::fs::write(job.path("gate"), "").unwrap();
    first.wait().expect(130);
    let (answers, report) = (job.read("answers.csv"), job.read("answers.csv.report.json"));
    std::fs::remove_file(job.path("gate")).unwrap();

    let mut second = job.spawn(&["resume", "answers.csv"]);
    second.wait_for_calls(10);
    second.signal(Signal::INT);
    second.wait_for(".stderr", "stopping: ", 1);
    second.signal(Signal::TERM);
    ends_at_once(second).expect(130);
    assert_eq!(job.read("answers.csv"), answers);
    assert_eq!(job.read("answers.csv.report.json"), report);

    // Row 0 answers too by now.
    let job = job.predictor("async def predict(question):\n    called(question)\n    return question\n");
    let done = job.resume().expect(0).says("4 rows answered before");
    assert!(!done.stderr.contains("torn") && !done.stderr.contains("damaged"), "{}", done.stderr);
    assert_eq!(job.column("answer"), job.column("question"));
}

/// Rows 0 to 4 are answered at once, the others when the file `gate` is there.
const FIVE_AT_ONCE: &str = "
async def predict(question, row_id):
    called(row_id)
    while row_id >= 5 and not os.path.exists('gate'):
        await asyncio.sleep(0.005)
    return question
";

/// Two signals one after the other: the code is the first one's, and no answer is lost or asked for again.
fn ends_at_the_second(signal: Signal, code: i32) {
    let job =
        Job::new().questions(50).predictor(FIVE_AT_ONCE).args(["-c", "4"]).file("answers.csv", OLD_ANSWERS);
    let mut running = job.start();
    // A slot is free only once the answer before is recorded: five are.
    running.wait_for_calls(9);
    running.signal(signal);
    running.wait_for(".stderr", "stopping: ", 1);
    running.signal(signal);
    let done = ends_at_once(running).expect(code).says("resume answers.csv` goes on");
    assert_eq!(done.stdout, "");
    assert_eq!(job.read("answers.csv"), OLD_ANSWERS);
    assert_eq!(job.files(), ["answers.csv", "answers.csv.journal", "predictor.py", "questions.csv"]);

    std::fs::write(job.path("gate"), "").unwrap();
    let done = job.resume().expect(0).says("5 rows answered before");
    assert!(!done.stderr.contains("torn") && !done.stderr.contains("damaged"), "{}", done.stderr);
    assert_eq!(job.column("answer"), job.column("question"));
    for row in 0..50 {
        let calls = job.calls().iter().filter(|call| **call == row).count();
        assert_eq!(calls, if (5..9).contains(&row) { 2 } else { 1 }, "row {row}");
    }
}

#[test]
fn a_second_sigint_ends_at_once() {
    ends_at_the_second(Signal::INT, 130);
}

#[test]
fn a_second_sigterm_ends_at_once() {
    ends_at_the_second(Signal::TERM, 143);
}

#[test]
fn a_second_sighup_ends_at_once() {
    ends_at_the_second(Signal::HUP, 129);
}

#[test]
fn a_job_stopped_for_longer_than_its_timeout_goes_on_as_if_nothing_had_been() {
    let job = Job::new().questions(20).predictor(FIVE_AT_ONCE).args(["-c", "4", "--timeout", "1500ms"]);
    let mut running = job.start();
    running.wait_for_calls(9);
    running.signal(Signal::TSTP);
    running.wait_until_stopped();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(job.calls().len(), 9, "four calls are in flight");
    running.signal(Signal::CONT);
    // Time enough for timeouts that have counted the stop, too little for those that have not.
    std::thread::sleep(Duration::from_millis(400));
    std::fs::write(job.path("gate"), "").unwrap();
    let done = running.wait().expect(0);
    assert!(!done.stderr.contains("blocked"), "{}", done.stderr);
    assert_eq!(job.calls().len(), 20, "no row was called twice");
    assert!(job.column("attempts").iter().all(|attempts| attempts == "1"));
    assert_eq!(job.report()["attempts"]["timeouts"], 0);
}

#[test]
fn a_signal_that_leaves_no_row_open_changes_nothing() {
    let job = Job::new().questions(3).args(["-c", "1"]).predictor(
        "
import signal
async def predict(question):
    called(question)
    if question == 'Question 2?':
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.1)
    return question
",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_signal_after_the_last_outcome_changes_nothing() {
    let job = Job::new().questions(3).predictor(
        "
import atexit
@atexit.register
def leave():
    called('leaving')
    time.sleep(0.3)
async def predict(question):
    called(question)
    return question
",
    );
    let mut running = job.start();
    running.wait_for_calls(4);
    running.signal(Signal::INT);
    running.wait().expect(0);
    assert!(job.column("status").iter().all(|status| status == "ok"));
}

#[test]
fn python_ends_in_order_also_where_the_job_is_refused_after_the_predictor_was_loaded() {
    let predictor = "
import atexit, pathlib
atexit.register(lambda: pathlib.Path('ended').write_text('in order'))
async def predict(question):
    return question
";
    let refused = |job: &Job, options: &[&str]| {
        job.process_with(options).expect(1);
        assert!(job.calls().is_empty());
        assert_eq!(job.read("ended"), "in order");
    };
    let job = Job::new().questions(3).predictor(predictor);
    refused(&job, &["--id-column", "nowhere"]);
    let failing = predictor.to_owned() + "raise RuntimeError('no key')\n";
    refused(&Job::new().questions(3).predictor(&failing), &[]);
}

/// Starts a job whose predictor takes long to import, interrupts it there; what is left in the directory.
fn interrupted_at_import(job: Job, input: &str) -> Vec<String> {
    let job = job.file("slow.py", "open('importing', 'w').write('yes')\nimport time\ntime.sleep(60)\n");
    let mut running = job.spawn(&[
        "process",
        input,
        "--format",
        "csv",
        "-o",
        "answers.csv",
        "--predictor",
        "slow.py:predict",
    ]);
    running.wait_for("importing", "yes", 1);
    running.signal(Signal::INT);
    ends_at_once(running).expect(130);
    let mut left: Vec<_> = std::fs::read_dir(job.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // The cache of what was imported is Python's own.
        .filter(|name| !name.starts_with('.') && name != "__pycache__")
        .collect();
    left.sort();
    left
}

#[test]
fn ctrl_c_during_start_up_ends_at_once_and_leaves_nothing() {
    let left = interrupted_at_import(Job::new().questions(3), "questions.csv");
    assert_eq!(left, ["importing", "questions.csv", "slow.py"]);
    let left = interrupted_at_import(Job::new().stdin("question\nWho?\n"), "-");
    assert_eq!(left, ["importing", "slow.py"]);
}
