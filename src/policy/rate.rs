//! `--rpm` and `--tpm`: limits of requests and tokens a minute.
//!
//! Each limit is a token bucket, kept as in the generic cell rate algorithm (ITU-T I.371): as the time at which the
//! bucket will be full again. The bucket holds a tenth of a second's worth, at least one unit, and is filled more
//! slowly than the limit by that much, so that no minute sees more than the limit.
//!
//! The requests and tokens of a call are estimated and paid for before it is made. When it has ended and reports what
//! it used, the difference is added to, or taken off, what the next call pays.
//!
//! If a predictor may make any number of requests a call, the first call goes alone, and what it reports is the
//! estimate for those that follow.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::error::{CallError, FailureKind};
use crate::outcome::Answer;
use crate::row::{Arguments, Value};
use crate::usage::Usage;

const MINUTE: Duration = Duration::from_secs(60);
/// Tenths of a second in a minute.
const TENTHS: u32 = 600;
/// Characters in a token of English text, according to OpenAI's documentation.
pub(crate) const CHARACTERS_A_TOKEN: u64 = 4;
/// Tokens that a call is taken to use beyond its arguments, for instructions and the answer, until calls have reported
/// theirs.
pub(crate) const FIRST_OVERHEAD: f64 = 500.0;
/// The weight of the latest call in the moving means of overhead and requests.
const WEIGHT: f64 = 0.1;
/// A mean number of requests is rounded up, unless it exceeds a whole number by no more than this.
const TOLERANCE: f64 = 0.05;

/// The limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// `--rpm`, requests a minute.
    pub rpm: Option<NonZeroU32>,
    /// `--tpm`, tokens a minute, in and out.
    pub tpm: Option<NonZeroU32>,
}

/// How many requests a call makes, as far as that is known before the first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestsACall {
    /// The likely number.
    pub likely: NonZeroU32,
    /// Whether calls report how many they made, which may be another number.
    pub may_differ: bool,
}

impl RequestsACall {
    /// Every call makes one.
    pub const ONE: Self = Self { likely: NonZeroU32::MIN, may_differ: false };
}

/// What a call pays before it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Requests to the server.
    pub requests: u64,
    /// Tokens, in and out.
    pub tokens: u64,
}

/// What a call has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// Requests, until that time.
    Requests(Duration),
    /// Tokens, until that time.
    Tokens(Duration),
    /// The end of the first call, which goes alone.
    Knowledge,
}

/// The limits and what calls owe them. Times are durations since any one origin.
#[derive(Debug)]
pub(crate) struct Rate {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// The mean number of requests a call.
    mean: f64,
    /// Whether calls report their requests and none has done so yet.
    unknown: bool,
    /// The mean number of tokens a call uses beyond its arguments.
    overhead: f64,
}

impl Rate {
    /// Starts with full buckets.
    pub(crate) fn new(rates: Rates, requests: RequestsACall) -> Self {
        Self {
            requests: rates.rpm.map(Bucket::new),
            tokens: rates.tpm.map(Bucket::new),
            mean: requests.likely.get().into(),
            unknown: rates.rpm.is_some() && requests.may_differ,
            overhead: FIRST_OVERHEAD,
        }
    }

    /// Whether there is no limit.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }

    /// What a call with these arguments is likely to use.
    pub(crate) fn estimate(&self, arguments: &Arguments) -> Due {
        let tokens =
            if self.tokens.is_none() { 0 } else { prompt(arguments).saturating_add(self.overhead as u64) };
        Due { requests: (self.mean - TOLERANCE).ceil() as u64, tokens }
    }

    /// Adds what a call that is to be made has to pay.
    pub(crate) fn owe(&mut self, due: Due) {
        self.requests.iter_mut().for_each(|bucket| bucket.owe(due.requests.into()));
        self.tokens.iter_mut().for_each(|bucket| bucket.owe(due.tokens.into()));
    }

