//! Workers that die, hang, are stopped or killed, and a program whose workers must not outlive it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::kill::{called, recorded};
use super::support::job::{Job, Running};

/// How long workers may live without the program.
const SOON: Duration = Duration::from_secs(1);
const CALLS: usize = 8;

/// A job on two workers, where no retry of its own is allowed: what is lost with a worker uses up none.
fn job(rows: usize, code: &str) -> Job {
    let job = Job::new().questions(rows).predictor(code).env("TAB_STUCK_AFTER", "500ms");
    job.args(["--workers", "2", "-c", &CALLS.to_string(), "--retries", "0", "--timeout", "1s"])
}

/// The processes that run in the job's directory: the program, its workers and what they have started.
pub(super) fn processes(job: &Job) -> BTreeSet<i32> {
    let directory = fs::canonicalize(job.path(".")).unwrap();
    let all = Path::new("/proc")
        .read_dir()
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|process: &i32| {
        fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|cwd| cwd == directory)
    })
    .collect()
}

/// The workers of the program.
fn workers(job: &Job, running: &Running) -> Vec<i32> {
    let mut all = processes(job);
    all.remove(&(running.pid().cast_signed()));
    all.into_iter().collect()
}

/// Checks that no process is left, soon.
#[track_caller]
pub(super) fn none_is_left(job: &Job) {
    let since = Instant::now();
    while !processes(job).is_empty() {
        assert!(since.elapsed() < SOON, "processes {:?} are left", processes(job));
        sleep(Duration::from_millis(5));
    }
}

pub(super) fn send(process: i32, signal: Signal) {
    // It may have died meanwhile.
    let _ = kill_process(Pid::from_raw(process).unwrap(), signal);
}

/// How many rows failed with each class.
pub(super) fn failures(job: &Job) -> BTreeMap<String, u64> {
    let report = job.report();
    let classes = report["attempts"]["by_error"].as_object().unwrap().iter();
    classes
        .map(|(class, count)| (class.clone(), count.as_u64().unwrap()))
        .filter(|(class, _)| class != "lost")
        .collect()
}

/// Checks that exactly these rows have no answer.
#[track_caller]
pub(super) fn are_answered_but(job: &Job, failed: &[usize]) {
    let answers = job.answers();
    let not: Vec<_> = (0..answers.len()).filter(|row| answers[*row]["status"] != "ok").collect();
    assert_eq!(not, failed);
    for record in answers.iter().filter(|record| record["status"] == "ok") {
        assert!(record["answer"].starts_with(&record["question"]), "{record:?}");
    }
}

/// Notes row and process of each call, and answers with the process.
const MARKED: &str = "
async def predict(question, row_id):
    called([row_id, os.getpid()])
    await asyncio.sleep(0.01)
    return f'{question} {os.getpid()}'
";

#[test]
fn each_row_is_answered_once_though_a_random_worker_is_killed_a_hundred_times() {
    const ROWS: usize = 2_000;
    const KILLS: usize = 100;
    let job = job(ROWS, MARKED);
    let mut running = job.start();
    let mut killed = BTreeSet::new();
    while killed.len() < KILLS {
        running.wait_for_calls((killed.len() + 1) * (ROWS - 200) / KILLS);
        let alive = workers(&job, &running);
        if let Some(victim) = fastrand::choice(alive) {
            send(victim, Signal::KILL);
            killed.insert(victim);
        }
    }
    let done = running.wait();
    let mut calls = job.calls();
    if done.code != 0 {
        // A row that happened to be alone in its worker at three kills.
        done.expect(3);
        assert_eq!(failures(&job).into_keys().collect::<Vec<_>>(), ["crash"]);
        job.resume_with(&["--only", "failed"]).expect(0);
        calls = job.calls();
    }
    are_answered_but(&job, &[]);
    assert_eq!(job.answers().len(), ROWS);
    job.run_alone(&["verify", "questions.csv", "answers.csv"]).expect(0);
    // Each other call was in flight in a worker when that was killed.
    let by: Vec<_> = job
        .column("answer")
        .iter()
        .map(|answer| answer.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
        .collect();
    let mut lost = BTreeMap::<i64, usize>::new();
    let mut given = BTreeSet::new();
    for call in &calls {
        let (row, process) = (call[0].as_u64().unwrap() as usize, call[1].as_i64().unwrap());
        if by[row] != process || !given.insert(row) {
            *lost.entry(process).or_default() += 1;
        }
    }
    assert_eq!(given.len(), ROWS);
    for (process, calls) in lost {
        assert!(
            killed.contains(&(process as i32)),
            "{calls} calls of {process}, which lived, were made again"
        );
        assert!(calls <= CALLS, "{calls} calls were in flight in {process}");
    }
    none_is_left(&job);
}

#[test]
fn two_rows_that_segfault_and_one_that_spins_cost_only_themselves() {
    let job = job(
        300,
        "
import ctypes
def ask(row_id):
    while row_id == 120:
        pass
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.01)
    if row_id in (50, 200):
        ctypes.string_at(0)
    ask(row_id)
    return question
",
    );
    job.process().expect(3);
    are_answered_but(&job, &[50, 120, 200]);
    let expected = [("blocked".to_owned(), 1), ("crash".to_owned(), 2)];
    assert_eq!(failures(&job), BTreeMap::from(expected));
    let report = job.run_alone(&["report", "answers.csv", "--failures"]).expect(0);
    report
        .prints("the worker crashed 2 times while this row alone was in flight: it died (SIGSEGV), then died (SIGSEGV)")
        .prints("Stack (most recent call last):")
        .prints("in predict\n      ask(row_id)\n")
        .prints("in ask\n      while row_id == 120:\n")
        .prints("hint: allow more time with `--timeout`");
    let calls = job.calls();
    let times = |row: usize| calls.iter().filter(|call| **call == row).count();
    assert_eq!(times(120), 1, "a row that is seen to block is not called again");
    // It may have been alone in its worker by chance.
    assert!([50, 200].into_iter().all(|row| (2..=3).contains(&times(row))));
    assert!(
        (0..300).all(|row| times(row) <= 4),
        "the others were called again for each worker that died at most"
    );
    none_is_left(&job);
    // What was set aside stays so.
    job.resume().expect(3);
    assert_eq!(job.calls()[calls.len()..], [120]);
}

