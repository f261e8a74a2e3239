//! What the journal's records hold, in both directions: written from borrowed outcomes, read as slices of the line. Not
//! the line around them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::attempt::RecordedAttempt;
use super::gone::Gone;
use super::index::Status;
use super::session::{End, Header};
use crate::call::{CallError, FailureKind};
use crate::row::{Outcome, RowHash, Timing, Usage, Value};

/// One line of the journal: `{"outcome": {…}}` and so on. `F` is how an answer's fields are held.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record<'a, F = Values<'a>> {
    /// A session starts.
    Header(Cow<'a, Header>),
    /// Rows about to be called for the first time in this session.
    Started(Cow<'a, [(u64, RowHash)]>),
    /// An attempt failed while its row has no outcome.
    Attempt(RecordedAttempt<'a>),
    /// A row's final outcome in this session.
    #[serde(borrow)]
    Outcome(Recorded<'a, F>),
    /// The session ended, and not by a crash.
    End(Cow<'a, End>),
    /// What was used for rows that are gone.
    Gone(Cow<'a, Gone>),
}

/// An [`Outcome`] as recorded.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded<'a, F = Values<'a>> {
    /// The row.
    pub row: u64,
    /// The row's hash.
    pub hash: RowHash,
    /// The answer, or the last attempt's error.
    #[serde(borrow)]
    pub result: Verdict<'a, F>,
    /// Calls handed to the bridge in that session.
    pub attempts: u32,
    /// The classes of the attempts that failed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Cow<'a, str>>,
    /// Calls of this row that ignored cancellation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub abandoned: u32,
    /// Failed attempts with a request whose reply never came, as their exceptions tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unanswered: u32,
    /// Tokens of all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Where the time went.
    #[serde(rename = "timing_ns", with = "timing")]
    pub timing: Timing,
}

/// `{"ok": {…}}` or `{"failed": {…}}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict<'a, F = Values<'a>> {
    /// The predictor answered.
    Ok {
        /// One entry a column.
        fields: F,
        /// From the call's start to its first chunk (async generators only), in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_chunk_ns: Option<u64>,
        /// Why the model ended its last reply.
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        finish_reason: Option<Cow<'a, str>>,
    },
    /// The last attempt failed.
    Failed {
        /// `input`, `timeout`, `output`, `bridge`, or the exception's class name.
        #[serde(borrow)]
        class: Cow<'a, str>,
        /// What kind of failure it is.
        #[serde(with = "Kind")]
        kind: FailureKind,
        /// The error without its class.
        #[serde(borrow)]
        message: Cow<'a, str>,
        /// The HTTP status that the server answered with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Where it was raised: the innermost line of the user's own code, and below it Python's traceback.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceback: Option<Cow<'a, str>>,
    },
}

/// An answer's fields as read: name and JSON, both slices of the line wherever possible.
#[derive(Debug)]
pub struct Values<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// An answer's fields as written.
#[derive(Debug)]
pub struct AnswerFields<'a>(pub &'a [(Arc<str>, Value)]);

#[derive(Serialize, Deserialize)]
#[serde(remote = "FailureKind", rename_all = "snake_case")]
enum Kind {
    Permanent,
    Transient,
    /// See [`FailureKind::recorded`].
    #[serde(skip)]
    Doubtful,
    Unavailable,
    Throttled,
    #[serde(skip)]
    Forbidden,
    Fatal,
}

/// [`Timing`] as an array of nanoseconds, in this order: starting, paced, queued, running, backoff, bridge, latency,
/// recording, row, recorded. There is one a row: names would be a third of the journal, and of the time to write
/// and to read it.
mod timing {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, Timing};

    pub(super) fn serialize<S: Serializer>(timing: &Timing, serializer: S) -> Result<S::Ok, S::Error> {
        super::timing_ns(timing).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timing, D::Error> {
        let parts = Vec::<u64>::deserialize(deserializer)?;
        // Others wrote an eleventh: how long the outcomes before were being written.
        let parts = parts.first_chunk::<10>().ok_or_else(|| serde::de::Error::custom("too few times"))?;
        let [starting, paced, queued, running, backoff, bridge, latency, recording, row, recorded] =
            parts.map(Duration::from_nanos);
        Ok(Timing {
            starting,
            paced,
            queued,
            running,
            backoff,
            bridge,
            latency,
            recording,
            row,
            recorded,
            taken_up: None,
        })
    }
}

/// What is recorded of the times: see [`timing`].
pub(super) fn timing_ns(timing: &Timing) -> [u64; 10] {
    let Timing { starting, paced, queued, running, backoff, bridge, latency, .. } = timing;
    let Timing { recording, row, recorded, taken_up: _, .. } = timing;
    [starting, paced, queued, running, backoff, bridge, latency, recording, row, recorded]
        .map(|part| part.as_nanos() as u64)
}

impl<'a> Recorded<'a, AnswerFields<'a>> {
    /// What is recorded of an outcome.
    pub fn of(outcome: &'a Outcome) -> Self {
        Self {
            row: outcome.row,
            hash: outcome.hash,
            result: match &outcome.result {
                Ok(answer) => Verdict::Ok {
                    fields: AnswerFields(&answer.fields),
                    first_chunk_ns: answer.first_chunk.map(|chunk| chunk.as_nanos() as u64),
                    finish_reason: answer.finish_reason.as_deref().map(Cow::Borrowed),
                },
                Err(error) => Verdict::failed(error),
            },
            attempts: outcome.attempts,
            errors: outcome.errors.iter().map(|class| Cow::Borrowed(&**class)).collect(),
            abandoned: outcome.abandoned,
            unanswered: outcome.unanswered,
            usage: outcome.usage,
            timing: outcome.timing,
        }
    }
}

impl<'a, F> Verdict<'a, F> {
    /// A failed one.
    pub(super) fn failed(error: &'a CallError) -> Self {
        let kind = error.kind().recorded();
        match error {
            CallError::Predictor(error) => Self::Failed {
                class: Cow::Borrowed(&error.class),
                kind,
                message: Cow::Borrowed(&error.message),
                status: error.status,
                traceback: error.traceback.as_deref().map(Cow::Borrowed),
            },
            _ => Self::Failed {
                class: Cow::Owned(error.class().to_string()),
                kind,
                message: Cow::Owned(error.to_string()),
                status: None,
                traceback: None,
            },
        }
    }

    /// How it decides its row.
    pub fn status(&self) -> Status {
        match self {
            Self::Ok { .. } => Status::Ok,
            Self::Failed { .. } => Status::Failed,
        }
    }
}

impl Serialize for AnswerFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A bare `Cow<str>` never borrows.
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Values<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values<'de>, A::Error> {
                let mut entries = Vec::with_capacity(2);
                while let Some((Name(name), value)) = map.next_entry()? {
                    entries.push((name, value));
                }
                Ok(Values(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{BridgeError, PredictorError};
    use crate::journal::testing::{answered, failed};
    use crate::row::Answer;

    fn json(outcome: &Outcome) -> String {
        serde_json::to_string(&Record::Outcome(Recorded::of(outcome))).unwrap()
    }

    fn read(json: &str) -> Recorded<'_> {
        match serde_json::from_str(json).unwrap() {
            Record::Outcome(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_reads_like_this() {
        insta::assert_snapshot!(json(&answered(7)), @r#"{"outcome":{"row":7,"hash":"274034ea3f4bc4ab","result":{"ok":{"fields":{"answer":"answer 7","reasoning":"reasoning 7"}}},"attempts":1,"usage":{"input":12,"output":34,"calls":1},"timing_ns":[0,0,0,0,0,0,1234567000,0,0,0]}}"#);
    }

    #[test]
    fn a_failure_reads_like_this() {
        insta::assert_snapshot!(json(&failed(7)), @r#"{"outcome":{"row":7,"hash":"274034ea3f4bc4ab","result":{"failed":{"class":"timeout","kind":"transient","message":"no answer within 1s"}},"attempts":1,"errors":["timeout"],"usage":{"input":12,"output":34,"calls":1},"timing_ns":[0,0,0,0,0,0,1234567000,0,0,0]}}"#);
    }

    #[test]
    fn an_outcome_comes_back_as_it_was_recorded() {
        let raw = |json: &str| Value::Json(RawValue::from_string(json.to_owned()).unwrap());
        let fields = [
            ("answer", Value::Text("a \"b\"\r\n\u{1f600}\0".to_owned())),
            ("naïve \"name\"", raw("100000000000000000000")),
            ("none", raw("null")),
            ("list", raw("[1.0, {\"a\": 1e2}]")),
        ]
        .map(|(name, value)| (Arc::from(name), value));
        let outcome = Outcome {
            result: Ok(Answer {
                fields: fields.to_vec(),
                usage: None,
                first_chunk: Some(Duration::from_nanos(12_345)),
                finish_reason: Some("length".into()),
            }),
            errors: vec!["timeout".into()],
            abandoned: 1,
            unanswered: 2,
            ..answered(9)
        };
        let json = json(&outcome);
        let recorded = read(&json);
        assert_eq!((recorded.row, recorded.hash, recorded.attempts), (9, outcome.hash, outcome.attempts));
        assert_eq!((recorded.timing, recorded.usage, recorded.abandoned), (outcome.timing, outcome.usage, 1));
        assert_eq!(recorded.unanswered, 2);
        assert_eq!(recorded.errors, ["timeout"]);
        let Verdict::Ok { fields: Values(read), first_chunk_ns, finish_reason } = recorded.result else {
            panic!("it is an answer")
        };
        assert_eq!((first_chunk_ns, finish_reason.as_deref()), (Some(12_345), Some("length")));
        let read =
            read.iter().map(|(name, raw)| (Arc::from(&**name), serde_json::from_str(raw.get()).unwrap()));
        assert_eq!(read.collect::<Vec<(Arc<str>, Value)>>(), fields);
        assert!(matches!(&read_names(&json)[..], [Cow::Borrowed("answer"), ..]));
    }

    fn read_names(json: &str) -> Vec<Cow<'_, str>> {
        match read(json).result {
            Verdict::Ok { fields, .. } => fields.0.into_iter().map(|(name, _)| name).collect(),
            Verdict::Failed { .. } => Vec::new(),
        }
    }

    #[test]
    fn every_error_keeps_its_class_kind_and_message() {
        let raised = PredictorError {
            class: "RateLimitError".into(),
            message: "slow down".to_owned(),
            kind: FailureKind::Throttled,
            status: None,
            retry_after: None,
            usage: None,
            unanswered: None,
            traceback: Some("p.py:3 in ask".to_owned()),
        };
        let cases = [
            (
                CallError::Input("the question is blank".to_owned()),
                "input",
                FailureKind::Permanent,
                "the question is blank",
            ),
            (
                CallError::Timeout(Duration::from_secs(60)),
                "timeout",
                FailureKind::Transient,
                "no answer within 1m",
            ),
            (CallError::Predictor(Box::new(raised)), "RateLimitError", FailureKind::Throttled, "slow down"),
            (BridgeError::LoopStopped.into(), "bridge", FailureKind::Fatal, "the event loop has stopped"),
            (CallError::Crash("three times".to_owned()), "crash", FailureKind::Permanent, "three times"),
        ];
        for (error, expected_class, expected_kind, expected_message) in cases {
            let json = json(&Outcome { result: Err(error), ..failed(1) });
            let Verdict::Failed { class, kind, message, traceback, .. } = read(&json).result else {
                panic!("it failed")
            };
            assert_eq!((&*class, kind, &*message), (expected_class, expected_kind, expected_message));
            assert_eq!(traceback.is_some(), class == "RateLimitError");
        }
    }
}
