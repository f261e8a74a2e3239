//! Measures how the program fares with servers that refuse at random or limit their requests, then in a real 429 storm.
//!
//! The table is simulated: the real engine on a simulated clock, with ten seeds a server. The storm is real: 400 rows,
//! 64 in flight, against a limiter of 50 requests per 2 s that answers after 50 ms, through a small `async def` and
//! through DSPy. The ideal time is 14 s.
//!
//! The storm needs what `make test` sets up. A number on the command line sets its rounds; 0 leaves it out.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stdout, reason = "its figures")]

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/acceptance/support/mod.rs"]
mod support;

#[path = "../tests/simulated/mod.rs"]
mod simulated;

use simulated::servers::{self, Faults};
use simulated::{Ended, run_to_end, settings};
use support::aimock::Fixtures;
use support::job::Job;
use support::limited::Limited;
use support::mocklimit::Mocklimit;

const ROWS: usize = 400;
const ROUNDS: usize = 5;
const ASKING: &str = "
import aiohttp
session = None
async def predict(question):
    global session
    session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    async with session.get(os.environ['URL']) as response:
        response.raise_for_status()
        return question";

/// What one round took.
struct Round {
    wall_s: f64,
    requests: u64,
    refused: u64,
}

/// A kind of predictor, and what runs one round with it.
type Way = (&'static str, fn() -> Round);

fn main() {
    side_by_side();
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    if rounds == 0 {
        return;
    }
    let ways: [Way; 2] = [("async def", function), ("DSPy", dspy)];
    let mut measured = ways.map(|_| Vec::new());
    for _ in 0..rounds {
        // In turn, each with a server of its own, so that every round finds an unused window.
        for ((_, round), rounds) in ways.iter().zip(&mut measured) {
            rounds.push(round());
        }
    }
    println!(
        "{ROWS} rows, 64 in flight, 50 requests per 2 s, 50 ms; {rounds} rounds, median (least to most)"
    );
    println!("{:12}{:>26}{:>26}{:>20}", "", "wall s (ideal 14)", "requests a row", "refused");
    for ((name, _), rounds) in ways.iter().zip(&measured) {
        let wall = spread(rounds, |round| round.wall_s, 1);
        let requests = spread(rounds, |round| round.requests as f64 / ROWS as f64, 3);
        let refused = spread(rounds, |round| round.refused as f64, 0);
        println!("{name:12}{wall:>26}{requests:>26}{refused:>20}");
    }
}

/// A server, its rows, the calls in flight, the ideal time in seconds, and what runs it with a seed.
type Simulated = (&'static str, u64, usize, f64, fn(u64) -> Ended);

fn stray(refused: f64, tells: bool, seed: u64) -> Ended {
    let faults = Faults { refused, tells, ..Faults::default() };
    run_to_end(servers::gateway(faults, seed), settings(24), 800)
}

fn side_by_side() {
    let simulated: [Simulated; 9] = [
        ("one 429 in 100", 800, 24, 10.0, |seed| stray(0.01, true, seed)),
        ("one 429 in 20", 800, 24, 10.0, |seed| stray(0.05, true, seed)),
        ("one in 100, no Retry-After", 800, 24, 10.0, |seed| stray(0.01, false, seed)),
        ("one in 20, no Retry-After", 800, 24, 10.0, |seed| stray(0.05, false, seed)),
        ("window by the clock", 400, 64, 14.0, |seed| {
            run_to_end(servers::aligned_window(true, seed), settings(64), 400)
        }),
        ("window from the first", 400, 64, 14.0, |seed| {
            run_to_end(servers::window_of_the_first(true, seed), settings(64), 400)
        }),
        ("token bucket", 400, 64, 14.0, |seed| {
            run_to_end(servers::token_bucket(true, seed), settings(64), 400)
        }),
        ("16 at once", 800, 64, 15.0, |seed| {
            run_to_end(servers::at_most_at_once(16, true, seed), settings(64), 800)
        }),
        ("16 at once, no Retry-After", 800, 64, 15.0, |seed| {
            run_to_end(servers::at_most_at_once(16, false, seed), settings(64), 800)
        }),
    ];
    println!("simulated, 10 seeds, median (worst)");
    println!("| server | rows | at once | ideal s | wall s | requests a row | refused |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, rows, at_once, ideal, run) in simulated {
        let runs: Vec<Ended> = (0..10).map(run).collect();
        let wall = worst(&runs, |run| run.took.as_secs_f64(), 1);
        let requests = worst(&runs, Ended::requests_a_row, 2);
        let refused = worst(&runs, |run| run.refused() as f64, 0);
        println!("| {name} | {rows} | {at_once} | {ideal:.0} | {wall} | {requests} | {refused} |");
    }
    println!();
}

fn worst(runs: &[Ended], figure: impl Fn(&Ended) -> f64, digits: usize) -> String {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let (median, most) = (f64::midpoint(figures[4], figures[5]), figures[9]);
    format!("{median:.digits$} ({most:.digits$})")
}

fn spread(rounds: &[Round], figure: fn(&Round) -> f64, digits: usize) -> String {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let (least, median, most) = (figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

fn function() -> Round {
    let server = Mocklimit::start(50);
    let job = Job::new().questions(ROWS).predictor(ASKING).env("URL", &server.url());
    job.process_with(&["-c", "64"]).expect(0);
    let (requests, refused) = server.requests();
    round(&job, requests, refused)
}

fn dspy() -> Round {
    let server = Limited::start(50, &Fixtures::numbered(ROWS));
    let job = Job::new().questions(ROWS);
    let base = server.base_url();
    let mut options = vec!["process", "questions.csv", "-o", "answers.csv", "-c", "64"];
    options.extend(["--model", "openai/gpt-4o-mini", "--api-base", &base]);
    job.run(&options).expect(0);
    let (requests, refused) = server.requests();
    round(&job, requests, refused)
}

fn round(job: &Job, requests: u64, refused: u64) -> Round {
    assert_eq!(requests - refused, ROWS as u64, "every row is answered");
    Round { wall_s: job.report()["wall_s"].as_f64().unwrap(), requests, refused }
}
