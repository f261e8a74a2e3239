//! Refuses to overwrite what must stay: journals, inputs, files that this program did not write, and anything that is
//! not a regular file.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{ErrorKind, Explain, JobError, refuse};
use super::paths::MOST_LINKS;
use crate::fs::directory_of;
use crate::journal::is_journal;
use crate::observe::{Level, Observer};
use crate::output::is_answers;
use crate::report::compare::markdown;
use crate::report::{html, json};

/// Formats that people ask for, but that answers are not written in.
const OTHER_FORMATS: [&str; 14] = [
    "parquet", "arrow", "feather", "sqlite", "xlsx", "xls", "ods", "json", "tsv", "gz", "bz2", "xz", "zst",
    "zip",
];

/// What a file is written as. It replaces an earlier file of the same kind without asking.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Answers, with the delimiter if one was given.
    Answers(Option<u8>),
    /// A report or a comparison as JSON.
    Json,
    /// A report as an HTML page.
    Page,
    /// A comparison as a Markdown table.
    Markdown,
    /// The copy of a stream. Nothing in it tells who wrote it: only the journal beside it does.
    Rows,
}

impl Kind {
    /// Whether the file holds something that this program did not write as this kind.
    fn is_foreign(self, path: &Path) -> bool {
        let holds_something = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0);
        holds_something
            && !match self {
                Self::Answers(delimiter) => is_answers(path, delimiter),
                Self::Json => json::is_ours(path),
                Self::Page => html::is_ours(path),
                Self::Markdown => markdown::is_ours(path),
                Self::Rows => false,
            }
    }
}

/// Checks a file that will be replaced as a whole, and that the user named with `option`. `kept` are files that it must
/// not be, each with what it is.
///
/// # Errors
///
/// Fails if the file is one of `kept`, a journal, the copy of a stream, or anything but a regular file.
pub(crate) fn check(path: &Path, option: &str, kept: &[(&str, &Path)]) -> Result<(), JobError> {
    let shown = path.display();
    let hint = format!("hint: name another file with `{option}`");
    if path == Path::new("-") {
        refuse!(Output, path, "`-` is not a file: standard output is for the summary alone\n{hint}");
    }
    if leads_to_a_descriptor(path) {
        refuse!(Output, path, "`{shown}` is not a regular file\n{hint}");
    }
    // Replacing the file would also replace a device or a pipe.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let what = if path.is_dir() { "a directory" } else { "no regular file" };
        refuse!(Output, path, "`{shown}` is {what}\n{hint}");
    }
    if let Some((what, file)) = kept.iter().find(|(_, file)| same(path, file)) {
        refuse!(Output, path, "`{shown}` would replace {what} `{}`\n{hint}", file.display());
    }
    let named = |extension| path.extension().is_some_and(|found| found == extension);
    if named("journal") || is_journal(path) {
        refuse!(Output, path, "`{shown}` is a journal, or has the name of one\n{hint}");
    }
    if named("input") {
        refuse!(Output, path, "`{shown}` has the name under which a job keeps its standard input\n{hint}");
    }
    Ok(())
}

/// Refuses to replace a file that this program did not write. With `force` it may be replaced: [`set_aside`] keeps it.
///
/// # Errors
///
/// Fails if there is such a file and `force` is off.
pub(crate) fn check_kind(path: &Path, option: &str, kind: Kind, force: bool) -> Result<(), JobError> {
    if !force && kind.is_foreign(path) {
        refuse!(
            Output,
            path,
            "`{}` is there, and this program did not write it\nhint: name another file with `{option}`, or add \
             `--force`: it is kept under another name",
            path.display()
        );
    }
    Ok(())
}

/// Refuses an answers file whose extension is that of another format.
///
/// # Errors
///
/// Fails for such an extension, with a hint that names one that is possible.
pub(crate) fn check_extension(path: &Path) -> Result<(), JobError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if !OTHER_FORMATS.contains(&&*extension) {
        return Ok(());
    }
    let hint = match &*extension {
        "json" => "name it `.jsonl`, one JSON object a line, or `.csv`",
        "tsv" => "name it `.csv`; its fields are separated as those of the input are",
        "gz" | "bz2" | "xz" | "zst" | "zip" => "name it `.csv` or `.jsonl`, and compress it afterwards",
        _ => "name it `.csv` or `.jsonl`",
    };
    refuse!(Output, path, "`{}`: answers are not written as `.{extension}`\nhint: {hint}", path.display());
}

/// Keeps a file that is about to be replaced, but that this program did not write, as `<path>.<time>`, and reports it.
///
/// # Errors
///
/// Fails if the file can be neither linked nor renamed.
pub(crate) fn set_aside(
    path: &Path,
    kind: Kind,
    time: &str,
    observer: &mut dyn Observer,
) -> Result<(), JobError> {
    if !kind.is_foreign(path) {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", time.replace(':', "-")));
    let aside = PathBuf::from(name);
    let linked = std::fs::hard_link(path, &aside).or_else(|error| {
        // Some file systems have no links.
        if error.kind() == io::ErrorKind::AlreadyExists { Err(error) } else { std::fs::rename(path, &aside) }
    });
    linked.explain(ErrorKind::Output, path, || format!("failed to set aside `{}`", path.display()))?;
    let name = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
    let text = format!("`{}` is kept as `{}`", name(path).display(), name(&aside).display());
    observer.message(Level::Note, &text);
    Ok(())
}

/// Whether the path leads to a link that the system made, such as `/dev/stdout` or `/proc/self/fd/1`. Such a link ends
/// at the very file that standard output goes to.
fn leads_to_a_descriptor(path: &Path) -> bool {
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let (Ok(directory), Some(name)) = (directory_of(&at).canonicalize(), at.file_name()) else {
            return false;
        };
        let named = directory.join(name);
        let system =
            named.starts_with("/proc") || named.starts_with("/dev") && !named.starts_with("/dev/shm");
        if system {
            return named.is_symlink();
        }
        let Ok(next) = std::fs::read_link(&named) else { return false };
        at = directory.join(next);
    }
    false
}

/// Whether both paths exist and are the same file.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
