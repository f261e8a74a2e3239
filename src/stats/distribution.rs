//! Distributions of durations in bounded memory: count, least, greatest and mean are exact, percentiles are within
//! 0.1 %.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer durations count as this long in the percentiles.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Collects durations. Takes about 250 kB, however many are recorded.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    histogram: Histogram<u64>,
    least: Duration,
    greatest: Duration,
    sum: Duration,
}

impl Default for Spread {
    fn default() -> Self {
        let longest = LONGEST.as_micros() as u64;
        let histogram =
            Histogram::new_with_max(longest, 3).expect("three digits below a week are within bounds");
        Self { histogram, least: Duration::MAX, greatest: Duration::ZERO, sum: Duration::ZERO }
    }
}

impl Spread {
    pub(super) fn record(&mut self, span: Duration) {
        self.histogram.saturating_record(span.as_micros() as u64);
        self.least = self.least.min(span);
        self.greatest = self.greatest.max(span);
        self.sum = self.sum.saturating_add(span);
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The durations recorded, ascending, and how often each was. They are exact to a microsecond or a thousandth,
    /// whichever is more.
    pub(super) fn counts(&self) -> Vec<(Duration, u64)> {
        let recorded = self.histogram.iter_recorded();
        recorded
            .map(|step| {
                let span = Duration::from_micros(step.value_iterated_to());
                (span.max(self.least).min(self.greatest), step.count_at_value())
            })
            .collect()
    }

    pub(super) fn distribution(&self) -> Distribution {
        let count = self.count();
        if count == 0 {
            return Distribution::default();
        }
        let quantile = |quantile| {
            let span = Duration::from_micros(self.histogram.value_at_quantile(quantile));
            Some(millis(span.max(self.least).min(self.greatest)))
        };
        Distribution {
            count,
            min: Some(millis(self.least)),
            mean: Some(millis(self.sum) / count as f64),
            p50: quantile(0.50),
            p90: quantile(0.90),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: Some(millis(self.greatest)),
        }
    }
}

/// A summary of durations, in milliseconds. Without durations, everything but the count is null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of durations.
    pub count: u64,
    /// The shortest.
    pub min: Option<f64>,
    /// The arithmetic mean.
    pub mean: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// 90 % were no longer.
    pub p90: Option<f64>,
    /// 95 % were no longer.
    pub p95: Option<f64>,
    /// 99 % were no longer.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

/// A duration in milliseconds, rounded to a microsecond. Durations of less than that are kept to the nanosecond.
pub(super) fn millis(span: Duration) -> f64 {
    if span < Duration::from_micros(1) {
        span.as_nanos() as f64 / 1e6
    } else {
        (span.as_secs_f64() * 1e6).round() / 1e3
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_numbers_to_a_thousand_have_the_percentiles_one_expects() {
        let mut spread = Spread::default();
        (1..=1_000).for_each(|millis| spread.record(Duration::from_millis(millis)));
        let distribution = spread.distribution();
        assert_eq!(distribution.count, 1_000);
        assert_eq!(
            (distribution.min, distribution.mean, distribution.max),
            (Some(1.0), Some(500.5), Some(1_000.0))
        );
        for (found, expected) in [
            (distribution.p50, 500.0),
            (distribution.p90, 900.0),
            (distribution.p95, 950.0),
            (distribution.p99, 990.0),
        ] {
            let found = found.unwrap();
            assert!((found - expected).abs() <= expected * 1e-3, "{found} is not {expected}");
        }
    }

    #[test]
    fn what_takes_less_than_a_microsecond_takes_some_time() {
        let mut spread = Spread::default();
        spread.record(Duration::from_nanos(400));
        let distribution = spread.distribution();
        assert_eq!((distribution.p50, distribution.max), (Some(0.0004), Some(0.0004)));
        assert_eq!(spread.counts(), [(Duration::from_nanos(400), 1)]);
    }

    #[test]
    fn nothing_recorded_has_a_count_and_no_figures() {
        assert_eq!(Spread::default().distribution(), Distribution::default());
    }

    #[test]
    fn a_span_beyond_the_histogram_keeps_its_exact_greatest() {
        let mut spread = Spread::default();
        spread.record(2 * LONGEST);
        assert_eq!(spread.distribution().max, Some(millis(2 * LONGEST)));
    }

    proptest! {
        #[test]
        fn percentiles_are_within_a_thousandth_of_the_sorted_list(
            mut micros in prop::collection::vec(0_u64..100_000_000, 1..200)
        ) {
            let mut spread = Spread::default();
            for span in &micros {
                spread.record(Duration::from_micros(*span));
            }
            micros.sort_unstable();
            let distribution = spread.distribution();
            for (found, quantile) in [(distribution.p50, 0.50), (distribution.p90, 0.90), (distribution.p99, 0.99)] {
                let rank = (quantile * micros.len() as f64).ceil() as usize;
                let expected = micros[rank.max(1) - 1] as f64 / 1e3;
                prop_assert!((found.unwrap() - expected).abs() <= expected * 1e-3 + 1e-9);
            }
        }
    }
}
