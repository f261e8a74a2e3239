//! Predictors that misbehave at one row in twenty: the other rows are answered, whatever they do.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::support::job::{Done, Job, PLACES};

/// Rows of a job; every twentieth is hostile.
const ROWS: usize = 60;
const FEW: [&str; 6] = ["--timeout", "1s", "--retries", "0", "-c", "8"];

/// A job whose predictor does `misbehaviour` (lines of Python, which may `return`) at the hostile rows.
fn hostile(misbehaviour: &str) -> Job {
    hostile_among(ROWS, "", misbehaviour)
}

fn hostile_among(rows: usize, before: &str, misbehaviour: &str) -> Job {
    let body = format!("        {}\n", misbehaviour.trim().replace('\n', "\n        "));
    let code = format!(
        "{before}\nasync def predict(question):\n    called(question)\n    n = int(question.split()[1][:-1])\n    if n % 20 == 7:\n{body}    await asyncio.sleep(0.005)\n    return question\n"
    );
    Job::new().questions(rows).predictor(&code).args(FEW)
}

fn is_hostile(row: usize) -> bool {
    row % 20 == 7
}

/// Every other row is answered beside itself; returns the hostile ones' status and error.
#[track_caller]
fn others_are_answered(job: &Job) -> Vec<(String, String)> {
    let answers = job.answers();
    let (mut hostile, mut others) = (Vec::new(), 0);
    for (row, record) in answers.iter().enumerate() {
        if is_hostile(row) {
            hostile.push((record["status"].clone(), record["error"].clone()));
        } else {
            assert_eq!((record["status"].as_str(), &record["answer"]), ("ok", &record["question"]));
            others += 1;
        }
    }
    assert!(others > 0 && others == answers.len() - hostile.len());
    hostile
}

/// The hostile rows fail with an error that holds the text, the others are answered.
#[track_caller]
fn fails_with(misbehaviour: &str, text: &str) -> Done {
    let job = hostile(misbehaviour);
    let done = job.process().expect(3);
    for (status, error) in others_are_answered(&job) {
        assert_eq!(status, "failed");
        assert!(error.contains(text), "no `{text}` in `{error}`");
    }
    assert_eq!(job.calls().len(), ROWS);
    done
}

#[test]
fn one_that_raises_costs_its_own_rows_only() {
    fails_with("raise RuntimeError('out of tea')", "RuntimeError: out of tea");
}

#[test]
fn an_exception_that_cannot_be_printed_is_still_named() {
    let code = "class Mute(Exception):\n    def __str__(self): raise RuntimeError\n    __repr__ = __str__\nraise Mute";
    fails_with(code, "Mute: <its __str__ raised RuntimeError>");
}

#[test]
fn system_exit_ends_its_row_and_not_the_run() {
    fails_with("raise SystemExit(5)", "SystemExit: 5");
}

#[test]
fn keyboard_interrupt_ends_its_row_and_not_the_run() {
    fails_with("raise KeyboardInterrupt", "KeyboardInterrupt").says("row 7 failed: KeyboardInterrupt (");
}

#[test]
fn a_cancellation_that_nobody_asked_for_is_a_failure() {
    fails_with("raise asyncio.CancelledError('on its own')", "CancelledError: on its own");
    fails_with("asyncio.current_task().cancel(); await asyncio.sleep(5)", "CancelledError");
}

#[test]
fn values_that_are_no_answer_are_kept_as_their_repr() {
    fails_with("return object()", "<object object at");
    fails_with("return b'\\xff'", "b'\\xff'");
    fails_with("return {'x': object()}", "<object object at");
}

#[test]
fn a_lone_surrogate_is_paid_for_and_kept_escaped() {
    let job = hostile("return 'half \\ud83d a face'");
    job.process().expect(0);
    others_are_answered(&job);
    assert_eq!(job.answers()[7]["answer"], "half \\ud83d a face");
}

