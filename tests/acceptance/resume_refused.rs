//! When a journal is not continued, and who may read it meanwhile. Nothing is called, nothing is lost.

use super::support::job::Job;

/// Rows from 10 on wait for the file `gate`.
const WAITS: &str = "
async def predict(question):
    called(question)
    while int(question.split()[1].rstrip('?')) >= 10 and not os.path.exists('gate'):
        await asyncio.sleep(0.005)
    return question
";

#[test]
fn another_job_under_the_same_name_is_refused_saying_what_changed() {
    let job = Job::new()
        .file("questions.csv", "question,other\nWho?,a\nWhy?,b\n")
        .file("other.py", "async def predict(question):\n    return question\n")
        .predictor("async def predict(question):\n    called(question)\n    raise ValueError\n");
    job.process().expect(3);
    let journal = job.read("answers.csv.journal");
    for (options, said) in [
        (&["--predictor", "other.py:predict"][..], "`--predictor` was `predictor.py:predict`"),
        (&["--column", "other"], "`--column` was not given"),
        (&["--map", "question=other"], "`--map` was not given"),
        (&["--signature", "question -> text"], "`--signature` was `question -> answer`"),
        (&["--lm", "temperature=1"], "`--lm` was not given in the earlier run and is `temperature=1` now"),
    ] {
        let resumed = job.run(&[&["resume", "answers.csv"], options].concat());
        resumed.expect(1).says(said).says("hint: ");
    }
    assert_eq!(job.calls().len(), 2);
    assert_eq!(job.read("answers.csv.journal"), journal);
}

#[test]
fn a_changed_input_is_refused() {
    let job = Job::new()
        .questions(3)
        .predictor("async def predict(question):\n    called(question)\n    raise ValueError\n");
    job.process().expect(3);
    let job = job.file("questions.csv", "id,question\n0,Question 0?\n1,Changed?\n2,Question 2?\n");
    job.resume().expect(1).says("questions.csv` has changed since the earlier run");
    assert_eq!(job.calls().len(), 3);
}

