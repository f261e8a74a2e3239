//! The files that a job writes: checks what they would replace, and keeps a copy of a stream and of an earlier journal.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::TempPath;
use tokio_util::sync::CancellationToken;

use super::answerer::now;
use super::destination::{self, Kind, same};
use super::error::{ErrorKind, Explain, JobError, refuse};
use super::paths::JobPaths;
use super::prepare::Prepared;
use super::run::Opened;
use super::spec::JobSpec;
use super::telling::{Tell, unless_stopped};
use crate::fs::{directory_of, sync_directory_of};
use crate::journal::{Journal, JournalError, Recovered, holds_lines, set_aside};
use crate::observe::{Level, Observer};
use crate::run::control::Control;

/// Checks that the job's files can be written and replace nothing that must stay. Returns whether the journal holds a
/// run to continue.
pub(super) fn check(
    input: &Path,
    output: Option<&Path>,
    spec: &JobSpec,
    paths: &JobPaths,
    force: bool,
) -> Result<bool, JobError> {
    // All of the job's files: the copy of a stream, if given as input, would be set aside before it is read.
    for file in [&paths.answers, &paths.journal, &paths.report, &paths.page, &paths.spool] {
        if input != Path::new("-") && same(file, input) {
            refuse!(
                Output,
                file,
                "`{}` would replace the input `{}`\nhint: name another file with `--output`",
                file.display(),
                input.display()
            );
        }
    }
    // Also the name as given: once links are followed, a descriptor looks like any file.
    for file in output.into_iter().chain([&*paths.answers, &*paths.report, &*paths.page]) {
        destination::check(file, "--output", &[])?;
    }
    // If the journal holds a run, the files beside it belong to that job.
    let earlier = paths.journal.exists() && holds_lines(&paths.journal)?;
    if !earlier {
        destination::check_extension(&paths.answers)?;
        for (file, kind) in kinds(spec, paths) {
            destination::check_kind(file, "--output", kind, force)?;
        }
    }
    if earlier && !force {
        // Nothing can be resumed from a journal without a header.
        let header = File::open(&paths.journal).map(|file| find_header(file, &paths.journal));
        if let Ok(Err(JournalError::NoHeader { path })) = header {
            refuse!(
                Journal,
                &path,
                "`{}` holds no run: its header is missing or incomplete\nhint: put back a copy of the journal, or start anew with `--force`, which keeps this one under another name",
                path.display()
            );
        }
    }
    writable(directory_of(&paths.answers))?;
    Ok(earlier && !force)
}

/// Reads a journal up to its first header. What follows may take minutes.
fn find_header(journal: impl Read, path: &Path) -> Result<(), JournalError> {
    let found = Cell::new(false);
    Recovered::from_reader(Until { journal, found: &found }, path, |_| found.set(true)).map(drop)
}

/// A journal that ends once something was found.
struct Until<'a, R> {
    journal: R,
    found: &'a Cell<bool>,
}

impl<R: Read> Read for Until<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.found.get() { Ok(0) } else { self.journal.read(into) }
    }
}

/// Checks that a file can be made in the directory.
///
/// # Errors
///
/// Fails if the directory does not exist or cannot be written to.
pub(crate) fn writable(directory: &Path) -> Result<(), JobError> {
    // Permissions do not tell whether a file system is mounted read-only, so a file is made.
    let made = tempfile::tempfile_in(directory);
    made.map(drop).explain(ErrorKind::Output, directory, || cannot_write_into(directory))
}

fn cannot_write_into(directory: &Path) -> String {
    format!("failed to write into `{}`", directory.display())
}

/// The files that a job without an earlier run replaces, and what they are written as.
fn kinds<'a>(spec: &JobSpec, paths: &'a JobPaths) -> impl Iterator<Item = (&'a Path, Kind)> {
    let answers = Kind::Answers(spec.rows.delimiter);
    let at_the_end = [(&*paths.answers, answers), (&*paths.report, Kind::Json), (&*paths.page, Kind::Page)];
    at_the_end.into_iter().chain(spec.stream.then_some((&*paths.spool, Kind::Rows)))
}

