//! `--ray` and its options, up to the cluster: what is refused before it is reached, and which files would be sent.

use std::fs::{self, File};

use super::support::job::Job;

/// A port where nobody listens: no test here may reach a cluster.
const NOWHERE: &str = "127.0.0.1:9";

fn job() -> Job {
    Job::new().questions(4).echo()
}

#[test]
fn calls_are_made_in_one_place() {
    let job = job();
    job.process_with(&["--ray", "--workers", "2"]).expect(2).says("`--ray` cannot be used with `--workers`");
    let job = job.env("TAB_RAY", NOWHERE);
    job.process_with(&["--workers", "1"]).expect(0);
    job.process_with(&["--ray", "none", "--force"]).expect(0);
    let text = job.run(&["process", "questions.csv", "--bridge", "fake"]).expect(2);
    text.says("the bridge `fake` cannot make its calls on a Ray cluster");
}

#[test]
fn an_address_is_one_of_a_head() {
    let job = job();
    job.run(&["process", "--ray", "questions.csv"])
        .expect(2)
        .says("expected `auto`, `local`, `none` or the `HOST:PORT`");
    job.process_with(&["--ray", "ray://head:10001"])
        .expect(2)
        .says("`ray job submit -- tokio-asyncio-bridge process");
    assert!(job.calls().is_empty());
}

#[test]
fn a_variable_that_is_to_be_sent_is_set_here_or_in_the_env_file() {
    let job = job().file("other.env", "FROM_FILE=value-of-the-file\n");
    let ray = ["--ray", NOWHERE, "--ray-env", "FROM_FILE"];
    job.process_with(&ray).expect(2).says("`--ray-env FROM_FILE`: the variable is not set here");
    job.process_with(&["--ray", "--ray-env", "KEY=sk-1"]).expect(2).says("expected the name of a variable");
    let done = job.process_with(&[&ray[..], &["--env-file", "other.env"]].concat()).expect(1);
    assert!(!format!("{done:?}").contains("value-of-the-file"), "{done:?}");
    assert!(job.calls().is_empty());
}

#[test]
fn the_files_that_are_sent_are_counted_before_the_cluster_is_reached() {
    let job = job().file("helper.py", "").file("other.py", "").file(".env", "KEY=1");
    let code = format!("import helper\n{}", job.read("predictor.py"));
    fs::write(job.path("predictor.py"), code).unwrap();
    job.process_with(&["--ray", NOWHERE]).expect(1).says("Ray: 2 files (");
    job.process_with(&["--ray", NOWHERE, "--predictor", "json:loads"])
        .expect(1)
        .says("Ray: no files are sent");
    let job = job.file("env.json", r#"{"working_dir": "s3://bucket/app.zip"}"#).file("bad.json", "[]");
    let given = |file| job.process_with(&["--ray", NOWHERE, "--ray-runtime-env", file]).expect(1);
    given("env.json").says("the files are those of the `working_dir` `s3://bucket/app.zip`");
    given("bad.json").says("failed to read the runtime environment").says("expected fields such as");
    given("none.yaml").says("none.yaml`: No such file or directory");
}

#[test]
fn a_package_of_more_than_100_mib_is_refused_with_its_largest_entries() {
    let job = job();
    fs::create_dir_all(job.path("app/data")).unwrap();
    fs::write(job.path("app/__init__.py"), job.read("predictor.py")).unwrap();
    File::create(job.path("app/data/weights.bin")).unwrap().set_len(101 << 20).unwrap();
    let ray = ["--ray", NOWHERE, "--predictor", "app:predict"];
    job.process_with(&ray).expect(1).says("`app/data` (101.0 MiB)").says("`--ray-runtime-env`");
    fs::write(job.path("app/.gitignore"), "*.bin\n").unwrap();
    job.process_with(&ray).expect(1).says("Ray: 1 file (");
}

#[test]
fn an_option_of_ray_without_ray_is_said_to_have_no_effect() {
    let job = job();
    let options = ["--ray-actors", "2", "--ray-gpus", "1", "--ray-env", "HOME"];
    let done = job.process_with(&options).expect(0);
    for option in ["--ray-actors", "--ray-gpus", "--ray-env"] {
        assert!(
            done.stderr.contains(&format!("warning: `{option}` has no effect without `--ray`\n")),
            "{done:?}"
        );
    }
    let done = job.resume_with(&options).expect(0).says("`--ray-actors` has no effect");
    assert!(!done.stderr.contains("--ray-cpus"), "{done:?}");
    let none = job.process_with(&[&options[..], &["--ray", "none", "--force"]].concat()).expect(0);
    none.says("`--ray-env` has no effect");
    let ray = [&options[..], &["--ray", NOWHERE, "--force"]].concat();
    let done = job.process_with(&ray).expect(1);
    assert!(!done.stderr.contains("no effect"), "{done:?}");
    let job = job.env("TAB_RAY_ACTORS", "2");
    assert!(!job.process_with(&["--force"]).expect(0).stderr.contains("no effect"));
}
