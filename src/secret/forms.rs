//! The forms in which a secret may be shown: quoted by Python or JSON, in a URL, in a header for Basic authentication.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// The shortest piece of Base64 that is masked, in characters. A shorter one may be something else by chance.
const SHORTEST_BASE64: usize = 8;

/// The value and its other forms, each once.
pub(super) fn of(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    // Some servers quote the slash in JSON too.
    for quotes in ["", "'", "\"", "\"/"] {
        forms.push(quoted(value, quotes, false));
        forms.push(quoted(value, quotes, true));
    }
    for plain in ["", "/", "/:"] {
        let encoded = in_url(value, plain);
        forms.push(encoded.replace("%20", "+"));
        forms.push(lower_case(&encoded));
        forms.push(encoded);
    }
    forms.extend(in_base64(value));
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Quoted as a literal of Python or JSON, without the quotation marks around it. `ascii` also escapes all other
/// characters.
fn quoted(value: &str, quotes: &str, ascii: bool) -> String {
    let mut text = String::new();
    for character in value.chars() {
        match character {
            '\\' => text += "\\\\",
            '\n' => text += "\\n",
            '\r' => text += "\\r",
            '\t' => text += "\\t",
            _ if quotes.contains(character) => {
                text.push('\\');
                text.push(character);
            }
            _ if ascii && !character.is_ascii() => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            _ => text.push(character),
        }
    }
    text
}

/// Percent-encoded, except for characters that never are and those in `plain`.
fn in_url(value: &str, plain: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The same with `%2f` for `%2F`.
fn lower_case(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        text.push('%');
        text += &digits.to_ascii_lowercase();
        text += rest;
    }
    text
}

/// The parts of a Base64 text that depend on the value alone, whatever comes before it (`user:`) or after it. The value
/// may begin at any of three places of a group.
fn in_base64(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for before in 0..3 {
        let bytes = [&b"\0\0"[..before], value.as_bytes()].concat();
        // Each character holds six bits: the first character that is all of the value, and the end of the last one.
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for encoded in [BASE64_STANDARD_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)] {
            found.extend(encoded.get(first..end).map(str::to_owned));
        }
    }
    found.retain(|piece| piece.len() >= SHORTEST_BASE64);
    found
}
