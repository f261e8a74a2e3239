//! Formats figures and foreign text for people, on terminals and pages.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use console::Style;

use crate::event::{Blockage, Blocker};

/// Columns of the reason for which a run stopped: enough for an error and its place.
const REASON_WIDTH: usize = 400;
/// The most numbers of rows or lines that a message tells.
pub(crate) const TOLD: usize = 20;

/// The look of a place where text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether to colour it.
    pub color: bool,
    /// The number of columns to keep within, where foreign text allows.
    pub width: usize,
}

impl Look {
    /// Applies a style to a text, unless nothing is coloured.
    pub fn paint(self, style: Style, text: &str) -> String {
        style.force_styling(self.color).apply_to(text).to_string()
    }
}

/// Writes text and flushes it. A reader that has gone away is not an error.
///
/// # Errors
///
/// Fails if the stream cannot be written.
pub(crate) fn show(out: &mut dyn Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Formats a span of time with about three digits: `400 ns`, `850 ms`, `1.23 s`, `2 m 05 s`, `1 h 02 m`.
pub(crate) fn duration(span: Duration) -> String {
    let micros = span.as_micros();
    let seconds = span.as_secs_f64();
    let whole = (seconds + 0.5) as u64;
    match micros {
        0 if span.is_zero() => "0 s".to_owned(),
        0 => format!("{} ns", span.as_nanos()),
        1..1_000 => format!("{micros} µs"),
        1_000..9_950 => format!("{:.1} ms", seconds * 1e3),
        9_950..999_500 => format!("{:.0} ms", seconds * 1e3),
        999_500..9_995_000 => format!("{seconds:.2} s"),
        9_995_000..59_950_000 => format!("{seconds:.1} s"),
        _ if whole < 3_600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", count(whole / 3_600), whole % 3_600 / 60),
    }
}

/// Formats a limit that a user has set, as exactly as it was given: `20 s`, `2 m 30 s`.
pub(crate) fn limit(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 if span.subsec_nanos() == 0 => format!("{seconds} s"),
        _ => duration(span),
    }
}

/// As [`duration`], for milliseconds; a figure that is not a span of time gives `-`.
pub(crate) fn millis(figure: f64) -> String {
    seconds(figure / 1e3)
}

/// As [`duration`], for seconds; a figure that is not a span of time gives `-`.
pub(crate) fn seconds(figure: f64) -> String {
    Duration::try_from_secs_f64(figure).map_or_else(|_| "-".to_owned(), duration)
}

/// Formats a whole number with thousands separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a count and its noun, which is in the plural unless the count is one: `1 row`, `2 rows`, `3 retries`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let count = count(number);
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("{count} {noun}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {noun}s"),
    }
}

/// Formats a figure such as a rate with three digits: `0.52`, `8.10`, `80.0`, `1,234`.
pub(crate) fn figure(number: f64) -> String {
    match number.abs() {
        size if size < 9.995 => format!("{number:.2}"),
        size if size < 99.95 => format!("{number:.1}"),
        _ => count(number.round().max(0.0) as u64),
    }
}

/// Lists the first [`TOLD`] numbers of rows or lines.
pub(crate) fn numbers(rows: impl IntoIterator<Item = u64>) -> String {
    let mut rows = rows.into_iter();
    let mut text = rows.by_ref().take(TOLD).map(|row| row.to_string()).collect::<Vec<_>>().join(", ");
    if rows.next().is_some() {
        text += ", …";
    }
    text
}

/// Says that the event loop is blocked, by which row, and what the remedy is.
pub(crate) fn blocked(blockage: &Blockage, in_hand: &[u64]) -> String {
    let by = match (blockage.row, in_hand) {
        (Some(row), _) | (None, &[row]) => format!(" by row {row}"),
        (None, []) => String::new(),
        (None, rows) => format!(" by one of rows {}", numbers(rows.iter().copied())),
    };
    let lasted = duration(blockage.lasted);
    match &blockage.by {
        Blocker::Import(_) => format!(
            "the event loop has been blocked for {lasted} by {}, which the calls then in flight waited for\n\
             hint: import it at the top of the predictor's file",
            blockage.by
        ),
        Blocker::Line(place) => format!(
            "the event loop has been blocked{by} for {lasted} at {place}\n\
             hint: await instead, or make the predictor a plain `def`, which runs on threads"
        ),
        Blocker::Unseen => format!(
            "the event loop has been blocked{by} for {lasted} by code that holds the interpreter's lock: no thread \
             can see where\nhint: move what computes in C (a regular expression, a big sum) to another process"
        ),
    }
}

