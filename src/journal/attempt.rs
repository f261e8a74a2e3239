//! The record of an attempt that failed while its row has no outcome. Not that of an outcome, which tells of all attempts
//! of its row in its session.

use std::borrow::Cow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::record::is_zero;
use crate::call::CallError;
use crate::row::{FailedAttempt, Usage};

/// Characters of an attempt's message that are kept.
const MESSAGE: usize = 400;

/// A [`FailedAttempt`] as recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedAttempt<'a> {
    /// The row.
    pub row: u64,
    /// From 1 in each session.
    pub number: u32,
    /// Its error's class; `cancelled` where the call was cut off because the run was ending.
    #[serde(borrow)]
    pub class: Cow<'a, str>,
    /// The beginning of its error's text.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'a, str>>,
    /// The HTTP status that the server answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// When it began, in nanoseconds from the session's first hand-over.
    pub began_ns: u64,
    /// When it ended, likewise.
    pub ended_ns: u64,
    /// 1 where it ignored its cancellation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub abandoned: u32,
    /// 1 where a request of it went out whose reply never came, as its exception tells.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unanswered: u32,
    /// Tokens it told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl<'a> RecordedAttempt<'a> {
    /// What is recorded of an attempt in a session whose first call was handed over then.
    pub fn of(attempt: &'a FailedAttempt, first_call: Instant) -> Self {
        let since = |time: Instant| time.saturating_duration_since(first_call).as_nanos() as u64;
        Self {
            row: attempt.row,
            number: attempt.number,
            class: Cow::Borrowed(&attempt.class),
            message: attempt.error.as_ref().map(|error| beginning(error.message())),
            status: attempt.error.as_ref().and_then(CallError::status),
            began_ns: since(attempt.began),
            ended_ns: since(attempt.ended),
            abandoned: attempt.abandoned.into(),
            unanswered: attempt.unanswered.into(),
            usage: attempt.usage,
        }
    }

    /// The same under another row's id.
    pub(super) fn under(&self, row: u64) -> RecordedAttempt<'_> {
        let message = self.message.as_deref().map(Cow::Borrowed);
        RecordedAttempt { row, class: Cow::Borrowed(&self.class), message, ..*self }
    }
}

/// As much of a message as is kept of an attempt: there may be many, and the last one's is kept whole with its outcome.
fn beginning(mut message: Cow<'_, str>) -> Cow<'_, str> {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE) {
        match &mut message {
            Cow::Borrowed(text) => *text = &text[..end],
            Cow::Owned(text) => text.truncate(end),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::Record;

    #[test]
    fn an_attempt_reads_like_this_and_comes_back() {
        let first_call = Instant::now();
        let attempt = FailedAttempt {
            row: 7,
            number: 2,
            class: "RateLimitError".into(),
            error: Some(CallError::Output("too many requests".to_owned())),
            began: first_call + Duration::from_millis(1),
            ended: first_call + Duration::from_millis(3),
            abandoned: true,
            unanswered: true,
            usage: Some(Usage { input: 1, output: 2, calls: 1, cost_usd: None }),
        };
        let recorded = RecordedAttempt::of(&attempt, first_call);
        let json = serde_json::to_string(&Record::<()>::Attempt(recorded.clone())).unwrap();
        insta::assert_snapshot!(json, @r#"
        {"attempt":{"row":7,"number":2,"class":"RateLimitError","message":"too many requests","began_ns":1000000,"ended_ns":3000000,"abandoned":1,"unanswered":1,"usage":{"input":1,"output":2,"calls":1}}}
        "#);
        let Record::Attempt(read) = serde_json::from_str::<Record<'_>>(&json).unwrap() else {
            panic!("{json}")
        };
        assert_eq!(read, recorded);
    }
}
