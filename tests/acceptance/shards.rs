//! `--shard` and `merge`: each row is asked once whatever shard it is in, and the shards come to what one run would be.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use super::support::job::{Done, Job, PICKY};

/// Runs shard `number` of `of`, with further options. Its answers have their default name.
fn shard(job: &Job, number: usize, of: usize, options: &[&str]) -> Done {
    let shard = format!("{number}/{of}");
    let process = ["process", "questions.csv", "--predictor", "predictor.py:predict", "--shard", &shard];
    job.run(&[&process[..], options].concat())
}

fn answers_of(number: usize, of: usize) -> String {
    format!("questions.answers.{number}-of-{of}.csv")
}

/// Merges these shards of `of` into `answers.csv`.
fn merge(job: &Job, numbers: &[usize], of: usize, options: &[&str]) -> Done {
    let files: Vec<_> = numbers.iter().map(|number| answers_of(*number, of)).collect();
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    job.run(&[&["merge", "questions.csv"], &files[..], &["-o", "answers.csv"], options].concat())
}

/// The rows that were asked, by the numbers in their questions, in order.
fn asked(calls: &[Value]) -> Vec<usize> {
    let row = |call: &Value| call.as_str().unwrap()[9..].trim_end_matches('?').parse().unwrap();
    let mut rows: Vec<usize> = calls.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

/// The lines of a CSV file, without the column of latencies at their ends.
fn lasting(job: &Job, file: &str) -> String {
    job.read(file).lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned() + "\n").collect()
}

/// A job of rows of which two fail.
fn picky(rows: usize) -> Job {
    Job::new()
        .questions(rows)
        .predictor(PICKY)
        .file("bad", "Question 5?|Question 6?")
        .args(["--retries", "0"])
}

#[test]
fn merged_shards_are_what_one_run_would_be_and_each_row_was_asked_once() {
    let whole = picky(23);
    whole.process().expect(3);

    let job = picky(23);
    for number in 0..4 {
        let done = shard(&job, number, 4, &[]).expect(if [1, 2].contains(&number) { 3 } else { 0 });
        let rows = (number..23).step_by(4).count();
        assert!(done.stderr.contains(&format!("{rows} rows of 23 (shard {number}/4)")), "{}", done.stderr);
        assert!(done.stdout.contains(&format!("of {rows} rows of shard {number}/4 in")), "{}", done.stdout);
        let ids: Vec<_> = (number..23).step_by(4).map(|id| id.to_string()).collect();
        assert_eq!(job.column_of(&answers_of(number, 4), "id"), ids);
        job.run_alone(&["verify", "questions.csv", &answers_of(number, 4)]).expect(0).prints("no fault");
    }
    assert_eq!(asked(&job.calls()), (0..23).collect::<Vec<_>>());
    job.run_alone(&["report", &answers_of(1, 4)]).expect(0).prints("Answered 5 of 6 rows of shard 1/4");

    let merge =
        ["merge", "questions.csv", "questions.answers.0-of-4.csv", "questions.answers.1-of-4.csv.journal"];
    let rest = ["questions.answers.2-of-4.csv", "questions.answers.3-of-4.csv", "-o", "answers.csv"];
    job.run_alone(&[&merge[..], &rest].concat()).expect(3).prints("Answered 21 of 23 rows in");
    assert_eq!(lasting(&job, "answers.csv"), lasting(&whole, "answers.csv"));
    assert_eq!(job.read("answers.csv").lines().count(), 24);
    job.run_alone(&["verify", "questions.csv", "answers.csv"]).expect(0).prints("no fault");
    let (merged, one) = (job.report(), whole.report());
    for field in ["total", "ok", "failed", "failed_by_class", "skipped", "unfinished"] {
        assert_eq!(merged["rows"][field], one["rows"][field], "{field}");
    }
    for field in ["total", "retries", "by_error"] {
        assert_eq!(merged["attempts"][field], one["attempts"][field], "{field}");
    }
    assert_eq!((&merged["sessions"], &merged["run"]["shard"]), (&4.into(), &Value::Null));

    // Only the rows that failed are asked again, and the job is whole for all commands.
    let job = job.file("bad", "Question 6?");
    let before = job.calls().len();
    job.resume().expect(3).says("21 rows answered before; 2 to go");
    assert_eq!(asked(&job.calls()[before..]), [5, 6]);
    let job = job.file("bad", "");
    job.process().expect(0).says("22 rows answered before, 1 to go");
    job.process().expect(0).says("nothing to do");
    assert_eq!(job.calls().len(), before + 3);
    job.run_alone(&["export", "answers.csv", "-o", "exported.jsonl"]).expect(0);
    assert_eq!(job.lines("exported.jsonl").len(), 23);
    job.run_alone(&["verify", "questions.csv", "answers.csv"]).expect(0).prints("no fault");
}

