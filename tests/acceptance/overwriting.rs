//! Files named by the user: none replaces a journal, an input, answers, or what is no regular file.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::job::Job;

/// A finished job.
fn done() -> Job {
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    job
}

/// The command is refused with this text, and no file of the job is another one afterwards.
#[track_caller]
fn refused(job: &Job, arguments: &[&str], text: &str) {
    let files =
        || job.files().into_iter().map(|name| (fs::read(job.path(&name)).ok(), name)).collect::<Vec<_>>();
    let (before, calls) = (files(), job.calls().len());
    job.run(arguments).expect(1).says(text).says("hint: name another file with `--");
    assert_eq!(files(), before, "{arguments:?}");
    assert_eq!(job.calls().len(), calls);
}

#[test]
fn exported_answers_replace_neither_journal_nor_input_nor_device() {
    let job = done();
    symlink("/dev/null", job.path("device")).unwrap();
    symlink("answers.csv.journal", job.path("link.csv")).unwrap();
    for (output, text) in [
        ("answers.csv.journal", "`answers.csv.journal` would replace the journal"),
        ("link.csv", "`link.csv` would replace the journal"),
        ("questions.csv", "`questions.csv` would replace the input"),
        ("device", "`device` is no regular file"),
        ("-", "`-` is no file, and standard output is for the summary alone"),
        ("new.journal", "`new.journal` is a journal, or has the name of one"),
    ] {
        refused(&job, &["export", "answers.csv", "-o", output], text);
    }
    job.run(&["export", "answers.csv", "-o", "other.csv"]).expect(0);
    assert_eq!(job.read("other.csv"), job.read("answers.csv"));
}

#[test]
fn a_report_replaces_neither_journal_nor_input_nor_answers_nor_device() {
    let job = done();
    for option in ["--html", "--json"] {
        for (file, text) in [
            ("answers.csv.journal", "would replace the journal"),
            ("questions.csv", "would replace the input"),
            ("answers.csv", "would replace the answers `answers.csv`"),
            ("/dev/null", "`/dev/null` is no regular file"),
            ("-", "`-` is no file"),
        ] {
            refused(&job, &["report", "answers.csv", option, file], text);
        }
    }
    job.run(&["report", "answers.csv", "--json", "answers.csv.report.json"]).expect(0);
}

#[test]
fn a_comparison_replaces_neither_its_input_nor_a_journal() {
    let job = done();
    let compare = ["compare", "questions.csv", "--predictor", "predictor.py:predict", "--export-json"];
    for (file, text) in [
        ("questions.csv", "would replace the input `questions.csv`"),
        ("answers.csv.journal", "is a journal"),
        ("-", "`-` is no file"),
    ] {
        refused(&job, &[&compare[..], &[file]].concat(), text);
    }
}

#[test]
fn answers_replace_no_other_jobs_journal_or_kept_input() {
    let job = done();
    fs::copy(job.path("answers.csv.journal"), job.path("kept.csv")).unwrap();
    for (output, text) in [
        ("answers.csv.journal", "is a journal, or has the name of one"),
        ("kept.csv", "`kept.csv` is a journal"),
        ("new.journal", "or has the name of one"),
        ("other.csv.input", "has the name under which a job keeps its standard input"),
        ("-", "`-` is no file"),
    ] {
        for force in [&[][..], &["--force"]] {
            let process = ["process", "questions.csv", "--predictor", "predictor.py:predict", "-o", output];
            refused(&job, &[&process[..], force].concat(), text);
        }
    }
}

#[test]
fn an_input_with_the_name_of_one_of_the_jobs_own_files_is_refused() {
    let job = Job::new().questions(2).echo();
    for suffix in ["input", "journal", "report.json", "report.html"] {
        let name = format!("b.csv.{suffix}");
        fs::copy(job.path("questions.csv"), job.path(&name)).unwrap();
        let process = ["process", &name, "--format", "csv", "-o", "b.csv", "--force"];
        let text = format!("`{name}` would replace the input `{name}`");
        refused(&job, &[&process[..], &["--predictor", "predictor.py:predict"]].concat(), &text);
    }
}