    /// Pays what is owed, as far as the limits allow. `in_flight` is the number of calls in flight.
    ///
    /// # Errors
    ///
    /// Fails if something is still owed, with what has to be waited for.
    pub(crate) fn pay(&mut self, now: Duration, in_flight: usize) -> Result<(), Short> {
        if self.unknown && in_flight > 0 {
            return Err(Short::Knowledge);
        }
        self.requests.as_mut().map_or(Ok(()), |bucket| bucket.pay(now)).map_err(Short::Requests)?;
        self.tokens.as_mut().map_or(Ok(()), |bucket| bucket.pay(now)).map_err(Short::Tokens)
    }

    /// Settles a call that has ended. If it does not report what it used, its estimate stands.
    pub(crate) fn settle(
        &mut self,
        arguments: &Arguments,
        estimated: Due,
        result: &Result<Answer, CallError>,
    ) {
        let told = match result {
            Ok(answer) => answer.usage,
            Err(CallError::Predictor(error)) => error.usage,
            Err(_) => None,
        };
        self.settle_requests(estimated.requests, told, result);
        self.settle_tokens(arguments, estimated.tokens, told, result.as_ref().ok());
    }

    fn settle_requests(&mut self, estimated: u64, told: Option<Usage>, result: &Result<Answer, CallError>) {
        // Usage counts answered requests only. A request that the server refused or never answered was made all the
        // same.
        let refused = result.as_ref().is_err_and(|error| {
            use FailureKind::{Fatal, Forbidden, Throttled, Unavailable};
            matches!(error, CallError::Predictor(_))
                && (matches!(error.kind(), Fatal | Forbidden | Throttled | Unavailable)
                    || error.unanswered().is_some())
        });
        let told = told.map(|usage| usage.calls);
        let made = if refused { Some(told.unwrap_or_default().saturating_add(1)) } else { told };
        if let (Some(bucket), Some(made)) = (&mut self.requests, made) {
            bucket.owe(i128::from(made) - i128::from(estimated));
        }
        // A call that failed may have been cut short, so its number of requests says nothing about other calls.
        if let (Ok(_), Some(made)) = (result, told) {
            let weight = if self.unknown { 1.0 } else { WEIGHT };
            self.mean += weight * (made.max(1) as f64 - self.mean);
        }
        self.unknown &= refused || (result.is_err() && told.is_none());
    }

    fn settle_tokens(
        &mut self,
        arguments: &Arguments,
        estimated: u64,
        told: Option<Usage>,
        answer: Option<&Answer>,
    ) {
        let Some(bucket) = &mut self.tokens else { return };
        // An answer without reported tokens is charged by its text.
        let by_text = |answer: &Answer| prompt(arguments) + length(&answer.fields) / CHARACTERS_A_TOKEN;
        let Some(used) = told.map(|used| used.tokens()).or_else(|| answer.map(by_text)) else { return };
        bucket.owe(i128::from(used) - i128::from(estimated));
        let overhead = used.saturating_sub(prompt(arguments)) as f64;
        self.overhead += WEIGHT * (overhead - self.overhead);
    }
}

fn prompt(arguments: &Arguments) -> u64 {
    length(arguments) / CHARACTERS_A_TOKEN
}

/// Bytes of text in the arguments of a call, or in the fields of an answer.
pub(crate) fn length(fields: &[(std::sync::Arc<str>, Value)]) -> u64 {
    let length = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Json(raw) => raw.get().len(),
    };
    fields.iter().map(|(_, value)| length(value) as u64).sum()
}

/// A token bucket and what is to be taken out of it.
#[derive(Debug)]
struct Bucket {
    /// The time in which one unit flows in.
    period: Duration,
    /// How many units the bucket holds.
    burst: u32,
    /// When the bucket will be full.
    full: Duration,
    /// Negative if calls used less than they had paid for.
    owed: i64,
}

impl Bucket {
    fn new(a_minute: NonZeroU32) -> Self {
        let burst = (a_minute.get() / TENTHS).max(1);
        let period = MINUTE / (a_minute.get() - burst + 1) + Duration::from_nanos(1); // Rounded up.
        Self { period, burst, full: Duration::ZERO, owed: 0 }
    }

