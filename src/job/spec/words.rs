//! Turns the values of a spec into words of a command line, which parse back to the same values.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use encoding_rs::Encoding;

use super::lm::{ApiBase, LmArguments};
use super::values::FieldNames;
use crate::policy::limits::MaxFailures;
use crate::selection::Shard;

/// A value of a spec that a command line can give.
pub(super) trait Words {
    /// The values that the option is given; empty if the option is not given.
    fn words(&self) -> Vec<String>;
}

macro_rules! displayed {
    ($($type:ty)*) => { $(
        impl Words for $type {
            fn words(&self) -> Vec<String> {
                vec![self.to_string()]
            }
        }
    )* };
}
displayed!(String u32 u64 usize f64 NonZeroU32 NonZeroU64 Shard);

/// Implements [`Words`] for a type that clap parses from fixed values.
macro_rules! chosen {
    ($type:ty) => {
        impl Words for $type {
            fn words(&self) -> Vec<String> {
                self.to_possible_value().map(|value| value.get_name().to_owned()).into_iter().collect()
            }
        }
    };
}
pub(super) use chosen;

impl<T: Words> Words for Option<T> {
    fn words(&self) -> Vec<String> {
        self.as_ref().map_or_else(Vec::new, Words::words)
    }
}

/// A switch.
impl Words for bool {
    fn words(&self) -> Vec<String> {
        if *self { vec!["true".to_owned()] } else { Vec::new() }
    }
}

impl Words for Duration {
    fn words(&self) -> Vec<String> {
        vec![humantime::format_duration(*self).to_string()]
    }
}

impl Words for PathBuf {
    fn words(&self) -> Vec<String> {
        vec![self.to_string_lossy().into_owned()]
    }
}

impl Words for ApiBase {
    fn words(&self) -> Vec<String> {
        vec![self.0.clone()]
    }
}

impl Words for &'static Encoding {
    fn words(&self) -> Vec<String> {
        vec![self.name().to_lowercase()]
    }
}

/// A delimiter.
impl Words for u8 {
    fn words(&self) -> Vec<String> {
        vec![if *self == b'\t' { "tab".to_owned() } else { char::from(*self).to_string() }]
    }
}

impl Words for Range<u64> {
    fn words(&self) -> Vec<String> {
        let end = if self.end == u64::MAX { String::new() } else { self.end.to_string() };
        vec![format!("{}:{end}", self.start)]
    }
}

impl Words for MaxFailures {
    fn words(&self) -> Vec<String> {
        vec![match self {
            Self::Rows(rows) => rows.to_string(),
            Self::Percent(percent) => format!("{percent}%"),
        }]
    }
}

impl Words for FieldNames {
    fn words(&self) -> Vec<String> {
        vec![self.0.join(",")]
    }
}

impl Words for Vec<(String, String)> {
    fn words(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Words for Vec<(String, f64)> {
    fn words(&self) -> Vec<String> {
        self.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }
}

impl Words for Vec<String> {
    fn words(&self) -> Vec<String> {
        self.clone()
    }
}

impl Words for LmArguments {
    fn words(&self) -> Vec<String> {
        self.given().map(|(name, value)| format!("{name}={value}")).collect()
    }
}
