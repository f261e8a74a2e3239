//! What became of a row and of its attempts. The engine makes these types, the journal records them, and the statistics
//! are folded from them.

#![allow(clippy::result_large_err, reason = "a failure is moved in its outcome's box, and failures are few")]

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::row::{RowHash, Value};
use crate::usage::Usage;

/// The finish reason of a reply that reached `max_tokens`.
pub const CUT_OFF: &str = "length";

/// What a predictor returned, one entry a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Field name and value, in the predictor's order; a returned `str` is the one field `answer`.
    #[serde(with = "fields")]
    pub fields: Vec<(Arc<str>, Value)>,
    /// Tokens used, if the predictor tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Time from the call's start to its first chunk (async generators only).
    #[serde(
        rename = "first_chunk_ns",
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_nanos"
    )]
    pub first_chunk: Option<Duration>,
    /// Why the model ended its last reply (`stop`, `length`, …), if the predictor tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<Arc<str>>,
    /// The server's id of the last request, if the server gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
}

impl Answer {
    /// Whether the model was cut off at its token limit.
    pub fn is_cut_off(&self) -> bool {
        self.finish_reason.as_deref() == Some(CUT_OFF)
    }
}

/// An attempt that failed or was cancelled while its row had no outcome. A row's last attempt is in its outcome
/// instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// The row.
    pub row: u64,
    /// Number of the row's attempt, from 1 in each session.
    pub number: u32,
    /// When the predictor began, counted from the session's first hand-over. If it never began, when the call was
    /// handed over.
    #[serde(rename = "began_ns", with = "nanos")]
    pub began: Duration,
    /// When it had failed or was given up, likewise.
    #[serde(rename = "ended_ns", with = "nanos")]
    pub ended: Duration,
    /// Whether it ignored its cancellation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "flag")]
    pub abandoned: bool,
    /// Why it gave no answer.
    #[serde(flatten, serialize_with = "briefly")]
    pub failure: Failure,
}

/// What the attempts of a row come to that has no outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tried {
    /// Calls handed to the bridge in the last session that called the row.
    pub attempts: u32,
    /// The last attempt, as in [`Timing::latency`].
    pub latency: Duration,
    /// What the attempts used, as far as they told.
    pub usage: Option<Usage>,
}

impl Tried {
    /// Adds the next attempt. Each session counts its own.
    pub fn add(&mut self, attempt: &FailedAttempt) {
        if attempt.number <= self.attempts {
            *self = Self::default();
        }
        self.attempts = attempt.number;
        self.latency = attempt.ended.saturating_sub(attempt.began);
        if let Some(usage) = attempt.failure.usage {
            *self.usage.get_or_insert_default() += usage;
        }
    }
}

/// A row's final result in this session. A cancelled or unfinished row has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The row.
    pub row: u64,
    /// The row's hash.
    pub hash: RowHash,
    /// Result of the last attempt.
    #[serde(with = "Verdict")]
    pub result: Result<Answer, Failure>,
    /// Calls handed to the bridge in this session; 0 for a row that must not be called.
    pub attempts: u32,
    /// Whether the last attempt ignored its cancellation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "flag")]
    pub abandoned: bool,
    /// Whether the last attempt has a record of its own, because its row was waiting for another when the row's time
    /// was up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_before: bool,
    /// Whether the row is set aside: the process that called it died each time it was alone in flight, so it is called
    /// again only on request. Journals of earlier releases lack this; there, a row with the class `crash` and no attempt
    /// is set aside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
    /// What the row's earlier attempts used. Each of them has a record. Version 1 of the journal has the usage of all
    /// attempts here.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "usage")]
    pub earlier_usage: Option<Usage>,
    /// Where the row's time went.
    #[serde(rename = "timing_ns")]
    pub timing: Timing,
}

impl Outcome {
    /// The outcome of a row with one attempt that took no time.
    pub fn new(row: u64, hash: RowHash, result: Result<Answer, Failure>) -> Self {
        Self {
            row,
            hash,
            result,
            attempts: 1,
            abandoned: false,
            told_before: false,
            set_aside: false,
            earlier_usage: None,
            timing: Timing::default(),
        }
    }

    /// The failure, if the row failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.result.as_ref().err()
    }

    /// What the last attempt used.
    pub fn last_usage(&self) -> Option<Usage> {
        match &self.result {
            Ok(answer) => answer.usage,
            Err(failure) => failure.usage,
        }
    }

    /// What all attempts of the row used.
    pub fn usage(&self) -> Option<Usage> {
        let (Some(mut usage), Some(last)) = (self.earlier_usage, self.last_usage()) else {
            return self.earlier_usage.or(self.last_usage());
        };
        usage += last;
        Some(usage)
    }

    /// The last attempt, if it failed and has no record of its own.
    pub fn failed_attempt(&self) -> Option<FailedAttempt> {
        let ended = self.timing.recorded.saturating_sub(self.timing.recording);
        let failure = self.failure().filter(|_| self.attempts > 0 && !self.told_before)?;
        Some(FailedAttempt {
            row: self.row,
            number: self.attempts,
            began: ended.saturating_sub(self.timing.latency),
            ended,
            abandoned: self.abandoned,
            failure: failure.clone(),
        })
    }
}

