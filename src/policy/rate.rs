//! `--rpm` and `--tpm`: requests and tokens a minute. Not what the server asks for.
//!
//! Each is a GCRA limiter of the crate `governor`, told the time. The burst is a tenth of a second's worth (at least one),
//! taken off the rate, so that no minute sees more than asked for. A call's tokens are estimated, paid before it is made,
//! and settled by what it used: the difference is owed by the next call, or to it.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, FakeRelativeClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::row::{Arguments, Usage, Value};

const MINUTE: Duration = Duration::from_secs(60);
/// Bursts in a minute.
const TENTHS: u32 = 600;
/// Characters in a token of English text, as OpenAI's documentation has it.
pub const CHARACTERS_A_TOKEN: u64 = 4;
/// What a call uses beyond its arguments (instructions, the answer), until calls have told.
pub const FIRST_OVERHEAD: f64 = 500.0;
/// How much of the mean of the overheads each call's own makes.
const WEIGHT: f64 = 0.1;

/// `--rpm` and `--tpm`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Requests a minute.
    pub rpm: Option<NonZeroU32>,
    /// Tokens a minute, in and out.
    pub tpm: Option<NonZeroU32>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// A request, until then.
    OfRequests(Duration),
    /// Tokens, until then.
    OfTokens(Duration),
}

/// What calls must pay before they are made.
#[derive(Debug)]
pub struct Rate {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    overhead: f64,
}

impl Rate {
    /// Full buckets.
    pub fn new(rates: Rates) -> Self {
        Self {
            requests: rates.rpm.map(Bucket::new),
            tokens: rates.tpm.map(Bucket::new),
            overhead: FIRST_OVERHEAD,
        }
    }

    /// Whether there is nothing to pay.
    pub fn is_unlimited(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }

    /// The tokens a call with these arguments may use.
    pub fn estimate(&self, arguments: &Arguments) -> u64 {
        if self.tokens.is_none() { 0 } else { prompt(arguments) + self.overhead as u64 }
    }

    /// A call with so many tokens is to be made: what it costs is owed from now on.
    pub fn owe(&mut self, tokens: u64) {
        self.requests.iter_mut().for_each(|bucket| bucket.owed += 1);
        self.tokens.iter_mut().for_each(|bucket| bucket.owed += tokens.cast_signed());
    }

    /// Pays what can be paid; what is still owed then comes with the time to try again.
    pub fn pay(&mut self, now: Duration) -> Result<(), Short> {
        self.requests.as_mut().map_or(Ok(()), |bucket| bucket.pay(now)).map_err(Short::OfRequests)?;
        self.tokens.as_mut().map_or(Ok(()), |bucket| bucket.pay(now)).map_err(Short::OfTokens)
    }

    /// The call has ended and used so many tokens; a call that does not tell is taken to have used its estimate.
    pub fn settle(&mut self, arguments: &Arguments, estimated: u64, used: Option<Usage>) {
        let (Some(bucket), Some(used)) = (&mut self.tokens, used) else { return };
        let used = used.input + used.output;
        bucket.owed += used.cast_signed() - estimated.cast_signed();
        let overhead = used.saturating_sub(prompt(arguments)) as f64;
        self.overhead += WEIGHT * (overhead - self.overhead);
    }
}

fn prompt(arguments: &Arguments) -> u64 {
    length(arguments) / CHARACTERS_A_TOKEN
}

/// Bytes of text in the arguments.
pub fn length(arguments: &Arguments) -> u64 {
    let length = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Json(raw) => raw.get().len(),
    };
    arguments.iter().map(|(_, value)| length(value) as u64).sum()
}

#[derive(Debug)]
struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>,
    /// `governor`'s clock that is told the time.
    clock: FakeRelativeClock,
    at: Duration,
    burst: u32,
    /// Below zero where calls used less than they had paid.
    owed: i64,
}

impl Bucket {
    fn new(a_minute: NonZeroU32) -> Self {
        let burst = (a_minute.get() / TENTHS).max(1);
        let period = MINUTE / (a_minute.get() - burst + 1) + Duration::from_nanos(1); // Rounded up.
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MAX));
        let clock = FakeRelativeClock::default();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            at: Duration::ZERO,
            burst,
            owed: 0,
        }
    }

    fn pay(&mut self, now: Duration) -> Result<(), Duration> {
        self.clock.advance(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        while let Some(owed) = u32::try_from(self.owed.min(self.burst.into())).ok().and_then(NonZeroU32::new)
        {
            match self.limiter.check_n(owed) {
                Ok(Err(not_yet)) => return Err(now + not_yet.wait_time_from(self.clock.now())),
                Ok(Ok(())) | Err(_) => self.owed -= i64::from(owed.get()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of the calls is made.
    fn calls(rate: &mut Rate, calls: usize, tokens: u64) -> Vec<Duration> {
        let mut now = Duration::ZERO;
        let call = |_| {
            rate.owe(tokens);
            while let Err(Short::OfRequests(at) | Short::OfTokens(at)) = rate.pay(now) {
                assert!(at > now);
                now = at;
            }
            now
        };
        (0..calls).map(call).collect()
    }

    fn rate(rpm: u32, tpm: u32) -> Rate {
        Rate::new(Rates { rpm: NonZeroU32::new(rpm), tpm: NonZeroU32::new(tpm) })
    }

    #[test]
    fn no_minute_sees_more_requests_than_asked_for_nor_many_fewer() {
        for rpm in [1_u32, 7, 600, 5_000, 60_000] {
            let at = calls(&mut rate(rpm, 0), 2 * rpm as usize + 1, 0);
            for (first, after) in at.iter().zip(&at[rpm as usize..]) {
                let span = after.saturating_sub(*first);
                assert!(span + Duration::from_micros(1) >= MINUTE, "{rpm}: {span:?}");
                assert!(span <= MINUTE + MINUTE / 50, "{rpm}: {span:?}");
            }
        }
    }

    #[test]
    fn a_call_of_more_tokens_than_the_burst_pays_all_of_them() {
        let at = calls(&mut rate(0, 60_000), 61, 2_000);
        assert!((at[60].as_secs_f64() - 120.0).abs() < 3.0, "{:?}", at[60]);
    }

    #[test]
    fn what_a_call_used_beyond_its_estimate_is_owed_by_the_next_and_the_estimate_learns() {
        let mut rate = rate(0, 60_000);
        let arguments: Arguments = vec![("question".into(), Value::Text("x".repeat(400)))];
        let estimate = rate.estimate(&arguments);
        assert_eq!(estimate, 600);
        let used = Usage { input: 900, output: 700, calls: 1, cost_usd: None };
        let paid = calls(&mut rate, 1, estimate)[0];
        rate.settle(&arguments, estimate, Some(used));
        assert!(calls(&mut rate, 1, 0)[0] > paid, "nothing is owed");
        (0..100).for_each(|_| rate.settle(&arguments, 600, Some(used)));
        assert!((1_590..=1_600).contains(&rate.estimate(&arguments)), "{}", rate.estimate(&arguments));
    }

    #[test]
    fn without_limits_there_is_nothing_to_pay() {
        let mut rate = rate(0, 0);
        assert!(rate.is_unlimited());
        rate.owe(1_000_000);
        assert_eq!(rate.pay(Duration::ZERO), Ok(()));
    }
}
