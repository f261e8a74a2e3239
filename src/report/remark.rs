//! Looks in the figures of a finished run for a fault that raised no error.

use std::time::Duration;

use super::Report;
use super::text::{duration, figure};

/// A smaller share of the requested calls in flight is far too few.
const FEW: f64 = 0.5;
/// Being limited for a larger share of the wall time explains few calls in flight.
const LIMITED: f64 = 0.1;
/// Shorter runs, in seconds, measure little but their beginning and end.
const SHORTEST_S: f64 = 1.0;
/// An event loop that was saturated for a larger share of a session was what limited it.
const MOST: f64 = 0.5;
/// Shorter sessions are not worth a second process.
const WORTH: Duration = Duration::from_secs(5);

/// Recommends workers if the thread of the one event loop used a whole core for most of the session's time, and there
/// are more cores. `saturated` is for how long it did, of the `took` that the session lasted.
pub(crate) fn saturated(report: &Report, saturated: Duration, took: Duration) -> Option<String> {
    let cores = report.run.host_cores;
    let odd = took >= WORTH && saturated > took.mul_f64(MOST) && cores > 1 && report.workers.is_empty();
    odd.then(|| {
        format!(
            "the event loop's thread used a whole core for {} of {}: the predictor's Python code limited the run\n\
             hint: `--workers {cores}` makes the calls in {cores} processes",
            duration(saturated),
            duration(took)
        )
    })
}

/// Says if far fewer calls were in flight than requested although rows were waiting and no limit held them back.
pub(crate) fn underused(report: &Report) -> Option<String> {
    let (wall_s, requested) = (report.wall_s, report.concurrency.requested as f64);
    let limited = &report.limited_s;
    let held_back = limited.server + limited.outage + limited.rpm + limited.tpm;
    let waiting = (report.time_ms.queued + report.time_ms.bridge) / 1e3 / wall_s;
    let mean = report.concurrency.achieved_mean;
    // Rows also wait while a worker is replaced, and then for their turn alone.
    let died = report.workers.iter().any(|worker| worker.deaths > 0);
    let odd = !died
        && wall_s >= SHORTEST_S
        && mean < FEW * requested
        && waiting >= FEW * requested
        && held_back < LIMITED * wall_s;
    odd.then(|| {
        format!(
            "only {} calls were in flight on average, {} requested, although rows were waiting: the predictor keeps the \
             event loop busy\nhint: await what it waits for, or make it a plain `def`, which runs on threads",
            figure(mean),
            figure(requested)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{sample, workers};

    #[test]
    fn workers_are_recommended_only_where_one_loop_used_a_core_for_most_of_a_long_session_and_cores_are_left()
    {
        let mut report = sample();
        let told = |report: &Report, busy, took| {
            saturated(report, Duration::from_secs(busy), Duration::from_secs(took))
        };
        let text = told(&report, 40, 48).unwrap();
        assert!(text.starts_with("the event loop's thread used a whole core for 40.0 s of 48.0 s"), "{text}");
        assert!(text.ends_with("hint: `--workers 2` makes the calls in 2 processes"), "{text}");
        assert_eq!((told(&report, 24, 48), told(&report, 4, 4)), (None, None));
        report.workers = workers();
        assert_eq!(told(&report, 40, 48), None);
        report.workers.clear();
        report.run.host_cores = 1;
        assert_eq!(told(&report, 40, 48), None);
    }

    #[test]
    fn few_calls_in_flight_are_odd_only_where_rows_waited_and_nothing_held_them_back() {
        let mut report = sample();
        report.concurrency.achieved_mean = 1.0;
        assert_eq!(underused(&report), None, "no row waited");
        report.time_ms.bridge = report.wall_s * 1e3 * 15.0;
        assert!(underused(&report).is_some_and(|text| text.starts_with("only 1")));
        report.limited_s.rpm = report.wall_s / 2.0;
        assert_eq!(underused(&report), None, "it was asked for");
    }
}