/// Where a row's time went. Each part is measured between two timestamps of its own. Together they are `row`, except
/// for the moments between them.
///
/// The journal has an array of nanoseconds, in the order of the fields. Names would be a third of the journal and of
/// the time to write and read it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    /// From being read to being taken up by the engine. Recording the row's start is part of it.
    pub starting: Duration,
    /// Held back by a limit (the server's refusals, an outage, `--rpm`, `--tpm`), summed over attempts.
    pub paced: Duration,
    /// Waiting for a permit, summed over attempts.
    pub queued: Duration,
    /// The predictor running, as seen on the event loop's thread, summed over attempts.
    pub running: Duration,
    /// Waiting for the next attempt.
    pub backoff: Duration,
    /// Handing the call over to the event loop and the reply back, summed over attempts.
    pub bridge: Duration,
    /// The last attempt, as seen on the event loop's thread. One that timed out counts for as long as it was waited
    /// for.
    pub latency: Duration,
    /// From the outcome to its record, set by the dispatcher.
    pub recording: Duration,
    /// From reading the row to recording its outcome. The dispatcher adds the last part.
    pub row: Duration,
    /// From the session's first hand-over to recording this outcome. The dispatcher adds the last part.
    pub recorded: Duration,
}

impl Timing {
    /// Waiting that the row did not cause: for the engine, a limit or a permit.
    pub fn waited(&self) -> Duration {
        self.starting + self.paced + self.queued
    }

    /// All parts in nanoseconds, in the order of the fields.
    pub(crate) fn nanos(&self) -> [u64; 10] {
        let Self { starting, paced, queued, running, backoff, bridge, latency, recording, row, recorded } =
            self;
        [starting, paced, queued, running, backoff, bridge, latency, recording, row, recorded]
            .map(|part| part.as_nanos() as u64)
    }

    /// Adds the time for which the outcome waited to be recorded.
    pub fn add_recording(&mut self, waited: Duration) {
        self.recording += waited;
        self.row += waited;
        self.recorded += waited;
    }
}

impl Serialize for Timing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.nanos().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> serde::de::Visitor<'de> for Parts {
            type Value = Timing;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an array of nanoseconds")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut parts: A) -> Result<Timing, A::Error> {
                let mut timing = Timing::default();
                let Timing { starting, paced, queued, running, backoff, bridge, latency, .. } = &mut timing;
                for part in [starting, paced, queued, running, backoff, bridge, latency] {
                    *part = next(&mut parts)?;
                }
                for part in [&mut timing.recording, &mut timing.row, &mut timing.recorded] {
                    *part = next(&mut parts)?;
                }
                // Version 1 also has how long the outcomes before it took to write.
                while parts.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(timing)
            }
        }

        fn next<'de, A: serde::de::SeqAccess<'de>>(parts: &mut A) -> Result<Duration, A::Error> {
            let part = parts.next_element()?;
            part.map(Duration::from_nanos).ok_or_else(|| serde::de::Error::custom("too few times"))
        }

        deserializer.deserialize_seq(Parts)
    }
}

/// `{"ok": {…}}` or `{"failed": {…}}`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Result<Answer, Failure>")]
enum Verdict {
    #[serde(rename = "ok")]
    Ok(Answer),
    #[serde(rename = "failed")]
    Err(Failure),
}

/// Shortened, because there may be many attempts. The outcome keeps the last one's failure whole.
fn briefly<S: serde::Serializer>(failure: &Failure, serializer: S) -> Result<S::Ok, S::Error> {
    failure.brief().serialize(serializer)
}

/// Version 1 of the journal has a count instead of the flag.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        Flag(bool),
        Count(u32),
    }
    Ok(match Told::deserialize(deserializer)? {
        Told::Flag(flag) => flag,
        Told::Count(count) => count > 0,
    })
}

/// A duration as whole nanoseconds.
mod nanos {
    use super::{Deserialize, Duration, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (duration.as_nanos() as u64).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_nanos)
    }
}

/// An optional duration as whole nanoseconds.
mod optional_nanos {
    use super::{Deserialize, Duration, Serialize};

    #[allow(clippy::ref_option, reason = "the signature serde asks for")]
    pub(super) fn serialize<S: serde::Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_nanos() as u64).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_nanos))
    }
}

/// An answer's fields as an object, in their order.
mod fields {
    use super::{Arc, Value};

    pub(super) fn serialize<S: serde::Serializer>(
        fields: &[(Arc<str>, Value)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Arc<str>, Value)>, D::Error> {
        struct Entries;

        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = Vec<(Arc<str>, Value)>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(2);
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
