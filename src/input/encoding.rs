//! A reader that strips the byte order mark and transcodes other encodings to UTF-8.
//!
//! Malformed input is an error; it is never replaced by U+FFFD. UTF-8 itself passes unchecked, because each record is
//! checked later, when its line is known.

use std::io::{Cursor, Read, Result};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

const CHUNK: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The input has bytes that are invalid in its encoding. Carried inside the [`std::io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("malformed text")]
pub(super) struct Malformed;

/// Reads UTF-8 without a byte order mark.
pub(super) enum Utf8Reader<R> {
    /// The input is UTF-8: its first bytes, without the mark, then the rest.
    Plain(std::io::Chain<Cursor<Vec<u8>>, R>),
    /// The input is in another encoding.
    Transcoded(Box<Transcoder<R>>),
}

pub(super) struct Transcoder<R> {
    reader: R,
    decoder: Decoder,
    encoded: Vec<u8>,
    /// The part of `encoded` that has not been decoded yet.
    pending: std::ops::Range<usize>,
    decoded: Cursor<Vec<u8>>,
    ended: bool,
    malformed: bool,
}

impl<R: Read> Utf8Reader<R> {
    pub(super) fn new(mut reader: R, encoding: &'static Encoding) -> Result<Self> {
        if encoding == UTF_8 {
            let mut head = Vec::new();
            reader.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
            if head == BYTE_ORDER_MARK {
                head.clear();
            }
            return Ok(Self::Plain(Cursor::new(head).chain(reader)));
        }
        Ok(Self::Transcoded(Box::new(Transcoder {
            reader,
            decoder: encoding.new_decoder(),
            encoded: vec![0; CHUNK],
            pending: 0..0,
            decoded: Cursor::default(),
            ended: false,
            malformed: false,
        })))
    }

    /// The underlying reader.
    pub(super) fn into_inner(self) -> R {
        match self {
            Self::Plain(chain) => chain.into_inner().1,
            Self::Transcoded(transcoder) => transcoder.reader,
        }
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(chain) => chain.read(into),
            Self::Transcoded(transcoder) => transcoder.read(into),
        }
    }
}

impl<R: Read> Read for Transcoder<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            let count = self.decoded.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            if self.malformed {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, Malformed));
            }
            if self.pending.is_empty() {
                if self.ended {
                    return Ok(0);
                }
                self.pending = 0..self.reader.read(&mut self.encoded)?;
                self.ended = self.pending.is_empty();
            }
            self.decode();
        }
    }
}

impl<R> Transcoder<R> {
    /// Decodes the pending bytes. The text before a malformed sequence is delivered before the error.
    fn decode(&mut self) {
        let encoded = &self.encoded[self.pending.clone()];
        let mut decoded = std::mem::take(&mut self.decoded).into_inner();
        decoded.resize(2 * CHUNK, 0);
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(encoded, &mut decoded, self.ended);
        decoded.truncate(written);
        self.pending.start += read;
        self.malformed = matches!(result, DecoderResult::Malformed(..));
        self.decoded = Cursor::new(decoded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], label: &str) -> Result<String> {
        let mut text = String::new();
        Utf8Reader::new(bytes, Encoding::for_label(label.as_bytes()).unwrap())?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_byte_order_mark_is_stripped_and_a_lone_part_of_one_is_not() {
        assert_eq!(decode(b"\xEF\xBB\xBFa,b", "utf-8").unwrap(), "a,b");
        assert_eq!(decode(b"a", "utf-8").unwrap(), "a");
        assert_eq!(decode(b"", "utf-8").unwrap(), "");
    }

    #[test]
    fn utf_16_of_either_byte_order_is_read_by_its_mark() {
        assert_eq!(decode(b"\xFF\xFE\xE9\x00\n\x00", "utf-16").unwrap(), "é\n");
        assert_eq!(decode(b"\xFE\xFF\x00\xE9\x00\n", "utf-16").unwrap(), "é\n");
    }

    #[test]
    fn text_longer_than_a_chunk_survives_transcoding() {
        let text = "naïve 東京 🙂\n".repeat(20_000);
        let encoded: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&encoded, "utf-16le").unwrap(), text);
    }

    #[test]
    fn a_malformed_sequence_is_an_error_after_the_text_before_it() {
        let mut reader = Utf8Reader::new(&b"ab\n\x81\x20c"[..], encoding_rs::SHIFT_JIS).unwrap();
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!(read, b"ab\n");
        assert!(error.get_ref().unwrap().is::<Malformed>());
    }

    #[test]
    fn half_a_character_at_the_end_is_malformed() {
        assert!(decode(b"a\x00b", "utf-16le").is_err());
    }
}
