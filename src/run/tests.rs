//! Runs whose rows come while they go on, and whose outcomes nobody records.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::control::Control;
use super::todo::{Choice, Todo};
use super::{Bounds, Ended, Run};
use crate::bridge::scripted::{Script, ScriptedBridge};
use crate::engine::{Clock, Engine, EngineSettings};
use crate::error::CallError;
use crate::event::Event;
use crate::input::{FedRows, Feed};
use crate::journal::Index;
use crate::observe::Observer;
use crate::policy::limits::Limits;
use crate::policy::rate::{Rates, RequestsACall};
use crate::policy::retry::RetryPolicy;
use crate::policy::stop::{Signal, StopReason};
use crate::stats::Fold;

const CALLS: usize = 4;

/// Notes the outcomes of rows: the row, and whether it was answered.
#[derive(Default, Clone)]
struct Outcomes(Arc<Mutex<Vec<(u64, bool)>>>);

impl Observer for Outcomes {
    fn event(&mut self, event: &Event) {
        if let Event::Finished { outcome, .. } = event {
            self.0.lock().unwrap().push((outcome.row, outcome.result.is_ok()));
        }
    }
}

impl Outcomes {
    fn rows(&self) -> Vec<u64> {
        let mut rows: Vec<u64> = self.0.lock().unwrap().iter().map(|(row, _)| *row).collect();
        rows.sort_unstable();
        rows
    }
}

async fn run(script: &str, feed: &Feed, outcomes: &Outcomes, control: &Control) -> Ended {
    let settings = EngineSettings {
        concurrency: CALLS,
        timeout: Duration::from_secs(60),
        clock: Clock::Handover,
        row_timeout: None,
        stuck_after: Duration::from_secs(10),
        rates: Rates::default(),
        requests: RequestsACall::ONE,
        retry: RetryPolicy { retries: 3, base: Duration::from_secs(1), cap: Duration::from_secs(60) },
        seed: 0,
    };
    let bridge = ScriptedBridge::new(script.parse::<Script>().unwrap());
    let run = Run {
        engine: Arc::new(Engine::new(Arc::new(bridge), settings)),
        recorder: &mut (),
        limits: Limits::new(None),
        fold: &mut Fold::default(),
        observer: &mut outcomes.clone(),
        control,
        bounds: Bounds {
            total: 0,
            resumed: 0,
            look_ahead: 2 * CALLS,
            deadline: None,
            grace: Duration::from_secs(20),
        },
    };
    let rows = FedRows::new(feed.clone());
    run.rows(Todo::new(rows, Vec::new(), Arc::new(Index::new(0..0)), &Choice::default())).await
}

fn push(feed: &Feed, rows: usize) {
    feed.push((0..rows).map(|_| Ok(Arc::default())));
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_rows_that_have_yet_to_come_and_ends_when_the_feed_is_closed() {
    let (feed, outcomes, control) = (Feed::new(), Outcomes::default(), Control::new());
    let handing_in = async {
        for rows in [3, 0, 20, 1] {
            tokio::time::sleep(Duration::from_secs(100)).await;
            push(&feed, rows);
        }
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(outcomes.rows(), (0..24).collect::<Vec<_>>(), "no outcome waits for the next row");
        assert!(feed.was_short());
        feed.close();
    };
    let (ended, ()) =
        tokio::join!(run("min=1s,max=3s,transient=0.2", &feed, &outcomes, &control), handing_in);
    assert!(ended.stop.is_none());
    assert_eq!(outcomes.rows(), (0..24).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_run_fetches_no_more_rows_than_it_looks_ahead() {
    let (feed, outcomes, control) = (Feed::new(), Outcomes::default(), Control::new());
    push(&feed, 100);
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!feed.was_short());
        control.stop(Signal::Interrupt);
    };
    let (ended, ()) = tokio::join!(run("min=10s,max=10s", &feed, &outcomes, &control), stopping);
    assert_eq!(ended.stop, Some(StopReason::Signal(Signal::Interrupt)));
    assert_eq!(outcomes.rows(), [0, 1, 2, 3], "calls in flight end within the grace");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_rows_can_be_stopped() {
    let (feed, outcomes, control) = (Feed::new(), Outcomes::default(), Control::new());
    push(&feed, 1);
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        control.stop(Signal::Interrupt);
    };
    let (ended, ()) = tokio::join!(run("", &feed, &outcomes, &control), stopping);
    assert_eq!((ended.stop, outcomes.rows()), (Some(StopReason::Signal(Signal::Interrupt)), vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_must_not_be_called_has_its_outcome_without_a_call() {
    let (feed, outcomes, control) = (Feed::new(), Outcomes::default(), Control::new());
    feed.push([Err(CallError::Input("no question".to_owned())), Ok(Arc::default())]);
    feed.close();
    run("", &feed, &outcomes, &control).await;
    let mut all = outcomes.0.lock().unwrap().clone();
    all.sort_unstable();
    assert_eq!(all, [(0, false), (1, true)]);
}
