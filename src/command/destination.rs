//! Refuses to write over what must stay: journals, inputs, answers, and what is no regular file. Writes nothing.

use std::path::Path;

use anyhow::bail;

use crate::journal::is_journal;

/// Checks a file that is to be written whole under a name that the user gave by `option`. `kept` are the files that it
/// must not be, by what they are.
pub(super) fn check(path: &Path, option: &str, kept: &[(&str, &Path)]) -> anyhow::Result<()> {
    let shown = path.display();
    let hint = format!("hint: name another file with `{option}`");
    if path == Path::new("-") {
        bail!("`-` is no file, and standard output is for the summary alone\n{hint}");
    }
    // A symbolic link such as `/dev/stdout` would lead to some file and its companions beside it.
    if path.starts_with("/dev") && path.is_symlink() {
        bail!("`{shown}` is no place for a file\n{hint}");
    }
    // The file is replaced whole: a device or a pipe would be too.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let what = if path.is_dir() { "a directory" } else { "no regular file" };
        bail!("`{shown}` is {what}\n{hint}");
    }
    if let Some((what, file)) = kept.iter().find(|(_, file)| same(path, file)) {
        bail!("`{shown}` would replace {what} `{}`\n{hint}", file.display());
    }
    let named = |extension| path.extension().is_some_and(|found| found == extension);
    if named("journal") || is_journal(path) {
        bail!("`{shown}` is a journal, or has the name of one\n{hint}");
    }
    if named("input") {
        bail!("`{shown}` has the name under which a job keeps its standard input\n{hint}");
    }
    Ok(())
}

/// Whether both are there and one.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
