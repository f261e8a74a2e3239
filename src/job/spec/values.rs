//! Parses single option values. The errors say what is expected.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest duration. Longer ones mean "for ever" and are cut to this, because a hundred years can be added to any
/// point in time without an overflow.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A duration, with a unit, of more than zero. `none` is for ever.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text == "none" {
        return Ok(FOR_EVER);
    }
    let parsed = wait(text)?;
    if parsed.is_zero() {
        Err("a duration of zero leaves no time for anything".to_owned())
    } else {
        Ok(parsed)
    }
}

/// A duration, with a unit, that may be zero.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(parsed) => Ok(parsed.min(FOR_EVER)),
        Err(humantime::DurationError::NumberOverflow) => Ok(FOR_EVER),
        Err(_) => Err("expected a duration such as `500ms`, `30s` or `5m`".to_owned()),
    }
}

/// A number of calls in flight, from 1 to 1000000.
pub(crate) fn concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one call must be allowed".to_owned()),
        Ok(number) if number <= 1_000_000 => Ok(number),
        _ => Err("expected a whole number from 1 to 1000000".to_owned()),
    }
}

/// A delimiter of CSV fields: an ASCII character, or `tab`.
pub(crate) fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0) => Ok(*byte),
            _ => Err("expected one ASCII character such as `;`, or `tab`".to_owned()),
        },
    }
}

/// A label of the WHATWG encoding standard.
pub(crate) fn encoding(text: &str) -> Result<&'static encoding_rs::Encoding, String> {
    encoding_rs::Encoding::for_label(text.as_bytes()).ok_or_else(|| {
        "expected an encoding label of the WHATWG standard such as `latin1` or `utf-16le`".to_owned()
    })
}

/// A range `A:B`, counted from 0, the end exclusive. Either end may be left out.
pub(crate) fn range(text: &str) -> Result<Range<u64>, String> {
    let expected = || "expected `A:B`, 0-based, end exclusive, such as `0:100`".to_owned();
    let (start, end) = text.split_once(':').ok_or_else(expected)?;
    let bound = |text: &str, default| {
        if text.is_empty() { Ok(default) } else { text.parse().map_err(|_| expected()) }
    };
    let range = bound(start, 0)?..bound(end, u64::MAX)?;
    if range.start < range.end {
        Ok(range)
    } else {
        Err("the range is empty: its end is not after its start".to_owned())
    }
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected `NAME=VALUE`".to_owned()),
    }
}

/// Names of fields: at least one, and none of them twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldNames(pub Vec<String>);

/// `NAME,NAME,…`.
pub(super) fn fields(text: &str) -> Result<FieldNames, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    match twice {
        _ if names.iter().any(String::is_empty) => {
            Err("expected names such as `answer,reasoning`".to_owned())
        }
        Some((_, name)) => Err(format!("`{name}` is given twice")),
        None => Ok(FieldNames(names)),
    }
}

/// An amount of US dollars, which may be zero.
pub(super) fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(dollars),
        _ => Err("expected an amount of US dollars such as `0.15`".to_owned()),
    }
}

/// An amount of US dollars of more than zero.
pub(super) fn budget(text: &str) -> Result<f64, String> {
    amount(text).and_then(|dollars| {
        if dollars > 0.0 { Ok(dollars) } else { Err("no call fits into a budget of zero".to_owned()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_finite_and_a_budget_is_more_than_nothing() {
        assert_eq!((amount("0.15"), amount("0"), budget("2")), (Ok(0.15), Ok(0.0), Ok(2.0)));
        assert!(
            ["", "-1", "inf", "NaN", "$1"].iter().all(|text| amount(text).is_err() && budget(text).is_err())
        );
        assert!(budget("0").is_err());
    }

    #[test]
    fn ranges_are_half_open_and_may_lack_an_end() {
        assert_eq!(range("2:5"), Ok(2..5));
        assert_eq!(range(":5"), Ok(0..5));
        assert_eq!(range("2:"), Ok(2..u64::MAX));
        assert!(range("5:5").is_err() && range("7").is_err() && range("a:b").is_err());
    }

    #[test]
    fn durations_need_a_unit_and_some_time() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("60").is_err() && duration("0s").is_err() && duration("-1s").is_err());
    }

    #[test]
    fn none_is_a_limit_that_is_never_reached_and_no_time_to_wait() {
        assert_eq!(
            (duration("none"), duration("0s").is_err(), wait("none").is_err()),
            (Ok(FOR_EVER), true, true)
        );
    }

    #[test]
    fn longer_durations_than_a_clock_can_hold_are_for_ever() {
        for text in ["400000000000y", "99999999999999999999999y"] {
            let parsed = duration(text).unwrap();
            assert_eq!((parsed, wait(text)), (FOR_EVER, Ok(FOR_EVER)));
            assert!((std::time::Instant::now() + parsed).checked_add(parsed * 2).is_some());
        }
    }

    #[test]
    fn a_delimiter_is_one_character() {
        assert_eq!(delimiter(";"), Ok(b';'));
        assert_eq!(delimiter("\\t"), Ok(b'\t'));
        assert!(delimiter(";;").is_err() && delimiter("\"").is_err() && delimiter("é").is_err());
    }
}
