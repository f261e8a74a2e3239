//! `kill -9` at random moments, and two processes that want the same output. `make torture` runs the long forms.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_asyncio_bridge::journal::{Recovered, Status};

use crate::support::job::{Job, Running};

const ROWS: usize = 1200;
const CALLS: usize = 8;
const KILLS: usize = 20;
/// Calls at once, and rows read ahead of them.
pub(crate) const MOST_UNRECORDED: usize = CALLS + 2 * CALLS;

const SLOW: &str = "
async def predict(question, row_id):
    called(row_id)
    await asyncio.sleep(0.03)
    return question.upper()
";

/// What came of the kills. Answers lost and answers asked again are none, or it would have panicked.
#[derive(Default)]
pub(crate) struct Killed {
    pub(crate) jobs: usize,
    pub(crate) kills: usize,
    pub(crate) calls: usize,
    /// Calls that left no record, the most that one kill cost.
    pub(crate) most_unrecorded: usize,
}

/// What the journal holds: answered rows, and those that may have been under way. Nothing before it is created.
pub(crate) fn recorded(job: &Job) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let path = job.path("answers.csv.journal");
    if !path.exists() {
        return Default::default();
    }
    let recovered = Recovered::read(&path, |_| {}).unwrap();
    let answered = |row: &u64| recovered.index.status(*row) == Some(Status::Ok);
    (recovered.index.selection().rows().filter(answered).collect(), recovered.in_flight)
}

pub(crate) fn called(job: &Job) -> Vec<u64> {
    job.calls().iter().map(|row| row.as_u64().unwrap()).collect()
}

/// The answers without attempts and latency, the last two columns.
fn lasting(job: &Job) -> String {
    job.read("answers.csv")
        .lines()
        .map(|line| line.rsplitn(3, ',').nth(2).unwrap().to_owned() + "\n")
        .collect()
}

/// Starts the job, or goes on with it.
fn go_on(job: &Job) -> Running {
    if job.path("answers.csv.journal").exists() { job.spawn(&["resume", "answers.csv"]) } else { job.start() }
}

/// Lets it run to a random moment: anywhere from its start, or from its calls.
fn run_a_while(job: &Job, random: &mut fastrand::Rng) -> Running {
    let mut running = go_on(job);
    let before = running.calls();
    if random.bool() {
        sleep(Duration::from_millis(random.u64(0..700)));
    } else {
        let calls = before + random.usize(1..120);
        let started = Instant::now();
        while running.calls() < calls && running.is_running() && started.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_micros(random.u64(0..30_000)));
    }
    running
}

/// Kills one job again and again, recovery included.
fn kill_one_job(seed: u64, reference: &str, killed: &mut Killed) {
    let job = Job::new().questions(ROWS).predictor(SLOW).args(["-c".to_owned(), CALLS.to_string()]);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut kills, mut unrecorded_in_all) = (0, 0);
    for _ in 0..KILLS {
        let (before, _) = recorded(&job);
        let calls_before = called(&job).len();
        let mut running = run_a_while(&job, &mut random);
        if !running.is_running() {
            break;
        }
        running.signal(Signal::KILL);
        assert_eq!(running.wait().code, -9, "seed {seed}");
        kills += 1;

        let (after, in_flight) = recorded(&job);
        let calls = &called(&job)[calls_before..];
        let again: Vec<_> = calls.iter().filter(|row| before.contains(row)).collect();
        assert!(again.is_empty(), "seed {seed}: answered rows {again:?} were asked again");
        assert!(before.is_subset(&after), "seed {seed}: answers were lost");
        let unrecorded: BTreeSet<u64> = calls.iter().copied().filter(|row| !after.contains(row)).collect();
        assert!(unrecorded.len() <= MOST_UNRECORDED, "seed {seed}: {} calls unrecorded", unrecorded.len());
        assert!(unrecorded.is_subset(&in_flight), "seed {seed}: {unrecorded:?} not among {in_flight:?}");
        unrecorded_in_all += unrecorded.len();
        killed.most_unrecorded = killed.most_unrecorded.max(unrecorded.len());
    }
    let ended = go_on(&job).wait();
    if ended.code != 0 {
        // A row that happened to be alone in flight at three kills is set aside, as if it had crashed the process.
        ended.expect(3);
        assert!(
            job.read("answers.csv").contains("crashed 3 times while this row alone was in flight"),
            "seed {seed}"
        );
        job.resume_with(&["--only", "failed"]).expect(0);
    }
    assert_eq!(lasting(&job), reference, "seed {seed}");
    let calls = called(&job);
    assert_eq!(calls.iter().collect::<BTreeSet<_>>().len(), ROWS);
    assert_eq!(calls.len(), ROWS + unrecorded_in_all, "seed {seed}: each answer was paid for once");
    assert_eq!(job.report()["attempts"]["total"], ROWS, "seed {seed}: attempts of killed sessions count");
    assert!(kills >= KILLS / 2, "seed {seed}: the job ended after {kills} kills");
    killed.jobs += 1;
    killed.kills += kills;
    killed.calls += calls.len();
}

/// So many kills or a few more, up to 20 of them in one job.
pub(crate) fn kills(wanted: usize) -> Killed {
    let reference = Job::new().questions(ROWS).predictor(SLOW).args(["-c", "256"]);
    reference.process().expect(0);
    let reference = lasting(&reference);
    let mut killed = Killed::default();
    while killed.kills < wanted {
        kill_one_job(fastrand::u64(..), &reference, &mut killed);
    }
    killed
}

#[test]
fn however_often_it_is_killed_no_recorded_answer_is_lost_or_asked_again() {
    kills(KILLS / 2);
}

/// Fails once for each question, then answers when the file `go` is there.
const HELD: &str = r#"
async def predict(question):
    called(os.getpid())
    while not os.path.exists("go"):
        await asyncio.sleep(0.005)
    if not os.path.exists("mended"):
        raise ValueError(question)
    return question
"#;

/// Starts two of the same at once: one wins, the other names it and calls nothing.
fn race(job: &Job, start: impl Fn(&Job) -> Running) {
    let calls_before = job.calls().len();
    let (mut one, mut other) = (start(job), start(job));
    while one.is_running() && other.is_running() {
        sleep(Duration::from_millis(2));
    }
    let (winner, loser) = if one.is_running() { (one, other) } else { (other, one) };
    let pid = winner.pid();
    loser.wait().expect(1).says(&format!("is in use by process {pid}"));
    fs::write(job.path("go"), "").unwrap();
    assert!([0, 3].contains(&winner.wait().code));
    let calls = job.calls();
    assert!(calls.len() > calls_before);
    assert!(calls[calls_before..].iter().all(|caller| *caller == pid), "the loser has called");
    fs::remove_file(job.path("go")).unwrap();
}

/// So many races, half of them for a new job and half for one to be resumed. Exactly one process runs in each. Returns
/// the calls made.
pub(crate) fn races(races: usize) -> usize {
    let mut calls = 0;
    for _ in 0..races / 2 {
        let job = Job::new().questions(3).predictor(HELD);
        race(&job, Job::start);
        fs::write(job.path("mended"), "").unwrap();
        race(&job, |job| job.spawn(&["resume", "answers.csv"]));
        assert_eq!(job.column("answer"), job.column("question"));
        calls += job.calls().len();
    }
    calls
}

#[test]
fn of_two_processes_on_one_output_exactly_one_runs() {
    races(2);
}
