//! `resume` of a part of the rows, or after a change: it is refused, or rows are matched by their content.

use std::fs;

use super::support::job::{Job, PICKY};

/// A finished job of six questions of which the second and the fifth have failed.
fn with_failures() -> Job {
    let job = Job::new().questions(6).predictor(PICKY).file("bad", "Question 1?|Question 4?");
    job.process().expect(3);
    job
}

fn called_since(job: &Job, before: usize) -> Vec<String> {
    let mut calls: Vec<_> =
        job.calls()[before..].iter().map(|call| call.as_str().unwrap().to_owned()).collect();
    calls.sort_unstable();
    calls
}

fn input(questions: &[&str]) -> String {
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    format!("question\n{lines}")
}

#[test]
fn exactly_the_failed_rows_are_called_again_and_figures_add_up() {
    let job = with_failures();
    fs::write(job.path("bad"), "Question 4?").unwrap();
    job.resume().expect(3);
    assert_eq!(called_since(&job, 6), ["Question 1?", "Question 4?"]);
    fs::write(job.path("bad"), "").unwrap();
    job.resume().expect(0).says("5 rows answered before; 1 to go (1 failed, 0 unfinished)");
    assert_eq!(called_since(&job, 8), ["Question 4?"]);
    let report = job.report();
    assert_eq!(report["attempts"]["total"], 9);
    assert_eq!(report["attempts"]["by_error"]["ValueError"], 3);
    assert_eq!(report["latency_ms"]["failed"]["count"], 3);
    assert_eq!(report["latency_ms"]["ok"]["count"], 6);
    assert_eq!((&report["rows"]["ok"], &report["rows"]["resumed"]), (&6.into(), &5.into()));
}

#[test]
fn only_failed_leaves_the_unfinished_and_only_unfinished_the_failed() {
    let job = Job::new().questions(30).predictor(PICKY).file("bad", "Question 1?");
    job.process_with(&["--max-failures", "1", "--sequential"]).expect(4);
    let first = job.calls().len();
    assert!(first < 30, "some rows are unfinished");
    fs::write(job.path("bad"), "").unwrap();
    job.resume_with(&["--only", "failed", "--max-failures", "100%"]).expect(3);
    assert_eq!(called_since(&job, first), ["Question 1?"]);
    fs::write(job.path("bad"), "Question 20?").unwrap();
    job.resume_with(&["--max-failures", "100%"]).expect(3);
    let second = job.calls().len();
    job.resume_with(&["--only", "unfinished"]).expect(3);
    assert_eq!(job.calls().len(), second, "the one row left has failed");
}

#[test]
fn another_option_is_refused_by_name_and_an_operational_one_is_not() {
    let job = with_failures();
    for (arguments, text) in [
        (
            ["--signature", "question -> reply"],
            "`--signature` was `question -> answer` in the earlier run and is `question -> reply` now",
        ),
        (["--column", "id"], "`--column` was not given in the earlier run and is `id` now"),
    ] {
        let [option, value] = arguments;
        job.resume_with(&[option, value]).expect(1).says(text).says("`--allow-changed`");
    }
    assert_eq!(job.calls().len(), 6);
    job.resume_with(&["-c", "2", "--timeout", "5s", "--retries", "0"]).expect(3);
    assert_eq!(job.calls().len(), 8);
}

#[test]
fn another_format_is_not_ignored() {
    let job = Job::new().questions(2).echo();
    job.process_with(&["-n", "1"]).expect(0);
    let other = ["--format", "jsonl", "-n", "2"];
    job.resume_with(&other).expect(1).says("questions.csv`: line 1 is not valid JSON");
    job.process_with(&other).expect(1).says("questions.csv`: line 1 is not valid JSON");
    assert_eq!(job.calls(), ["Question 0?"]);
}

#[test]
fn a_mended_predictor_is_warned_of_and_recorded() {
    let job = with_failures();
    let job = job.echo();
    job.resume().expect(0).says("the predictor's source has changed since the last session");
    let hashes = |job: &Job| -> Vec<String> {
        let journal = job.read("answers.csv.journal");
        let headers =
            journal.lines().filter_map(|line| line.get(9..)).filter(|json| json.starts_with("{\"header\""));
        let sha = |json: &str| {
            let header: serde_json::Value = serde_json::from_str(json).unwrap();
            header["header"]["predictor_sha256"].as_str().unwrap().to_owned()
        };
        headers.map(sha).collect()
    };
    let hashes = hashes(&job);
    assert_eq!(hashes.len(), 4, "two sessions, each header twice");
    assert_ne!(hashes[0], hashes[3]);
}

