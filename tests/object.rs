//! Tests of jobs whose predictor is a Python object, and of how they go on at the command line.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;

use pyo3::prelude::*;
use tokio_asyncio_bridge::bridge::python::interpreter::Interpreter;
use tokio_asyncio_bridge::job::{
    Control, ErrorKind, Format, Job, JobError, JobPaths, JobSpec, Level, Observer, PredictorObject,
    SessionEnd, SessionOptions, recorded,
};

/// A directory with an input of three questions.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("questions.csv"), "question\nq0\nq1\nq2\n").unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn answers(&self) -> String {
        std::fs::read_to_string(self.path("answers.csv")).unwrap()
    }
}

/// Runs Python code as a module that comes from a file, and gives what it calls `predict`, as a program in Python
/// would.
fn object_of(module: &str, file: &Path, code: &str) -> PredictorObject {
    Interpreter::find(None).unwrap();
    let [module, file, code] = [module, file.to_str().unwrap(), code].map(|text| CString::new(text).unwrap());
    Python::attach(|py| {
        let module = PyModule::from_code(py, &code, &file, &module).unwrap();
        PredictorObject::new(&module.getattr("predict").unwrap()).unwrap()
    })
}

/// Runs a job whose predictor is an object, and returns its end and what it said.
fn run_object(scene: &Scene, predictor: PredictorObject) -> Result<(SessionEnd, Vec<String>), JobError> {
    let spec = JobSpec::new(scene.directory.path(), Path::new("questions.csv"), Format::Csv);
    let files = JobPaths::of(&scene.path("answers.csv"));
    let options = SessionOptions { predictor: Some(predictor), ..SessionOptions::default() };
    let mut said = Said::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = runtime.block_on(async {
        let prepared = Job::new(spec, files, options)?.prepare(&mut said, &Control::new()).await?;
        prepared.open(&mut said, &Control::new()).await?.run(&mut said, &Control::new()).await
    })?;
    Ok((end, said.0))
}

/// Keeps warnings.
#[derive(Default)]
struct Said(Vec<String>);

impl Observer for Said {
    fn message(&mut self, level: Level, text: &str) {
        if level == Level::Warning {
            self.0.push(text.to_owned());
        }
    }
}

/// Runs the program in the scene's directory; its exit code and what it wrote to standard error.
fn at_the_shell(scene: &Scene, arguments: &[&str]) -> (i32, String) {
    let program = std::env::var_os("TEST_PROGRAM");
    let mut program = Command::new(program.unwrap_or(env!("CARGO_BIN_EXE_tokio-asyncio-bridge").into()));
    let output = program.current_dir(scene.directory.path()).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// A predictor that fails one row until the scene has a file `allowed`. Its answers tell which version of it gave them.
fn choosy(scene: &Scene, version: u32) -> String {
    format!(
        "import os\nasync def predict(question):\n    if question == 'q1' and not os.path.exists({:?}):\n        \
         raise ValueError('not yet')\n    return f'{version} {{question}}'\n",
        scene.path("allowed").to_str().unwrap()
    )
}

#[test]
fn a_python_object_is_called_in_the_context_that_it_was_given_in() {
    let scene = Scene::new();
    let code = "import contextvars\nuser = contextvars.ContextVar('user')\nuser.set('Ada')\n\
        def make(greeting):\n    async def predict(question):\n        return f'{greeting} {user.get()}: {question}'\n    \
        return predict\npredict = make('Hello')\nuser.set('Bea')\n";
    let (end, _) = run_object(&scene, object_of("greetings", Path::new("<none>"), code)).unwrap();
    assert_eq!(end.code, 0);
    assert!(scene.answers().contains("q2,Hello Bea: q2,ok"), "{}", scene.answers());
    let report = end.report.unwrap();
    assert_eq!(report.run.predictor, "greetings:make.<locals>.predict");

    let recorded = recorded(&scene.path("answers.csv"), &Control::new()).unwrap();
    assert!(recorded.object);
    let files = JobPaths::of(&scene.path("answers.csv"));
    let Err(error) = Job::resume(recorded, files, SessionOptions::default()) else { panic!("it went on") };
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`greetings:make.<locals>.predict`"), "{error}");
}

#[test]
fn an_object_of_another_name_is_refused_and_one_with_other_code_is_warned_of() {
    let scene = Scene::new();
    let code = |code: &str| (scene.path("mine.py"), code.to_owned());
    let given = |name: &str, (file, code): (PathBuf, String)| {
        std::fs::write(&file, &code).unwrap();
        object_of(name, &file, &code)
    };
    let (end, said) = run_object(&scene, given("mine", code(&choosy(&scene, 1)))).unwrap();
    assert_eq!((end.code, said), (3, vec![]));
    let (_, said) = run_object(&scene, given("mine", code(&choosy(&scene, 1)))).unwrap();
    assert_eq!(said, [""; 0], "the same source is not warned of");
    let (_, said) = run_object(&scene, given("mine", code(&choosy(&scene, 2)))).unwrap();
    assert_eq!(said, ["the predictor's source has changed since the last session: `mine.py`"]);
    let error = run_object(&scene, given("other", code(&choosy(&scene, 2)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    let text = "the predictor was the Python object `mine:predict` in the earlier run and is the Python object \
        `other:predict` now: the answers would not belong together\nhint: give the same one, start anew";
    assert!(error.to_string().starts_with(text), "{error}");
}

#[test]
fn a_job_of_an_object_goes_on_at_the_shell_with_the_function_of_that_name() {
    let scene = Scene::new();
    // Of another name than the module, so that no SPEC finds the function.
    let cell = scene.path("cell.py");
    std::fs::write(&cell, choosy(&scene, 1)).unwrap();
    let (end, _) = run_object(&scene, object_of("app", &cell, &choosy(&scene, 1))).unwrap();
    assert_eq!(end.code, 3);
    for arguments in [&["resume", "answers.csv"][..], &["process", "questions.csv", "-o", "answers.csv"]] {
        let (code, said) = at_the_shell(&scene, arguments);
        assert_eq!(code, 2, "{said}");
        let text = "error: the run was started with the Python object `app:predict`, which only its own process has: \
            give it again as `--predictor path/to/file.py:predict`\n";
        assert!(said.contains(text), "{said}");
    }
    std::fs::write(scene.path("other.py"), choosy(&scene, 1).replace("def predict", "def reply")).unwrap();
    let (code, said) = at_the_shell(&scene, &["resume", "answers.csv", "--predictor", "other.py:reply"]);
    assert_eq!(code, 1, "{said}");
    let text =
        "the predictor was the Python object `app:predict` in the earlier run and is `other.py:reply` now";
    assert!(said.contains(text), "{said}");

    std::fs::write(scene.path("moved.py"), choosy(&scene, 2)).unwrap();
    let (code, said) = at_the_shell(&scene, &["resume", "answers.csv", "--predictor", "moved.py:predict"]);
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("the predictor's source has changed since the last session: `moved.py:predict`"),
        "{said}"
    );

    // The way back: what a SPEC named is given as an object, whose file was the SPEC's.
    std::fs::write(scene.path("allowed"), "").unwrap();
    let (end, said) =
        run_object(&scene, object_of("moved", &scene.path("moved.py"), &choosy(&scene, 2))).unwrap();
    assert_eq!((end.code, said), (0, vec![]));
    assert!(
        scene.answers().contains("q0,1 q0,ok") && scene.answers().contains("q1,2 q1,ok"),
        "{}",
        scene.answers()
    );
}
