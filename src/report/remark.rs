//! Looks in the figures of a finished run for a fault that raised no error.

use super::Report;
use super::text::figure;

/// A smaller share of the requested calls in flight is far too few.
const FEW: f64 = 0.5;
/// Being limited for a larger share of the wall time explains few calls in flight.
const LIMITED: f64 = 0.1;
/// Shorter runs, in seconds, measure little but their beginning and end.
const SHORTEST_S: f64 = 1.0;

/// Says if far fewer calls were in flight than requested although rows were waiting and no limit held them back.
pub(crate) fn underused(report: &Report) -> Option<String> {
    let (wall_s, requested) = (report.wall_s, report.concurrency.requested as f64);
    let limited = &report.limited_s;
    let held_back = limited.server + limited.outage + limited.rpm + limited.tpm;
    let waiting = (report.time_ms.queued + report.time_ms.bridge) / 1e3 / wall_s;
    let mean = report.concurrency.achieved_mean;
    let odd = wall_s >= SHORTEST_S
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
    use crate::report::tests::sample;

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
