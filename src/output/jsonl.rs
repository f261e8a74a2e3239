//! Writes the records of a JSONL answers file.

use super::cell::Cell;

/// Appends one record: the object of the input that is to be copied, byte for byte, if any, with the cells added to it.
pub(super) fn record<'a>(
    copied: Option<&str>,
    cells: impl Iterator<Item = (&'a Key, &'a Cell<'a>)>,
    line_ending: &[u8],
    out: &mut Vec<u8>,
) {
    let (head, tail) = copied.and_then(|raw| raw.split_at_checked(raw.rfind('}')?)).unwrap_or(("{", "}"));
    out.extend_from_slice(head.as_bytes());
    let mut empty = head.trim_end().ends_with('{');
    for (key, cell) in cells {
        if let Cell::Absent = cell {
            continue;
        }
        if !std::mem::take(&mut empty) {
            out.push(b',');
        }
        out.extend_from_slice(&key.0);
        match cell {
            Cell::Absent | Cell::Null => out.extend_from_slice(b"null"),
            Cell::Json(raw) => out.extend_from_slice(raw.get().as_bytes()),
            Cell::Number(number) => out.extend_from_slice(number.as_bytes()),
            Cell::Text(text) => quote(text, out),
        }
    }
    out.extend_from_slice(tail.as_bytes());
    out.extend_from_slice(line_ending);
}

/// A name as it is written in an object: quoted, followed by a colon.
#[derive(Debug, Clone)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new(name: &str) -> Self {
        let mut key = Vec::new();
        quote(name, &mut key);
        key.push(b':');
        Self(key)
    }
}

fn quote(text: &str, out: &mut Vec<u8>) {
    // Writing to a buffer in memory cannot fail, and any text can be quoted.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn encode(copied: Option<&str>, cells: &[(&str, Cell<'_>)]) -> String {
        let mut out = Vec::new();
        let keys: Vec<_> = cells.iter().map(|(name, _)| Key::new(name)).collect();
        record(copied, keys.iter().zip(cells.iter().map(|(_, cell)| cell)), b"\n", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_put_before_the_closing_brace_and_all_else_is_copied() {
        let cells = [("a", Cell::Text("x\"\u{1f600}".into())), ("b", Cell::Absent), ("c", Cell::Null)];
        let added = r#""a":"x\"😀","c":null"#;
        assert_eq!(
            encode(Some(r#"{"q": {"z":{}} }"#), &cells),
            format!("{{\"q\": {{\"z\":{{}}}} ,{added}}}\n")
        );
        assert_eq!(encode(Some(r#" {"q":"}"}  "#), &cells), format!(" {{\"q\":\"}}\",{added}}}  \n"));
        assert_eq!(encode(Some("{ } "), &cells), format!("{{ {added}}} \n"));
        assert_eq!(encode(None, &cells), format!("{{{added}}}\n"));
    }

    #[test]
    fn json_is_written_token_for_token() {
        let raw = RawValue::from_string("[1.0, 100000000000000000000]".to_owned()).unwrap();
        assert_eq!(encode(None, &[("n", Cell::Json(&raw))]), "{\"n\":[1.0, 100000000000000000000]}\n");
    }
}