/// A row that ends its worker at its first call, while others are in flight. Each call notes its beginning and its end.
const FALLING: &str = "
import ctypes
async def predict(question, row_id):
    called([row_id, 1, time.monotonic()])
    if row_id == 3 and not os.path.exists('fallen'):
        await asyncio.sleep(0.1)
        open('fallen', 'w').close()
        ctypes.string_at(0)
    await asyncio.sleep(0.4)
    called([row_id, -1, time.monotonic()])
    return question
";

#[test]
fn the_others_go_on_at_full_width_while_suspects_are_called_alone() {
    let job = job(60, FALLING);
    job.process().expect(0);
    are_answered_but(&job, &[]);
    let row = |call: &serde_json::Value| call[0].as_u64().unwrap();
    let calls = job.calls();
    // Those that were in flight in the worker that died were called twice.
    let begun = |of: u64| calls.iter().filter(|call| row(call) == of && call[1] == 1).count();
    let suspects: BTreeSet<u64> = (0..60).filter(|row| begun(*row) > 1).collect();
    assert!(suspects.len() > 2, "{suspects:?}");
    let mut events: Vec<_> = calls.iter().map(|call| (call[2].as_f64().unwrap(), call)).collect();
    events.sort_by(|one, other| one.0.total_cmp(&other.0));
    // How many others were in flight, on average, from the first turn of a suspect to the third.
    let mut called = BTreeSet::new();
    let (mut others, mut turns, mut last) = (0.0, Vec::new(), 0.0);
    let mut sum = 0.0;
    for (at, call) in events {
        if (1..3).contains(&turns.len()) {
            sum += others * (at - last);
        }
        last = at;
        let is_first = call[1] == 1 && called.insert(row(call));
        if !suspects.contains(&row(call)) {
            others += call[1].as_f64().unwrap();
        } else if call[1] == 1 && !is_first {
            turns.push(at);
        }
    }
    let mean = sum / (turns[2] - turns[0]);
    assert!(mean > CALLS as f64 - 2.0, "{mean} others were in flight beside suspects {suspects:?}");
    none_is_left(&job);
}

#[test]
fn suspects_that_wait_for_their_turn_are_not_called_once_the_run_is_stopping() {
    let job = job(60, FALLING).args(["--workers", "1"]);
    let mut running = job.start();
    // The worker has died, and some of its rows have had their turn.
    running.wait_for("calls", "[", 2 * CALLS + 2);
    running.signal(Signal::INT);
    sleep(Duration::from_millis(150));
    let begun = |job: &Job| job.calls().iter().filter(|call| call[1] == 1).count();
    let before = begun(&job);
    running.wait().expect(130);
    assert_eq!(begun(&job), before, "calls were begun after the signal");
    job.resume().expect(0);
    are_answered_but(&job, &[]);
}

