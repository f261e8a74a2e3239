//! Reads an env file, a file of environment variables for the predictor.

use std::path::{Path, PathBuf};

/// Why an env file cannot be used. The text never contains a value from the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    /// The file cannot be read.
    #[error("failed to read `{}`: {source}\nhint: `--env-file` names a file of lines such as `OPENAI_API_KEY=…`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line is not an assignment.
    #[error("failed to read `{}`: line {line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The variables of an env file, in the order of the file.
#[derive(Debug)]
pub(crate) struct EnvFile(Vec<(String, String)>);

impl EnvFile {
    /// Reads lines such as `NAME=value`, `export NAME="value"` or `# comment`. Nothing within a value is expanded.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if a line is not an assignment.
    pub(crate) fn read(path: &Path) -> Result<Self, EnvFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| EnvFileError::Read { path: path.to_owned(), source })?;
        let line = |(line, reason)| EnvFileError::Line { path: path.to_owned(), line, reason };
        parse(text.trim_start_matches('\u{feff}')).map(Self).map_err(line)
    }

    /// The names of the variables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The variables, each with its value.
    pub(crate) fn into_variables(self) -> Vec<(String, String)> {
        self.0
    }
}

/// Parses the variables of a text. The error is the line, counted from 1, and what is wrong with it.
fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = |reason| (text[..text.len() - rest.len()].matches('\n').count() + 1, reason);
        let line = rest.split('\n').next().unwrap_or_default();
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            rest = rest[line.len()..].strip_prefix('\n').unwrap_or_default();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { return Err(at("expected `NAME=VALUE`")) };
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim_start);
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(at("expected `NAME=VALUE`"));
        }
        let value = value.trim_start_matches([' ', '\t']);
        let from = &rest[value.as_ptr() as usize - rest.as_ptr() as usize..];
        let (value, after) = match from.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                quoted(&from[1..], quote).ok_or_else(|| at("its quote is not closed"))?
            }
            _ => (plain(value).to_owned(), &from[value.len()..]),
        };
        let (behind, next) = after.split_once('\n').unwrap_or((after, ""));
        if !(behind.trim().is_empty() || behind.trim_start().starts_with('#')) {
            return Err(at("text follows the closing quote"));
        }
        if value.contains('\0') {
            return Err(at("a value cannot hold a NUL"));
        }
        // As in a shell, the last assignment to a name counts.
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value));
        rest = next;
    }
    Ok(variables)
}

/// An unquoted value: what comes before a comment, without the spaces around it.
fn plain(value: &str) -> &str {
    let end = value.match_indices('#').map(|(at, _)| at);
    let is_comment = |at: &usize| value[..*at].is_empty() || value[..*at].ends_with([' ', '\t']);
    value[..end.into_iter().find(is_comment).unwrap_or(value.len())].trim_end()
}

/// A quoted value, which may span lines, and the text after the closing quote. Escapes such as `\n`, `\"` and `\\` work
/// in double quotes only.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            _ if char == quote => return Some((value, &text[at + 1..])),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    #[test]
    fn the_forms_that_people_write() {
        let text = "# keys\n\nPLAIN=sk-1\r\nexport EXPORTED = two words  # why\n  HASH=a#b\nEMPTY=\nNONE= # nothing\n\
                    SINGLE='a \"b\" \\n $HOME'\nDOUBLE=\"a 'b'\\n\\\"c\\\" \\d\" # said\nEQUALS=a=b==\nPLAIN=sk-2";
        let expected = [
            ("EXPORTED", "two words"),
            ("HASH", "a#b"),
            ("EMPTY", ""),
            ("NONE", ""),
            ("SINGLE", "a \"b\" \\n $HOME"),
            ("DOUBLE", "a 'b'\n\"c\" \\d"),
            ("EQUALS", "a=b=="),
            ("PLAIN", "sk-2"),
        ];
        assert_eq!(pairs(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_quoted_value_may_go_over_lines() {
        let text = "A=\"-----BEGIN\nkey\n-----END\"\nB=1";
        assert_eq!(pairs(text)[0].1, "-----BEGIN\nkey\n-----END");
        assert_eq!(pairs(text)[1], ("B".to_owned(), "1".to_owned()));
    }

    #[test]
    fn what_is_no_assignment_is_told_with_its_line() {
        for (text, line) in
            [("A=1\nB", 2), ("A=1\n\n=2", 3), ("A: 1", 1), ("A=\"x\ny\nB=2", 1), ("A='x\n'\nB='x' y", 3)]
        {
            assert_eq!(parse(text).unwrap_err().0, line, "{text}");
        }
    }
}
