//! The fields of one CSV record: how many there are, and their values.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

use super::fault::Fault;

/// Replaces the content of `into` with the values of a record's fields: outer quotes are removed, doubled ones undone.
pub fn fields(raw: &str, delimiter: u8, into: &mut csv::StringRecord) {
    into.clear();
    for field in RawFields::new(raw, delimiter) {
        into.push_field(&unquote(field));
    }
}

/// Whether every field of the record is blank, as in the `;;;;` that spreadsheets put at the end of a file.
pub(super) fn is_empty(raw: &str, delimiter: u8) -> bool {
    // Most records begin with a value. One look at it spares them the search.
    let begins_with_value = |first: u8| first.is_ascii_alphanumeric() && first != delimiter;
    !raw.bytes().next().is_some_and(begins_with_value)
        && RawFields::new(raw, delimiter).all(|field| unquote(field).trim().is_empty())
}

/// Counts the fields of a record. Refuses NUL, text after a closing quote, and a quote inside an unquoted field, which
/// might be text or the rest of a quoted field.
pub(super) fn width(raw: &str, delimiter: u8) -> Result<usize, Fault> {
    let bytes = raw.as_bytes();
    if memchr(0, bytes).is_some() {
        return Err(Fault::Nul);
    }
    if memchr(b'"', bytes).is_none() {
        return Ok(1 + memchr_iter(delimiter, bytes).count());
    }
    RawFields::new(raw, delimiter).try_fold(0, |count, field| match closing_quote(field) {
        Some(at) if at + 1 < field.len() => Err(Fault::TextAfterQuote),
        None if memchr(b'"', field.as_bytes()).is_some() => Err(Fault::BareQuote),
        _ => Ok(count + 1),
    })
}

/// The fields of a record as written.
struct RawFields<'a> {
    rest: Option<&'a str>,
    delimiter: u8,
}

impl<'a> RawFields<'a> {
    fn new(raw: &'a str, delimiter: u8) -> Self {
        Self { rest: Some(raw), delimiter }
    }
}

impl<'a> Iterator for RawFields<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let quoted = closing_quote(rest).map_or(0, |at| at + 1);
        let Some(found) = memchr(self.delimiter, &rest.as_bytes()[quoted..]) else {
            self.rest = None;
            return Some(rest);
        };
        let (field, after) = rest.split_at(quoted + found);
        self.rest = Some(&after[1..]);
        Some(field)
    }
}

/// Position of the quote that closes the one at the start of `text`, if it starts with one.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    while let Some(found) = memchr(b'"', &bytes[at..]) {
        at += found;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
    None
}

fn unquote(field: &str) -> Cow<'_, str> {
    let Some(closing) = closing_quote(field) else { return Cow::Borrowed(field) };
    let inner = &field[1..closing];
    if memchr(b'"', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    Cow::Owned(inner.replace("\"\"", "\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(raw: &str) -> Vec<String> {
        let mut record = csv::StringRecord::new();
        fields(raw, b',', &mut record);
        record.iter().map(str::to_owned).collect()
    }

    #[test]
    fn quotes_are_taken_off_and_doubled_ones_undone() {
        assert_eq!(values("a,\"b, \"\"c\"\"\",,\"\"\"\""), ["a", "b, \"c\"", "", "\""]);
        assert_eq!(values("\"\",\"\""), ["", ""]);
        assert_eq!(values(""), [""]);
    }

    #[test]
    fn a_record_is_empty_where_no_cell_holds_more_than_blanks() {
        for raw in [";;;", "", " ; ", "\"\";\"\""] {
            assert!(is_empty(raw, b';'), "{raw}");
        }
        for raw in [";;0", ",", "\"\"\"\";", "a;"] {
            assert!(!is_empty(raw, b';'), "{raw}");
        }
    }

    #[test]
    fn a_quote_inside_an_unquoted_field_is_refused() {
        assert!(matches!(width(r#"6" pipe,x"#, b','), Err(Fault::BareQuote)));
        assert!(matches!(width(r#"x, "y""#, b','), Err(Fault::BareQuote)));
        assert!(matches!(width(r#""6"" pipe",x"#, b','), Ok(2)));
    }

    #[test]
    fn text_after_a_closing_quote_is_refused() {
        assert!(matches!(width(r#"a,"b"c"#, b','), Err(Fault::TextAfterQuote)));
        assert!(matches!(width(r#""b" ,c"#, b','), Err(Fault::TextAfterQuote)));
        assert!(matches!(width(r#""b","c""#, b','), Ok(2)));
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(matches!(width("a\0,b", b','), Err(Fault::Nul)));
    }

    proptest! {
        #[test]
        fn a_record_written_by_the_csv_crate_is_read_back(row in prop::collection::vec("[a;\" \r\né]{0,6}", 1..6)) {
            let mut writer = csv::WriterBuilder::new().delimiter(b';').from_writer(Vec::new());
            writer.write_record(&row).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let raw = written.strip_suffix('\n').unwrap();
            let mut record = csv::StringRecord::new();
            fields(raw, b';', &mut record);
            prop_assert_eq!(record.iter().collect::<Vec<_>>(), row.clone());
            prop_assert_eq!(width(raw, b';').unwrap(), row.len());
        }

        #[test]
        fn any_text_has_as_many_values_as_its_width(raw in "[a,\" ]{0,12}") {
            if let Ok(width) = width(&raw, b',') {
                prop_assert_eq!(values(&raw).len(), width);
            }
        }
    }
}
