//! All steps of a session in one call.

use super::begin::Job;
use super::error::JobError;
use super::rebuilt::rebuilt;
use super::run::SessionEnd;
use crate::observe::{Level, Observer};
use crate::run::control::Control;

impl Job {
    /// Prepares the job, opens and runs it. If nothing is left to do, starts nothing and returns the report of the run.
    ///
    /// # Errors
    ///
    /// As the steps do.
    pub async fn run(
        mut self,
        observer: &mut dyn Observer,
        control: &Control,
    ) -> Result<SessionEnd, JobError> {
        let files = self.files().clone();
        let mut done = self.done(observer, control).await?;
        if done.is_none() {
            let prepared = Box::pin(self.prepare(observer, control)).await?;
            done = prepared.done(control).await?;
            if done.is_none() {
                let mut opened = Box::pin(prepared.open(observer, control)).await?;
                return Box::pin(opened.run(observer, control)).await;
            }
        }
        observer.message(Level::Note, "nothing to do\nhint: `--force` starts anew");
        let report = rebuilt(&files, observer, control)?.report;
        let code = if done.is_some_and(|counts| counts.failed + counts.unfinished > 0) { 3 } else { 0 };
        Ok(SessionEnd { code, stop: None, report: Some(report) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Format, JobPaths, JobSpec, SessionOptions};

    struct Messages(Vec<String>);

    impl Observer for Messages {
        fn message(&mut self, _: Level, text: &str) {
            self.0.push(text.to_owned());
        }
    }

    #[tokio::test]
    async fn a_job_runs_to_its_end_and_once_it_is_done_only_its_report_is_returned() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("q.csv"), "question\na\nb\n").unwrap();
        for was_done in [false, true] {
            let mut spec = JobSpec::new(directory.path(), "q.csv".as_ref(), Format::Csv);
            spec.predictor.predictor = "app.py:answer".to_owned();
            spec.predictor.bridge = "fake".to_owned();
            let files = JobPaths::of(&directory.path().join("answers.csv"));
            let job = Job::new(spec, files, SessionOptions::default()).unwrap();
            let mut messages = Messages(Vec::new());
            let end = job.run(&mut messages, &Control::new()).await.unwrap();
            let done = messages.0.iter().any(|text| text.starts_with("nothing to do"));
            assert_eq!(
                (done, end.code, end.broken(), end.report.as_ref().unwrap().rows.ok),
                (was_done, 0, None, 2)
            );
        }
    }
}