#[test]
fn an_answer_that_was_sent_before_its_worker_died_is_kept() {
    let job = job(
        CALLS,
        "
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.5)
    return question
",
    );
    let mut running = job.start();
    running.wait_for_calls(CALLS);
    let workers = workers(&job, &running);
    running.signal(Signal::STOP);
    sleep(Duration::from_secs(1));
    for worker in workers {
        send(worker, Signal::KILL);
    }
    running.signal(Signal::CONT);
    running.wait().expect(0);
    are_answered_but(&job, &[]);
    assert_eq!(job.calls().len(), CALLS, "a row was called again though its answer had been sent");
}

#[test]
fn a_row_that_blocks_in_a_task_of_its_own_fails_with_the_masked_stack_that_it_had_at_the_end() {
    let job = job(
        40,
        "
def parse():
    time.sleep(1.2)
def train():
    while True: pass  # planted-secret-value
async def work():
    parse()
    train()
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.01)
    if row_id == 20:
        await asyncio.gather(work())
    return question
",
    );
    // Time for a second look.
    let job = job.env("TAB_STUCK_AFTER", "2s").env("MY_KEY", "planted-secret-value");
    job.process().expect(3);
    are_answered_but(&job, &[20]);
    assert_eq!(failures(&job), BTreeMap::from([("blocked".to_owned(), 1)]));
    let report = job.run_alone(&["report", "answers.csv", "--failures"]).expect(0);
    let report =
        report.prints("in work\n      train()\n").prints("in train\n      while True: pass  # ***\n");
    assert!(!report.stdout.contains("in parse"), "{}", report.stdout);
    assert!(!job.read("answers.csv.journal").contains("planted-secret-value"));
}

#[test]
fn a_row_whose_c_code_keeps_the_interpreters_lock_is_found_by_calling_each_alone() {
    let job = job(
        40,
        "
import re
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.01)
    if row_id == 20:
        re.match('(a|aa)+$', 'a' * 100 + 'b')
    return question
",
    );
    job.process().expect(3);
    are_answered_but(&job, &[20]);
    assert_eq!(failures(&job), BTreeMap::from([("blocked".to_owned(), 1)]));
}

#[test]
fn a_worker_that_is_stopped_is_killed_and_its_rows_are_called_elsewhere() {
    let job = job(200, MARKED);
    let mut running = job.start();
    running.wait_for_calls(40);
    let stopped = workers(&job, &running)[0];
    send(stopped, Signal::STOP);
    running.wait().expect(0);
    are_answered_but(&job, &[]);
    assert!(job.calls().len() <= 200 + CALLS);
    assert!(job.column("answer").iter().any(|answer| !answer.ends_with(&stopped.to_string())));
    none_is_left(&job);
}

#[test]
fn workers_that_flood_standard_error_hold_up_nothing() {
    let job = job(
        100,
        "
import sys
async def predict(question):
    for _ in range(10):
        print('x' * 20_000, file=sys.stderr)
        os.write(2, b'y' * 20_000 + b'\\n')
    return question
",
    );
    let done = job.process().expect(0);
    are_answered_but(&job, &[]);
    assert_eq!(done.stderr.matches('x').count() / 20_000, 1_000);
}

#[test]
fn what_ends_its_worker_is_set_aside_and_an_exit_of_a_thread_is_an_ordinary_failure() {
    let code = "
import sys, threading
def predict(question, row_id):
    called(row_id)
    if row_id == 3:
        os._exit(3)
    if row_id == 5:
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()
    if row_id == 7:
        sys.exit('enough')
    if row_id == 9:
        if os.fork() == 0:
            # It holds the worker's end of the connection.
            time.sleep(1000)
        os.kill(os.getpid(), 6)
    time.sleep(0.01)
    return question
";
    let job = job(40, code);
    job.process().expect(3);
    are_answered_but(&job, &[3, 7, 9]);
    let failures = job.run_alone(&["report", "answers.csv", "--failures"]).expect(0);
    failures
        .prints("it exited (code 3), then exited (code 3)")
        .prints("it died (SIGABRT), then died (SIGABRT)");
    none_is_left(&job);
}

/// Lets the program open no files beyond those that it has, or any number.
fn limit_open_files(running: &Running, is_limited: bool) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = if is_limited { Some(3) } else { maximum };
    let pid = Pid::from_raw(running.pid().cast_signed());
    prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn a_program_that_can_open_no_files_waits_for_its_workers_until_it_can() {
    let job = job(200, MARKED);
    let mut running = job.start();
    running.wait_for_calls(40);
    limit_open_files(&running, true);
    for worker in workers(&job, &running) {
        send(worker, Signal::KILL);
    }
    running.wait_for(".stderr", "cannot be started yet", 2);
    limit_open_files(&running, false);
    running.wait().expect(0).says("lower `--workers`");
    are_answered_but(&job, &[]);
    assert!(job.calls().len() <= 200 + CALLS);
}

