//! Servers that refuse: some requests by chance, or all beyond a limit. Each draws what varies from its seed.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use tokio_asyncio_bridge::error::{CallError, FailureKind};

use super::{LATENCY, REFUSAL, Reply, SECOND, Script, error};

/// Requests that a limiter takes in [`PERIOD`].
pub(crate) const LIMIT: u32 = 50;
pub(crate) const PERIOD: Duration = Duration::from_secs(2);
/// How long a gateway's answer takes.
pub(crate) const SLOW: Duration = Duration::from_millis(300);

/// A 429; Retry-After in whole seconds, rounded up, as most servers tell it.
fn refusal(until: Option<Duration>) -> Reply {
    let seconds = |until: Duration| Duration::from_secs((until.as_secs_f64().ceil() as u64).max(1));
    Err(error(FailureKind::Throttled, until.map(seconds)))
}

/// A tenth more or less.
fn about(rng: &mut Rng, mean: Duration) -> Duration {
    mean.mul_f64(0.9 + 0.2 * rng.f64())
}

/// What a gateway's replicas do to a request, by chance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Share of 429s.
    pub(crate) refused: f64,
    /// Whether they tell a Retry-After of a second.
    pub(crate) tells: bool,
    /// Whether they come as late as answers.
    pub(crate) late: bool,
    /// Share of 5xx.
    pub(crate) failed: f64,
    /// Share of bodies that are no answer.
    pub(crate) bad: f64,
    /// Share of requests without a reply.
    pub(crate) silent: f64,
}

/// A gateway with many replicas that limits nothing.
pub(crate) fn gateway(faults: Faults, seed: u64) -> impl Script {
    let mut rng = Rng::with_seed(seed);
    move |_, _| {
        let after = about(&mut rng, SLOW);
        let mut drawn = rng.f64();
        let mut falls = |share: f64| {
            drawn -= share;
            drawn < 0.0 && drawn >= -share
        };
        if falls(faults.refused) {
            let after = if faults.late { after } else { REFUSAL };
            return (refusal(faults.tells.then_some(SECOND)), after);
        }
        if falls(faults.failed) {
            return (Err(error(FailureKind::Unavailable, None)), after);
        }
        if falls(faults.bad) {
            return (Err(error(FailureKind::Transient, None)), after);
        }
        if falls(faults.silent) {
            return (Err(CallError::Timeout(Duration::ZERO)), after);
        }
        (Ok(()), after)
    }
}

/// A fixed window, aligned to a clock that is anywhere in it when the run begins.
pub(crate) fn aligned_window(tells: bool, seed: u64) -> impl Script {
    let mut rng = Rng::with_seed(seed);
    window_from(PERIOD.mul_f64(rng.f64()), tells, rng)
}

/// A fixed window, aligned to a clock that is so far into it when the run begins.
pub(crate) fn window_at(offset: Duration, tells: bool) -> impl Script {
    window_from(offset, tells, Rng::with_seed(1))
}

fn window_from(offset: Duration, tells: bool, mut rng: Rng) -> impl Script {
    let mut window = (0, 0);
    move |now, _| {
        let now = now + offset;
        let current = now.as_nanos() / PERIOD.as_nanos();
        if window.0 != current {
            window = (current, 0);
        }
        if window.1 < LIMIT {
            window.1 += 1;
            return (Ok(()), about(&mut rng, LATENCY));
        }
        let reset = PERIOD.saturating_sub(Duration::from_nanos((now.as_nanos() % PERIOD.as_nanos()) as u64));
        (refusal(tells.then_some(reset)), REFUSAL)
    }
}

/// A fixed window that begins with the first request after the last.
pub(crate) fn window_of_the_first(tells: bool, seed: u64) -> impl Script {
    let mut rng = Rng::with_seed(seed);
    let mut window: Option<(Duration, u32)> = None;
    move |now, _| {
        if window.is_none_or(|(since, _)| now >= since + PERIOD) {
            window = Some((now, 0));
        }
        let (since, taken) = window.as_mut().unwrap();
        if *taken < LIMIT {
            *taken += 1;
            return (Ok(()), about(&mut rng, LATENCY));
        }
        (refusal(tells.then_some((*since + PERIOD).saturating_sub(now))), REFUSAL)
    }
}

/// A bucket of [`LIMIT`] tokens that is filled evenly within [`PERIOD`].
pub(crate) fn token_bucket(tells: bool, seed: u64) -> impl Script {
    let mut rng = Rng::with_seed(seed);
    let rate = f64::from(LIMIT) / PERIOD.as_secs_f64();
    let (mut tokens, mut at) = (f64::from(LIMIT), Duration::ZERO);
    move |now, _| {
        tokens = (tokens + rate * now.saturating_sub(at).as_secs_f64()).min(f64::from(LIMIT));
        at = now;
        if tokens >= 1.0 {
            tokens -= 1.0;
            return (Ok(()), about(&mut rng, LATENCY));
        }
        let until = Duration::from_secs_f64((1.0 - tokens) / rate);
        (refusal(tells.then_some(until)), REFUSAL)
    }
}

/// At most so many requests at once, each for about [`SLOW`].
pub(crate) fn at_most_at_once(most: usize, tells: bool, seed: u64) -> impl Script {
    let mut rng = Rng::with_seed(seed);
    let mut ends: VecDeque<Duration> = VecDeque::new();
    move |now, _| {
        ends.retain(|end| *end > now);
        if ends.len() >= most {
            return (refusal(tells.then_some(SECOND)), REFUSAL);
        }
        let after = about(&mut rng, SLOW);
        ends.push_back(now + after);
        (Ok(()), after)
    }
}
