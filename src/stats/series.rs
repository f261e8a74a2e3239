//! Values over time in bounded memory: when all buckets are in use, they are merged in pairs, to twice the width.

use std::ops::AddAssign;
use std::time::Duration;

/// The greatest number of buckets.
const BUCKETS: usize = 256;
/// The width of a bucket at first.
const NARROWEST: Duration = Duration::from_millis(1);

/// Values in buckets of equal width, starting at time zero.
#[derive(Debug, Clone)]
pub struct Series<B> {
    width: Duration,
    buckets: Vec<B>,
}

impl<B> Default for Series<B> {
    fn default() -> Self {
        Self { width: NARROWEST, buckets: Vec::new() }
    }
}

impl<B: Default + Clone + AddAssign<B>> Series<B> {
    /// The bucket for a time.
    pub fn at(&mut self, time: Duration) -> &mut B {
        while place(time, self.width) >= BUCKETS {
            self.buckets = in_groups(&self.buckets, 2);
            self.width *= 2;
        }
        let place = place(time, self.width);
        if self.buckets.len() <= place {
            self.buckets.resize(place + 1, B::default());
        }
        &mut self.buckets[place]
    }

    /// Calls `add` for each bucket that overlaps an interval of time, with the seconds of the overlap.
    pub fn spread(&mut self, from: Duration, to: Duration, mut add: impl FnMut(&mut B, f64)) {
        if from >= to {
            return;
        }
        self.at(to);
        for place in place(from, self.width)..=place(to, self.width) {
            let start = self.width * place as u32;
            let within = to.min(start + self.width).saturating_sub(from.max(start));
            add(&mut self.buckets[place], within.as_secs_f64());
        }
    }

    /// The width and the content of the buckets, after merging neighbours so that there are at most `buckets` of them.
    pub fn at_most(&self, buckets: usize) -> (Duration, Vec<B>) {
        let together = self.buckets.len().div_ceil(buckets.max(1)).max(1);
        (self.width * together as u32, in_groups(&self.buckets, together))
    }
}

fn place(time: Duration, width: Duration) -> usize {
    // In 64 bits, which hold 584 years: a division of 128 bits takes several times as long, and each row makes six.
    (time.as_nanos() as u64 / width.as_nanos() as u64) as usize
}

fn in_groups<B: Default + Clone + AddAssign<B>>(buckets: &[B], together: usize) -> Vec<B> {
    let sum = |group: &[B]| {
        group.iter().cloned().fold(B::default(), |mut sum, bucket| {
            sum += bucket;
            sum
        })
    };
    buckets.chunks(together).map(sum).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_year_fits_in_as_many_buckets_as_a_second() {
        let mut series = Series::<u64>::default();
        for day in 0..365 {
            *series.at(day * 86_400 * SECOND) += 1;
        }
        assert!(series.buckets.len() <= BUCKETS && series.buckets.iter().sum::<u64>() == 365);
        let (width, buckets) = series.at_most(12);
        assert!(buckets.len() <= 12 && width * 12 > 364 * 86_400 * SECOND);
    }

    #[test]
    fn a_span_is_shared_among_the_buckets_it_touches() {
        let mut series = Series::<f64>::default();
        let millis = Duration::from_millis;
        series.spread(millis(1) / 2, millis(3), |bucket, seconds| *bucket += seconds * 1e3);
        assert_eq!(series.buckets, [0.5, 1.0, 1.0, 0.0]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_when_buckets_become_wider(
            spans in prop::collection::vec((0_u64..10_000_000, 0_u64..1_000_000), 1..100), most in 1_usize..300
        ) {
            let mut series = Series::<f64>::default();
            let mut expected = 0.0;
            for (from, length) in spans {
                let (from, length) = (Duration::from_micros(from), Duration::from_micros(length));
                series.spread(from, from + length, |bucket, seconds| *bucket += seconds);
                expected += length.as_secs_f64();
            }
            let (_, buckets) = series.at_most(most);
            prop_assert!(buckets.len() <= most);
            prop_assert!((buckets.iter().sum::<f64>() - expected).abs() < 1e-6);
        }
    }
}
