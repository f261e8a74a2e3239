//! What a comparison is asked for: which modes it times, and which files it is written to.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::fs::{Access, directory_of, replace};
use crate::job::answerer::now;
use crate::job::destination::{self, Kind};
use crate::job::error::{ErrorKind, Explain, JobError};
use crate::job::files::writable;
use crate::job::paths::is_stream;
use crate::job::spec::values::concurrency;
use crate::job::spec::{JobSpec, Patch};
use crate::observe::Observer;
use crate::report::compare::{Comparison, ModeRuns};
use crate::report::json;

/// What a comparison is asked for.
#[derive(Debug, Clone, Args)]
pub struct CompareRequest {
    /// Time one call at a time; alone, time nothing else
    #[arg(long)]
    pub sequential: bool,
    /// Time several calls at a time; alone, time nothing else
    #[arg(long)]
    pub concurrent: bool,
    /// Calls in flight at most; repeat it to time several values [default: 16]
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency)]
    pub concurrency: Vec<usize>,
    /// Runs of each mode
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Also write the comparison as JSON
    #[arg(long, value_name = "FILE")]
    pub export_json: Option<PathBuf>,
    /// Also write the comparison as a table in Markdown
    #[arg(long, value_name = "FILE")]
    pub export_markdown: Option<PathBuf>,
    /// Replace files that this program did not write; they are kept as `<FILE>.<time>`
    #[arg(long)]
    pub force: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: Patch,
}

impl CompareRequest {
    /// The job whose rows are timed. Checks before that the input can be read again and the files can be written.
    ///
    /// # Errors
    ///
    /// Fails if the input is a stream, if its format is not known, or if a file cannot be written.
    pub fn spec(&self, input: &Path) -> Result<JobSpec, JobError> {
        if is_stream(input) {
            let text = "`compare` reads its input once for each run: give it a file";
            return Err(JobError::new(ErrorKind::Usage, text));
        }
        for (file, option, kind) in self.files() {
            destination::check(file, option, &[("the input", input)])?;
            destination::check_kind(file, option, kind, self.force)?;
            writable(directory_of(file))?;
        }
        let directory = std::env::current_dir()
            .explain(ErrorKind::Input, input, || "failed to find the working directory".to_owned())?;
        let mut spec = JobSpec::new(&directory, input, self.job.rows.format_of(input)?);
        spec.lay(self.job.clone(), &directory);
        Ok(spec)
    }

    /// The files to write, each with the option that names it and what it is written as.
    fn files(&self) -> impl Iterator<Item = (&Path, &'static str, Kind)> {
        let json = self.export_json.as_deref().map(|file| (file, "--export-json", Kind::Json));
        let markdown =
            self.export_markdown.as_deref().map(|file| (file, "--export-markdown", Kind::Markdown));
        json.into_iter().chain(markdown)
    }

    /// The modes asked for, by default both. The sequential mode comes first because it is the baseline.
    pub fn modes(&self) -> Vec<ModeRuns> {
        let (sequential, concurrent) =
            match (self.sequential, self.concurrent || !self.concurrency.is_empty()) {
                (false, false) => (true, true),
                (false, true) if !self.concurrent => (true, true),
                chosen => chosen,
            };
        let widths = if self.concurrency.is_empty() { &[16][..] } else { &self.concurrency };
        let mut modes: Vec<ModeRuns> = sequential.then(ModeRuns::sequential).into_iter().collect();
        if concurrent {
            modes.extend(widths.iter().map(|calls| ModeRuns::concurrent(*calls as u64)));
        }
        modes
    }

    /// Writes the files that were asked for. If one of them fails, the other is written all the same, because the
    /// measurements are paid for.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written.
    pub fn write(
        &self,
        access: Access,
        comparison: &Comparison,
        observer: &mut dyn Observer,
    ) -> Result<(), JobError> {
        for (file, _, kind) in self.files() {
            destination::set_aside(file, kind, &now(), observer)?;
        }
        let json = self.export_json.as_ref().map_or(Ok(()), |file| json::write(file, access, comparison));
        if let Some(file) = &self.export_markdown {
            replace(file, access, comparison.markdown().as_bytes()).explain(
                ErrorKind::Output,
                file,
                || format!("failed to write `{}`", file.display()),
            )?;
        }
        Ok(json?)
    }
}
