//! Rows read = recovered + ok + failed + unfinished, whatever happens: sessions that end, are stopped, interrupted or
//! killed, over rows that answer, fail or hang, with the journal damaged in between.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use proptest::prelude::*;
use rustix::process::Signal;
use tokio_asyncio_bridge::journal::{Record, Recovered, Status};

use super::support::job::{Job, installed_into};

/// How a session is brought to its end, after so many milliseconds.
#[derive(Debug, Clone, Copy)]
enum End {
    Itself,
    Deadline(u64),
    Signal(u64, Signal),
}

/// What befalls the journal before the next session: which part of it is hit.
#[derive(Debug, Clone, Copy)]
enum Damage {
    None,
    Cut(f64),
    Flip(f64, u8),
}

#[derive(Debug, Clone)]
struct Session {
    end: End,
    damage: Damage,
    concurrency: usize,
    seed: u64,
    transient: f64,
    permanent: f64,
    hang: f64,
}

fn sessions() -> impl Strategy<Value = Vec<Session>> {
    let end = prop_oneof![
        Just(End::Itself),
        (1_u64..150).prop_map(End::Deadline),
        (1_u64..150, prop_oneof![Just(Signal::INT), Just(Signal::TERM)])
            .prop_map(|(ms, it)| End::Signal(ms, it)),
        (1_u64..150).prop_map(|ms| End::Signal(ms, Signal::KILL)),
        (1_u64..150).prop_map(|ms| End::Signal(ms, Signal::KILL)),
    ];
    let damage = prop_oneof![
        2 => Just(Damage::None),
        1 => (0.0..1.0).prop_map(Damage::Cut),
        1 => (0.0..1.0, 0_u8..8).prop_map(|(part, bit)| Damage::Flip(part, bit)),
    ];
    let session = (end, damage, 1_usize..12, any::<u64>(), 0.0..0.5, 0.0..0.4, 0.0..0.1);
    let session = session.prop_map(|(end, damage, concurrency, seed, transient, permanent, hang)| Session {
        end,
        damage,
        concurrency,
        seed,
        transient,
        permanent,
        hang,
    });
    prop::collection::vec(session, 1..6)
}

impl Session {
    /// Runs it; returns its exit code.
    fn run(&self, job: &Job) -> i32 {
        let Self { concurrency, seed, transient, permanent, hang, .. } = self;
        let bridge = format!(
            "fake:seed={seed},min=1ms,max=8ms,transient={transient},permanent={permanent},hang={hang}"
        );
        let concurrency = concurrency.to_string();
        let mut arguments = if job.path("answers.csv.journal").exists() {
            vec!["resume", "answers.csv"]
        } else {
            vec!["process", "questions.csv", "-o", "answers.csv"]
        };
        let options = ["--bridge", &bridge, "-c", &concurrency, "--timeout", "20ms", "--backoff", "1ms"];
        arguments.extend(options.iter().chain(&["--grace", "30ms", "--max-failures", "100%"]));
        let deadline = if let End::Deadline(ms) = self.end { format!("{ms}ms") } else { "1h".to_owned() };
        arguments.extend(["--deadline", &deadline]);
        let running = job.spawn(&arguments);
        if let End::Signal(ms, signal) = self.end {
            sleep(Duration::from_millis(ms));
            running.signal(signal);
        }
        let done = running.wait();
        // The console script was interrupted while Python itself was starting: nothing of ours was run.
        let too_early = installed_into().is_some()
            && matches!(self.end, End::Signal(_, Signal::INT))
            && done.stderr.starts_with("Fatal Python error: init_");
        if too_early { -2 } else { done.code }
    }
}

/// What the journal says of each row.
type Statuses = Vec<Option<Status>>;

