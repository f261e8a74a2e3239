//! Tests of the library without the command line: jobs as values, in one process with one embedded Python.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_asyncio_bridge::job::compare::{Comparison, ModeRuns, PreparedComparison};
use tokio_asyncio_bridge::job::export::export;
use tokio_asyncio_bridge::job::rebuilt::rebuilt;
use tokio_asyncio_bridge::job::spec::FieldPatch;
use tokio_asyncio_bridge::job::verify::{Reading, verify};
use tokio_asyncio_bridge::job::{
    Control, ErrorKind, Event, Fanout, Format, Job, JobPaths, JobSpec, Level, Observer, SessionEnd,
    SessionOptions, Signal, recorded,
};

/// A directory with an input and a predictor, for one job.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(input: &str, predictor: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("questions.csv"), input).unwrap();
        std::fs::write(directory.path().join("app.py"), predictor).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spec(&self) -> JobSpec {
        let mut spec = JobSpec::new(self.directory.path(), Path::new("questions.csv"), Format::Csv);
        spec.predictor.predictor = String::from("app.py:answer");
        spec
    }

    fn job(&self) -> Job {
        let files = JobPaths::of(&self.path("answers.csv"));
        Job::new(self.spec(), files, SessionOptions::default()).unwrap()
    }

    /// Runs the job on another thread, as a program that embeds the library may.
    fn start(&self, mut observer: impl Observer + 'static, control: Control) -> Running {
        let job = self.job();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let prepared = job.prepare(&mut observer, &control).await.unwrap();
                let mut open = prepared.open(&mut observer, &control).await.unwrap();
                open.run(&mut observer, &control).await.unwrap()
            })
        })
    }

    fn answers(&self) -> String {
        std::fs::read_to_string(self.path("answers.csv")).unwrap()
    }

    /// Runs an example in the directory and returns what it prints.
    fn example(&self, name: &str, arguments: &[&str]) -> String {
        // This test is `target/debug/deps/job-…`, and the example is in `target/debug/examples`.
        let built = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join(name);
        assert!(built.exists(), "build it with `cargo build --examples`");
        let done = Command::new(built).args(arguments).current_dir(self.directory.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// A predictor that answers each question with itself, and fails where the condition holds.
fn failing(condition: &str) -> String {
    format!(
        "import asyncio\nasync def answer(question):\n    await asyncio.sleep(0.01)\n    if {condition}:\n        \
        raise ValueError('no')\n    return question\n"
    )
}

type Running = std::thread::JoinHandle<SessionEnd>;

/// An input with the column `question` and this many numbered rows.
fn questions(rows: u64) -> String {
    (0..rows).map(|row| format!("q{row}\n")).fold("question\n".to_owned(), |all, line| all + &line)
}

/// An observer that stops the job at its first outcome.
struct StopAtFirst(Option<Control>);

impl Observer for StopAtFirst {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Finished { .. })
            && let Some(control) = self.0.take()
        {
            control.stop(Signal::Interrupt);
        }
    }
}

#[test]
fn two_jobs_at_once_each_have_their_own_predictor_rows_and_files() {
    let predictor = |name: &str| {
        format!(
            "import asyncio\nasync def answer(question):\n    await asyncio.sleep(0.002)\n    return f'{name} {{question}}'\n"
        )
    };
    let scenes = ["one", "two"].map(|name| (name, Scene::new(&questions(200), &predictor(name))));
    let running: Vec<Running> = scenes.iter().map(|(_, scene)| scene.start((), Control::new())).collect();
    for ((name, scene), running) in scenes.iter().zip(running) {
        let end = running.join().unwrap();
        assert_eq!((end.code, end.report.unwrap().rows.ok), (0, 200));
        for row in 0..200 {
            assert!(scene.answers().contains(&format!("q{row},{name} q{row},")), "{name} {row}");
        }
    }
}