#[test]
fn rows_that_are_appended_go_to_the_shards_in_turn_and_move_none() {
    let job = Job::new().questions(10).echo();
    for number in 0..3 {
        shard(&job, number, 3, &[]).expect(0);
    }
    let job = job.questions(17);
    let before = job.calls().len();
    shard(&job, 1, 3, &[]).expect(0).says("3 rows answered before, 3 to go");
    assert_eq!(asked(&job.calls()[before..]), [10, 13, 16]);
    merge(&job, &[0, 1, 2], 3, &[])
        .expect(3)
        .says("4 rows of `questions.csv` without an outcome in any of the files: row 11 (line 13), row 12 (line 14)");
    let before = job.calls().len();
    job.resume().expect(0);
    assert_eq!(asked(&job.calls()[before..]), [11, 12, 14, 15]);
    assert_eq!(job.column("answer"), job.column("question"));
    assert_eq!(job.column("id"), (0..17).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_limit_counts_the_rows_of_a_shard_and_a_range_names_those_of_the_input() {
    let job = Job::new().questions(20).echo();
    shard(&job, 1, 4, &["-n", "2"]).expect(0);
    assert_eq!(asked(&job.calls()), [1, 5]);
    shard(&job, 1, 4, &["--range", "4:14"]).expect(0).says("1 row answered before, 2 to go");
    assert_eq!(asked(&job.calls()), [1, 5, 9, 13]);
    job.run_alone(&["verify", "questions.csv", &answers_of(1, 4)]).expect(0).prints("4 records for 4 rows");
    shard(&job, 3, 4, &["--dry-run"]).expect(0).says("estimate: 5 calls");
    shard(&job, 29, 30, &[]).expect(0).says("no row is selected");
    assert_eq!(job.read(&answers_of(29, 30)).lines().count(), 1);
    job.run(&[
        "compare",
        "questions.csv",
        "--predictor",
        "predictor.py:predict",
        "--shard",
        "3/4",
        "--runs",
        "1",
    ])
    .expect(0)
    .prints("1 run of 5 rows");
}

#[test]
fn merged_parts_of_shards_are_of_the_rows_that_were_asked_for() {
    let job = Job::new().questions(20).echo();
    for number in 0..2 {
        shard(&job, number, 2, &["--range", "4:9"]).expect(0);
    }
    merge(&job, &[0, 1], 2, &[]).expect(0);
    assert_eq!(job.column("id"), ["4", "5", "6", "7", "8"]);
    job.process().expect(0).says("5 rows answered before, 15 to go");
    assert_eq!(job.column("id").len(), 20);
}

#[test]
fn another_shard_of_the_same_answers_is_refused_with_both_named() {
    let job = Job::new().questions(6).echo();
    let process = |shard: &[&str]| job.process_with(shard);
    process(&["--shard", "0/2"]).expect(0);
    let both = "holds shard 0/2, but";
    process(&["--shard", "1/2"]).expect(1).says(&format!("{both} shard 1/2 was requested"));
    process(&["--shard", "0/3"]).expect(1).says(&format!("{both} shard 0/3 was requested"));
    process(&["--allow-changed"]).expect(1).says(&format!("{both} the whole input was requested"));
    job.resume_with(&["--shard", "1/2", "--allow-changed"])
        .expect(1)
        .says(&format!("{both} shard 1/2 was requested"));
    job.resume().expect(0).says("3 rows answered before; 0 to go");
    assert_eq!(asked(&job.calls()), [0, 2, 4]);
    for shard in ["2/2", "0/0", "1", "auto/2"] {
        process(&["--shard", shard]).expect(2).says("--shard <K/N>");
    }
    process(&["--shard", "1/2", "--force"]).expect(0);
    assert_eq!(job.column("id"), ["1", "3", "5"]);
}

#[test]
fn a_task_of_a_scheduler_takes_its_own_shard() {
    for (variable, value, code, told) in [
        ("JOB_COMPLETION_INDEX", "1", 0, "2 rows of 6 (shard 1/3)"),
        ("SLURM_ARRAY_TASK_ID", "2", 0, "2 rows of 6 (shard 2/3)"),
        ("SLURM_ARRAY_TASK_ID", "3", 2, "`SLURM_ARRAY_TASK_ID` is 3, and there are shards 0/3 to 2/3"),
        ("OTHER", "0", 2, "neither `JOB_COMPLETION_INDEX` nor `SLURM_ARRAY_TASK_ID` is set"),
    ] {
        let job = Job::new().questions(6).echo().env(variable, value);
        job.process_with(&["--shard", "auto/3"]).expect(code).says(told);
    }
    let job = Job::new().questions(6).echo().env("JOB_COMPLETION_INDEX", "1").env("SLURM_ARRAY_TASK_ID", "0");
    job.process_with(&["--shard", "auto/3"]).expect(2).says("say which is meant, as in `1/3`");
    let job = job.env("SLURM_ARRAY_TASK_ID", "1").env("TAB_SHARD", "auto/3");
    job.process().expect(0).says("(shard 1/3)");
    assert_eq!(asked(&job.calls()), [1, 4]);
}

#[test]
fn a_shard_that_was_killed_is_resumed_alone_or_after_the_merge() {
    let slow = "async def predict(question):\n    called(question)\n    await asyncio.sleep(0.1)\n    return question\n";
    let job = Job::new().questions(200).predictor(slow).args(["-c", "4"]);
    shard(&job, 0, 2, &[]).expect(0);
    let mut running =
        job.spawn(&["process", "questions.csv", "--predictor", "predictor.py:predict", "--shard", "1/2"]);
    running.wait_for_calls(120);
    let files = [&*answers_of(0, 2), &*answers_of(1, 2)];
    let merge = [&["merge", "questions.csv"], &files[..], &["-o", "answers.csv"]].concat();
    job.run_alone(&merge).expect(1).says("is in use by process");
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    assert!(!job.path("answers.csv").exists());

    job.run_alone(&merge).expect(3).says("without an outcome in any of the files");
    let status: BTreeMap<_, _> = job.column("id").into_iter().zip(job.column("status")).collect();
    let open: Vec<usize> = status
        .iter()
        .filter(|(_, status)| *status == "unfinished")
        .map(|(id, _)| id.parse().unwrap())
        .collect();
    assert!(open.len() > 20 && open.iter().all(|id| id % 2 == 1), "{open:?}");
    let before = job.calls().len();
    job.resume().expect(0).says("an earlier session did not end in order");
    let mut again = asked(&job.calls()[before..]);
    again.dedup();
    let mut open = open;
    open.sort_unstable();
    assert_eq!(again, open, "what the killed shard had answered is not asked again");

    // The shard itself goes on as well, and then the merge finds nothing open.
    let before = job.calls().len();
    job.run(&["resume", &answers_of(1, 2)]).expect(0);
    assert_eq!(asked(&job.calls()[before..]), open);
    job.run_alone(&merge).expect(1).says("holds an earlier run");
    job.run_alone(&[&merge[..], &["--force"]].concat()).expect(0).says("the earlier journal is kept as");
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_missing_shard_is_named_and_its_rows_are_asked_by_resume() {
    let job = Job::new().questions(12).echo();
    for number in [0, 1, 3] {
        shard(&job, number, 4, &[]).expect(0);
    }
    merge(&job, &[0, 1, 2, 3], 4, &[]).expect(1).says("has no journal");
    merge(&job, &[0, 1, 3], 4, &[])
        .expect(3)
        .says("3 rows of `questions.csv` without an outcome in any of the files: row 2 (line 4), row 6 (line 8), row 10 (line 12)")
        .says("none of the files is of shard 2/4");
    job.run_alone(&["verify", "questions.csv", "answers.csv"]).expect(0).prints("12 records for 12 rows");
    job.run_alone(&["report", "answers.csv"]).expect(0).prints("Answered 9 of 12 rows").prints("Unfinished");
    let before = job.calls().len();
    job.resume().expect(0);
    assert_eq!(asked(&job.calls()[before..]), [2, 6, 10]);
}

#[test]
fn a_row_in_two_files_is_named_its_answer_stands_and_both_calls_count() {
    let job = picky(6);
    job.process_with(&["-o", "a.csv", "--range", "0:6"]).expect(3);
    let job = job.file("bad", "Question 0?");
    job.process_with(&["-o", "b.csv", "--range", "0:6"]).expect(3);
    let merge = |files: &[&str]| {
        job.run_alone(&[&["merge", "questions.csv"], files, &["-o", "answers.csv", "--force"]].concat())
    };
    // Row 0 is answered in one file, row 5 in the other: whatever the order, both answers stand.
    for files in [["a.csv", "b.csv"], ["b.csv", "a.csv"]] {
        let done = merge(&files).expect(0);
        let told = "6 rows with an outcome in more than one file, 4 answered, and paid for, more than once: row 0 (line ";
        assert!(done.stderr.contains(told), "{}", done.stderr);
        assert!(
            done.stderr.contains("of `a.csv.journal`") && done.stderr.contains("of `b.csv.journal`"),
            "{}",
            done.stderr
        );
        assert_eq!(job.column("status"), ["ok"; 6]);
        assert_eq!(job.report()["attempts"]["total"], 12);
        assert_eq!(job.report()["rows"]["ok"], 6);
    }
    // A third answer counts its row once more nowhere.
    std::fs::write(job.path("bad"), "").unwrap();
    job.process_with(&["-o", "c.csv", "--range", "0:2"]).expect(0);
    let done = merge(&["a.csv", "b.csv", "c.csv"]).expect(0);
    let told = "6 rows with an outcome in more than one file, 5 answered, and paid for, more than once: row 0 (line ";
    assert!(done.stderr.contains(told), "{}", done.stderr);
    for row in ["row 0 (", "row 1 ("] {
        let place = done.stderr.split_once(row).unwrap().1.split_once(')').unwrap().0;
        assert_eq!(
            (place.matches("line ").count(), done.stderr.matches(row).count()),
            (3, 1),
            "{}",
            done.stderr
        );
    }
    merge(&["a.csv", "./a.csv"]).expect(2).says("`./a.csv` is named twice");
}

#[test]
fn an_outcome_of_no_row_of_the_input_is_refused_with_file_and_line_and_nothing_is_written() {
    let job = Job::new().questions(6).echo();
    shard(&job, 0, 2, &[]).expect(0);
    let other = job.read("questions.csv").replace("Question 3?", "Question 33?");
    let job = job.file("other.csv", other);
    job.run(&[
        "process",
        "other.csv",
        "-o",
        &answers_of(1, 2),
        "--predictor",
        "predictor.py:predict",
        "--shard",
        "1/2",
    ])
    .expect(0);
    let journal = job.read(&(answers_of(1, 2) + ".journal"));
    let line = 1 + journal.lines().position(|line| line.contains("\"outcome\":{\"row\":3,")).unwrap();
    merge(&job, &[0, 1], 2, &[]).expect(1).says(&format!(
        "1 outcome of `{}.journal` is of no row of `questions.csv`: line {line} (row 3)",
        answers_of(1, 2)
    ));
    let left: Vec<_> = job
        .files()
        .into_iter()
        .filter(|name| name.starts_with("answers") || name.starts_with(".tmp"))
        .collect();
    assert_eq!(left, [""; 0]);
    job.run_alone(&["merge", "other.csv", &answers_of(0, 2), &answers_of(1, 2), "-o", "answers.csv"])
        .expect(0);
}

#[test]
fn a_shard_of_other_columns_is_refused_whichever_of_them_is_named_first() {
    let rows = "a,b\nc,d\n";
    let job = Job::new()
        .echo()
        .file("q.csv", format!("question,note\n{rows}"))
        .file("other.csv", format!("note,question\n{rows}"));
    for (input, shard, output) in [("q.csv", "0/2", "0.csv"), ("other.csv", "1/2", "1.csv")] {
        let process =
            ["process", input, "--predictor", "predictor.py:predict", "--shard", shard, "-o", output];
        job.run(&process).expect(0);
    }
    for parts in [["0.csv", "1.csv"], ["1.csv", "0.csv"]] {
        let merge = [&["merge", "q.csv"], &parts[..], &["-o", "answers.csv"]].concat();
        job.run(&merge).expect(1).says("the columns of `q.csv` are not those of the rows in `1.csv`");
        assert!(!job.path("answers.csv").exists());
    }
}

#[test]
fn different_jobs_are_not_merged_and_no_file_of_theirs_is_replaced() {
    let job = Job::new().questions(4).echo();
    shard(&job, 0, 2, &[]).expect(0);
    shard(&job, 1, 2, &["--map", "question=id"]).expect(0);
    merge(&job, &[0, 1], 2, &[]).expect(1).says(
        "`--map` is not given in `questions.answers.0-of-2.csv` and `question=id` in `questions.answers.1-of-2.csv`",
    );
    shard(&job, 1, 2, &["--force"]).expect(0);
    let into = |output: &str| {
        job.run_alone(&[
            "merge",
            "questions.csv",
            &answers_of(0, 2),
            &answers_of(1, 2),
            "-o",
            output,
            "--force",
        ])
    };
    into(&answers_of(1, 2)).expect(1).says("would replace");
    into("questions.csv").expect(1).says("would replace the input");
    let job = job.file("mine.csv", "a,b\n1,2\n");
    job.run_alone(&["merge", "questions.csv", &answers_of(0, 2), &answers_of(1, 2), "-o", "mine.csv"])
        .expect(1)
        .says("this program did not write it");
    assert_eq!(job.read("mine.csv"), "a,b\n1,2\n");
    // Source that was mended in between is told, as it is by `resume`.
    let job = job.predictor("async def predict(question):\n    return question.lower()\n");
    shard(&job, 1, 2, &["--force"]).expect(0);
    job.run_alone(&["merge", "questions.csv", &answers_of(0, 2), &answers_of(1, 2)])
        .expect(0)
        .says("the predictor's source (`predictor.py`) differs between");
    assert_eq!(
        job.column_of("questions.answers.csv", "answer"),
        ["Question 0?", "question 1?", "Question 2?", "question 3?"]
    );
}

#[test]
fn shards_of_a_pipe_and_of_json_lines_are_merged_with_the_file_that_went_through_it() {
    let rows: String =
        (0..5).map(|row| format!("{{\"question\": \"Question {row}?\", \"n\": {row}}}\n")).collect();
    let job = Job::new().echo().file("questions.jsonl", &rows).stdin(rows);
    let process = |shard: &str, output: &str| {
        job.run(&[
            "process",
            "-",
            "--format",
            "jsonl",
            "--shard",
            shard,
            "-o",
            output,
            "--predictor",
            "predictor.py:predict",
        ])
        .expect(0);
    };
    process("0/2", "a.jsonl");
    process("1/2", "b.jsonl");
    job.run(&["merge", "-", "a.jsonl", "b.jsonl"]).expect(2).says("give it a file");
    job.run(&["merge", "questions.jsonl", "a.jsonl", "b.jsonl"]).expect(0);
    let answers: Vec<_> =
        job.lines("questions.answers.jsonl").iter().map(|row| row["answer"].clone()).collect();
    assert_eq!(answers, (0..5).map(|row| format!("Question {row}?")).collect::<Vec<_>>());
}