#[test]
fn one_that_ignores_cancellation_gives_its_slot_back_and_its_late_answer_is_dropped() {
    for workers in PLACES {
        let job = hostile(
        "end = time.monotonic() + 2.5\nwhile time.monotonic() < end:\n    try:\n        await asyncio.sleep(0.05)\n    except asyncio.CancelledError:\n        pass\nreturn 'late'",
    )
    .env("TAB_WORKERS", workers).args(["--timeout", "300ms", "-c", "4"]);
        job.process().expect(3);
        for (status, error) in others_are_answered(&job) {
            assert_eq!((status.as_str(), error.as_str()), ("failed", "timeout: no answer within 300ms"));
        }
        let report = job.report();
        assert_eq!(
            (&report["attempts"]["abandoned"], &report["attempts"]["timeouts"]),
            (&3.into(), &3.into())
        );
        assert!(!job.read("answers.csv.journal").contains(r#":"late""#));
    }
}

#[test]
fn an_abandoned_call_holds_its_slot_no_longer_than_a_tenth_of_a_second() {
    for workers in PLACES {
        // One slot: each row begins only once the one before has given it back.
        let job = Job::new().env("TAB_WORKERS", workers)
        .questions(4)
        .predictor(
            "async def predict(question):\n    called([question, time.monotonic()])\n    end = time.monotonic() + 3\n    while question[9] == '0' and time.monotonic() < end:\n        try:\n            await asyncio.sleep(0.01)\n        except asyncio.CancelledError:\n            pass\n    return question\n",
        )
        .args(["--sequential", "--timeout", "500ms", "--retries", "0"]);
        job.process().expect(3);
        let begun: Vec<f64> = job.calls().iter().map(|call| call[1].as_f64().unwrap()).collect();
        let waited = begun[1] - begun[0];
        assert!((0.5..0.65).contains(&waited), "the slot came back after {waited} s");
    }
}

#[test]
fn too_many_abandoned_calls_stop_the_run() {
    for workers in PLACES {
        let job = Job::new().env("TAB_WORKERS", workers)
        .questions(50)
        .predictor(
            "async def predict(question):\n    called(question)\n    while True:\n        try:\n            await asyncio.sleep(60)\n        except asyncio.CancelledError:\n            pass\n",
        )
        .args(["-c", "2", "--timeout", "200ms", "--retries", "0", "--max-failures", "100%"]);
        let done = job.process().expect(4).says("calls ignore their cancellation and are still running");
        assert!(done.took < Duration::from_secs(10), "{:?}", done.took);
        assert!(job.calls().len() <= 8, "{} calls were made", job.calls().len());
    }
}

#[test]
fn one_that_blocks_the_loop_is_named_with_its_line_and_charged_to_no_other_row() {
    for workers in PLACES {
        let job =
            hostile("if n == 47: time.sleep(2.5)").env("TAB_WORKERS", workers).args(["--timeout", "500ms"]);
        let done = job
            .process()
            .expect(0)
            .says("blocked by row 47 for 1.")
            .says("predictor.py:")
            .says("time.sleep(2.5)");
        assert_eq!(done.stderr.matches("event loop has been blocked").count(), 1, "{}", done.stderr);
        others_are_answered(&job);
        let report = job.report();
        assert_eq!(report["attempts"]["timeouts"], 0);
        let blocked = report["event_loop"]["blocked"].as_array().unwrap();
        assert_eq!((blocked.len(), &blocked[0]["row"]), (1, &47.into()));
        let ms = blocked[0]["ms"].as_f64().unwrap();
        assert!((2_400.0..4_000.0).contains(&ms), "{blocked:?}");
    }
}

#[test]
fn a_librarys_import_in_a_call_is_named_and_no_row_blamed_for_it() {
    let job = Job::new().questions(4).args(["-c", "4", "--timeout", "1s"]).predictor(
        "import importlib.abc, importlib.util, sys, sysconfig
class Library(importlib.abc.SourceLoader):
    def get_filename(self, name): return sysconfig.get_path('purelib') + '/slow_library.py'
    def get_data(self, path): return b'import time; time.sleep(2.5)'
class Finder:
    def find_spec(name, path, target=None):
        return importlib.util.spec_from_loader(name, Library()) if name == 'slow_library' else None
sys.meta_path.insert(0, Finder)
async def predict(question):
    called(question)
    import slow_library
    return question",
    );
    let done = job.process().expect(0).says("by the first import of `slow_library`");
    assert!(!done.stderr.contains("blocked by"), "{}", done.stderr);
    let report = job.report();
    let blocked = &report["event_loop"]["blocked"];
    let place = &blocked[0]["place"];
    assert!(blocked[0]["row"].is_null() && place == "the first import of `slow_library`", "{blocked}");
    assert_eq!(job.calls().len(), 4);
}

#[test]
fn the_watchdog_speaks_while_the_loop_is_blocked() {
    let job =
        hostile("if n == 7:\n    os.mkdir('blocked')\n    while not os.path.exists('go'): time.sleep(0.01)");
    let mut running = job.start();
    running.wait_for(".stderr", "blocked by row 7", 1);
    assert!(running.is_running() && job.path("blocked").exists());
    std::fs::write(job.path("go"), "").unwrap();
    running.wait().expect(0);
}

#[test]
fn code_that_holds_the_interpreters_lock_is_said_to_be_unseen() {
    // Backtracks for seconds in C without giving up the lock; ended here by the stuck loop.
    let job = hostile("import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')").args([
        "--timeout",
        "500ms",
        "--stuck-after",
        "1s",
    ]);
    let done = job.process().expect(1).says("code that holds the interpreter's lock").says("one of rows");
    assert!(done.took < Duration::from_secs(15), "{:?}", done.took);
    assert!(done.stdout.contains("resume answers.csv"), "{}", done.stdout);
}

#[test]
fn leaked_tasks_outlive_no_run() {
    let job = hostile("for _ in range(100): asyncio.ensure_future(asyncio.sleep(3600))");
    let done = job.process().expect(0);
    others_are_answered(&job);
    assert!(done.took < Duration::from_secs(8), "{:?}", done.took);
}

#[test]
fn threads_that_never_end_do_not_hold_up_the_exit() {
    let job =
        hostile("import threading\nthreading.Thread(target=time.sleep, args=(3600,), daemon=False).start()");
    let done = job.process().expect(0);
    others_are_answered(&job);
    assert!(done.took < Duration::from_secs(12), "{:?}", done.took);
}

#[test]
fn what_it_prints_stays_out_of_standard_output() {
    let job = hostile(
        "print('A' * 10_000)\nos.system('echo from a child')\nos.write(1, b'straight to the descriptor')",
    );
    let done = job.process().expect(0);
    others_are_answered(&job);
    assert!(done.stdout.starts_with("Answered 60 of 60 rows"), "{}", done.stdout);
    assert!(!done.stdout.contains("AAAA") && !done.stdout.contains("from a child"), "{}", done.stdout);
    assert!(!done.stdout.contains("straight to"), "{}", done.stdout);
}

#[test]
fn tampering_with_the_loop_stops_no_one_elses_call() {
    for tampering in [
        "asyncio.get_running_loop().stop()",
        "try: asyncio.get_running_loop().close()\nexcept RuntimeError: pass",
        "asyncio.get_running_loop().set_exception_handler(lambda *_: os._exit(9))",
        "import sys, threading\nthreading.Thread(target=sys.exit).start()",
        "import signal\ntry: signal.signal(signal.SIGINT, signal.SIG_DFL)\nexcept ValueError: pass",
        "import subprocess\nsubprocess.run(['true'], check=True)",
        "asyncio.set_event_loop(None)",
    ] {
        let job = hostile(tampering);
        job.process().expect(0);
        others_are_answered(&job);
    }
}

#[test]
fn one_that_changes_the_directory_moves_no_file_of_the_job() {
    let job = hostile("os.chdir('/')");
    job.process().expect(0);
    others_are_answered(&job);
    assert_eq!(job.report()["rows"]["ok"], ROWS);
    let job = hostile_among(ROWS, "os.chdir('/')", "pass");
    job.process().expect(0);
    others_are_answered(&job);
}

/// Resumes until the run comes to an end of its own; returns how often.
fn resume_to_the_end(job: &Job, crash: i32) -> usize {
    for resumes in 1..=20 {
        let done = job.resume();
        if job.path("answers.csv").exists() && done.code == 3 {
            return resumes;
        }
        assert_eq!(done.code, crash, "{}", done.stderr);
        let _ = std::fs::remove_file(job.path("answers.csv"));
    }
    panic!("20 times resumed without an end");
}

/// A predictor that the process does not survive: every other row is answered, and those are set aside only after
/// three crashes with them alone in flight.
fn killed_by(misbehaviour: &str, crash: i32) {
    let job = hostile_among(40, "", misbehaviour);
    let done = job.process();
    assert_eq!(done.code, crash, "{}", done.stderr);
    resume_to_the_end(&job, crash);
    for (status, error) in others_are_answered(&job) {
        assert_eq!(status, "failed");
        assert!(
            error.starts_with("crash: the run crashed 3 times while this row alone was in flight"),
            "{error}"
        );
    }
    let calls: Vec<String> = job.calls().iter().map(|call| call.as_str().unwrap().to_owned()).collect();
    for row in [7, 27] {
        let made = calls.iter().filter(|call| **call == format!("Question {row}?")).count();
        assert!((3..=5).contains(&made), "row {row} was called {made} times");
    }
    // Asked again, the rows set aside are left alone.
    job.resume().expect(3).says("2 rows were set aside (row 7, 27)");
    // There is no such interpreter.
    let done = job.process_with(&["--python", "/gone/python"]).expect(3);
    done.says("nothing to do: 38 rows answered in `answers.csv`, and 2 that failed stay as they are\n")
        .says(" resume answers.csv --only failed` calls those again, and `--force` starts anew\n");
    assert_eq!(job.calls().len(), calls.len());
    let questions: BTreeSet<&String> = calls.iter().collect();
    assert_eq!(questions.len(), 40);
}

#[test]
fn a_process_ended_with_code_0_is_no_success_and_its_rows_are_set_aside() {
    killed_by("os._exit(0)", 0);
}

#[test]
fn a_segfault_loses_no_answer_and_its_rows_are_set_aside() {
    killed_by("import ctypes\nctypes.string_at(0)", -11);
}

#[test]
fn a_loop_that_spins_for_ever_ends_the_run_and_its_rows_are_set_aside() {
    let job =
        hostile_among(20, "", "while True: pass").args(["--timeout", "300ms", "--stuck-after", "700ms"]);
    let done = job.process().expect(1).says("blocked by row 7 for 1.").says("while True: pass");
    assert!(done.stdout.contains("resume answers.csv"), "{}", done.stdout);
    assert!(done.took < Duration::from_secs(8), "{:?}", done.took);
    resume_to_the_end(&job, 1);
    let hostile = others_are_answered(&job);
    assert!(hostile.len() == 1 && hostile[0].1.starts_with("crash: "), "{hostile:?}");
}

#[test]
fn no_row_is_handed_to_a_loop_that_spins_and_the_calls_that_were_are_counted_once() {
    let job = Job::new().questions(20).predictor(
        "
begun = 0
async def predict(question, row_id):
    global begun
    called(row_id)
    begun += 1
    while row_id != 3 or begun < 4:
        await asyncio.sleep(0.01)
    while True: pass
",
    );
    job.process_with(&["-c", "4", "--timeout", "1s", "--stuck-after", "300ms", "--retries", "0"]).expect(1);
    assert_eq!(job.calls().len(), 4);
    let written = job.report();
    fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv", "--json", "answers.csv.report.json"]).expect(0);
    for report in [written, job.report()] {
        assert_eq!(report["attempts"]["total"], 4, "{report}");
        assert_eq!(report["tokens"]["untold"], 4, "{report}");
    }
    // Any of those in hand may be to blame, and is named.
    job.resume_with(&["--dry-run"]).expect(0).says("the last session did not end in order");
}
