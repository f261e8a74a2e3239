//! `verify`: honest files pass, each kind of planted fault is found.

use std::fs;

use serde_json::{Value, json};

use super::support::job::Job;

const PAIRS: [(&str, &str); 4] = [
    ("questions.csv", "answers.csv"),
    ("questions.csv", "answers.jsonl"),
    ("questions.jsonl", "answers.csv"),
    ("questions.jsonl", "answers.jsonl"),
];

/// Rows that are hard to tell apart, with columns whose names the answers want too.
fn hard() -> Job {
    let rows =
        [("a", "x, \"y\""), ("b", ""), ("a", "x, \"y\""), ("c", "two\nlines"), ("", "blank"), ("a", "z")];
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["question", "answer", "status"]).unwrap();
    let mut jsonl = String::new();
    for (question, note) in rows {
        csv.write_record([question, note, "1"]).unwrap();
        jsonl += &json!({"question": question, "answer": note, "n": {"deep": [1, 2.50]}}).to_string();
        jsonl += "\n";
    }
    jsonl += "{\"question\": \"d\", \"other\": null}\n";
    Job::new().echo().file("questions.csv", csv.into_inner().unwrap()).file("questions.jsonl", jsonl)
}

fn answer(job: &Job, input: &str, answers: &str) {
    // One row is blank: it fails.
    job.run(&["process", input, "-o", answers, "--predictor", "predictor.py:predict"]).expect(3);
}

