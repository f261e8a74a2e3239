//! The group about worker processes.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::words::Words;

group! {
    /// Worker processes.
    [next_help_heading = "Workers"] WorkerSpec WorkerPatch {
        /// Make the calls in N worker processes, each with its own Python and predictor. `auto`: one for each core,
        /// fewer if memory is short; `0`: none, the calls are made in this process. `-c`, `--rpm` and budgets hold for
        /// all workers together. Each worker makes its own instance of a class and keeps its own state of generators
        /// and limiters
        [value_name = "N|auto", env = "TAB_WORKERS"]
        workers: WorkerCount as (WorkerCount) = WorkerCount::InProcess,
        /// Replace a worker, or an actor of `--ray`, whose resident memory has grown beyond SIZE, such as `2GB` or
        /// `500MiB`, once its calls have ended
        [value_name = "SIZE", env = "TAB_WORKER_MAX_RSS"]
        worker_max_rss: Option<Size> as (Size) = None,
    }
}

impl WorkerSpec {
    /// The resident memory beyond which a worker is replaced, in bytes.
    pub(crate) fn max_rss(&self) -> Option<u64> {
        self.worker_max_rss.map(|size| size.0)
    }
}

/// The most worker processes that can be asked for.
const MOST: u32 = 1_000;

/// How many worker processes make the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WorkerCount {
    /// None: the calls are made in the process that runs the job.
    InProcess,
    /// That many.
    Number(NonZeroU32),
    /// As many as there are cores, or fewer if the memory would not hold them.
    Auto,
}

impl FromStr for WorkerCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(number) if number <= MOST => Ok(NonZeroU32::new(number).map_or(Self::InProcess, Self::Number)),
            _ => Err(format!("expected `auto` or a whole number from 0 to {MOST}")),
        }
    }
}

impl TryFrom<String> for WorkerCount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WorkerCount> for String {
    fn from(count: WorkerCount) -> Self {
        count.to_string()
    }
}

impl fmt::Display for WorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess => f.write_str("0"),
            Self::Number(number) => number.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl Words for WorkerCount {
    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

/// The units of a [`Size`], and their bytes; the largest first.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a size such as `2GB` or `500MiB`".to_owned();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim());
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let bytes = match known {
            Some((_, bytes)) => *bytes,
            None if unit.eq_ignore_ascii_case("b") => 1,
            None => return Err(expected()),
        };
        let size = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(bytes).ok_or_else(expected)?,
            Err(_) => (number.parse::<f64>().map_err(|_| expected())? * bytes as f64) as u64,
        };
        if size == 0 { Err("no process fits into a size of zero".to_owned()) } else { Ok(Self(size)) }
    }
}

/// In the largest unit of which it is a whole number.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = whole.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl Words for Size {
    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_workers_is_a_number_or_auto() {
        let read = |text: &str| text.parse::<WorkerCount>();
        assert_eq!((read("0"), read("auto")), (Ok(WorkerCount::InProcess), Ok(WorkerCount::Auto)));
        assert_eq!(read("3"), Ok(WorkerCount::Number(NonZeroU32::new(3).unwrap())));
        for text in ["", "-1", "1.5", "all", "1001"] {
            assert_eq!(read(text).unwrap_err(), "expected `auto` or a whole number from 0 to 1000", "{text}");
        }
    }

    #[test]
    fn a_size_has_a_unit_and_is_told_in_the_largest_whole_one() {
        let sizes = [
            ("2GB", 2_000_000_000),
            ("500MiB", 500 << 20),
            ("1.5 gib", 3 << 29),
            ("1024kb", 1_024_000),
            ("7B", 7),
        ];
        for (text, bytes) in sizes {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        let told = [2_000_000_000, 3 << 29, 1_024_000, 7].map(|bytes| Size(bytes).to_string());
        assert_eq!(told, ["2GB", "1536MiB", "1000KiB", "7B"]);
        for text in ["", "2", "GB", "0MB", "-1GB", "2XB", "1.2.3GB", "99999999999TB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
