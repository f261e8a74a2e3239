//! Parses the JSON object of one line into its entries, in order and token for token.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr_iter;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;

/// The keys and values of an object in the order they are written, repeated keys included. A key that is not valid
/// Unicode, because it escapes half a surrogate pair, is kept as written.
pub(crate) type Entries<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// The deepest nesting accepted. `serde_json` parses no deeper, and other parsers have limits not far beyond.
const DEEPEST: usize = 128;

/// Parses one line.
///
/// # Errors
///
/// Fails if the line is not one whole JSON object, or is nested too deeply.
pub fn entries(raw: &str) -> Result<Entries<'_>, Fault> {
    if deeper_than(raw, DEEPEST) {
        return Err(Fault::TooDeep(DEEPEST));
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let entries = deserializer.deserialize_map(EntriesVisitor);
    match entries.and_then(|entries| deserializer.end().map(|()| entries)) {
        Ok(entries) => Ok(entries),
        Err(error) => Err(fault(raw, &error)),
    }
}

fn fault(raw: &str, error: &serde_json::Error) -> Fault {
    if error.is_data() {
        return Fault::NotObject(match raw.trim_start().as_bytes().first() {
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        });
    }
    if error.is_eof() {
        return Fault::Torn;
    }
    if let Some((token, byte)) = not_finite(raw, error.column()) {
        return Fault::NotFinite { token, byte };
    }
    // The error ends with `at line 1`, which counts within the record and would mislead.
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    Fault::Json(format!("{what} at byte {}", error.column()))
}

/// Finds a number that Python writes but JSON does not have. The parser stops at its first letter or just after it.
fn not_finite(raw: &str, column: usize) -> Option<(&'static str, usize)> {
    let starts = column.saturating_sub(3)..=column;
    let tokens = ["-Infinity", "Infinity", "NaN"];
    let found = |token: &'static str| {
        let mut starts = starts.clone();
        let at = starts
            .find(|at| raw.as_bytes().get(*at..).is_some_and(|rest| rest.starts_with(token.as_bytes())))?;
        Some((token, at + 1))
    };
    tokens.into_iter().find_map(found)
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            entries.push((key_text(key.get()), value));
        }
        Ok(entries)
    }
}

fn key_text(raw: &str) -> Cow<'_, str> {
    text(raw).unwrap_or(Cow::Borrowed(&raw[1..raw.len() - 1]))
}

/// The text of a JSON string; `None` if it escapes half a surrogate pair.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Some(Cow::Borrowed(&raw[1..raw.len() - 1]));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// Whether brackets are nested deeper than the limit. `RawValue` skips any depth without recursion, so the parser
/// itself would not notice.
fn deeper_than(raw: &str, limit: usize) -> bool {
    let bytes = raw.as_bytes();
    if memchr_iter(b'[', bytes).count() + memchr_iter(b'{', bytes).count() <= limit {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(raw: &str) -> Vec<(String, String)> {
        entries(raw)
            .unwrap()
            .into_iter()
            .map(|(key, value)| (key.into_owned(), value.get().to_owned()))
            .collect()
    }

    fn refusal(raw: &str) -> String {
        entries(raw).unwrap_err().to_string()
    }

    #[test]
    fn values_keep_their_tokens_and_repeated_keys_stay() {
        let big = r#"{"b": 100000000000000000000, "a\u0062": 1.50 , "b":{"x": [1,  2]}}"#;
        let expected = [("b", "100000000000000000000"), ("ab", "1.50"), ("b", "{\"x\": [1,  2]}")];
        assert_eq!(pairs(big), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn half_a_surrogate_pair_stays_as_written_in_keys_and_values() {
        let expected = vec![("\\ud800".to_owned(), "\"\\ud800\"".to_owned())];
        assert_eq!(pairs(r#"{"\ud800": "\ud800"}"#), expected);
        assert_eq!(text(r#""\ud83d\ude42""#).unwrap(), "🙂");
        assert_eq!(text(r#""\ud800""#), None);
    }

    #[test]
    fn what_is_no_object_is_named() {
        for (raw, what) in [("[1]", "an array"), ("\"x\"", "a string"), ("null", "null"), ("-1", "a number")]
        {
            assert_eq!(refusal(raw), format!("is not a JSON object but {what}"));
        }
    }

    #[test]
    fn the_byte_of_a_syntax_error_is_named() {
        assert_eq!(refusal(r#"{"a": 1 "b": 2}"#), "is not valid JSON: expected `,` or `}` at byte 9");
        assert_eq!(refusal(r#"{"a": 1} {}"#), "is not valid JSON: trailing characters at byte 10");
        assert_eq!(refusal(r#"{"a": "#), "is torn: it ends within the JSON object");
        assert!(refusal("{\"a\": \"x\ty\"}").contains("control character"));
    }

    #[test]
    fn a_number_that_json_does_not_have_is_named() {
        assert_eq!(refusal(r#"{"a": NaN}"#), "is not valid JSON: `NaN` at byte 7");
        assert_eq!(refusal(r#"{"a": -Infinity, "b": 1}"#), "is not valid JSON: `-Infinity` at byte 7");
        assert_eq!(refusal(r#"{"NaN": [1, Infinity]}"#), "is not valid JSON: `Infinity` at byte 13");
        assert_eq!(refusal(r#"{"a": None}"#), "is not valid JSON: expected value at byte 7");
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_nest() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(pairs(&nested(DEEPEST)).len(), 1);
        assert_eq!(refusal(&nested(DEEPEST + 1)), "nests deeper than 128 levels");
        assert_eq!(pairs(&format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000))).len(), 1);
        assert_eq!(pairs(&format!("{{\"a\":[{}1]}}", "[],".repeat(1000))).len(), 1);
    }

    proptest! {
        #[test]
        fn an_object_written_by_serde_json_is_read_back(object in prop::collection::vec((".{0,8}", ".{0,8}"), 0..5)) {
            let written: Vec<_> = object
                .iter()
                .map(|(key, value)| format!("{}:{}", serde_json::json!(key), serde_json::json!(value)))
                .collect();
            let raw = format!("{{{}}}", written.join(","));
            let read: Vec<_> = entries(&raw)
                .unwrap()
                .into_iter()
                .map(|(key, value)| (key.into_owned(), text(value.get()).unwrap().into_owned()))
                .collect();
            prop_assert_eq!(read, object);
        }

        #[test]
        fn whatever_serde_json_refuses_is_refused(raw in "[{}\\[\\]\",:\\\\u0a1 ]{0,14}") {
            let expected = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&raw);
            let surrogate = raw.contains("\\u");
            prop_assert!(surrogate || entries(&raw).is_ok() == expected.is_ok());
        }
    }
}