/// The findings' counts by kind, those that are not zero.
fn findings(job: &Job, input: &str, answers: &str) -> Vec<(String, u64)> {
    let done = job.run(&["verify", input, answers, "--json"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let kinds = ["missing", "duplicate", "foreign", "drifted", "torn", "unordered", "altered", "unrecorded"];
    let counts = kinds.map(|kind| (kind.to_owned(), found[kind]["count"].as_u64().unwrap()));
    let counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    done.expect(i32::from(!counts.is_empty()));
    counts
}

#[test]
fn honest_files_pass_in_all_formats_with_and_without_their_journal() {
    for (input, answers) in PAIRS {
        let job = hard();
        answer(&job, input, answers);
        assert_eq!(findings(&job, input, answers), [], "{input} {answers}");
        fs::remove_file(job.path(&format!("{answers}.journal"))).unwrap();
        let done = job.run(&["verify", input, answers]).expect(0);
        assert!(done.stdout.contains("no fault") && done.stdout.contains("no journal"), "{}", done.stdout);
    }
}

#[test]
fn an_interrupted_run_and_a_part_of_the_rows_pass() {
    let job = Job::new().questions(40).echo();
    let process = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    job.run(&[&process[..], &["--range", "10:30"]].concat()).expect(0);
    assert_eq!(findings(&job, "questions.csv", "answers.csv"), []);

    let job = Job::new()
        .questions(400)
        .predictor("async def predict(question):\n    called(question)\n    raise ValueError(question)\n");
    job.process().expect(4);
    assert!(job.column("status").iter().any(|status| status == "unfinished"));
    assert_eq!(findings(&job, "questions.csv", "answers.csv"), []);
}

#[test]
fn rows_appended_during_a_run_are_missing_unless_a_selection_left_them_out() {
    let grows = "async def predict(question):
    called(question)
    if question == 'Question 0?':
        open('questions.csv', 'a').write('8,late\\n9,later\\n')
    return question";
    for (options, missing) in
        [(&[][..], 2), (&["--range", "2:"][..], 2), (&["-n", "6"], 0), (&["--limit", "9"], 1)]
    {
        let job = Job::new().questions(8).predictor(grows);
        // Where the first row is left out, the file grows by hand.
        job.process_with(options).expect(0);
        if options.contains(&"2:") {
            fs::write(job.path("questions.csv"), job.read("questions.csv") + "8,late\n9,later\n").unwrap();
        }
        let expected: Vec<_> =
            [("missing".to_owned(), missing)].into_iter().filter(|_| missing > 0).collect();
        assert_eq!(findings(&job, "questions.csv", "answers.csv"), expected, "{options:?}");
    }
}

/// A fault put into a whole answers file, and what is to be found of it: with the journal, and without.
fn planted(plant: impl Fn(&str) -> String, expected: &[(&str, u64)], without: &[(&str, u64)]) {
    let own = |list: &[(&str, u64)]| -> Vec<(String, u64)> {
        list.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
    };
    for answers in ["answers.csv", "answers.jsonl"] {
        let job = Job::new().questions(8).echo();
        job.run(&["process", "questions.csv", "-o", answers, "--predictor", "predictor.py:predict"])
            .expect(0);
        let whole = job.read(answers);
        fs::write(job.path(answers), plant(&whole)).unwrap();
        assert_eq!(findings(&job, "questions.csv", answers), own(expected), "{answers}");
        fs::remove_file(job.path(&format!("{answers}.journal"))).unwrap();
        assert_eq!(findings(&job, "questions.csv", answers), own(without), "{answers} without journal");
    }
}

/// The lines with one changed; `line` counts records, from 0.
fn edit(text: &str, record: usize, change: impl Fn(&str) -> String) -> String {
    let first = usize::from(!text.starts_with('{'));
    let lines = text.lines().enumerate();
    lines.map(|(at, line)| if at == record + first { change(line) } else { format!("{line}\n") }).collect()
}

#[test]
fn a_missing_row_is_found() {
    let expected = [("missing", 2)];
    planted(|text| edit(&edit(text, 3, |_| String::new()), 3, |_| String::new()), &expected, &expected);
}

#[test]
fn a_duplicate_row_is_found() {
    let expected = [("duplicate", 1)];
    planted(|text| edit(text, 3, |line| format!("{line}\n{line}\n")), &expected, &expected);
}

#[test]
fn a_row_of_another_file_is_found() {
    let expected = [("foreign", 1)];
    let foreign = |line: &str| format!("{line}\n{}\n", line.replace("Question 3?", "Question 99?"));
    planted(|text| edit(text, 3, foreign), &expected, &expected);
}

#[test]
fn an_edited_question_is_found() {
    let expected = [("drifted", 1)];
    let edited = |line: &str| format!("{}\n", line.replacen("Question 3?", "Question 03?", 1));
    planted(|text| edit(text, 3, edited), &expected, &expected);
}

#[test]
fn a_cut_end_is_found() {
    let expected = [("torn", 1)];
    planted(|text| text[..text.len() - 1].to_owned(), &expected, &expected);
    planted(|text| text[..text.len() - 25].to_owned(), &expected, &expected);
}

#[test]
fn a_record_cut_in_the_middle_is_found() {
    let expected = [("torn", 1)];
    planted(|text| edit(text, 3, |line| format!("{}\n", &line[..line.len() / 2])), &expected, &expected);
}

#[test]
fn an_altered_answer_is_found_where_there_is_a_journal() {
    let altered = |line: &str| {
        let at = line.rfind("Question 3?").unwrap();
        format!("{}Answered 3!{}\n", &line[..at], &line[at + 11..])
    };
    planted(|text| edit(text, 3, altered), &[("altered", 1)], &[]);
}

#[test]
fn the_table_names_kind_count_and_place_and_another_input_is_refused() {
    let job = Job::new().questions(8).echo().file("other.csv", "text,question\na,b\n");
    job.process().expect(0);
    let text = edit(&job.read("answers.csv"), 3, |line| format!("{line}\n{line}\n"));
    fs::write(job.path("answers.csv"), edit(&text, 7, |_| String::new())).unwrap();
    let done = job.run(&["verify", "questions.csv", "answers.csv"]).expect(1);
    assert!(done.stdout.contains("answers.csv: 8 records for 8 rows of questions.csv"), "{}", done.stdout);
    assert!(done.stdout.contains("missing") && done.stdout.contains("row 6"), "{}", done.stdout);
    assert!(done.stdout.contains("duplicate") && done.stdout.contains("line 6"), "{}", done.stdout);
    job.run(&["verify", "other.csv", "answers.csv"]).expect(1).says("has no column `text`");
}

#[test]
fn swapped_records_are_found() {
    let expected = [("unordered", 1)];
    let swap = |text: &str| {
        let mut lines: Vec<_> = text.lines().collect();
        lines.swap(4, 5);
        lines.join("\n") + "\n"
    };
    planted(swap, &expected, &expected);
}

#[test]
fn an_answer_that_the_journal_has_lost_is_not_to_be_exported_over() {
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    let journal = job.read("answers.csv.journal").replacen("\"row\":1,", "\"row\":7,", 1);
    fs::write(job.path("answers.csv.journal"), journal + "torn").unwrap();
    let line =
        job.read("answers.csv.journal").lines().position(|line| line.contains("\"row\":7,")).unwrap() + 1;
    let done = job.run(&["verify", "questions.csv", "answers.csv"]).expect(1);
    let done = done.prints("unrecorded").prints("keep a copy of this file").prints("last line was torn");
    let done = done.prints(&format!("line {line} of the journal is damaged"));
    assert!(!done.stdout.contains("altered"), "{}", done.stdout);

    // The report that the run wrote itself is of three answers.
    let report = job.run(&["report", "answers.csv", "--json", "now.json"]).expect(0);
    report.says(&format!("line {line} of the journal is damaged")).says("last line was torn");
    let report: Value = serde_json::from_str(&job.read("now.json")).unwrap();
    assert_eq!((&report["rows"]["ok"], &report["rows"]["unfinished"]), (&json!(2), &json!(1)));
}

#[test]
fn a_damaged_copy_of_a_header_is_no_lost_row() {
    let job = Job::new().questions(2).echo();
    job.process().expect(0);
    let journal = job.read("answers.csv.journal").replacen("\"pid\":", "\"pie\":", 1);
    fs::write(job.path("answers.csv.journal"), journal).unwrap();
    job.run(&["export", "answers.csv"]).expect(0).says("line 1 of the journal is damaged: it is a copy");
}
