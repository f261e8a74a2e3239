//! Processes that a predictor forks: they run what it gave them and nothing of the run's, and end.

use std::time::Duration;

use super::support::job::{Done, Job};

const ROWS: usize = 12;

/// A job in which every row forks once by `fork`, which sets `child`; the child does `inside`, lines of Python.
fn forking(kind: &str, inside: &str) -> Job {
    let inside = inside.trim().replace('\n', "\n        ");
    Job::new().questions(ROWS).args(["-c", "4", "--retries", "0"]).predictor(&format!(
        "import sys, threading
def forked():
    sys.stdout.write('printed before. ')
    child = os.fork()
    if child == 0:
        {inside}
    return child
{kind}
def ended(question, child):
    if child == 0: return 'the child'
    until = time.monotonic() + 10
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid: return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    return 'hangs'
"
    ))
}

/// How a predictor comes to fork.
const KINDS: [(&str, &str); 7] = [
    (
        "the loop",
        "async def predict(question):
    called(question)
    await asyncio.sleep(0.01)
    child = forked()
    return str(ended(question, child))",
    ),
    (
        "a task",
        "async def inner(): return forked()
async def predict(question):
    called(question)
    await asyncio.sleep(0.01)
    child, _ = await asyncio.gather(inner(), asyncio.sleep(0.01))
    return str(ended(question, child))",
    ),
    (
        "a thread",
        "def predict(question):
    called(question)
    child = forked()
    return str(ended(question, child))",
    ),
    (
        "to_thread",
        "async def predict(question):
    called(question)
    child = await asyncio.to_thread(forked)
    return str(ended(question, child))",
    ),
    (
        "an executor of its own",
        "from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor(4)
async def predict(question):
    called(question)
    child = await asyncio.get_running_loop().run_in_executor(executor, forked)
    return str(ended(question, child))",
    ),
    (
        "a thread of its own",
        "async def predict(question):
    called(question)
    children = []
    thread = threading.Thread(target=lambda: children.append(forked()))
    thread.start()
    while thread.is_alive(): await asyncio.sleep(0.005)
    return str(ended(question, children[0]))",
    ),
    (
        "a stream",
        "async def predict(question):
    called(question)
    await asyncio.sleep(0.01)
    child = forked()
    yield str(ended(question, child))",
    ),
];

/// However the predictor forks, every row is called once and answered with the child's exit code; nothing is left.
#[track_caller]
fn ends(inside: &str, code: &str) {
    for (name, kind) in KINDS {
        for event_loop in ["asyncio", "uvloop"] {
            let job = forking(kind, inside).args(["--event-loop", event_loop]);
            let done: Done = job.process();
            let what = format!("{name}, {event_loop}");
            assert_eq!(done.code, 0, "{what}: {}", done.stderr);
            assert_eq!(job.column("answer"), vec![code; ROWS], "{what}: {}", done.stderr);
            assert_eq!(job.calls().len(), ROWS, "{what}: a child made calls");
            assert_eq!(done.stderr.matches("printed before.").count(), ROWS, "{what}: {}", done.stderr);
            assert!(done.took < Duration::from_secs(20), "{what}: {:?}", done.took);
        }
    }
}

#[test]
fn a_child_that_returns_leaves() {
    ends("return 0", "0");
}

#[test]
fn a_child_that_exits_leaves_with_its_code() {
    ends("sys.exit(3)", "3");
}

#[test]
fn a_child_that_raises_leaves_with_code_1_and_its_traceback() {
    ends("raise SystemExit('no tea')", "1");
}

#[test]
fn a_child_that_ends_by_itself_is_left_alone() {
    ends("os._exit(5)", "5");
}

#[test]
fn a_child_that_waits_on_the_loop_leaves() {
    let job = Job::new().questions(ROWS).args(["-c", "4", "--retries", "0"]).predictor(
        "async def predict(question):
    called(question)
    child = os.fork()
    await asyncio.sleep(0)
    if child == 0:
        called('on the loop')
    return str(os.waitpid(child, 0)[1])",
    );
    job.process().expect(0);
    assert_eq!((job.column("answer"), job.calls().len()), (vec!["0".to_owned(); ROWS], ROWS));
}

#[test]
fn processes_of_multiprocessing_work_and_can_be_terminated() {
    for event_loop in ["asyncio", "uvloop"] {
        let job = Job::new().questions(4).args(["-c", "2", "--event-loop", event_loop]).predictor(
            "import multiprocessing, signal
fork = multiprocessing.get_context('fork')
def work(pipe, question):
    async def inner(): return question.upper()
    pipe.send(asyncio.run(inner()))
def hang():
    time.sleep(60)
async def predict(question):
    called(question)
    ours, theirs = fork.Pipe()
    worker = fork.Process(target=work, args=(theirs, question))
    worker.start()
    answer = ours.recv()
    worker.join(10)
    stuck = fork.Process(target=hang)
    stuck.start()
    stuck.terminate()
    stuck.join(10)
    code = stuck.exitcode
    stuck.kill()
    return f'{answer} {worker.exitcode} {code}'",
        );
        job.process().expect(0);
        for (row, answer) in job.column("answer").iter().enumerate() {
            assert_eq!(answer, &format!("QUESTION {row}? 0 -15"), "{event_loop}");
        }
        assert_eq!(job.calls().len(), 4);
    }
}

#[test]
fn a_childs_own_handlers_are_its_own_and_a_signal_to_it_is_none_to_the_run() {
    let job = Job::new().questions(2).args(["-c", "1"]).predictor(
        "import signal, sys
async def predict(question):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(1)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["7", "7"]);
}

#[test]
fn a_child_that_lives_on_holds_neither_the_lock_nor_the_loops_wake() {
    let job = Job::new().questions(2).args(["-c", "1"]).predictor(
        "async def predict(question):
    if question == 'Question 0?':
        wakes = sum('eventfd' in os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{fd}'))
        child = os.fork()
        if child == 0:
            here = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{fd}')]
            open('child', 'w').write(json.dumps([wakes, sum('eventfd' in it for it in here), sum('journal' in it for it in here), os.getpid()]))
            os.closerange(0, 3)
            time.sleep(20)
            os._exit(0)
        while not os.path.exists('child'): await asyncio.sleep(0.01)
    return question",
    );
    let done = job.process().expect(0);
    assert!(done.took < Duration::from_secs(10), "{:?}", done.took);
    let [before, wakes, journals, child]: [u64; 4] = serde_json::from_str(&job.read("child")).unwrap();
    assert_eq!((wakes + 1, journals), (before, 0));
    job.resume().expect(0);
    let child = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
}
