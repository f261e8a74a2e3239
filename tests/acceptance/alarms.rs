//! Signals that a predictor, or a library that it uses, asks Python for: they work as under `asyncio.run`. `signals`
//! tests those that end a run.

use super::support::job::Job;
use rustix::process::Signal;

const LOOPS: [&str; 2] = ["asyncio", "uvloop"];

/// Every row is answered, with the text.
#[track_caller]
fn answers_on_both_loops(code: &str, answer: &str) {
    for event_loop in LOOPS {
        let job = Job::new().questions(4).predictor(code).args(["-c", "1", "--event-loop", event_loop]);
        let done = job.process();
        assert_eq!(done.code, 0, "{event_loop}: {}", done.stderr);
        assert_eq!(job.column("answer"), [answer; 4], "{event_loop}");
    }
}

#[test]
fn an_alarm_ends_work_that_never_waits() {
    answers_on_both_loops(
        "import signal
def ring(number, frame):
    raise TimeoutError(signal.Signals(number).name)
async def predict(question):
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(1)
    try:
        while True: sum(range(1000))
    except TimeoutError as error:
        return str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)",
        "SIGALRM",
    );
}

#[test]
fn a_timer_ends_a_wait_that_blocks_the_loop() {
    answers_on_both_loops(
        "import signal, threading
# Threads that a signal might be given to instead.
for _ in range(8): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
def ring(number, frame):
    raise TimeoutError
signal.signal(signal.SIGALRM, ring)
async def predict(question):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    begun = time.monotonic()
    try:
        time.sleep(20)
    except TimeoutError:
        return 'in time' if time.monotonic() - begun < 5 else 'late'",
        "in time",
    );
}

#[test]
fn handlers_run_while_the_loop_is_idle_and_wake_it() {
    answers_on_both_loops(
        "import signal
async def predict(question):
    loop, come = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, come.set)
    heard = []
    signal.signal(signal.SIGALRM, lambda *_: heard.append(time.monotonic()))
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGUSR2)
    await asyncio.wait_for(come.wait(), 5)
    return 'soon' if heard and heard[0] - begun < 0.6 else f'{begun} {heard}'",
        "soon",
    );
}

#[test]
fn python_takes_the_loops_thread_for_its_main_one() {
    answers_on_both_loops(
        "import threading
at_import = threading.current_thread() is threading.main_thread()
async def predict(question):
    here = threading.current_thread() is threading.main_thread()
    return f'{at_import} {here} {threading.get_native_id() == os.getpid()}'",
        "True True True",
    );
}

#[test]
fn where_no_handler_can_be_set_the_error_says_what_to_do() {
    let job = Job::new().questions(2).args(["--retries", "0"]).predictor(
        "import signal
def predict(question):
    signal.signal(signal.SIGALRM, print)",
    );
    job.process().expect(3);
    for error in job.column("error") {
        assert!(error.starts_with("ValueError: signal only works in main thread"), "{error}");
        assert!(error.contains("an `async def` predictor runs on the main one"), "{error}");
    }
}

/// The predictor takes a signal; the run still ends by it, in order, and says so once.
fn is_kept(taking: &str) {
    for (event_loop, signal, code) in [("asyncio", Signal::INT, 130), ("uvloop", Signal::TERM, 143)] {
        let job = Job::new().questions(50).args(["-c", "4", "--event-loop", event_loop]).predictor(&format!(
            "import faulthandler, signal
async def predict(question):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        {taking}
    called(question)
    while not os.path.exists('gate'): await asyncio.sleep(0.005)
    return question"
        ));
        let mut running = job.start();
        running.wait_for_calls(4);
        running.signal(signal);
        running.wait_for(".stderr", "stopping: ", 1);
        std::fs::write(job.path("gate"), "").unwrap();
        let done = running.wait().expect(code).says("the run keeps SIGINT, SIGTERM and SIGHUP for itself");
        assert_eq!(done.stderr.matches("for itself").count(), 1, "{}", done.stderr);
        assert!(done.stderr.contains("predictor.py:"), "{}", done.stderr);
        assert_eq!(job.column("status").iter().filter(|status| *status == "ok").count(), 4);
        assert_eq!(job.calls().len(), 4);
    }
}

#[test]
fn the_signals_that_end_a_run_are_kept_from_signal_signal() {
    is_kept("signal.signal(number, lambda *_: None)");
}

#[test]
fn the_signals_that_end_a_run_are_kept_from_the_loops_own_handlers() {
    is_kept("asyncio.get_running_loop().add_signal_handler(number, print)");
}

#[test]
fn the_signals_that_end_a_run_are_kept_from_faulthandler() {
    is_kept("faulthandler.register(number, file=open(os.devnull, 'w'))");
}
