//! Opens an input file, and finds out what its name and its first line say about how to read it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::delimiter::{separator, splits};
use super::encoding::Utf8Reader;
use super::error::InputError;
use super::fault::Fault;
use super::source::{Format, Source};

/// How many bytes are searched for a first line that names the delimiter; such a line is short.
const HEAD: u64 = 64;

impl Format {
    /// The format named by the extension of a file: `.csv`, `.jsonl` or `.ndjson`, in any case.
    ///
    /// # Errors
    ///
    /// Fails if the extension is another one, or there is none.
    pub fn from_path(path: &Path) -> Result<Self, InputError> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match &*extension {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            _ => Err(InputError::unknown_format(path)),
        }
    }
}

impl Source {
    /// The delimiter that a CSV file names in a first line such as `sep=;`.
    pub fn own_delimiter(&self) -> Option<u8> {
        if self.format == Format::Jsonl {
            return None;
        }
        let mut head = Vec::new();
        let reader = Utf8Reader::new(self.open().ok()?, self.encoding).ok()?;
        // An error is ignored here because reading the whole file reports it.
        reader.take(HEAD).read_to_end(&mut head).ok()?;
        let mut lines = head.split(|byte| matches!(byte, b'\n' | b'\r'));
        lines.find(|line| !line.is_empty()).and_then(separator)
    }

    /// Opens the file. Refuses a delimiter that cannot split fields, and a file that cannot be read twice.
    pub(crate) fn open(&self) -> Result<File, InputError> {
        let refuse = |fault: Fault| InputError::new(self, fault);
        if !splits(self.delimiter) {
            return Err(refuse(Fault::Delimiter(self.delimiter)));
        }
        // The type is checked before the file is opened because opening a pipe waits for its writer.
        let metadata = std::fs::metadata(&self.at).map_err(|error| refuse(error.into()))?;
        if metadata.is_dir() {
            return Err(refuse(Fault::Directory));
        }
        if !metadata.is_file() {
            return Err(refuse(Fault::NotRegular));
        }
        File::open(&self.at).map_err(|error| refuse(error.into()))
    }
}
