//! Which bytes can separate the fields of CSV, and the line with which a file names its own.

/// The delimiter that a first line such as `sep=;` tells Excel to use. Such a line is not a record.
pub(super) fn separator(line: &[u8]) -> Option<u8> {
    let quoted = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match quoted.unwrap_or(line) {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] if splits(*delimiter) => Some(*delimiter),
        _ => None,
    }
}

/// Whether a byte can separate fields.
pub(super) fn splits(delimiter: u8) -> bool {
    !matches!(delimiter, b'"' | b'\n' | b'\r' | 0 | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_line_is_told_from_a_header() {
        assert_eq!(separator(b"sep=;"), Some(b';'));
        assert_eq!(separator(b"\"SEP=\t\""), Some(b'\t'));
        for line in [&b"sep="[..], b"sep=;;", b"sep=\"", b"separator", b"sep=\xff"] {
            assert_eq!(separator(line), None);
        }
    }
}
