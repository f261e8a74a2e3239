//! A smoothed rate of rows, for progress displays only.

use std::time::Duration;

/// The time in which the weight of an old rate falls to 37 %.
const MEMORY: Duration = Duration::from_secs(10);

/// An exponentially weighted moving average of rows per second.
///
/// At first it weighs its whole past equally, so that it starts as the plain mean.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RowRate {
    rate: f64,
    rows: u64,
    at: Duration,
}

impl RowRate {
    /// Updates the rate with the rows finished so far and the time elapsed so far, and returns it.
    pub(crate) fn update(&mut self, rows: u64, elapsed: Duration) -> f64 {
        let step = elapsed.saturating_sub(self.at).as_secs_f64();
        if step > 0.0 {
            let latest = rows.saturating_sub(self.rows) as f64 / step;
            let weight = (1.0 - (-step / MEMORY.as_secs_f64()).exp()).max(step / elapsed.as_secs_f64());
            self.rate += weight * (latest - self.rate);
            (self.rows, self.at) = (rows, elapsed);
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_as_the_plain_mean() {
        let mut rate = RowRate::default();
        rate.update(10, Duration::from_secs(1));
        assert!((rate.update(12, Duration::from_secs(2)) - 6.0).abs() < 1e-9);
        assert!((rate.update(99, Duration::from_secs(2)) - 6.0).abs() < 1e-9, "no time has passed");
    }

    #[test]
    fn an_old_rate_fades() {
        let mut rate = RowRate::default();
        let mut rows = 0;
        for second in 1..=100 {
            rows += if second <= 50 { 100 } else { 10 };
            rate.update(rows, Duration::from_secs(second));
        }
        let now = rate.update(rows, Duration::from_secs(100));
        assert!((10.0..11.0).contains(&now), "{now} is not near 10");
    }
}
