//! Files named by the user: none replaces a journal, an input, answers, or what is no regular file.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use super::support::job::Job;

/// A finished job.
fn done() -> Job {
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    job
}

/// What a person wrote.
const BY_HAND: &str = "question,label\nWhat is it?,tea\n";

/// The files whose names begin so, but for the one of that name.
fn beside(job: &Job, name: &str) -> Vec<String> {
    let aside = |found: &String| found.starts_with(&format!("{name}.2"));
    job.files().into_iter().filter(aside).collect()
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
    let job = job.file("labels.csv", BY_HAND);
    symlink("/dev/null", job.path("device")).unwrap();
    symlink("answers.csv.journal", job.path("link.csv")).unwrap();
    for (output, text) in [
        ("answers.csv.journal", "`answers.csv.journal` would replace the journal"),
        ("link.csv", "`link.csv` would replace the journal"),
        ("questions.csv", "`questions.csv` would replace the input"),
        ("device", "`device` is no regular file"),
        ("labels.csv", "`labels.csv` is there, and this program did not write it"),
        ("/dev/stderr", "`/dev/stderr` is not a regular file"),
        ("-", "`-` is not a file: standard output is for the summary alone"),
        ("new.journal", "`new.journal` is a journal, or has the name of one"),
    ] {
        refused(&job, &["export", "answers.csv", "-o", output], text);
    }
    job.run(&["export", "answers.csv", "-o", "other.csv"]).expect(0);
    assert_eq!(job.read("other.csv"), job.read("answers.csv"));
    // It is an answers file by its columns; with `--force` no file is lost.
    job.run(&["export", "answers.csv", "-o", "other.csv"]).expect(0);
    let done = job.run(&["export", "answers.csv", "-o", "labels.csv", "--force"]).expect(0);
    assert_eq!(job.read("labels.csv"), job.read("answers.csv"));
    let [aside] = &beside(&job, "labels.csv")[..] else { panic!("{:?}", job.files()) };
    assert_eq!(job.read(aside), BY_HAND);
    done.says(&format!("`labels.csv` is kept as `{aside}`"));
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
            ("-", "`-` is not a file"),
        ] {
            refused(&job, &["report", "answers.csv", option, file], text);
        }
    }
    job.run(&["report", "answers.csv", "--json", "answers.csv.report.json"]).expect(0);
    let job = job.file("mine", BY_HAND);
    for option in ["--html", "--json"] {
        refused(&job, &["report", "answers.csv", option, "mine"], "this program did not write it");
        // Twice: its own files it may replace.
        for _ in 0..2 {
            job.run(&["report", "answers.csv", option, &format!("new{option}")]).expect(0);
        }
    }
    job.run(&["report", "answers.csv", "--html", "mine", "--force"]).expect(0);
    let [aside] = &beside(&job, "mine")[..] else { panic!("{:?}", job.files()) };
    assert_eq!(job.read(aside), BY_HAND);
}