#[tokio::test]
async fn a_job_that_is_stopped_from_outside_goes_on_where_it_was() {
    let predictor = "import asyncio, pathlib\nLOG = pathlib.Path(__file__).with_name('calls')\n\
        async def answer(question):\n    with LOG.open('a') as log:\n        print(question, file=log)\n    \
        await asyncio.sleep(0.01)\n    return question\n";
    let scene = Scene::new(&questions(300), predictor);
    let control = Control::new();
    let end = scene.start(StopAtFirst(Some(control.clone())), control).join().unwrap();
    let answered = end.report.unwrap().rows.ok;
    assert_eq!(end.code, 130);
    assert!(0 < answered && answered < 300, "{answered}");
    assert!(scene.job().done(&mut (), &Control::new()).await.unwrap().is_none());

    let end = scene.start((), Control::new()).join().unwrap();
    assert_eq!((end.code, end.report.unwrap().rows.ok), (0, 300));
    assert_eq!(scene.job().done(&mut (), &Control::new()).await.unwrap().unwrap().ok, 300);
    let mut calls: Vec<_> =
        std::fs::read_to_string(scene.path("calls")).unwrap().lines().map(str::to_owned).collect();
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), std::fs::read_to_string(scene.path("calls")).unwrap().lines().count());
}

#[test]
fn source_files_are_named_from_the_jobs_directory_wherever_the_process_is() {
    let scene = Scene::new(&questions(1), "async def answer(question):\n    return question\n");
    assert_eq!(scene.start((), Control::new()).join().unwrap().code, 0);
    let journal = std::fs::read_to_string(scene.path("answers.csv.journal")).unwrap();
    let named = |name: &str| journal.contains(&format!("\"{name}\":\""));
    assert!(named("app.py") && !named(scene.path("app.py").to_str().unwrap()), "{journal}");
}

#[tokio::test]
async fn an_error_tells_what_it_is_about() {
    let scene =
        Scene::new("question,other\nq0,a\nq1\n", "async def answer(question):\n    return question\n");
    let error = scene.job().prepare(&mut (), &Control::new()).await.err().unwrap();
    assert_eq!((error.kind(), error.line(), error.called()), (ErrorKind::Input, Some(3), false));
    assert_eq!(error.file(), Some(&*scene.path("questions.csv")));

    let scene = Scene::new(&questions(1), "import nowhere_to_be_found\n");
    let error = scene.job().prepare(&mut (), &Control::new()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Predictor);
    assert!(error.to_string().contains("nowhere_to_be_found"), "{error}");

    let control = Control::new();
    control.stop(Signal::Interrupt);
    let scene = Scene::new(&questions(1), "import time\ntime.sleep(1)\nasync def answer(question): ...\n");
    let error = scene.job().prepare(&mut (), &control).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Stopped(Signal::Interrupt));
}

#[test]
fn the_example_answers_a_file_and_finds_it_done() {
    let scene = Scene::new(&questions(3), "async def answer(question):\n    return question.upper()\n");
    let run = || scene.example("process_file", &["questions.csv", "app.py:answer"]);
    assert!(run().contains("3 answered, 0 failed"));
    let answers = std::fs::read_to_string(scene.path("questions.answers.csv")).unwrap();
    assert!(answers.contains("q2,Q2,"), "{answers}");
    assert_eq!(run(), "nothing to do: 3 rows are answered\n");
}

#[test]
fn the_example_asks_only_for_failed_rows_again_with_other_options() {
    let scene = Scene::new(&questions(4), &failing("question in ('q1', 'q2')"));
    assert_eq!(scene.start((), Control::new()).join().unwrap().code, 3);
    std::fs::write(scene.path("app.py"), failing("question == 'q2'")).unwrap();
    let told = scene.example("resume_failed", &["answers.csv", "concurrency=1", "timeout=90s"]);
    assert_eq!(
        told,
        "calls at once: 1, timeout: 90s\nrows to ask again: 2\n3 answered, 1 failed, 0 unfinished\n"
    );
    assert!(scene.answers().contains("q1,q1,ok"), "{}", scene.answers());
    let spec = recorded(&scene.path("answers.csv"), &Control::new()).unwrap();
    assert_eq!((spec.pace.concurrency, spec.time.timeout.as_secs()), (1, 90));
}

#[test]
fn the_example_stops_a_run_once_rows_in_turn_have_failed() {
    let scene = Scene::new(&questions(500), &failing("int(question[1:]) >= 20"));
    let told = scene.example("stop_after_failures", &["questions.csv", "app.py:answer", "5"]);
    assert!(told.contains("the last of 5 failures in turn") && told.contains("stopped: "), "{told}");
    let answers = scene.answers();
    assert!(answers.contains("q19,q19,ok") && answers.contains("q499,,unfinished"), "{told}{answers}");
}

