//! `--env-file`: its variables are there when Python starts, and their secrets are masked. The tests in
//! `src/cli/command/env_file.rs` are about the lines of such a file.

use std::fs;

use super::support::job::Job;

const FILE: &str =
    "# of this job\nexport SERVICE_KEY='sk-very-secret'\nGREETING=\"good day\"\nTAKEN=from the file\n";

/// A predictor that answers with its variables, and fails its second row with its key.
fn job() -> Job {
    Job::new().questions(2).file(".env", FILE).env("TAKEN", "already").predictor(
        "GREETING, KEY = os.environ['GREETING'], os.environ['SERVICE_KEY']
async def predict(question):
    called(KEY)
    if question == 'Question 1?':
        raise ValueError(f'{KEY} is refused')
    return f\"{GREETING}, {os.environ['TAKEN']}\"
",
    )
}

/// No file of the job but the two that are meant to has the key.
fn nowhere_written(job: &Job) {
    for name in job.files().iter().filter(|name| *name != ".env" && !name.starts_with('e')) {
        let text = fs::read(job.path(name)).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("very-secret"), "{name}");
    }
}

#[test]
fn variables_are_set_where_they_are_not_before_python_starts_and_the_keys_among_them_are_masked() {
    let job = job();
    let done = job.process_with(&["--env-file", ".env"]).expect(3);
    assert_eq!(job.calls(), ["sk-very-secret", "sk-very-secret"]);
    assert_eq!(job.column("answer"), ["good day, already", ""]);
    assert_eq!(job.column("error")[1], "ValueError: *** is refused");
    assert!(!format!("{done:?}").contains("very-secret"), "{done:?}");
    nowhere_written(&job);
}

#[test]
fn resume_reads_the_file_again_from_where_the_run_was_and_another_can_be_given() {
    let job = job();
    job.process_with(&["--env-file", ".env"]).expect(3);
    job.run_in("elsewhere", &["resume", "../answers.csv"]).expect(3);
    assert_eq!(job.calls().len(), 3);
    fs::write(job.path("other.env"), FILE.replace("very", "other")).unwrap();
    job.resume_with(&["--env-file", "other.env"]).expect(3);
    assert_eq!(job.calls()[3], "sk-other-secret");
    nowhere_written(&job);
    fs::remove_file(job.path("other.env")).unwrap();
    job.resume().expect(1).says("/other.env`: No such file or directory");
    assert_eq!(job.calls().len(), 4);
}

#[test]
fn a_path_given_to_resume_belongs_to_the_directory_it_is_given_in() {
    let job = job();
    job.process_with(&["--env-file", ".env"]).expect(3);
    fs::create_dir(job.path("elsewhere")).unwrap();
    fs::write(job.path("elsewhere/mine.env"), FILE.replace("very", "my")).unwrap();
    job.run_in("elsewhere", &["resume", "../answers.csv", "--env-file", "mine.env"]).expect(3);
    assert_eq!(job.calls().last().unwrap(), "sk-my-secret");
    // Recorded so, whatever directory the next one is given in.
    job.resume().expect(3);
    assert_eq!(job.calls()[3], "sk-my-secret");
}

#[test]
fn a_file_that_is_no_list_of_variables_is_refused_before_the_first_call_without_its_values() {
    let job = job().file(".env", "GREETING=hello\nSERVICE_KEY: sk-very-secret\n");
    let done = job.process_with(&["--env-file", ".env"]).expect(1);
    let done = done.says("error: failed to read `.env`: line 2: expected `NAME=VALUE`\n");
    assert!(!done.stderr.contains("very-secret"), "{}", done.stderr);
    let done = job.process_with(&["--env-file", "gone.env"]).expect(1);
    done.says("error: failed to read `gone.env`: No such file or directory");
    assert!(job.calls().is_empty());
}

#[test]
fn compare_takes_it_too() {
    let job = job();
    let compare = ["compare", "questions.csv", "--predictor", "predictor.py:predict", "--range", "0:1"];
    job.run(&[&compare[..], &["--runs", "1", "--env-file", ".env"]].concat()).expect(0);
    assert!(!job.calls().is_empty());
}

#[test]
fn doctor_points_at_the_file_and_takes_it() {
    let doctor = ["doctor", "--model", "openai/gpt-4o-mini"];
    let job = Job::new().file(".env", "OPENAI_API_KEY=sk-very-secret");
    let hint = "`openai/gpt-4o-mini` needs a key\n                       hint: `.env` sets it: add `--env-file .env`\n";
    job.run(&doctor).expect(1).prints(hint);
    let done = job.run(&[&doctor[..], &["--env-file", ".env"]].concat()).expect(0);
    let done = done.prints("/.env` names `OPENAI_API_KEY`\n").prints("`OPENAI_API_KEY` is set\n");
    assert!(!format!("{done:?}").contains("very-secret"), "{done:?}");
    let done = job.run(&["doctor", "--python", "/gone", "--env-file", "gone.env"]).expect(1);
    done.prints("✗ Environment file     failed to read `").prints("/gone.env`");
}