/// Formats US dollars, with more places for small amounts: `$12.34`, `$0.0021`.
pub(crate) fn dollars(amount: f64) -> String {
    if amount > 0.0 && amount < 0.1 { format!("${amount:.4}") } else { format!("${amount:.2}") }
}

/// Makes foreign text safe for a terminal by escaping control and direction-changing characters.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unsafe(character) {
            let _ = write!(safe, "{}", character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Escapes the same characters in JSON, in JSON's own way, so that it means the same.
pub(crate) fn escape_json(json: String) -> String {
    if !json.contains(is_unsafe) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 8);
    for character in json.chars() {
        if is_unsafe(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// As [`escape`], but keeps line breaks.
pub(crate) fn escape_lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

/// Shortens text to one line of at most `columns` columns, with `…` for what is left out, and [`escape`]s it.
pub(crate) fn brief(text: &str, columns: usize) -> String {
    let parts = text.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty());
    console::truncate_str(&escape(&parts.collect::<Vec<_>>().join(" ")), columns, "…").into_owned()
}

/// Splits the reason for which a run stopped into one short line and its hint. The hint is not foreign text.
pub(crate) fn reason(text: &str) -> (String, Option<&str>) {
    let (text, hint) = match text.rsplit_once("\nhint: ") {
        Some((text, hint)) if !hint.contains('\n') => (text, Some(hint)),
        _ => (text, None),
    };
    (brief(text, REASON_WIDTH), hint)
}

/// Quotes a file name as one word of a shell command, as bytes in `$'…'` if it is unsafe for a terminal or not UTF-8.
pub(crate) fn shell_word(file: &OsStr) -> String {
    if file.as_encoded_bytes().starts_with(b"-") {
        let mut beside = OsStr::new("./").to_owned();
        beside.push(file);
        return argument(&beside);
    }
    argument(file)
}

/// Quotes any word of a shell command where it must be quoted, as exactly as [`shell_word`].
pub(crate) fn argument(word: &OsStr) -> String {
    let plain = |character: char| character.is_alphanumeric() || "_-./+:,@%=".contains(character);
    match word.to_str() {
        Some(word) if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        Some(word) if !word.contains(is_unsafe) => format!("'{}'", word.replace('\'', r"'\''")),
        _ => {
            let byte = |byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", word.as_bytes().iter().map(byte).collect::<String>())
        }
    }
}

/// Lists items with commas in at most `columns` columns: all, or the first ones (at least one) and `7 more`.
pub(crate) fn list(items: &[String], columns: usize) -> String {
    let all = items.join(", ");
    if console::measure_text_width(&all) <= columns {
        return all;
    }
    let shortened = |kept: usize| format!("{}, {} more", items[..kept].join(", "), items.len() - kept);
    (2..items.len())
        .rev()
        .map(shortened)
        .find(|text| console::measure_text_width(text) <= columns)
        .unwrap_or_else(|| if items.len() > 1 { shortened(1) } else { all })
}

/// Breaks text into lines of at most `columns` columns, after separators only.
pub(crate) fn wrapped(text: &str, separator: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for part in text.split_inclusive(separator) {
        let line = lines.last_mut().filter(|line| {
            line.is_empty()
                || console::measure_text_width(line) + console::measure_text_width(part.trim_end()) <= columns
        });
        match line {
            Some(line) => line.push_str(part),
            None => lines.push(part.to_owned()),
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Formats text as indented lines, [`wrapped`] to `columns` columns; empty text gives no line.
pub(crate) fn paragraph(text: &str, separator: &str, indent: usize, columns: usize) -> String {
    let mut paragraph = String::new();
    for line in
        wrapped(text, separator, columns.saturating_sub(indent)).iter().filter(|line| !line.is_empty())
    {
        let _ = writeln!(paragraph, "{:indent$}{line}", "");
    }
    paragraph
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escaped_json_means_the_same_and_holds_nothing_unsafe() {
        let text = "\u{7f}\u{9b}31m\u{202e}gnp\u{e0001} \"é\n";
        let json = escape_json(serde_json::to_string(text).unwrap());
        assert!(!json.contains(is_unsafe), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn a_duration_is_written_in_the_unit_a_person_would_choose() {
        let texts = [0, 12, 999, 1_000, 9_949, 9_950, 850_000, 999_499, 999_500, 1_230_000, 9_995_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(
            texts,
            [
                "0 s", "12 µs", "999 µs", "1.0 ms", "9.9 ms", "10 ms", "850 ms", "999 ms", "1.00 s",
                "1.23 s", "10.0 s"
            ]
        );
        assert_eq!(duration(Duration::from_nanos(400)), "400 ns");
    }

    #[test]
    fn a_long_duration_never_shows_sixty_seconds_or_minutes() {
        let texts = [59_949, 59_950, 125_000, 3_599_499, 3_599_500, 3_720_000, 3_600_000_000]
            .map(|millis| duration(Duration::from_millis(millis)));
        assert_eq!(
            texts,
            ["59.9 s", "1 m 00 s", "2 m 05 s", "59 m 59 s", "1 h 00 m", "1 h 02 m", "1,000 h 00 m"]
        );
    }

    #[test]
    fn a_figure_that_is_no_span_of_time_is_a_dash() {
        assert_eq!([millis(f64::NAN), seconds(-1.0), seconds(f64::INFINITY)], ["-", "-", "-"]);
    }

    #[test]
    fn numbers_have_thousands_separators_and_no_false_precision() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.524, 9.996, 80.04, 99.96, 1234.4].map(figure),
            ["0.00", "0.52", "10.0", "80.0", "100", "1,234"]
        );
        assert_eq!([0.0, 0.00213, 12.3].map(dollars), ["$0.00", "$0.0021", "$12.30"]);
        assert_eq!(
            [(1, "row"), (1_000, "row"), (1, "retry"), (0, "retry")]
                .map(|(number, noun)| counted(number, noun)),
            ["1 row", "1,000 rows", "1 retry", "0 retries"]
        );
    }

    #[test]
    fn control_and_direction_changing_characters_are_escaped() {
        assert_eq!(escape("a\u{1b}[31mb\r\n\u{202e}c"), "a\\u{1b}[31mb\\r\\n\\u{202e}c");
        assert!(matches!(escape("Größe 東京"), Cow::Borrowed(_)));
        assert_eq!(escape_lines("one\u{7}\r\ntwo"), "one\\u{7}\ntwo");
    }

    #[test]
    fn a_brief_text_is_cut_by_columns_not_characters() {
        assert_eq!(brief("東京タワー", 6), "東京…");
        assert_eq!(brief("RateLimitError", 20), "RateLimitError");
    }

    #[test]
    fn a_file_name_becomes_one_safe_word_of_a_shell_command() {
        let words = ["data/answers-1.csv", "my answers.csv", "it's.csv", "-o.csv", "", "it's\nb"]
            .map(|word| shell_word(word.as_ref()));
        assert_eq!(
            words,
            ["data/answers-1.csv", "'my answers.csv'", r"'it'\''s.csv'", "./-o.csv", "''", r"$'it\'s\x0ab'"]
        );
    }

    #[test]
    fn a_list_that_does_not_fit_counts_its_rest() {
        let items = ["3 timeout", "2 output", "1 input"].map(str::to_owned);
        assert_eq!(list(&items, 80), "3 timeout, 2 output, 1 input");
        assert_eq!(list(&items, 28), "3 timeout, 2 output, 1 input");
        assert_eq!(list(&items, 27), "3 timeout, 2 output, 1 more");
        assert_eq!(list(&items, 26), "3 timeout, 2 more");
        assert_eq!(list(&items, 0), "3 timeout, 2 more");
        assert_eq!(list(&[], 80), "");
    }

    #[test]
    fn a_reader_that_has_gone_away_is_no_error_but_a_full_disk_is() {
        struct Refusing(io::ErrorKind);
        impl Write for Refusing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(show(&mut Refusing(io::ErrorKind::BrokenPipe), "text").is_ok());
        assert!(show(&mut Refusing(io::ErrorKind::StorageFull), "text").is_err());
    }

    proptest! {
        #[test]
        fn no_control_character_survives_escaping(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_unsafe));
        }

        #[test]
        fn removing_the_separators_gives_the_number_back(number in any::<u64>()) {
            prop_assert_eq!(count(number).replace(',', ""), number.to_string());
        }
    }
}