/// Copies a stream to a temporary file beside `spool`. [`keep`] gives the file that name; otherwise it is removed when
/// dropped. Only the owner may read it. A stop ends the copying, however long the stream has nothing to read.
pub(super) async fn spooled(
    stream: &Path,
    spool: &Path,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<TempPath, JobError> {
    let directory = directory_of(spool);
    let (file, at) = tempfile::NamedTempFile::new_in(directory)
        .explain(ErrorKind::Output, directory, || cannot_write_into(directory))?
        .into_parts();
    let (stream, spool) = (stream.to_owned(), spool.to_owned());
    let kept = move |_: &Tell, stop: &CancellationToken| {
        let text = || format!("failed to keep `{}` in `{}`", stream.display(), spool.display());
        copy(&stream, file, stop).explain(ErrorKind::Output, &spool, text)
    };
    unless_stopped(kept, observer, control).await?;
    Ok(at)
}

fn copy(stream: &Path, file: File, stop: &CancellationToken) -> io::Result<()> {
    let stream = if stream == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned()?.into()
    } else {
        // Otherwise the opening of a pipe would wait until somebody writes to it.
        File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(stream)?
    };
    let mut file = BufWriter::with_capacity(AT_ONCE, file);
    io::copy(&mut Awaited { stream, stop }, &mut file)?;
    file.into_inner()?.sync_all()
}

/// How many bytes of a stream are read at once: what a pipe holds.
const AT_ONCE: usize = 1 << 16;
/// How often it is looked whether a stream that has nothing to read is still wanted.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A stream that can no longer be read once it is stopped, not even by a reader that waits for it.
struct Awaited<'a> {
    stream: File,
    stop: &'a CancellationToken,
}

impl Read for Awaited<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.stop.is_cancelled() {
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => match self.stream.read(into) {
                    // Somebody else has read it meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                },
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("stopped"))
    }
}

/// Gives the copy of a stream its name.
pub(super) fn keep(fresh: TempPath, spool: &Path) -> Result<(), JobError> {
    let kept = fresh.persist(spool).map_err(|error| error.error).and_then(|()| sync_directory_of(spool));
    kept.explain(ErrorKind::Output, spool, || {
        format!("failed to keep standard input in `{}`", spool.display())
    })
}

/// Removes the copy of a stream.
pub(super) fn remove_spool(paths: &JobPaths) -> Result<(), JobError> {
    std::fs::remove_file(&paths.spool)
        .explain(ErrorKind::Output, &paths.spool, || format!("failed to remove `{}`", paths.spool.display()))
}

/// Creates the journal of a new job. With `force`, or if it holds no whole line, an earlier journal is kept under
/// another name.
pub(super) fn create(
    force: bool,
    paths: &JobPaths,
    prepared: &Prepared,
    observer: &mut dyn Observer,
) -> Result<Opened, JobError> {
    let exists = paths.journal.exists();
    let cut_short = exists && !holds_lines(&paths.journal)?;
    if cut_short || (exists && force) {
        let time = now().replace(':', "-");
        let journal = set_aside(&paths.journal, &time)?;
        let without = if cut_short { ", which holds no whole line," } else { "" };
        let mut text = format!("the earlier journal{without} is kept as `{}`", name_of(&journal));
        if paths.spool.exists() {
            let mut spool = paths.spool.clone().into_os_string();
            spool.push(format!(".{time}"));
            std::fs::rename(&paths.spool, &spool).explain(ErrorKind::Output, &paths.spool, || {
                format!("failed to set aside `{}`", paths.spool.display())
            })?;
            text += &format!(", its input as `{}`", name_of(Path::new(&spool)));
        }
        observer.message(Level::Note, &text);
    }
    let header = &prepared.header;
    let journal = Journal::create(&paths.journal, header)?;
    if !exists || cut_short {
        for (file, kind) in kinds(&prepared.spec, paths) {
            destination::set_aside(file, kind, &header.started_at, observer)?;
        }
    }
    Ok(Opened::new(journal, header))
}

fn name_of(path: &Path) -> std::path::Display<'_> {
    Path::new(path.file_name().unwrap_or(path.as_os_str())).display()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::header;

    struct Unread;

    impl Read for Unread {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("read beyond the header")
        }
    }

    #[test]
    fn a_journal_is_read_only_up_to_its_first_header() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        drop(Journal::create(&path, &header(1, 0..4)).unwrap());
        let headers = std::fs::read(&path).unwrap();
        assert!(find_header((&*headers).chain(Unread), &path).is_ok());
        let without = find_header(&b"no line of a journal\n"[..], &path);
        assert!(matches!(without, Err(JournalError::NoHeader { .. })), "{without:?}");
    }
}