#[test]
fn the_example_tells_how_long_the_rows_take_at_each_concurrency() {
    let scene = Scene::new(&questions(8), &failing("False"));
    let told = scene.example("compare_concurrency", &["questions.csv", "app.py:answer", "1", "4"]);
    assert!(told.contains("| `concurrent -c 1` |") && told.contains("| `concurrent -c 4` |"), "{told}");
    assert!(told.contains("times as fast as the first"), "{told}");
}

#[test]
fn the_example_finds_an_edited_answer_and_writes_the_recorded_ones() {
    let scene = Scene::new(&questions(4), &failing("False"));
    scene.start((), Control::new()).join().unwrap();
    let audit = || scene.example("audit", &["questions.csv", "answers.csv", "recorded.csv"]);
    assert_eq!(audit(), "4 rows, faults: 0\n");
    let answers = scene.answers();
    std::fs::write(scene.path("answers.csv"), answers.replace("q2,q2", "q2,edited")).unwrap();
    assert_eq!(
        audit(),
        "4 rows, faults: 1\nlines with an altered answer: [4]\nthe answers as they were recorded: recorded.csv\n"
    );
    assert_eq!(std::fs::read_to_string(scene.path("recorded.csv")).unwrap(), answers);
}

/// Counts the outcomes that it is told of.
struct Counting(Arc<AtomicU64>);

impl Observer for Counting {
    fn event(&mut self, event: &Event) {
        self.0.fetch_add(u64::from(matches!(event, Event::Finished { .. })), Ordering::Relaxed);
    }
}

/// Collects the messages that it is told.
#[derive(Debug, Default)]
struct Messages(Vec<String>);

