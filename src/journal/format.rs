//! The kinds of records, and how they are told apart.
//!
//! A record is a JSON object with one name, its kind. Kinds are critical, like the chunks of a PNG file: a program that
//! does not know one must not go on, or it would call rows again that are answered. Only a kind whose name begins with
//! `_` may be skipped. A record of a later version is therefore told from a damaged line, which costs only its own row.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::session::{End, Header};
use crate::outcome::{FailedAttempt, Outcome};
use crate::row::RowHash;
use crate::usage::Spent;

/// One line of the journal: `{"outcome": {…}}` and so on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record<'a> {
    /// A session starts.
    Header(Cow<'a, Header>),
    /// These rows are about to be called for the first time in this session.
    Started(Cow<'a, [(u64, RowHash)]>),
    /// An attempt failed and its row has no outcome yet.
    Attempt(Cow<'a, FailedAttempt>),
    /// A row's final outcome in this session.
    Outcome(Cow<'a, Outcome>),
    /// The session ended other than by a crash.
    End(Cow<'a, End>),
    /// What was spent on rows that have been removed from the input. Without calls, it says that the session left such
    /// rows in flight.
    Gone(Cow<'a, Spent>),
}

/// What the JSON of a line with the right checksum is if it is no known record.
pub(super) enum Unread {
    /// A record that may be skipped.
    Ancillary,
    /// A record of this kind, which this version does not know.
    Unknown(String),
    /// No record of any version.
    Nothing,
}

/// Parses a line's JSON.
pub(super) fn parse(json: &[u8]) -> Result<Record<'static>, Unread> {
    serde_json::from_slice(json).map_err(|_| match kind(json) {
        Some(kind) if kind.starts_with('_') => Unread::Ancillary,
        Some(kind) => Unread::Unknown(kind.to_owned()),
        None => Unread::Nothing,
    })
}

/// Parses a line's JSON if it is an outcome. This copies less than [`parse`], whose every layer moves the record.
pub(super) fn parse_outcome(json: &[u8]) -> Option<Outcome> {
    let outcome = json.strip_prefix(br#"{"outcome":"#)?.strip_suffix(b"}")?;
    serde_json::from_slice(outcome).ok()
}

fn kind(json: &[u8]) -> Option<&str> {
    let name = json.strip_prefix(b"{\"")?;
    let end = memchr::memchr(b'"', name)?;
    std::str::from_utf8(&name[..end]).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::error::{CallError, Failure, FailureKind, Unanswered};
    use crate::journal::testing::{answered, failed};
    use crate::outcome::{Answer, Timing};
    use crate::row::Value;
    use crate::usage::Usage;

    fn json(outcome: &Outcome) -> String {
        serde_json::to_string(&Record::Outcome(Cow::Borrowed(outcome))).unwrap()
    }

    fn outcome_of(json: &str) -> Outcome {
        match parse(json.as_bytes()) {
            Ok(Record::Outcome(outcome)) => outcome.into_owned(),
            _ => panic!("{json}"),
        }
    }

    #[test]
    fn an_answer_reads_like_this() {
        insta::assert_snapshot!(json(&answered(7)), @r#"{"outcome":{"row":7,"hash":"274034ea3f4bc4ab","result":{"ok":{"fields":{"answer":"answer 7","reasoning":"reasoning 7"},"usage":{"input":12,"output":34,"calls":1}}},"attempts":1,"timing_ns":[0,0,0,0,0,0,1234567000,0,0,0]}}"#);
    }

    #[test]
    fn a_failure_reads_like_this() {
        insta::assert_snapshot!(json(&failed(7)), @r#"{"outcome":{"row":7,"hash":"274034ea3f4bc4ab","result":{"failed":{"class":"timeout","kind":"transient","message":"no answer within 1s"}},"attempts":1,"timing_ns":[0,0,0,0,0,0,1234567000,0,0,0]}}"#);
    }

    #[test]
    fn an_attempt_reads_like_this_and_comes_back() {
        let attempt = FailedAttempt {
            row: 7,
            number: 2,
            began: Duration::from_millis(1),
            ended: Duration::from_millis(3),
            abandoned: true,
            failure: Failure {
                status: Some(429),
                usage: Some(Usage { input: 1, output: 2, calls: 1, cost_usd: None }),
                unanswered: Some(Unanswered::TimedOut),
                ..Failure::new("RateLimitError", FailureKind::Throttled, "too many requests")
            },
        };
        let json = serde_json::to_string(&Record::Attempt(Cow::Borrowed(&attempt))).unwrap();
        insta::assert_snapshot!(json, @r#"{"attempt":{"row":7,"number":2,"began_ns":1000000,"ended_ns":3000000,"abandoned":true,"class":"RateLimitError","kind":"throttled","message":"too many requests","status":429,"usage":{"input":1,"output":2,"calls":1},"unanswered":"timed_out"}}"#);
        let Ok(Record::Attempt(read)) = parse(json.as_bytes()) else { panic!("{json}") };
        assert_eq!(*read, attempt);
    }

    #[test]
    fn of_an_attempts_error_the_beginning_is_recorded_and_no_traceback() {
        let failure = Failure {
            traceback: Some("p.py:3 in ask".to_owned()),
            ..Failure::new("ValueError", FailureKind::Permanent, "é".repeat(1000))
        };
        let attempt = FailedAttempt {
            row: 1,
            number: 1,
            began: Duration::ZERO,
            ended: Duration::ZERO,
            abandoned: false,
            failure,
        };
        let json = serde_json::to_string(&Record::Attempt(Cow::Borrowed(&attempt))).unwrap();
        let Ok(Record::Attempt(read)) = parse(json.as_bytes()) else { panic!("{json}") };
        assert_eq!((read.failure.message.as_str(), &read.failure.traceback), (&*"é".repeat(400), &None));
    }

    #[test]
    fn a_kind_that_is_not_known_is_critical_unless_its_name_says_otherwise() {
        assert!(matches!(parse(br#"{"_note":{"text":"a"}}"#), Err(Unread::Ancillary)));
        assert!(
            matches!(parse(br#"{"verdict":{"row":1}}"#), Err(Unread::Unknown(kind)) if kind == "verdict")
        );
        assert!(
            matches!(parse(br#"{"outcome":{"row":1}}"#), Err(Unread::Unknown(kind)) if kind == "outcome")
        );
        assert!(matches!(parse(b"[1]"), Err(Unread::Nothing)));
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            "[a-c\"\\\\\\n\u{1f600}\\x00]{0,9}".prop_map(Value::Text),
            prop_oneof![
                Just("null"),
                Just("1e20"),
                Just("100000000000000000000"),
                Just(r#"{"a": [1, 1.0]}"#)
            ]
            .prop_map(|json| Value::Json(RawValue::from_string(json.to_owned()).unwrap())),
        ]
    }

    fn usage() -> impl Strategy<Value = Option<Usage>> {
        proptest::option::of(
            (any::<u32>(), proptest::option::of(0.0..1e3)).prop_map(|(tokens, cost_usd)| Usage {
                input: tokens.into(),
                output: 7,
                calls: 1,
                cost_usd,
            }),
        )
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let fields = proptest::collection::vec(("[a\"é]{0,3}".prop_map(Arc::from), value()), 0..4);
        let told =
            (proptest::option::of(any::<u32>()), proptest::option::of("[a\"]{0,3}".prop_map(Arc::from)));
        (fields, told, usage()).prop_map(|(fields, (first_chunk, finish_reason), usage)| Answer {
            fields,
            usage,
            first_chunk: first_chunk.map(|nanos| Duration::from_nanos(nanos.into())),
            request_id: finish_reason.clone(),
            finish_reason,
        })
    }

    fn failure() -> impl Strategy<Value = Failure> {
        let raised = ("[a-b\"]{1,3}", "[a\"\\n]{0,9}", proptest::option::of("[a\"]{0,3}"), usage());
        prop_oneof![
            "[a\"]{0,5}".prop_map(|text| CallError::Input(text).into()),
            any::<u16>().prop_map(|seconds| CallError::Timeout(Duration::from_secs(seconds.into())).into()),
            raised.prop_map(|(class, message, traceback, usage)| Failure {
                status: Some(503),
                request_id: Some("req_1".into()),
                unanswered: Some(Unanswered::CutOff),
                usage,
                traceback,
                ..Failure::new(class, FailureKind::Doubtful, message)
            }),
        ]
    }

    proptest! {
        #[test]
        fn an_outcome_comes_back_as_it_was_recorded(
            result in prop_oneof![answer().prop_map(Ok), failure().prop_map(Err)],
            row in any::<u64>(), attempts in any::<u32>(), flags in any::<[bool; 3]>(), earlier_usage in usage(),
            times in any::<[u32; 3]>(),
        ) {
            let [starting, latency, recorded] = times.map(|time| Duration::from_nanos(time.into()));
            let outcome = Outcome {
                attempts,
                abandoned: flags[0],
                told_before: flags[1],
                set_aside: flags[2],
                earlier_usage,
                timing: Timing { starting, latency, recorded, ..Timing::default() },
                ..Outcome::new(row, RowHash(row), result)
            };
            prop_assert_eq!(outcome_of(&json(&outcome)), outcome);
        }
    }
}