#[test]
fn a_comparison_replaces_neither_its_input_nor_a_journal_nor_what_it_did_not_write() {
    let job = done().file("mine", BY_HAND);
    let compare = ["compare", "questions.csv", "--predictor", "predictor.py:predict", "--export-json"];
    for (file, text) in [
        ("questions.csv", "would replace the input `questions.csv`"),
        ("answers.csv.journal", "is a journal"),
        ("-", "`-` is not a file"),
        ("mine", "`mine` is there, and this program did not write it"),
    ] {
        refused(&job, &[&compare[..], &[file]].concat(), text);
    }
    let markdown = ["--export-markdown", "mine"];
    refused(&job, &[&compare[..4], &markdown].concat(), "this program did not write it");
    let both =
        [&compare[..4], &["-c", "2", "--runs", "1", "--export-json", "c.json", "--export-markdown", "c.md"]];
    for _ in 0..2 {
        job.run(&both.concat()).expect(0);
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
        ("-", "`-` is not a file"),
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

#[test]
fn a_file_with_the_name_of_a_kept_input_is_kept_where_no_run_stands_beside_it() {
    let job = Job::new().echo().stdin("question\nWho?\n").file("answers.csv.input", BY_HAND);
    let process =
        ["process", "-", "--format", "csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    refused(&job, &process, "`answers.csv.input` is there, and this program did not write it");
    let done = job.run(&[&process[..], &["--force"]].concat()).expect(0);
    done.says("`answers.csv.input` is kept as `answers.csv.input.2");
    let [aside] = &beside(&job, "answers.csv.input")[..] else { panic!("{:?}", job.files()) };
    assert_eq!(job.read(aside), BY_HAND);
}

#[test]
fn a_file_that_no_run_wrote_is_kept_and_answers_without_their_journal_are_replaced() {
    let job = Job::new().questions(2).echo();
    let process = ["process", "questions.csv", "--predictor", "predictor.py:predict", "-o", "labels.csv"];
    for name in ["labels.csv", "labels.csv.report.json", "labels.csv.report.html"] {
        fs::write(job.path(name), BY_HAND).unwrap();
        refused(&job, &process, &format!("`{name}` is there, and this program did not write it"));
        fs::remove_file(job.path(name)).unwrap();
    }
    fs::write(job.path("labels.csv"), BY_HAND).unwrap();
    job.run(&[&process[..], &["--force"]].concat()).expect(0).says("`labels.csv` is kept as `labels.csv.2");
    let [aside] = &beside(&job, "labels.csv")[..] else { panic!("{:?}", job.files()) };
    assert_eq!(job.read(aside), BY_HAND);
    assert_eq!(job.records("labels.csv").len(), 2);

    // Its journal is gone: an answers file by its columns. So are its report and page.
    fs::remove_file(job.path("labels.csv.journal")).unwrap();
    job.run(&process).expect(0);
    // A journal that holds no line is no job's, whoever has made or emptied it.
    fs::write(job.path("labels.csv.journal"), "").unwrap();
    fs::write(job.path("labels.csv"), BY_HAND).unwrap();
    refused(&job, &process, "`labels.csv` is there, and this program did not write it");
    fs::remove_file(job.path(aside)).unwrap();
    job.run(&[&process[..], &["--force"]].concat()).expect(0);
    let [aside] = &beside(&job, "labels.csv")[..] else { panic!("{:?}", job.files()) };
    assert_eq!(job.read(aside), BY_HAND);
    // An empty one holds nothing.
    let job = Job::new().questions(2).echo().file("answers.csv", "");
    job.process().expect(0);
}

#[test]
fn devices_and_descriptors_are_refused_by_the_name_as_given() {
    let job = Job::new().questions(2).echo();
    symlink("/dev/stderr", job.path("link.csv")).unwrap();
    for name in
        ["/dev/stderr", "/dev/stdout", "/dev/fd/2", "/proc/self/fd/2", "/dev/../dev/stderr", "link.csv"]
    {
        let process = ["process", "questions.csv", "--predictor", "predictor.py:predict", "-o", name];
        // Standard error is a file of the job, which is not to be replaced: it holds the refusal.
        let done = job.run(&process).expect(1).says(&format!("`{name}` is not a regular file"));
        assert_eq!(done.stdout, "");
        assert!(job.calls().is_empty());
    }
    assert_eq!(job.files(), ["link.csv", "predictor.py", "questions.csv"]);
}

#[test]
fn answers_for_dev_null_leave_nothing_behind() {
    let job = Job::new().questions(4).predictor(
        "async def predict(question):
    called(question)
    if question == 'Question 3?': raise ValueError(question)
    return question",
    );
    fs::create_dir(job.path("tmp")).unwrap();
    let job = job.env("TMPDIR", "tmp");
    let done = job
        .run(&["process", "questions.csv", "-o", "/dev/null", "--predictor", "predictor.py:predict"])
        .expect(3)
        .prints("Answered 3 of 4 rows")
        .prints("/dev/null");
    assert!(!done.stdout.contains("resume") && !done.stdout.contains("report"), "{}", done.stdout);
    assert_eq!(job.calls().len(), 4);
    assert_eq!(fs::read_dir(job.path("tmp")).unwrap().count(), 0);
    assert_eq!(job.files(), ["predictor.py", "questions.csv", "tmp"]);
}

#[test]
fn a_run_for_dev_null_that_is_ended_at_once_names_no_journal_that_is_gone() {
    let job = Job::new().questions(2).predictor(
        "async def predict(question):
    called(question)
    await asyncio.sleep(60)",
    );
    fs::create_dir(job.path("tmp")).unwrap();
    let job = job.env("TMPDIR", "tmp");
    let process = ["process", "questions.csv", "-o", "/dev/null", "--predictor", "predictor.py:predict"];
    let mut running = job.spawn(&process);
    running.wait_for_calls(2);
    running.signal(Signal::INT);
    running.wait_for(".stderr", "stopping", 1);
    running.signal(Signal::INT);
    let done = running.wait().expect(130).says("no answers were kept because the output is `/dev/null`");
    assert!(!done.stderr.contains("resume"), "{}", done.stderr);
    assert_eq!(fs::read_dir(job.path("tmp")).unwrap().count(), 0);
}

#[test]
fn answers_in_a_format_that_is_not_written_are_refused_with_what_works() {
    let job = Job::new().questions(2).echo();
    for (name, text) in [
        ("a.parquet", "name it `.csv` or `.jsonl`"),
        ("a.XLSX", "name it `.csv` or `.jsonl`"),
        ("a.json", "name it `.jsonl`"),
        ("a.tsv", "name it `.csv`"),
        ("a.csv.gz", "compress it afterwards"),
    ] {
        job.process_file("questions.csv", name).expect(1).says(text);
    }
    assert_eq!(job.files(), ["predictor.py", "questions.csv"]);
    job.process_file("questions.csv", "answers.txt").expect(0);
}

#[test]
fn answers_behind_a_link_are_found_under_its_name() {
    let job = Job::new().questions(2).predictor(
        "async def predict(question):
    called(question)
    if question == 'Question 1?' and not os.path.exists('mended'):
        raise ValueError(question)
    return question",
    );
    fs::create_dir(job.path("runs")).unwrap();
    fs::write(job.path("runs/1.csv"), "").unwrap();
    symlink("runs/1.csv", job.path("latest.csv")).unwrap();
    job.process_file("questions.csv", "latest.csv").expect(3);
    job.run(&["verify", "questions.csv", "latest.csv"]).expect(0).prints("no fault");
    let done = job.run(&["verify", "questions.csv", "latest.csv"]).expect(0);
    assert!(!done.stdout.contains("there is no journal"), "{}", done.stdout);
    job.run(&["report", "latest.csv"]).expect(0).prints("Answered 1 of 2 rows");
    let job = job.file("mended", "");
    job.run(&["resume", "latest.csv"]).expect(0);
    assert_eq!(job.calls(), ["Question 0?", "Question 1?", "Question 1?"]);
    fs::remove_file(job.path("runs/1.csv")).unwrap();
    // The link dangles now.
    job.run(&["export", "latest.csv"]).expect(0);
    assert!(job.path("latest.csv").is_symlink());
    assert_eq!(job.column_of("runs/1.csv", "status"), ["ok", "ok"]);
    assert!(!job.path("latest.csv.journal").exists());
}

#[test]
fn a_link_that_dangles_stays_and_its_target_is_made() {
    let job = Job::new().questions(2).echo();
    fs::create_dir(job.path("runs")).unwrap();
    symlink("runs/1.csv", job.path("latest.csv")).unwrap();
    job.process_file("questions.csv", "latest.csv").expect(0);
    assert_eq!(fs::read_link(job.path("latest.csv")).unwrap().to_str(), Some("runs/1.csv"));
    assert_eq!(job.column_of("runs/1.csv", "answer"), ["Question 0?", "Question 1?"]);
    assert!(job.path("runs/1.csv.journal").exists() && job.path("runs/1.csv.report.json").exists());
    assert_eq!(job.files(), ["latest.csv", "predictor.py", "questions.csv", "runs"]);
    job.run(&["resume", "latest.csv"]).expect(0).says("2 rows answered before");
    assert_eq!(job.calls().len(), 2);
}