impl Observer for Messages {
    fn message(&mut self, _: Level, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[tokio::test]
async fn a_job_is_estimated_exported_verified_reported_and_resumed_as_values() {
    let predictor = "import pathlib\nDONE = pathlib.Path(__file__).with_name('mended')\n\
        async def answer(question):\n    if question == 'q1' and not DONE.exists():\n        raise ValueError('not yet')\n    \
        return question\n";
    let scene = Scene::new(&questions(4), predictor);
    let control = Control::new();
    let prepared = scene.job().prepare(&mut (), &control).await.unwrap();
    let (prepared, left) = prepared.check(&mut (), &control).await.unwrap();
    let estimated = prepared.estimate(left);
    assert_eq!((estimated.calls, estimated.input_usd, estimated.most_output_tokens), (4, None, None));
    assert!(estimated.to_string().starts_with("estimate: 4 calls"), "{estimated}");

    let told = Arc::<AtomicU64>::default();
    let counting = || Box::new(Counting(Arc::clone(&told))) as Box<dyn Observer>;
    let mut observer = Fanout(vec![counting(), counting()]);
    let end =
        prepared.open(&mut observer, &control).await.unwrap().run(&mut observer, &control).await.unwrap();
    let rows = end.report.unwrap().rows;
    assert_eq!((end.code, rows.ok, rows.failed, told.load(Ordering::Relaxed)), (3, 3, 1, 8));

    std::fs::remove_file(scene.path("answers.csv")).unwrap();
    let export = |control: &Control| {
        export(&scene.path("answers.csv"), None, FieldPatch::default(), false, &mut (), control)
    };
    let stopped = Control::new();
    stopped.stop(Signal::Interrupt);
    assert_eq!(export(&stopped).unwrap_err().kind(), ErrorKind::Stopped(Signal::Interrupt));
    assert!(!scene.path("answers.csv").exists());
    let exported = export(&control).unwrap();
    assert_eq!((exported.rows.ok, exported.rows.failed), (3, 1));
    let check = |answers: &str, observer: &mut dyn Observer, control: &Control| {
        verify(&scene.path("questions.csv"), &scene.path(answers), &Reading::default(), observer, control)
    };
    std::fs::write(scene.path("without_journal.csv"), scene.answers()).unwrap();
    for answers in ["answers.csv", "without_journal.csv"] {
        let error = check(answers, &mut (), &stopped).unwrap_err();
        assert_eq!((error.kind(), error.called()), (ErrorKind::Stopped(Signal::Interrupt), false));
        assert_eq!(check(answers, &mut (), &control).unwrap().faults(), 0);
    }
    let verify = |observer: &mut dyn Observer, control: &Control| check("answers.csv", observer, control);
    let audit = || verify(&mut (), &control).unwrap();
    assert_eq!(audit().journal_faults, Some(Vec::new()));
    std::fs::write(scene.path("answers.csv"), scene.answers().replace("q2,q2", "q2,another")).unwrap();
    assert_eq!((audit().faults(), audit().findings.altered.count), (1, 1));
    let rebuilt = |observer: &mut dyn Observer, control: &Control| {
        rebuilt(&JobPaths::of(&scene.path("answers.csv")), observer, control)
    };
    assert_eq!(rebuilt(&mut (), &control).unwrap().report.rows, rows);
    assert_eq!(rebuilt(&mut (), &stopped).err().unwrap().kind(), ErrorKind::Stopped(Signal::Interrupt));
    let journal = std::fs::OpenOptions::new().append(true).open(scene.path("answers.csv.journal"));
    journal.unwrap().write_all(b"torn").unwrap();
    let (mut of_audit, mut of_report) = (Messages::default(), Messages::default());
    assert_eq!(verify(&mut of_audit, &control).unwrap().journal_faults.unwrap(), of_audit.0);
    rebuilt(&mut of_report, &control).unwrap();
    assert!(of_audit.0.len() == 1 && of_audit.0 == of_report.0, "{of_audit:?} {of_report:?}");

    std::fs::write(scene.path("mended"), "").unwrap();
    let spec = recorded(&scene.path("answers.csv"), &control).unwrap();
    assert_eq!(spec, scene.spec());
    let job = Job::resume(spec, JobPaths::of(&scene.path("answers.csv")), SessionOptions::default()).unwrap();
    let prepared = job.prepare(&mut (), &control).await.unwrap();
    let (prepared, left) = prepared.check(&mut (), &control).await.unwrap();
    assert_eq!(left, 1);
    let before = std::fs::read(scene.path("answers.csv.journal")).unwrap();
    let error = prepared.open(&mut (), &stopped).await.err().unwrap();
    assert_eq!((error.kind(), error.called()), (ErrorKind::Stopped(Signal::Interrupt), false));
    assert_eq!(std::fs::read(scene.path("answers.csv.journal")).unwrap(), before);

    let spec = recorded(&scene.path("answers.csv"), &control).unwrap();
    let job = Job::resume(spec, JobPaths::of(&scene.path("answers.csv")), SessionOptions::default()).unwrap();
    let prepared = job.prepare(&mut (), &control).await.unwrap();
    let end = prepared.open(&mut (), &control).await.unwrap().run(&mut (), &control).await.unwrap();
    assert_eq!((end.code, end.report.unwrap().rows.ok), (0, 4));
}

#[tokio::test]
async fn a_comparison_is_a_value_and_its_error_tells_of_calls_that_were_paid_for() {
    let control = Control::new();
    let compare = async |scene: &Scene| {
        let modes = vec![ModeRuns::sequential(), ModeRuns::concurrent(4)];
        let options = SessionOptions::default();
        let prepared = PreparedComparison::new(scene.spec(), (modes, 2), options, &mut (), &control).await;
        let mut prepared = prepared.unwrap();
        // Each of two modes twice, and the warm-up.
        assert_eq!(prepared.estimate().calls, 2 * 2 * 8 + 4);
        prepared.run(&|| Box::new(()), &control).await
    };
    let slow =
        "import asyncio\nasync def answer(question):\n    await asyncio.sleep(0.02)\n    return question\n";
    let end = compare(&Scene::new(&questions(8), slow)).await;
    assert_eq!((end.code, end.killed), (0, false));
    let Comparison { rows, modes, .. } = end.comparison;
    assert_eq!((rows, modes.len(), modes[1].runs.len()), (8, 2, 2));
    assert!(modes[1].rows_per_s > modes[0].rows_per_s, "{modes:?}");

    let taking = "import pathlib\nINPUT = pathlib.Path(__file__).with_name('questions.csv')\n\
        async def answer(question):\n    INPUT.unlink(missing_ok=True)\n    return question\n";
    let end = compare(&Scene::new(&questions(8), taking)).await;
    let error = end.error.unwrap();
    assert_eq!((error.kind(), error.called(), end.code), (ErrorKind::Input, true, 1));
}
