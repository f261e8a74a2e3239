//! Refuses to write over what must stay: journals, inputs, files that no run made, and what is no regular file.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{ErrorKind, Explain, JobError, refuse};
use crate::fs::directory_of;
use crate::journal::is_journal;
use crate::observe::{Level, Observer};
use crate::output::is_answers;
use crate::report::compare::markdown;
use crate::report::{html, json};

/// A chain of symbolic links that is longer goes round in a circle.
const MOST_LINKS: usize = 40;
/// Formats that people want and answers are not written in.
const OTHER_FORMATS: [&str; 14] = [
    "parquet", "arrow", "feather", "sqlite", "xlsx", "xls", "ods", "json", "tsv", "gz", "bz2", "xz", "zst",
    "zip",
];

/// What a file must be, if there is one, for another of its kind to replace it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Answers; the delimiter that was given.
    Answers(Option<u8>),
    /// A report or a comparison.
    Json,
    /// The report as a page.
    Page,
    /// A comparison's table.
    Markdown,
}

impl Kind {
    /// Whether the file holds anything that this program did not write.
    fn is_foreign(self, path: &Path) -> bool {
        let holds_something = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0);
        holds_something
            && !match self {
                Self::Answers(delimiter) => is_answers(path, delimiter),
                Self::Json => json::is_ours(path),
                Self::Page => html::is_ours(path),
                Self::Markdown => markdown::is_ours(path),
            }
    }
}

/// Checks a file that is to be written whole under a name that the user gave by `option`. `kept` are the files that it
/// must not be, by what they are.
pub(crate) fn check(path: &Path, option: &str, kept: &[(&str, &Path)]) -> Result<(), JobError> {
    let shown = path.display();
    let hint = format!("hint: name another file with `{option}`");
    if path == Path::new("-") {
        refuse!(Output, path, "`-` is no file, and standard output is for the summary alone\n{hint}");
    }
    if leads_to_a_descriptor(path) {
        refuse!(Output, path, "`{shown}` is no place for a file\n{hint}");
    }
    // The file is replaced whole: a device or a pipe would be too.
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

/// Refuses to replace a file that this program did not write, unless that is forced: see [`set_aside`].
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

/// Refuses an answers file by the name of another format.
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

/// Keeps a file that this program did not write, and that is to be replaced, as `<path>.<time>` too, and says so.
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

/// Whether the name, or one that it leads to, is a link that the system made, such as `/dev/stdout` or `/proc/self/fd/1`:
/// what that leads to in the end is the very file that standard output goes to.
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

/// Whether both are there and one.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