    fn owe(&mut self, more: i128) {
        let more = more.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.owed = self.owed.saturating_add(more);
    }

    /// Pays what is owed, a bucketful at a time. Fails with the time at which the next units can be paid.
    fn pay(&mut self, now: Duration) -> Result<(), Duration> {
        let capacity = self.period * self.burst;
        while self.owed > 0 {
            let units = self.owed.min(self.burst.into());
            let full = self.full.max(now) + self.period * units as u32;
            if full > now + capacity {
                return Err(full.saturating_sub(capacity));
            }
            self.full = full;
            self.owed -= units;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    /// When each of the calls is made.
    fn calls(rate: &mut Rate, calls: usize, due: Due) -> Vec<Duration> {
        let mut now = Duration::ZERO;
        let call = |_| {
            rate.owe(due);
            while let Err(short) = rate.pay(now, 0) {
                let (Short::Requests(at) | Short::Tokens(at)) = short else { panic!("{short:?}") };
                assert!(at > now);
                now = at;
            }
            now
        };
        (0..calls).map(call).collect()
    }

    const REQUEST: Due = Due { requests: 1, tokens: 0 };
    const SECOND: Duration = Duration::from_secs(1);

    fn rate(rpm: u32, tpm: u32) -> Rate {
        let rates = Rates { rpm: NonZeroU32::new(rpm), tpm: NonZeroU32::new(tpm) };
        Rate::new(rates, RequestsACall::ONE)
    }

    fn counting(rpm: u32, likely: u32) -> Rate {
        let likely = NonZeroU32::new(likely).unwrap();
        let rates = Rates { rpm: NonZeroU32::new(rpm), tpm: None };
        Rate::new(rates, RequestsACall { likely, may_differ: true })
    }

    fn answer(usage: Usage) -> Answer {
        Answer { usage: Some(usage), ..Answer::default() }
    }

    fn of_calls(calls: u64) -> Usage {
        Usage { input: 100, output: 10, calls, cost_usd: None }
    }

    fn refusal(usage: Option<Usage>) -> Result<Answer, CallError> {
        Err(CallError::Predictor(Box::new(Failure {
            usage,
            ..Failure::new("Refused", FailureKind::Throttled, "")
        })))
    }

    #[test]
    fn no_minute_sees_more_requests_than_asked_for_nor_many_fewer() {
        for rpm in [1_u32, 7, 600, 5_000, 60_000] {
            let at = calls(&mut rate(rpm, 0), 2 * rpm as usize + 1, REQUEST);
            for (first, after) in at.iter().zip(&at[rpm as usize..]) {
                let span = after.saturating_sub(*first);
                assert!(span + Duration::from_micros(1) >= MINUTE, "{rpm}: {span:?}");
                assert!(span <= MINUTE + MINUTE / 50, "{rpm}: {span:?}");
            }
        }
    }

    #[test]
    fn a_call_of_more_tokens_than_the_burst_pays_all_of_them() {
        let at = calls(&mut rate(0, 60_000), 61, Due { requests: 1, tokens: 2_000 });
        assert!((at[60].as_secs_f64() - 120.0).abs() < 3.0, "{:?}", at[60]);
    }

    #[test]
    fn what_a_call_used_beyond_its_estimate_is_owed_by_the_next_and_the_estimate_learns() {
        let mut rate = rate(0, 60_000);
        let arguments: Arguments = vec![("question".into(), Value::Text("x".repeat(400)))];
        let estimate = rate.estimate(&arguments);
        assert_eq!(estimate, Due { requests: 1, tokens: 600 });
        let used = Ok(answer(Usage { input: 900, output: 700, calls: 1, cost_usd: None }));
        let paid = calls(&mut rate, 1, estimate)[0];
        rate.settle(&arguments, estimate, &used);
        assert!(calls(&mut rate, 1, Due::default())[0] > paid, "nothing is owed");
        (0..100).for_each(|_| rate.settle(&arguments, estimate, &used));
        let learned = rate.estimate(&arguments).tokens;
        assert!((1_590..=1_600).contains(&learned), "{learned}");

        let all = Ok(answer(Usage { input: u64::MAX, output: u64::MAX, calls: 1, cost_usd: None }));
        (0..1_000).for_each(|_| rate.settle(&arguments, estimate, &all));
        rate.owe(rate.estimate(&arguments));
        assert!(rate.pay(MINUTE, 0).is_err(), "what is owed stops at its bound");
    }

    #[test]
    fn an_answer_that_tells_no_tokens_is_charged_by_its_text() {
        let mut rate = rate(0, 60_000);
        let arguments: Arguments = vec![("question".into(), Value::Text("x".repeat(400)))];
        let fields = vec![("answer".into(), Value::Text("y".repeat(80)))];
        let silent = Ok(Answer { fields, usage: None, ..answer(of_calls(1)) });
        (0..100).for_each(|_| rate.settle(&arguments, rate.estimate(&arguments), &silent));
        let learned = rate.estimate(&arguments).tokens;
        assert!((120..=121).contains(&learned), "{learned}");
    }

    #[test]
    fn a_call_whose_requests_are_not_known_goes_alone_and_the_next_pays_for_as_many() {
        let mut rate = counting(60, 1);
        let first = rate.estimate(&Vec::new());
        assert_eq!(first.requests, 1);
        rate.owe(first);
        assert_eq!(rate.pay(Duration::ZERO, 0), Ok(()));
        rate.owe(first);
        assert_eq!(rate.pay(10 * SECOND, 1), Err(Short::Knowledge));
        rate.settle(&Vec::new(), first, &Ok(answer(of_calls(3))));
        assert_eq!(rate.estimate(&Vec::new()).requests, 3);
        // The two that the first made beyond its estimate, and its own: a second each.
        let Err(Short::Requests(at)) = rate.pay(10 * SECOND, 1) else { panic!("nothing is owed") };
        assert_eq!(at.as_millis(), 11_000);
    }

    #[test]
    fn requests_of_a_refused_call_are_those_answered_and_the_refused_one() {
        for (told, made) in [(None, 1), (Some(of_calls(1)), 2)] {
            let mut rate = counting(60, 2);
            let due = rate.estimate(&Vec::new());
            rate.owe(due);
            rate.settle(&Vec::new(), due, &refusal(told));
            assert_eq!(rate.requests.as_ref().unwrap().owed, made);
            assert_eq!(rate.estimate(&Vec::new()).requests, 2, "it was cut short");
            assert_eq!(rate.pay(MINUTE, 1), Err(Short::Knowledge), "nothing was learned");
        }
    }

    #[test]
    fn a_call_that_tells_nothing_of_its_requests_leaves_the_next_to_go_alone() {
        let mut rate = counting(60, 1);
        let due = rate.estimate(&Vec::new());
        for silent in [CallError::Timeout(SECOND), CallError::Output("none".to_owned())] {
            rate.settle(&Vec::new(), due, &Err(silent));
            assert_eq!(rate.pay(MINUTE, 1), Err(Short::Knowledge));
        }
        rate.settle(&Vec::new(), due, &Ok(answer(of_calls(3))));
        assert_ne!(rate.pay(MINUTE, 1), Err(Short::Knowledge));
        assert_eq!(rate.estimate(&Vec::new()).requests, 3);
    }

    #[test]
    fn an_estimate_is_rounded_up_and_the_rest_given_back() {
        let mut rate = counting(600, 1);
        let due = Due { requests: 2, tokens: 0 };
        (0..400).for_each(|call| rate.settle(&Vec::new(), due, &Ok(answer(of_calls(1 + call % 2)))));
        assert_eq!(rate.estimate(&Vec::new()).requests, 2);
        assert_eq!(rate.requests.as_ref().unwrap().owed, -200);
    }

    #[test]
    fn without_limits_there_is_nothing_to_pay() {
        let mut rate = rate(0, 0);
        assert!(rate.is_unlimited());
        rate.owe(Due { requests: 1_000, tokens: 1_000_000 });
        assert_eq!(rate.pay(Duration::ZERO, 7), Ok(()));
    }
}
