//! Calls in worker processes: answers, limits and messages are those of calls in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Done, Job};

const TWO: [&str; 2] = ["--workers", "2"];

/// A predictor that notes when each call begins and ends, and answers with the number of its process.
const MARKED: &str = "
async def predict(question):
    called({'begin': os.getpid()})
    await asyncio.sleep(0.03)
    called({'end': os.getpid()})
    return os.getpid()";

/// The most calls of a [`MARKED`] predictor in flight at once, and the processes that made them.
fn in_flight(job: &Job) -> (u64, BTreeSet<u64>) {
    let (mut running, mut most, mut processes) = (0, 0, BTreeSet::new());
    for mark in job.calls() {
        if let Some(process) = mark["begin"].as_u64() {
            processes.insert(process);
            running += 1;
            most = most.max(running);
        } else {
            running -= 1;
        }
    }
    (most, processes)
}

/// The records of `answers.csv` without what no two runs have in common.
fn lasting(job: &Job) -> Vec<BTreeMap<String, String>> {
    let without = |mut record: BTreeMap<String, String>| {
        record.remove("latency_ms");
        record
    };
    job.answers().into_iter().map(without).collect()
}

/// Runs the predictor on questions, in one process and in two workers, and returns the second job. The answers of both
/// are the same.
#[track_caller]
fn alike(code: &str, options: &[&str], exit: i32) -> Job {
    let run = |workers: &[&str]| {
        let job = Job::new().questions(40).predictor(code).args(["--backoff", "1ms"]);
        job.process_with(&[options, workers].concat()).expect(exit);
        job
    };
    let (one, two) = (run(&[]), run(&TWO));
    assert_eq!(lasting(&two), lasting(&one));
    assert_eq!(two.calls().len(), one.calls().len());
    two
}

#[test]
fn calls_are_made_by_two_processes_of_which_none_is_the_programs() {
    // A Ctrl-C at a terminal goes to the program's group.
    let group = MARKED.replace("return os.getpid()", "return os.getpgid(0)");
    let job = Job::new().questions(40).predictor(&group);
    let running = job.spawn(
        &[
            &["process", "questions.csv", "-o", "answers.csv", "-c", "8"][..],
            &TWO,
            &["--predictor", "predictor.py:predict"],
        ]
        .concat(),
    );
    let program = u64::from(running.pid());
    running.wait().expect(0);
    let (most, processes) = in_flight(&job);
    assert_eq!((most, processes.len()), (8, 2), "`-c` holds for both together");
    assert!(!processes.contains(&program));
    let groups: BTreeSet<u64> = job.column("answer").iter().map(|group| group.parse().unwrap()).collect();
    assert_eq!(groups, processes, "each leads a group of its own");
    for process in processes {
        assert!(!std::path::Path::new(&format!("/proc/{process}")).exists(), "a worker is left");
    }
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);
}

#[test]
fn answers_errors_and_retries_are_those_of_one_process() {
    let job = alike(
        "class Odd:
    def __repr__(self):
        return 'odd'
async def predict(question, row_id, attempt):
             called(row_id)
             await asyncio.sleep(0.001)
             if row_id % 10 == 1:
                 raise ValueError(f'no {question}')
             if row_id % 10 == 2 and attempt == 1:
                 raise ConnectionError('again')
             if row_id % 10 == 3:
                 return Odd()
             return {'answer': question.upper(), 'n': row_id, 'nested': {'é': [1.5, None]}}",
        &[],
        3,
    );
    let failures = job.run_alone(&["report", "answers.csv", "--failures"]).expect(0);
    failures
        .prints("ValueError: no Question 1?")
        .prints("predictor.py")
        .prints("raise ValueError(f'no {question}')");
}

#[test]
fn json_lines_keep_their_types() {
    let rows: String =
        (0..20).map(|row| json!({"row": {"a": [row, null, 1.5]}, "big": 1e300}).to_string() + "\n").collect();
    let code =
        "async def predict(row, big):\n    return {'row': row, 'big': big, 'kind': type(big).__name__}\n";
    let answers = [&[][..], &TWO].map(|workers| {
        let job = Job::new().file("rows.jsonl", &rows).predictor(code);
        let process = ["process", "rows.jsonl", "-o", "answers.jsonl", "--predictor", "predictor.py:predict"];
        job.run(&[&process[..], workers].concat()).expect(0);
        let lines = job.lines("answers.jsonl").into_iter();
        lines
            .map(|line| [&line["predicted_row"], &line["predicted_big"], &line["kind"]].map(Clone::clone))
            .collect::<Vec<_>>()
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1][3], [json!({"a": [3, null, 1.5]}), json!(1e300), json!("float")]);
}