/// As recovered, with a measure of the damage that is announced. What is accepted must be an answer to its own row, and
/// each row answered but once.
fn recovered(job: &Job, rows: usize) -> (Statuses, usize) {
    let path = job.path("answers.csv.journal");
    if !path.exists() {
        return (vec![None; rows], 0);
    }
    let mut answers = BTreeMap::<u64, u32>::new();
    let recovered = Recovered::read(&path, |record| {
        if let Record::Outcome(outcome) = record {
            let json = serde_json::to_string(outcome).unwrap();
            if outcome.result.is_ok() {
                assert!(json.contains(&format!("\"Question {}?\"", outcome.row)), "{json}");
                *answers.entry(outcome.row).or_default() += 1;
            }
        }
    });
    let recovered = recovered.unwrap();
    assert!(answers.values().all(|times| *times == 1), "an answered row was called again: {answers:?}");
    let announced = recovered.damaged.len() + recovered.torn_bytes as usize;
    let index = recovered.index;
    (index.selection().rows().map(|row| index.status(row)).collect(), announced)
}

/// Damages the journal behind its first header; returns at most how many rows that may cost.
fn damage(job: &Job, damage: Damage) -> usize {
    let path = job.path("answers.csv.journal");
    let Ok(mut bytes) = fs::read(&path) else { return 0 };
    let header = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
    let place = |part: f64| header + ((bytes.len() - header) as f64 * part) as usize;
    let cost = match damage {
        Damage::None => return 0,
        Damage::Cut(part) => {
            let tail = bytes.split_off(place(part));
            1 + memchr::memchr_iter(b'\n', &tail).count()
        }
        Damage::Flip(part, bit) => {
            let place = place(part);
            bytes[place] ^= 1 << bit;
            2
        }
    };
    fs::write(&path, bytes).unwrap();
    cost
}

fn count(statuses: &Statuses, wanted: Option<Status>) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_lost_or_counted_twice_whatever_happens(rows in 1_usize..120, sessions in sessions()) {
        let job = Job::new().questions(rows);
        let mut before = vec![None; rows];
        let last = Session {
            end: End::Itself, damage: Damage::None, concurrency: 8, seed: 7, transient: 0.0, permanent: 0.2, hang: 0.0,
        };
        for session in sessions.into_iter().chain([last]) {
            let code = session.run(&job);
            prop_assert!([0, 3, 4, 5, 130, 143, -2, -9, -15].contains(&code), "{code} from {session:?}");
            let (after, announced) = recovered(&job, rows);
            let kept = before.iter().zip(&after).all(|(before, after)| *before != Some(Status::Ok) || after == before);
            prop_assert!(kept, "an answer was lost by {session:?}");
            let sum = count(&after, Some(Status::Ok)) + count(&after, Some(Status::Failed)) + count(&after, None);
            prop_assert_eq!(sum, rows);

            // Whoever lives to tell it tells the same.
            let told = code != -9 && job.path("answers.csv.report.json").exists();
            if told && after != before {
                let report = &job.report()["rows"];
                let figure = |name: &str| report[name].as_u64().unwrap() as usize;
                prop_assert_eq!(figure("resumed"), count(&before, Some(Status::Ok)), "{:?}", session);
                prop_assert_eq!(figure("ok"), count(&after, Some(Status::Ok)));
                prop_assert_eq!(figure("total"), rows);
                prop_assert_eq!(figure("ok") + figure("failed") + figure("unfinished"), rows);
                let told = job.column("status");
                prop_assert_eq!(told.iter().filter(|status| *status == "ok").count(), figure("ok"));
                prop_assert_eq!(told.len(), rows);
            }
            if matches!(session.end, End::Itself) {
                prop_assert_eq!(count(&after, None), 0, "{:?} ended with {}", session, code);
            }
            let cost = damage(&job, session.damage);
            let (left, now_announced) = recovered(&job, rows);
            let lost = after.iter().zip(&left).filter(|(after, left)| **after == Some(Status::Ok) && after != left);
            let lost = lost.count();
            prop_assert!(lost <= cost, "{lost} answers lost by {:?}", session.damage);
            if lost > 0 && matches!(session.damage, Damage::Flip(..)) {
                prop_assert!(now_announced > announced, "the loss of {lost} went unseen");
            }
            before = left;
        }
        let ended = count(&before, Some(Status::Ok)) + count(&before, Some(Status::Failed));
        prop_assert_eq!(ended, rows);
    }
}
