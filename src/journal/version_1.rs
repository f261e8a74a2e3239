//! Turns records of version 1 into today's.
//!
//! An outcome of version 1 sums up all attempts of its row, including those with records of their own. Today's is about
//! the last attempt only.

use std::collections::HashMap;

use serde::Deserialize;

use super::format::Record;
use crate::error::Unanswered;
use crate::usage::Usage;

/// The sums over each row's attempts that have records, in the session being read.
#[derive(Debug, Default)]
pub(super) struct Version1(HashMap<u64, Sums>);

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct Sums {
    attempts: u32,
    abandoned: u32,
    unanswered: u32,
    usage: Option<Usage>,
}

impl Version1 {
    /// Turns the next record into today's.
    pub(super) fn update(&mut self, record: &mut Record<'_>, json: &[u8]) {
        #[derive(Deserialize)]
        struct Line {
            outcome: Sums,
        }
        match record {
            Record::Header(_) => self.0.clear(),
            Record::Attempt(attempt) => {
                let sums = self.0.entry(attempt.row).or_default();
                sums.attempts += 1;
                sums.abandoned += u32::from(attempt.abandoned);
                sums.unanswered += u32::from(attempt.failure.unanswered.is_some());
                if let Some(usage) = attempt.failure.usage {
                    *sums.usage.get_or_insert_default() += usage;
                }
            }
            Record::Outcome(outcome) => {
                let Ok(Line { outcome: all }) = serde_json::from_slice(json) else { return };
                let earlier = self.0.remove(&outcome.row).unwrap_or_default();
                let outcome = outcome.to_mut();
                outcome.abandoned = all.abandoned > earlier.abandoned;
                outcome.told_before = all.attempts > 0 && earlier.attempts >= all.attempts;
                outcome.earlier_usage = earlier.usage;
                let last = all.usage.map(|all| all - earlier.usage.unwrap_or_default());
                let last = last.filter(|last| earlier.usage.is_none() || last.tokens() + last.calls > 0);
                match &mut outcome.result {
                    Ok(answer) => answer.usage = last,
                    Err(failure) => {
                        failure.usage = last;
                        failure.unanswered =
                            (all.unanswered > earlier.unanswered).then_some(Unanswered::CutOff);
                    }
                }
            }
            Record::Started(_) | Record::End(_) | Record::Gone(_) => {}
        }
    }
}