#[test]
fn a_changed_input_is_refused_naming_how_many_rows_and_their_lines() {
    let job = with_failures();
    let journal = fs::read(job.path("answers.csv.journal")).unwrap();
    let edited = job.read("questions.csv").replace("Question 2?", "Other?").replace("Question 5?", "Too?");
    fs::write(job.path("questions.csv"), &edited).unwrap();
    job.resume().expect(1).says("2 of 6 recorded rows no longer match (line 4, 7)\n");
    fs::write(job.path("questions.csv"), &edited[..edited.find("3,").unwrap()]).unwrap();
    job.resume()
        .expect(1)
        .says("4 of 6 recorded rows no longer match (line 4); the file ends before row 3, 4, 5\n");
    let edited = "id,question\n".to_owned() + &"6,Other?\n".repeat(30);
    fs::write(job.path("questions.csv"), edited).unwrap();
    job.resume().expect(1).says("6 of 6 recorded rows no longer match (line 2, 3, 4, 5, 6, 7)\n");
    assert_eq!(job.calls().len(), 6, "nothing was called");
    assert_eq!(fs::read(job.path("answers.csv.journal")).unwrap(), journal);
}

#[test]
fn rows_added_at_the_end_belong_to_the_job() {
    let job = with_failures();
    fs::write(job.path("questions.csv"), job.read("questions.csv") + "6,Question 6?\n").unwrap();
    fs::write(job.path("bad"), "").unwrap();
    job.resume().expect(0).says("4 rows answered before; 3 to go (2 failed, 1 unfinished)");
    assert_eq!(called_since(&job, 6), ["Question 1?", "Question 4?", "Question 6?"]);
    assert_eq!(job.column("answer")[6], "QUESTION 6?");
}

#[test]
fn with_allow_changed_rows_are_matched_by_content_and_duplicates_kept_apart() {
    let numbered = r#"
count = 0
async def predict(question):
    global count
    count += 1
    called(question)
    if question == "bad":
        raise ValueError("bad")
    return f"{question} {count}"
"#;
    let job = Job::new()
        .predictor(numbered)
        .env("TAB_SEQUENTIAL", "1")
        .file("questions.csv", input(&["a", "b", "a", "bad", "c", "a"]));
    job.process().expect(3);
    assert_eq!(job.column("answer"), ["a 1", "b 2", "a 3", "", "c 5", "a 6"]);

    // Moved, one copy fewer, one row gone, two new.
    fs::write(job.path("questions.csv"), input(&["new", "c", "a", "bad", "a", "newer"])).unwrap();
    job.resume_with(&["--allow-changed"]).expect(3).says("3 answers kept, 2 gone from the input");
    assert_eq!(called_since(&job, 6), ["bad", "new", "newer"]);
    assert_eq!(job.column("answer"), ["new 1", "c 5", "a 1", "", "a 3", "newer 3"]);
    assert_eq!(job.report()["attempts"]["total"], 6 + 3, "those of the rows that are gone too");

    // The journal is whole: a further `resume` has one row to ask, and the old one is there.
    job.resume().expect(3);
    assert_eq!(called_since(&job, 9), ["bad"]);
    let kept = fs::read_dir(job.path("")).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("answers.csv.journal.")
    });
    assert_eq!(kept.count(), 1);
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);
}

#[test]
fn another_selection_is_run_and_keeps_what_was_answered() {
    let job = Job::new().questions(6).echo();
    job.process_with(&["--range", "1:3"]).expect(0);
    job.resume_with(&["--range", "2:5"]).expect(0);
    assert_eq!(called_since(&job, 2), ["Question 3?", "Question 4?"]);
    assert_eq!(job.column("id"), ["1", "2", "3", "4"]);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn rows_between_two_ranges_stay_unselected_when_rows_are_matched_by_content() {
    let job = Job::new().questions(20).echo();
    job.process_with(&["--range", "1:3"]).expect(0);
    job.process_with(&["--range", "15:17"]).expect(0);
    let changed = job.read("questions.csv").replace("0,Question 0?\n", "").replace("16,", "new,new\n16,");
    fs::write(job.path("questions.csv"), &changed).unwrap();
    job.process_with(&["--range", "17:18", "--allow-changed"]).expect(0).says("4 answers kept, 0 gone");
    assert_eq!(called_since(&job, 4), ["Question 17?"]);
    // The row that was put between two that were selected has no answer, and those that nobody selected have no record.
    assert_eq!(job.column("id"), ["1", "2", "15", "new", "16", "17"]);
    assert_eq!(job.column("status"), ["ok", "ok", "ok", "unfinished", "ok", "ok"]);
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);

    // So it is when rows have moved once more.
    fs::write(job.path("questions.csv"), changed.replace("1,Question 1?\n", "")).unwrap();
    job.process_with(&["--range", "17:18", "--allow-changed"]).expect(0);
    assert_eq!(job.column("id"), ["2", "15", "new", "16", "17", "18"]);
    assert_eq!(job.column("answer")[5], "Question 18?");
}
