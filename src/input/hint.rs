//! Hints for mending a refused file, derived from the fault and the first bytes of the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::delimiter::separator;
use super::fault::Fault;
use super::source::{Format, Source};

/// How many bytes of the file are looked at.
const HEAD: u64 = 4096;
const GZIP: &[u8] = b"\x1F\x8B";
const ZIP: &[u8] = b"PK\x03\x04";

/// The option or command that mends the fault.
pub(super) fn of(source: &Source, fault: &Fault) -> Option<String> {
    match fault {
        Fault::UnknownFormat => Some(of_unknown_format(&source.path)),
        // The content of the file is not the cause of these.
        Fault::Io(_)
        | Fault::Directory
        | Fault::NotRegular
        | Fault::Delimiter(_)
        | Fault::Misfit(_)
        | Fault::Types(_)
        | Fault::UnknownParameter { .. }
        | Fault::MappedTwice(_)
        | Fault::UnusedColumn { .. } => of_fault(fault),
        _ => {
            let mut head = Vec::new();
            // An error is ignored because it costs only the hint.
            let _ = File::open(&source.path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
            of_binary_head(&head, source)
                .or_else(|| of_text_head(&head, source).filter(|_| !matches!(fault, Fault::Encoding(_))))
                .or_else(|| of_fault(fault))
        }
    }
}

fn of_unknown_format(path: &Path) -> String {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz")) {
        return format!("the file is compressed: run `gunzip -k '{}'` and read the result", path.display());
    }
    "rename it, or give it as standard input: `- --format csv`".to_owned()
}

fn of_binary_head(head: &[u8], source: &Source) -> Option<String> {
    let path = source.path.display();
    let extension = if source.format == Format::Csv { "csv" } else { "jsonl" };
    if head.starts_with(GZIP) {
        let gz = source.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let command = if gz {
            format!("gunzip -k '{path}'")
        } else {
            format!("gunzip -c < '{path}' > unpacked.{extension}")
        };
        return Some(format!("the file is gzipped: run `{command}` and read the result"));
    }
    if head.starts_with(ZIP) {
        return Some("the file is a zip archive or a spreadsheet: export it as CSV in UTF-8".to_owned());
    }
    if let Some(label) = utf_16(head).filter(|_| source.encoding == encoding_rs::UTF_8) {
        return Some(format!("the file looks like UTF-16: add `--encoding {label}`"));
    }
    None
}

fn of_text_head(head: &[u8], source: &Source) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match source.format {
        Format::Csv => of_csv_head(text, source),
        Format::Jsonl => of_json_head(text, source),
    }
}

/// The label of UTF-16, if the file has its byte order mark or, as in mostly ASCII text, NUL in every other byte.
fn utf_16(head: &[u8]) -> Option<&'static str> {
    let nul_share = |offset: usize| {
        let bytes = head.iter().skip(offset).step_by(2);
        bytes.clone().filter(|byte| **byte == 0).count() * 2 > bytes.count().max(1)
    };
    match head {
        [0xFF, 0xFE, ..] => Some("utf-16le"),
        [0xFE, 0xFF, ..] => Some("utf-16be"),
        _ if nul_share(1) => Some("utf-16le"),
        _ if nul_share(0) => Some("utf-16be"),
        _ => None,
    }
}

fn of_csv_head(text: &str, source: &Source) -> Option<String> {
    if text.starts_with("{\"") || text.starts_with("[{") {
        return Some("the file looks like JSON: name it `.jsonl`".to_owned());
    }
    let header = text.lines().find(|line| separator(line.as_bytes()).is_none())?;
    if header.as_bytes().contains(&source.delimiter) {
        return None;
    }
    let (sign, option) = [(';', "';'"), ('\t', "$'\\t'"), ('|', "'|'")]
        .into_iter()
        .max_by_key(|(sign, _)| header.matches(*sign).count())
        .filter(|(sign, _)| header.contains(*sign))?;
    let name = if sign == '\t' { "tab".to_owned() } else { format!("`{sign}`") };
    Some(format!("the file looks {name}-separated: add `--delimiter {option}`"))
}

fn of_json_head(text: &str, source: &Source) -> Option<String> {
    let path = source.path.display();
    if text.starts_with('[') {
        return Some(format!(
            "the file looks like a JSON array: run `jq -c '.[]' '{path}' > lines.jsonl` and read the result"
        ));
    }
    let pretty = text.lines().next().is_some_and(|line| line.trim_end() == "{");
    pretty.then(|| {
        format!("the file looks like pretty-printed JSON: run `jq -c . '{path}' > lines.jsonl` and read the result")
    })
}