#[test]
fn a_plain_function_has_a_thread_for_each_call_of_its_worker() {
    // More than Python's own pool has, which is as wide as four threads and the cores.
    let job = Job::new().questions(40).args(["-c", "40"]).predictor(
        "def predict(question):
    called(['begins', time.monotonic()])
    time.sleep(1)
    called(['ends', time.monotonic()])
    return question",
    );
    job.process_with(&TWO).expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    let calls = job.calls();
    let times = |what: &str| {
        let times = calls.iter().filter(|call| call[0] == *what).map(|call| call[1].as_f64().unwrap());
        times.collect::<Vec<_>>()
    };
    let first_end = times("ends").into_iter().fold(f64::INFINITY, f64::min);
    assert_eq!(times("begins").iter().filter(|at| **at < first_end).count(), 40);
}

#[test]
fn the_first_chunk_of_a_generator_is_timed_in_its_worker() {
    let job = Job::new().questions(6).predictor(
        "async def predict(question):
             await asyncio.sleep(0.05)
             for letter in question:
                 yield letter
             await asyncio.sleep(0.2)",
    );
    job.process_with(&TWO).expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    let report = job.report();
    assert_eq!(report["first_chunk_ms"]["count"], 6);
    let median = |times: &Value| times["p50"].as_f64().unwrap();
    let (first, whole) = (median(&report["first_chunk_ms"]), median(&report["latency_ms"]["ok"]));
    assert!(first >= 45.0 && whole >= first + 190.0, "{first} of {whole}");
}

#[test]
fn a_class_is_made_once_in_each_worker() {
    let job = Job::new().questions(40).args(["-c", "8"]).predictor(
        "class predict:
             def __init__(self):
                 called('made')
             async def __call__(self, question):
                 await asyncio.sleep(0.01)
                 return question",
    );
    job.process_with(&TWO).expect(0);
    assert_eq!(job.calls(), ["made", "made"]);
}

#[test]
fn values_that_do_not_fit_their_parameter_are_refused_before_any_call() {
    let rows: String = (0..6)
        .map(|row| format!("{}\n", if row == 4 { "four".to_owned() } else { row.to_string() }))
        .collect();
    let code = "async def predict(n: int):\n    called(n)\n    return n + 1\n";
    let job = Job::new().file("questions.csv", format!("n\n{rows}")).predictor(code);
    job.process_with(&TWO).expect(1).says("line 6 has `four` in the column `n`, which is not a valid `int`");
    assert!(job.calls().is_empty() && !job.path("answers.csv.journal").exists());
    let job = job.file("questions.csv", "n\n1\n2\n");
    job.process_with(&TWO).expect(0);
    assert_eq!(job.column("answer"), ["2", "3"]);
}

#[test]
fn a_predictor_that_cannot_be_loaded_is_refused_with_its_traceback() {
    let job = Job::new().questions(3).predictor("import nowhere_at_all\n");
    let one = job.process().expect(1);
    let two = job.process_with(&TWO).expect(1);
    assert_eq!(two.stderr, one.stderr);
    assert!(two.stderr.contains("No module named 'nowhere_at_all'"), "{}", two.stderr);
}

#[test]
fn a_predictor_that_changes_from_one_worker_to_the_next_is_refused() {
    let code = "import fcntl
with open('lock', 'a') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    number = lock.tell()
    lock.write('x')
if number == 1:
    time.sleep(1)
    open(__file__, 'a').write('# changed')
async def predict(question):
    called(question)
    return question";
    let job = Job::new().questions(4).predictor(code).args(["--workers", "2"]);
    job.process().expect(1).says("predictor.py` changed meanwhile");
    assert!(job.calls().is_empty());
}

