//! One line of the journal: `<8 hex digits of CRC-32> <JSON>\n`.

use serde::Serialize;

/// Bytes of the checksum and the space before the JSON.
const PREFIX: usize = 9;

/// A line without a record: room for one that may have to be written when the disk is full.
pub(super) const BLANK: [u8; 256] = [b' '; 256];

/// The record as a line, without its line feed, padded to fill a [`BLANK`]; none if it is longer.
pub(super) fn fill(record: &impl Serialize) -> serde_json::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    append_with(&mut line, |buffer| {
        serde_json::to_writer(&mut *buffer, record)?;
        buffer.resize(buffer.len().max(BLANK.len()), b' ');
        Ok(())
    })?;
    line.pop();
    Ok((line.len() == BLANK.len()).then_some(line))
}

/// Appends one record's line. On an error the buffer is left as it was.
pub(super) fn append(buffer: &mut Vec<u8>, record: &impl Serialize) -> serde_json::Result<()> {
    append_with(buffer, |buffer| serde_json::to_writer(buffer, record))
}

/// Appends a line whose JSON `write` appends. On an error the buffer is left as it was.
fn append_with(
    buffer: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    let start = buffer.len();
    let json = start + PREFIX;
    buffer.resize(json, b' ');
    if let Err(error) = write(buffer) {
        buffer.truncate(start);
        return Err(error);
    }
    // JSON strings hold no raw line feed, but a raw value may have one between its tokens.
    let mut from = json;
    while let Some(at) = memchr::memchr(b'\n', &buffer[from..]) {
        buffer[from + at] = b' ';
        from += at + 1;
    }
    let checksum = checksum(&buffer[json..]);
    buffer[start..start + checksum.len()].copy_from_slice(&checksum);
    buffer.push(b'\n');
    Ok(())
}

/// The JSON of a line given without its line feed; none if the checksum contradicts it.
pub(super) fn decode(line: &[u8]) -> Option<&[u8]> {
    let (prefix, json) = line.split_at_checked(PREFIX)?;
    let (expected, space) = prefix.split_at(PREFIX - 1);
    (space == b" " && expected == checksum(json)).then_some(json)
}

/// Where a whole line begins at the end of a damaged one, from which only a lost line feed separated it.
pub(super) fn whole_end(line: &[u8]) -> Option<usize> {
    let starts = memchr::memmem::find_iter(line, b" {\"").filter_map(|space| space.checked_sub(PREFIX - 1));
    let mut starts = starts.filter(|start| line[*start..][..PREFIX - 1].iter().all(u8::is_ascii_hexdigit));
    starts.find(|start| *start > 0 && decode(&line[*start..]).is_some())
}

/// The CRC-32 in 8 hex digits.
fn checksum(json: &[u8]) -> [u8; PREFIX - 1] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let checksum = crc32fast::hash(json);
    std::array::from_fn(|digit| DIGITS[(checksum >> (28 - 4 * digit)) as usize & 0xf])
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn encoded(record: &impl Serialize) -> Vec<u8> {
        let mut buffer = Vec::new();
        append(&mut buffer, record).unwrap();
        buffer
    }

    #[test]
    fn a_line_is_its_checksum_and_its_json() {
        let line = encoded(&["a"]);
        assert_eq!(line, b"78a7a40c [\"a\"]\n");
        assert_eq!(decode(&line[..line.len() - 1]), Some(&b"[\"a\"]"[..]));
    }

    #[test]
    fn a_line_feed_between_the_tokens_of_a_raw_value_does_not_break_the_line() {
        let raw: Box<RawValue> = serde_json::from_str("{\n \"a\":\n1}").unwrap();
        let line = encoded(&raw);
        assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
        assert_eq!(decode(line.strip_suffix(b"\n").unwrap()), Some(&b"{  \"a\": 1}"[..]));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes_the_checksum() {
        let line = encoded(&"what is asked and what is answered");
        let line = line.strip_suffix(b"\n").unwrap();
        for bit in 0..line.len() * 8 {
            let mut flipped = line.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        for length in 0..line.len() {
            assert_eq!(decode(&line[..length]), None, "length {length}");
        }
    }
}