fn of_fault(fault: &Fault) -> Option<String> {
    let hint = match fault {
        Fault::Io(error) if error.kind() == std::io::ErrorKind::NotFound => "check the path",
        Fault::Io(_) | Fault::UnknownFormat | Fault::Types(_) => return None,
        Fault::Directory => "give one file",
        Fault::NotRegular => "save it to a file first",
        Fault::Delimiter(_) => "give one ASCII character other than a quote or a line end",
        Fault::Empty(_) => "check how the file was made",
        Fault::Encoding(_) => "name the encoding, such as `--encoding windows-1252`",
        Fault::Nul => "the file may be damaged or in another encoding: see `--encoding`",
        Fault::TooLong(_) => "a quote may be unclosed on that line",
        Fault::UnclosedQuote => "close the quote, or double it where it is part of the text",
        Fault::TextAfterQuote => "double the quotes inside a quoted field: `\"say \"\"hi\"\"\"`",
        Fault::BareQuote => "quote the whole field and double its quotes: `\"6\"\" pipe\"`",
        Fault::Uneven { fields, header } if fields > header => "quote the field that holds a delimiter",
        Fault::Uneven { .. } => "the line may be cut off or a delimiter missing",
        Fault::Json(_) | Fault::NotObject(_) => "write one JSON object a line",
        Fault::NotFinite { .. } => "JSON has no such number: write `null`, or a string",
        Fault::Torn => "the file may be cut off: complete the line or delete it",
        Fault::TooDeep(_) => "flatten the value, or pass it as a string",
        Fault::DuplicateColumn { .. } => "rename all but one of them",
        Fault::MissingKey(_) => "add the key (`null` marks a row that is not to be asked)",
        Fault::Misfit(_) => {
            "correct the value (a list or a model is written as JSON), or annotate the parameter as `str`"
        }
        Fault::NamedNowhere(_) => "check the spelling of the column",
        Fault::MissingColumn { column, parameter, columns } => {
            return Some(of_missing_column(column, parameter.as_deref(), columns));
        }
        Fault::UnknownParameter { .. } => "write `--map PARAMETER=COLUMN`",
        Fault::MappedTwice(_) => "keep one of the two",
        Fault::UnusedColumn { column, parameter: Some(parameter) } => {
            return Some(format!("write `--map '{parameter}={column}'`"));
        }
        Fault::UnusedColumn { .. } => "leave `--column` out",
    };
    Some(hint.to_owned())
}

fn of_missing_column(column: &str, parameter: Option<&str>, columns: &[String]) -> String {
    let plain = |name: &str| name.trim().to_lowercase().replace([' ', '-'], "_");
    let alike = columns.iter().find(|known| plain(known) == plain(column));
    match (parameter, alike) {
        (Some("question"), Some(known)) => format!("did you mean `--column '{known}'`?"),
        (Some("question"), None) => "name the column of the question: `--column NAME`".to_owned(),
        (Some(parameter), Some(known)) => {
            format!("did you mean `{known}`? `--map '{parameter}={known}'` takes it")
        }
        (Some(parameter), None) => format!("name the column: `--map {parameter}=NAME`"),
        (None, Some(known)) => format!("did you mean `--id-column '{known}'`?"),
        (None, None) => "name another `--id-column`, or none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(format: Format, head: &[u8]) -> Option<String> {
        let source = Source::new("in", format);
        of_binary_head(head, &source).or_else(|| of_text_head(head, &source))
    }

    #[track_caller]
    fn hints(format: Format, head: &[u8], expected: &str) {
        let hint = of_text(format, head).unwrap_or_default();
        assert!(hint.contains(expected), "{hint}");
    }

    #[test]
    fn other_delimiters_are_recognized() {
        hints(Format::Csv, b"id;question\n1;a,b\n", "--delimiter ';'");
        hints(Format::Csv, b"id\tquestion\n", "--delimiter $'\\t'");
        assert_eq!(of_text(Format::Csv, b"id,question;x\n"), None);
        assert_eq!(of_text(Format::Csv, b"id\n"), None);
    }

    #[test]
    fn other_encodings_and_archives_are_recognized() {
        hints(Format::Csv, b"\xFF\xFEq\0\n\0", "--encoding utf-16le");
        hints(Format::Csv, b"\0q\0\n\0a", "--encoding utf-16be");
        hints(Format::Jsonl, b"\x1F\x8B\x08", "gunzip -c < 'in' > unpacked.jsonl");
        hints(Format::Csv, b"PK\x03\x04", "export it as CSV");
    }

    #[test]
    fn json_that_is_not_json_lines_is_recognized() {
        hints(Format::Jsonl, b"[\n {\"question\": 1}\n]", "jq -c '.[]' 'in'");
        hints(Format::Jsonl, b"{\n  \"question\": 1\n}", "jq -c . 'in'");
        hints(Format::Csv, b"{\"question\": 1}\n", "`.jsonl`");
        assert_eq!(of_text(Format::Jsonl, b"{\"question\": 1}\n"), None);
    }

    #[test]
    fn a_name_that_differs_by_case_or_blanks_is_offered() {
        let columns = ["id".to_owned(), "Question ".to_owned()];
        assert_eq!(
            of_missing_column("question", Some("question"), &columns),
            "did you mean `--column 'Question '`?"
        );
        assert_eq!(
            of_missing_column("ID", Some("key"), &columns),
            "did you mean `id`? `--map 'key=id'` takes it"
        );
    }
}