#[test]
fn what_is_printed_is_masked_and_whole_and_has_its_worker_at_v() {
    // The handler is one that is never called, which is logged.
    let printing = "import signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
async def predict(question):
    sys.stdout.write('on')
    sys.stdout.flush()
    await asyncio.sleep(0.001)
    print('e line with', os.environ['MY_TOKEN'], file=sys.stderr)
    print('e line with', os.environ['MY_TOKEN'])
    return question";
    let job = Job::new().questions(30).env("MY_TOKEN", "tok-planted-0007").predictor(printing).args(TWO);
    let done = job.process().expect(0);
    assert_eq!(done.stdout.matches("e line").count(), 0);
    assert_eq!(done.stderr.matches("e line with ***\n").count(), 60, "{}", done.stderr);
    let whole = done.stderr.lines().filter(|line| line.contains("line with"));
    assert!(!done.stderr.contains("tok-planted-0007") && whole.clone().all(|line| line.ends_with("***")));
    let done = job.process_with(&["--force", "-v"]).expect(0);
    let numbered = |number: u32| {
        done.stderr.lines().filter(|line| line.starts_with(&format!("[worker {number}] "))).count()
    };
    assert!(numbered(1) > 0 && numbered(2) > 0, "{}", done.stderr);
    let lines = job.process_with(&["--force", "--progress", "json"]).expect(0).says("the handler of SIGTERM");
    for line in lines.stderr.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
    }
    assert!(lines.stderr.contains(r#""type":"output""#), "{}", lines.stderr);
}

#[test]
fn a_stall_of_one_worker_prolongs_no_timeout_in_another() {
    let job = Job::new().questions(2).args(["-c", "2", "--timeout", "500ms", "--retries", "0"]).predictor(
        "async def predict(question, row_id):
    if row_id == 0:
        time.sleep(2.5)
    else:
        await asyncio.sleep(60)
    return question",
    );
    job.process_with(&TWO).expect(3);
    assert_eq!(job.column("status"), ["ok", "failed"]);
    let took: f64 = job.column("latency_ms")[1].parse().unwrap();
    assert!((450.0..1_500.0).contains(&took), "timed out after {took} ms");
}

#[test]
fn a_rate_holds_for_all_workers_together() {
    let job = Job::new().questions(16).predictor(&MARKED.replace("0.03", "0.3"));
    job.process_with(&["--rpm", "600", "--workers", "2", "-c", "16"]).expect(0);
    let report = job.report();
    let wall = report["wall_s"].as_f64().unwrap();
    assert!(wall > 1.2, "16 rows at 10 a second took {wall} s");
    assert_eq!(in_flight(&job).1.len(), 2);
}

/// `process questions.csv` on the server with two workers.
fn ask(job: &Job, server: &Aimock, options: &[&str]) -> Done {
    let base = server.base_url();
    let all =
        ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini", "--api-base"];
    job.run(&[&all[..], &[&base], &TWO, options].concat())
}

#[test]
fn dspy_is_asked_once_a_row_and_its_usage_is_counted() {
    let server = Aimock::start(&Fixtures::numbered(20));
    let job = Job::new().questions(20);
    let done = ask(&job, &server, &["--lm", "api_key=sk-planted-0008", "-v"]).expect(0);
    assert_eq!(job.column("answer"), (0..20).map(|row| format!("Answer {row}")).collect::<Vec<_>>());
    assert_eq!(server.journal().len(), 20, "one request a row");
    assert_eq!(job.report()["tokens"], json!({"input": 2_000, "output": 200, "calls": 20}));
    assert!(job.report()["run"]["versions"]["dspy"].is_string(), "{}", job.report()["run"]["versions"]);
    for text in [&done.stderr, &job.read("answers.csv.journal")] {
        assert!(!text.contains("sk-planted-0008"), "{text}");
    }
}

#[test]
fn the_local_model_is_served_once_for_all_workers() {
    let job = Job::new().questions(2).predictor(
        "import dspy, glob
class predict(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict('question -> answer')
    async def aforward(self, question):
        lists = glob.glob(f'/proc/{os.getppid()}/task/*/children')
        children = ' '.join(open(one).read() for one in lists).split()
        called([open(f'/proc/{child}/cmdline').read().count('n_parallel') for child in children])
        return dspy.Prediction(answer=question)",
    );
    job.process_with(&TWO).expect(0).says("1 call at once on").says("on the local model");
    let [servers, ..] = &job.calls()[..] else { panic!("no call") };
    let servers = servers.as_array().unwrap().iter().filter(|server| **server != 0).count();
    assert_eq!(servers, 1, "{:?}", job.calls());
}

#[test]
fn a_budget_holds_for_all_workers_together() {
    let server = Aimock::start(&Fixtures::numbered(60));
    let job = Job::new().questions(60);
    let prices = ["--price-in", "10", "--price-out", "10"];
    ask(&job, &server, &[&prices[..], &["--max-cost", "0.022", "-c", "8"]].concat()).expect(4);
    assert_eq!(server.journal().len(), 20, "every call costs 0.0011");
}

#[test]
fn a_run_goes_on_with_another_number_of_workers() {
    let job = Job::new().questions(30).predictor(
        "async def predict(question, row_id):
             called(os.getpid())
             if row_id >= 20 and not os.path.exists('well'):
                 raise ValueError('not yet')
             return question",
    );
    job.process_with(&["--workers", "2", "--max-failures", "100%"]).expect(3);
    let recorded = job.read("answers.csv.journal");
    assert!(recorded.contains(r#""workers":"2""#), "{recorded}");
    let job = job.file("well", "");
    let done = job.resume_with(&["--workers", "1"]).expect(0);
    assert!(!done.stderr.contains("changed"), "{}", done.stderr);
    assert_eq!(job.calls().len(), 40);
    let processes: BTreeSet<_> = job.calls()[30..].iter().map(ToString::to_string).collect();
    assert_eq!(processes.len(), 1);
    assert_eq!(job.column("answer"), job.column("question"));
    let appended = job.read("questions.csv") + "30,Question 30?\n";
    let job = job.file("questions.csv", appended);
    job.process_with(&["--workers", "0"]).expect(0);
    assert_eq!(job.calls().len(), 41);
}

#[test]
fn a_comparison_times_its_modes_on_workers() {
    let job = Job::new().questions(16).predictor(MARKED);
    let compare =
        ["compare", "questions.csv", "--predictor", "predictor.py:predict", "-c", "8", "--runs", "1"];
    job.run(&[&compare[..], &TWO].concat()).expect(0).prints("concurrent -c 8");
    assert_eq!(in_flight(&job).1.len(), 2);
}

#[test]
fn a_worker_has_no_descriptor_of_the_program_nor_its_input() {
    let job = Job::new().questions(8).file("leak", "").predictor(
        "import sys
def links():
    for name in os.listdir('/proc/self/fd'):
        try:
            yield int(name), os.readlink(f'/proc/self/fd/{name}')
        except OSError:
            pass
async def predict(question):
    inherited = [link for number, link in links() if number > 2 and 'calls' not in link]
    return {'read': sys.stdin.read(), 'in': os.readlink('/proc/self/fd/0'), 'out': os.readlink('/proc/self/fd/1'),
            'files': [link for link in inherited if link.startswith('/') and not link.startswith(('/dev', '/proc'))]}",
    );
    let script = "exec 9>leak; echo secret | \"$PROGRAM\" process questions.csv -o answers.csv \
        --predictor predictor.py:predict --workers 2";
    job.bash(script).expect(0);
    for answer in job.answers() {
        let [read, input, output, files] = ["read", "in", "out", "files"].map(|name| &*answer[name]);
        assert_eq!((read, input, files), ("", "/dev/null", "[]"));
        assert!(output.contains(".stderr"), "{output}");
    }
}

#[test]
fn a_worker_has_the_programs_directory_and_environment() {
    let job =
        Job::new().questions(4).file("some.env", "FROM_FILE=file\n").env("FROM_PARENT", "parent").predictor(
            "import sys
async def predict(question):
    return {'cwd': os.getcwd(), 'parent': os.environ['FROM_PARENT'], 'file': os.environ['FROM_FILE'],
            'python': sys.executable}",
        );
    let mut answers = [&[][..], &TWO].map(|workers| {
        job.process_with(&[&["--force", "--env-file", "some.env"][..], workers].concat()).expect(0);
        lasting(&job)
    });
    let two = std::mem::take(&mut answers[1]);
    assert_eq!(two, answers[0]);
    assert_eq!((&*two[0]["parent"], &*two[0]["file"]), ("parent", "file"));
}

#[test]
fn a_dry_run_and_doctor_load_the_predictor_in_a_worker() {
    let job = Job::new()
        .questions(4)
        .predictor("called(os.getpid())\nasync def predict(question):\n    called('call')\n");
    let dry = job.process_with(&["--workers", "3", "--dry-run"]).expect(0);
    dry.says("3 worker processes, of which 1 was started, the first ready after ");
    assert_eq!(job.calls().len(), 1, "one is enough");
    let doctor = ["doctor", "questions.csv", "--predictor", "predictor.py:predict", "--workers", "2"];
    job.run(&doctor).expect(0).prints("Workers").prints("2 worker processes");
    job.run(&["doctor", "--workers", "2", "--env-file", "absent"])
        .expect(1)
        .prints("not started: what is wrong");
    assert!(job.calls().iter().all(Value::is_u64), "{:?}", job.calls());
}

/// The state of a process, such as `T` for one that is stopped; `None` if there is none.
fn state(process: &Value) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn control_z_suspends_the_workers_too_and_they_go_on_with_the_program() {
    let job =
        Job::new().questions(60).args(["--workers", "2", "-c", "4", "--timeout", "1s", "--retries", "0"]);
    let job = job
        .predictor("async def predict(question):\n    called(os.getpid())\n    await asyncio.sleep(0.05)\n");
    let mut running = job.start();
    running.wait_for_calls(8);
    running.signal(Signal::TSTP);
    running.wait_until_stopped();
    let workers: BTreeSet<_> = job.calls().into_iter().map(|process| process.to_string()).collect();
    let workers: Vec<Value> = workers.iter().map(|process| process.parse().unwrap()).collect();
    let until = Instant::now() + Duration::from_secs(5);
    while workers.iter().any(|process| state(process) != Some('T')) {
        assert!(Instant::now() < until, "they go on");
    }
    let calls = running.calls();
    sleep(Duration::from_secs(2));
    assert_eq!(running.calls(), calls);
    running.signal(Signal::CONT);
    running.wait().expect(0);
    assert_eq!(job.calls().len(), 60, "none is lost, and none times out");
}

#[test]
fn a_signal_to_a_worker_alone_kills_it_and_its_rows_are_called_again() {
    for signal in [Signal::INT, Signal::TERM] {
        let job = Job::new().questions(60).args(["--workers", "2", "-c", "4", "--retries", "0"]);
        let job = job.predictor(
            "import signal
async def predict(question):
    called(os.getpid())
    await asyncio.sleep(0.05)
    return question",
        );
        let mut running = job.start();
        running.wait_for_calls(8);
        let victim = Pid::from_raw(job.calls()[0].as_i64().unwrap() as i32).unwrap();
        kill_process(victim, signal).unwrap();
        running.wait().expect(0);
        assert_eq!(job.column("answer"), job.column("question"));
        assert!((61..=64).contains(&job.calls().len()), "{} calls", job.calls().len());
    }
}

#[test]
fn workers_are_as_many_as_there_are_cores_or_as_asked_for() {
    let job = Job::new().questions(40).predictor(MARKED);
    let cores = std::thread::available_parallelism().unwrap().get();
    job.process_with(&["--workers", "auto", "-c", "20"]).expect(0).says("worker process");
    let processes = in_flight(&job).1.len();
    assert!((1..=cores).contains(&processes), "{processes} of {cores}");
    job.process_with(&["--workers", "many"])
        .expect(2)
        .says("expected `auto` or a whole number from 0 to 1000");
    job.process_with(&["--worker-max-rss", "2"]).expect(2).says("expected a size such as `2GB` or `500MiB`");
    let small = ["--force", "--workers", "1", "--worker-max-rss", "2MB"];
    job.process_with(&small)
        .expect(2)
        .says(" MB once the predictor is loaded, more than `--worker-max-rss 2MB`");
    job.run(&["process", "--help"]).expect(0).prints("--workers <N|auto>").prints("--worker-max-rss <SIZE>");
    let help = job.run(&["help"]).expect(0).stdout;
    assert!(!help.contains("worker"), "{help}");
}