#[test]
fn a_predictor_that_loads_no_more_ends_the_run_which_can_be_resumed() {
    let code = "
if os.path.exists('broken'):
    raise ValueError('it is broken')
async def predict(question):
    called(question)
    await asyncio.sleep(0.01)
    return question
";
    let job = job(200, code);
    let mut running = job.start();
    running.wait_for_calls(40);
    fs::write(job.path("broken"), "").unwrap();
    for worker in workers(&job, &running) {
        send(worker, Signal::KILL);
    }
    running.wait().expect(1).says("it is broken");
    none_is_left(&job);
    fs::remove_file(job.path("broken")).unwrap();
    job.resume().expect(0);
    are_answered_but(&job, &[]);
}

#[test]
fn nothing_recorded_is_asked_again_and_no_worker_is_left_however_often_the_program_is_killed() {
    const ROWS: usize = 600;
    let job = job(
        ROWS,
        "
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.02)
    return question
",
    );
    for kill in 0..20 {
        let (before, _) = recorded(&job);
        let calls_before = called(&job).len();
        let mut running = if kill == 0 { job.start() } else { job.spawn(&["resume", "answers.csv"]) };
        running.wait_for_calls(calls_before + fastrand::usize(1..25));
        running.signal(Signal::KILL);
        assert_eq!(running.wait().code, -9);
        none_is_left(&job);
        let (after, _) = recorded(&job);
        let calls = &called(&job)[calls_before..];
        let again: Vec<_> = calls.iter().filter(|row| before.contains(row)).collect();
        assert!(again.is_empty(), "answered rows {again:?} were asked again");
        assert!(before.is_subset(&after), "answers were lost");
        let unrecorded: BTreeSet<_> = calls.iter().filter(|row| !after.contains(row)).collect();
        assert!(
            unrecorded.len() <= super::kill::MOST_UNRECORDED,
            "{} calls are unrecorded",
            unrecorded.len()
        );
    }
    job.resume().expect(0);
    are_answered_but(&job, &[]);
    none_is_left(&job);
}

#[test]
fn workers_end_with_a_killed_program_also_while_python_is_in_c_and_has_children() {
    let job = job(
        4,
        "
import re, subprocess
async def predict(question, row_id):
    subprocess.Popen(['sleep', '1000'])
    called(row_id)
    re.match('(a|aa)+$', 'a' * 100 + 'b')
",
    );
    let mut running = job.start();
    running.wait_for_calls(2);
    assert!(processes(&job).len() >= 5, "the program, two workers, and their children");
    // One of them is stopped, as by Ctrl-Z.
    send(workers(&job, &running)[0], Signal::STOP);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    none_is_left(&job);
}

#[test]
fn a_worker_whose_connection_ends_while_it_lives_is_killed_and_its_rows_are_called_elsewhere() {
    let job = job(
        60,
        "
import socket, struct
async def predict(question, row_id):
    called([row_id, os.getpid()])
    if row_id == 20 and not os.path.exists('cut'):
        open('cut', 'w').close()
        for name in os.listdir('/proc/self/fd'):
            try:
                one = socket.socket(fileno=os.dup(int(name)))
                peer, _, _ = struct.unpack('3i', one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if peer == os.getppid():
                    # It is half closed, so that the worker hears the program and does not end by itself.
                    one.shutdown(socket.SHUT_WR)
            except OSError:
                pass
    await asyncio.sleep(0.05)
    return question
",
    );
    let done = job.process().expect(0);
    are_answered_but(&job, &[]);
    let report = job.report();
    let deaths: u64 =
        report["workers"].as_array().unwrap().iter().map(|worker| worker["deaths"].as_u64().unwrap()).sum();
    assert_eq!(deaths, 1, "{}", done.stderr);
    let lost = report["attempts"]["by_error"]["lost"].as_u64().unwrap();
    assert!((1..=CALLS as u64).contains(&lost), "{lost} calls were lost");
    let journal = job.read("answers.csv.journal");
    assert!(journal.contains("was ended, for its connection was gone"), "no call was told why");
    assert!(job.calls().len() <= 60 + CALLS);
    none_is_left(&job);
}

#[test]
fn the_line_that_a_worker_has_begun_before_it_died_is_shown() {
    let job = job(
        20,
        "
import sys
async def predict(question, row_id):
    if row_id == 3:
        print('its last words', end='', flush=True)
        os._exit(3)
    print('a whole line', file=sys.stderr)
    await asyncio.sleep(0.01)
    return question
",
    );
    let done = job.process().expect(3);
    are_answered_but(&job, &[3]);
    let printed = |text: &str| done.stderr.lines().filter(|line| *line == text).count();
    assert!(printed("its last words") >= 2, "{}", done.stderr);
    assert!(printed("a whole line") >= 19, "{}", done.stderr);
}
