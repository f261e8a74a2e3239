//! Where a predictor's code and its Python are found, whatever directory they are in.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::support::job::{Done, Job, installed_into};

const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv");

fn with_files(files: &[(&str, &str)]) -> Job {
    let job = Job::new().questions(2);
    for (name, content) in files {
        fs::create_dir_all(job.path(name).parent().unwrap()).unwrap();
        fs::write(job.path(name), content).unwrap();
    }
    job
}

fn process(job: &Job, predictor: &str) -> Done {
    job.run(&["process", "questions.csv", "-o", "answers.csv", "--predictor", predictor])
}

const RELATIVE: &str = "from .wording import shout
async def predict(question):
    return f'{__name__}: {shout(question)}'
";
const WORDING: &str = "from ..marks import MARK
def shout(text):
    return text.upper() + MARK
";

#[test]
fn a_file_inside_a_package_is_imported_as_that_package() {
    let files = [
        ("lib/quiz/__init__.py", ""),
        ("lib/quiz/marks.py", "MARK = '!'"),
        ("lib/quiz/ask/__init__.py", ""),
        ("lib/quiz/ask/wording.py", WORDING),
        ("lib/quiz/ask/main.py", RELATIVE),
        // What a file finds beside it without a package, it finds within one too.
        (
            "lib/quiz/ask/beside.py",
            "import wording_of_old\nasync def predict(question):\n    return wording_of_old.WORD\n",
        ),
        ("lib/quiz/ask/wording_of_old.py", "WORD = 'old'"),
    ];
    let job = with_files(&files);
    process(&job, "lib/quiz/ask/main.py:predict").expect(0);
    assert_eq!(job.column("answer")[0], "quiz.ask.main: QUESTION 0?!");
    let job = with_files(&files);
    process(&job, "lib/quiz/ask/beside.py:predict").expect(0);
    assert_eq!(job.column("answer")[0], "old");
}

#[test]
fn a_packages_own_modules_do_not_take_the_place_of_pythons() {
    let main = "import secrets\nfrom .secrets import OURS\n\
                async def predict(question):\n    return f'{secrets.token_hex(1)[:0]}{OURS}'\n";
    let files = [("quiz/__init__.py", ""), ("quiz/main.py", main), ("quiz/secrets.py", "OURS = 'ours'")];
    let job = with_files(&files);
    process(&job, "quiz/main.py:predict").expect(0);
    assert_eq!(job.column("answer")[0], "ours");
}

#[test]
fn a_relative_import_outside_of_a_package_is_told_with_the_remedy() {
    let job = with_files(&[
        ("quiz/words.py", "WORD = 'w'"),
        ("quiz/main.py", "from .words import WORD\nasync def predict(question):\n    return WORD\n"),
    ]);
    process(&job, "quiz/main.py:predict")
        .expect(1)
        .says("hint: add an `__init__.py` to each directory of the package, or give `package.module:name`");
    process(&job, "quiz.main:predict").expect(0);
    assert_eq!(job.column("answer")[0], "w");
}

#[test]
fn a_package_whose_name_is_taken_does_not_give_another_file() {
    // `json` is the standard library's, and imported long before.
    let job = with_files(&[
        ("json/__init__.py", ""),
        ("json/mine.py", "async def predict(question):\n    return 'mine'\n"),
    ]);
    process(&job, "json/mine.py:predict").expect(0);
    assert_eq!(job.column("answer"), ["mine", "mine"]);
    // One that has no file.
    let job = with_files(&[("io/__init__.py", "async def predict(question):\n    return 'io'\n")]);
    process(&job, "io/__init__.py:predict").expect(0);
    assert_eq!(job.column("answer"), ["io", "io"]);
}

#[test]
fn a_module_is_also_looked_for_in_src() {
    let files = [
        ("src/quiz/__init__.py", ""),
        ("src/quiz/main.py", "async def predict(question):\n    return 'src'\n"),
        ("scripts/ask.py", "from quiz.main import predict\n"),
        // It must not take the place of Python's.
        ("src/secrets.py", "raise ImportError('this is not the standard library')"),
        ("tokens.py", "import secrets\nasync def predict(question):\n    return secrets.__name__\n"),
    ];
    for (predictor, answer) in
        [("quiz.main:predict", "src"), ("scripts/ask.py:predict", "src"), ("tokens:predict", "secrets")]
    {
        let job = with_files(&files);
        process(&job, predictor).expect(0);
        assert_eq!(job.column("answer")[0], answer, "{predictor}");
    }
}

#[test]
fn a_module_that_is_not_found_is_told_with_the_places_it_was_looked_for_in() {
    let job = with_files(&[("src/quiz/__init__.py", "")]);
    let places =
        format!("is looked for in `{0}`, `{0}/src`\n", job.path("").to_str().unwrap().trim_end_matches('/'));
    process(&job, "quizz.main:predict").expect(1).says("No module named 'quizz'").says(&places);
    let found = format!("hint: `quiz` was found in `{}`\n", job.path("src/quiz").display());
    process(&job, "quiz.main:predict").expect(1).says("No module named 'quiz.main'").says(&found);
}

#[test]
fn a_virtual_environment_is_looked_for_upwards() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = Job::new().env("VIRTUAL_ENV", "").env("PATH", "/nonexistent");
    symlink(ENVIRONMENT, job.path(".venv")).unwrap();
    let arguments = ["doctor", "--predictor", "x.py:x"];
    let done = job.run_in("some/where/below", &arguments);
    assert!(
        done.stdout.contains(&format!("`{}`", job.path(".venv/bin/python").display())),
        "{}",
        done.stdout
    );
    // The nearest is taken.
    fs::create_dir_all(job.path("some/.venv/bin")).unwrap();
    symlink(Path::new(ENVIRONMENT).join("bin/python"), job.path("some/.venv/bin/python")).unwrap();
    let done = job.run_in("some/where/below", &arguments);
    let python = job.path("some/.venv/bin/python");
    assert!(done.stdout.contains(&format!("`{}`", python.display())), "{}", done.stdout);
}

/// Puts a `python3` into the job's directory that is another build of this version: one with a module within it for
/// which the linked one would look in vain.
fn another_build(job: &Job) {
    let real = format!("{ENVIRONMENT}/bin/python");
    let version =
        Command::new(&real).args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    let python = job.path("python3");
    let told = [python.to_str().unwrap(), version.trim(), "sys math_of_another_build time"].join("\n");
    fs::write(&python, format!("#!/bin/sh\necho '{told}'\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn another_build_of_the_same_version_is_refused_with_what_it_lacks() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = Job::new().questions(1).echo();
    another_build(&job);
    let done = job.process_with(&["--python", "./python3"]).expect(1);
    let said = done.says("python3` is another build of Python 3.").says("brings no `math_of_another_build`");
    assert!(said.stderr.contains("\nhint: make the virtual environment with `/"), "{}", said.stderr);
    assert!(job.calls().is_empty());
}

#[test]
fn where_python3_is_another_build_the_linked_one_is_taken() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    for path in ["", "/nonexistent"] {
        let job = Job::new().questions(1).echo().env("VIRTUAL_ENV", "");
        another_build(&job);
        let path = if path.is_empty() { job.path("").to_str().unwrap().to_owned() } else { path.to_owned() };
        let job = job.env("PATH", &path);
        job.process().expect(0);
        assert_eq!(job.column("answer"), ["Question 0?"]);
    }
}