#[test]
fn a_journal_in_use_is_refused_naming_its_process() {
    let job = Job::new().questions(20).predictor(WAITS);
    let mut running = job.start();
    running.wait_for_calls(20);
    let calls = job.calls().len();
    let commands: [&[&str]; 3] = [
        &["resume", "answers.csv"],
        &["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"],
        &["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict", "--force"],
    ];
    let holder = format!("in use by process {}", running.pid());
    for command in commands {
        job.run(command).expect(1).says(&holder);
    }
    assert_eq!(job.calls().len(), calls);
    std::fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn the_answers_so_far_are_exported_beside_a_running_job() {
    let job = Job::new().questions(20).predictor(WAITS);
    let mut running = job.start();
    running.wait_for("answers.csv.journal", "\"outcome\"", 10);
    job.run(&["export", "answers.csv", "-o", "so_far.csv"]).expect(0);
    let so_far = job.records("so_far.csv");
    assert_eq!(so_far.len(), 20);
    for (row, record) in so_far.iter().enumerate() {
        let (answer, status) =
            if row < 10 { (format!("Question {row}?"), "ok") } else { (String::new(), "unfinished") };
        assert_eq!((&record["answer"], record["status"].as_str()), (&answer, status), "row {row}");
    }
    assert!(!job.path("answers.csv").exists() && running.is_running());
    std::fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(0);
    assert_eq!(job.calls().len(), 20);
}

#[test]
fn force_starts_anew_and_keeps_the_earlier_journal() {
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    let journal = job.read("answers.csv.journal");
    let forced =
        ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict", "--force"];
    job.run(&forced).expect(0).says("the earlier journal is kept as `answers.csv.journal.");
    assert_eq!(job.calls().len(), 6);
    let kept: Vec<_> = std::fs::read_dir(job.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("answers.csv.journal."))
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(job.read(&kept[0]), journal);
}

#[test]
fn answers_without_a_journal_are_refused_with_a_hint() {
    let job = Job::new().file("answers.csv", "question,answer\nWho?,Me\n");
    job.resume().expect(1).says("`answers.csv` has no journal `answers.csv.journal`").says("hint: ");
    assert_eq!(job.read("answers.csv"), "question,answer\nWho?,Me\n");
}

#[test]
fn a_dry_run_refuses_what_resume_would_and_changes_nothing() {
    let job = Job::new()
        .questions(3)
        .predictor("async def predict(question):\n    called(question)\n    raise ValueError\n");
    job.process().expect(3);
    let journal = job.read("answers.csv.journal");
    let dry_run = ["resume", "answers.csv", "--dry-run"];
    job.run(&dry_run).expect(0).says("0 rows answered before; 3 to go (3 failed, 0 unfinished)");
    job.run(&[&dry_run[..], &["--column", "id"]].concat()).expect(1).says("`--column` was not given");
    let job = job.file("questions.csv", "id,question\n0,Question 0?\n1,Changed?\n2,Question 2?\n");
    job.run(&dry_run).expect(1).says("1 of 3 recorded rows no longer match (line 3)\n");
    job.run(&[&dry_run[..], &["--allow-changed"]].concat()).expect(0);
    assert_eq!(job.calls().len(), 3);
    assert_eq!(job.read("answers.csv.journal"), journal);
}

#[test]
fn a_journal_whose_first_write_was_cut_short_is_nothing_to_process() {
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    let journal = job.read("answers.csv.journal");
    for header in ["", &journal[..journal.find('\n').unwrap()]] {
        std::fs::write(job.path("answers.csv.journal"), header).unwrap();
        let before = job.calls().len();
        job.resume().expect(1).says("has no whole header").says("or start the run again with `process`");
        job.process().expect(0).says("the earlier journal, which holds no whole line, is kept as");
        assert_eq!(job.calls().len(), before + 3);
        assert_eq!(job.column("answer"), job.column("question"));
    }
    // The header stands there twice.
    std::fs::write(job.path("answers.csv.journal"), "0".to_owned() + &journal[1..]).unwrap();
    let before = job.calls().len();
    job.process().expect(0);
    assert_eq!(job.calls().len(), before);
    let lost = journal.replacen("{\"header\"", "{\"hexder\"", 2);
    std::fs::write(job.path("answers.csv.journal"), &lost).unwrap();
    job.resume().expect(1).says("has no whole header").says("`--force`");
    let refused =
        job.process().expect(1).says("its header is missing or incomplete").says("start anew with `--force`");
    assert!(
        !refused.stderr.contains("resume answers.csv`"),
        "each hint would lead to the other: {}",
        refused.stderr
    );
    assert_eq!(job.read("answers.csv.journal"), lost);
    job.process_with(&["--force"]).expect(0);
}

#[test]
fn a_journal_removed_during_the_run_stops_it_and_is_written_anew() {
    let job = Job::new().questions(30).predictor(WAITS).args(["-c", "4"]);
    let mut running = job.start();
    running.wait_for("answers.csv.journal", "\"outcome\"", 10);
    std::fs::remove_file(job.path("answers.csv.journal")).unwrap();
    running.wait_for(".stderr", "the journal was removed while the run recorded into it", 1);
    std::fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(1).says("the journal is written anew under its name");
    assert!(job.calls().len() < 30);
    job.resume().expect(0);
    assert_eq!(job.calls().len(), 30, "no row was asked twice");
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_job_moved_with_its_input_is_exported_and_resumed() {
    let job = Job::new().predictor("async def predict(question):\n    if not os.path.exists('mended'):\n        raise ValueError\n    return question\n");
    std::fs::create_dir(job.path("old")).unwrap();
    for name in ["predictor.py", "questions.csv"] {
        let text = if name == "predictor.py" { job.read(name) } else { "question\nWho?\nWhy?\n".to_owned() };
        std::fs::write(job.path("old").join(name), text).unwrap();
    }
    let process = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    job.run_in("old", &process).expect(3);
    std::fs::rename(job.path("old"), job.path("new")).unwrap();
    job.run(&["export", "new/answers.csv"]).expect(0);
    std::fs::write(job.path("new/mended"), "").unwrap();
    job.run(&["resume", "new/answers.csv"]).expect(0);
    assert_eq!(job.records("new/answers.csv").len(), 2);
    std::fs::rename(job.path("new"), job.path("newer")).unwrap();
    std::fs::write(job.path("newer/questions.csv"), "question\nWho?\nWhen?\n").unwrap();
    job.run(&["export", "newer/answers.csv"]).expect(1).says("new/questions.csv");
}

#[test]
fn a_name_that_the_journal_cannot_hold_is_refused_before_the_first_call() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"m\xe9.csv");
    let job = Job::new().questions(2).echo();
    std::fs::rename(job.path("questions.csv"), job.path("").join(name)).unwrap();
    let command = ["process", "-o", "answers.csv", "--predictor", "predictor.py:predict"].map(OsStr::new);
    job.run(&[&command[..], &[name]].concat()).expect(1).says("which is not UTF-8").says("hint: rename it");
    assert_eq!(job.calls().len(), 0);
    assert!(!job.path("answers.csv.journal").exists());
}

#[test]
fn another_encoding_is_named_as_what_has_changed() {
    let job = Job::new()
        .questions(2)
        .predictor("async def predict(question):\n    called(question)\n    raise ValueError\n");
    job.process().expect(3);
    let resumed = job.resume_with(&["--encoding", "latin1"]).expect(1);
    resumed.says("`--encoding` was `UTF-8` in the earlier run and is `windows-1252` now");
}
