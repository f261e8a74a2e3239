//! Runs the program in a directory of its own, with the files of one job. The predictor itself counts its calls, with
//! one line each in the file `calls`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that a job may take.
const HANG: Duration = Duration::from_secs(120);

/// The beginning of a predictor. Its function `called(row)` notes a call as one line in a file.
const PRELUDE: &str = r#"
import asyncio, json, os, time
_calls = os.open(os.path.join(os.path.dirname(__file__), "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def called(what):
    os.write(_calls, (json.dumps(what) + "\n").encode())
"#;

/// Values of `--workers` for what holds wherever calls are made: in the program itself, and in processes of their own.
pub(crate) const PLACES: [&str; 2] = ["0", "2"];

/// A predictor that notes its calls, fails the questions that the file `bad` names, and answers the others.
pub(crate) const PICKY: &str = r#"
async def predict(question):
    called(question)
    if question in open("bad").read().split("|"):
        raise ValueError("bad")
    return question.upper()
"#;

/// An answers file whose journal is gone. A run may replace it.
pub(crate) const OLD_ANSWERS: &str = "question,status,error,attempts,latency_ms\nold,ok,,1,2\n";

/// A job to run, set up by chained calls.
pub(crate) struct Job {
    directory: TempDir,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    stdin: Option<Vec<u8>>,
    stdout: Option<PathBuf>,
    stdout_closed: bool,
    stderr: Option<PathBuf>,
    /// How long a run may take.
    pub(crate) patience: Duration,
}

/// The result of a run of the program.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit code, or the negative number of the signal that killed the program.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The peak of resident memory in bytes, as last seen a few ms before the end.
    pub(crate) peak_memory: u64,
}

/// The running program. Dropping it kills the program.
pub(crate) struct Running {
    child: Child,
    started: Instant,
    directory: PathBuf,
    stderr: fs::File,
    patience: Duration,
}

/// The program under test: that of this build, or the one that `TEST_PROGRAM` names, such as an earlier version or the
/// console script of a wheel.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TEST_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_tokio-asyncio-bridge").into(), PathBuf::from)
}

/// How the program is called in the commands that it tells users to run. `python -m` names the console script.
pub(crate) fn called() -> PathBuf {
    let program = program();
    if program.ends_with("module") { program.with_file_name("tokio-asyncio-bridge") } else { program }
}

/// The Python that the program under test was installed into by pip. `None` for the stand-alone program, which looks
/// for one.
pub(crate) fn installed_into() -> Option<PathBuf> {
    let mut shebang = Vec::new();
    fs::File::open(program()).unwrap().take(4096).read_to_end(&mut shebang).unwrap();
    let python = shebang.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(PathBuf::from(OsStr::from_bytes(python)))
}

/// The Python that runs the predictors of tests.
pub(crate) fn python() -> PathBuf {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
    installed_into().unwrap_or_else(|| environment.join("bin/python"))
}

impl Job {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            stdin: None,
            stdout: None,
            stdout_closed: false,
            stderr: None,
            patience: HANG,
        }
    }

    /// A path in the job's directory, which is also where the program runs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), content).unwrap();
        self
    }

    /// Writes `questions.csv` with `rows` questions: `Question 0?` and so on.
    pub(crate) fn questions(self, rows: usize) -> Self {
        let mut lines = "id,question\n".to_owned();
        (0..rows).for_each(|i| writeln!(lines, "{i},Question {i}?").unwrap());
        self.file("questions.csv", lines)
    }

    /// Writes `predictor.py`, which may call `called(what)` and has `asyncio`, `json`, `os` and `time` imported.
    pub(crate) fn predictor(self, code: &str) -> Self {
        self.file("predictor.py", format!("{PRELUDE}\n{code}"))
    }

    /// Writes a predictor that notes its question and returns it.
    pub(crate) fn echo(self) -> Self {
        self.predictor("async def predict(question):\n    called(question)\n    return question\n")
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sends standard output to a file instead of [`Done::stdout`].
    pub(crate) fn stdout_to(mut self, path: &str) -> Self {
        self.stdout = Some(PathBuf::from(path));
        self
    }

    /// Sends standard error to a file instead of [`Done::stderr`].
    pub(crate) fn stderr_to(mut self, path: &str) -> Self {
        self.stderr = Some(PathBuf::from(path));
        self
    }

    /// Sends standard output to a pipe whose reader has gone away.
    pub(crate) fn stdout_closed(mut self) -> Self {
        self.stdout_closed = true;
        self
    }

    /// Gives these options to every later run of this job.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Runs `process questions.csv -o answers.csv --predictor predictor.py:predict` with the job's options.
    pub(crate) fn process(&self) -> Done {
        self.run(&["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"])
    }

    /// As [`Self::process`], with further options.
    pub(crate) fn process_with(&self, options: &[&str]) -> Done {
        let process =
            ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
        self.run(&[&process[..], options].concat())
    }

    /// As [`Self::process`], with another input and another answers file.
    pub(crate) fn process_file(&self, input: &str, answers: &str) -> Done {
        self.run(&["process", input, "-o", answers, "--predictor", "predictor.py:predict"])
    }

    /// As [`Self::process`], but does not wait for the end.
    pub(crate) fn start(&self) -> Running {
        self.spawn(&["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"])
    }

    /// Runs `resume answers.csv`.
    pub(crate) fn resume(&self) -> Done {
        self.run(&["resume", "answers.csv"])
    }

    /// As [`Self::resume`], with further options.
    pub(crate) fn resume_with(&self, options: &[&str]) -> Done {
        self.run(&[&["resume", "answers.csv"], options].concat())
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Done {
        self.spawn(arguments).wait()
    }

    /// As [`Self::run`], without the options that every run of this job is given.
    pub(crate) fn run_alone<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Done {
        self.spawn_with(self.directory.path(), arguments, &[]).wait()
    }

    /// As [`Self::run`], from a directory within the job's.
    pub(crate) fn run_in<S: AsRef<OsStr>>(&self, directory: &str, arguments: &[S]) -> Done {
        fs::create_dir_all(self.path(directory)).unwrap();
        self.spawn_in(&self.path(directory), arguments).wait()
    }

    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        self.spawn_in(self.directory.path(), arguments)
    }

    fn spawn_in<S: AsRef<OsStr>>(&self, directory: &Path, arguments: &[S]) -> Running {
        self.spawn_with(directory, arguments, &self.arguments)
    }

    fn spawn_with<S: AsRef<OsStr>>(&self, directory: &Path, arguments: &[S], more: &[String]) -> Running {
        let mut command = Command::new(program());
        command.args(arguments).args(more);
        self.spawn_command(directory, command)
    }

    /// Runs a bash script in the job's directory. In it, `$PROGRAM` is the program.
    pub(crate) fn bash(&self, script: &str) -> Done {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("PROGRAM", program());
        self.spawn_command(self.directory.path(), command).wait()
    }

    fn spawn_command(&self, directory: &Path, mut command: Command) -> Running {
        command.current_dir(directory);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("TAB_")
                || name == "VIRTUAL_ENV"
                || name == "RUST_LOG"
                || name.ends_with("_API_KEY")
            {
                command.env_remove(name);
            }
        }
        let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
        assert!(environment.exists(), "`.venv` is missing: run `make test`");
        // Without `TERM` no bar is drawn, whoever runs the tests.
        command.env("TERM", "xterm-256color").env("VIRTUAL_ENV", environment).envs(&self.environment);
        let stdin = match &self.stdin {
            Some(bytes) => {
                fs::write(self.path(".stdin"), bytes).unwrap();
                Stdio::from(fs::File::open(self.path(".stdin")).unwrap())
            }
            None => Stdio::null(),
        };
        // Files, because a full pipe would block the program or its children.
        let out = |path: &Path| Stdio::from(fs::File::create(path).unwrap());
        let stdout = out(self.stdout.as_deref().unwrap_or(&self.path(".stdout")));
        let stdout = if self.stdout_closed { Stdio::from(std::io::pipe().unwrap().1) } else { stdout };
        let stderr = self.path(".stderr");
        // A new file, because another process of this job may still be writing to the last one.
        let _ = fs::remove_file(&stderr);
        // A process group of its own, because SIGTSTP is ignored in a group that no shell looks after.
        command.process_group(0);
        let errors = out(&stderr);
        let errors = self.stderr.as_deref().map_or(errors, out);
        let child = command.stdin(stdin).stdout(stdout).stderr(errors).spawn().unwrap();
        let stderr = fs::File::open(&stderr).unwrap();
        let directory = self.directory.path().to_owned();
        Running { child, started: Instant::now(), directory, stderr, patience: self.patience }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The files in the job's directory, sorted, except those that the fixture itself makes.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !["calls", "__pycache__", ".stdin", ".stdout", ".stderr"].contains(&&**name));
        names.sort();
        names
    }

    /// The arguments of `called`, in order.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.path("calls")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// One column of a CSV file.
    pub(crate) fn column_of(&self, file: &str, name: &str) -> Vec<String> {
        self.records(file).into_iter().map(|mut record| record.remove(name).unwrap()).collect()
    }

    /// One column of `answers.csv`, if its fields have another delimiter.
    pub(crate) fn column_by(&self, delimiter: u8, name: &str) -> Vec<String> {
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.delimiter(delimiter).from_path(self.path("answers.csv")).unwrap();
        let records = reader.deserialize::<BTreeMap<String, String>>();
        records.map(|record| record.unwrap().remove(name).unwrap()).collect()
    }

    /// The records of `answers.csv`, by column.
    pub(crate) fn answers(&self) -> Vec<BTreeMap<String, String>> {
        self.records("answers.csv")
    }

    /// The records of a CSV file, by column.
    pub(crate) fn records(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_path(self.path(name)).unwrap();
        reader.deserialize().map(Result::unwrap).collect()
    }

    /// One column of `answers.csv`.
    pub(crate) fn column(&self, name: &str) -> Vec<String> {
        let column = |record: BTreeMap<String, String>| {
            record.get(name).unwrap_or_else(|| panic!("no column {name} in {record:?}")).clone()
        };
        self.answers().into_iter().map(column).collect()
    }

    /// The objects of a JSONL file.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The content of `answers.csv.report.json`.
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.read("answers.csv.report.json")).unwrap()
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until a signal has stopped the process (SIGSTOP, SIGTSTP), or it has ended.
    pub(crate) fn wait_until_stopped(&mut self) {
        let (started, status) = (Instant::now(), format!("/proc/{}/status", self.pid()));
        let status = || fs::read_to_string(&status).unwrap();
        while self.is_running() && !status().contains("State:\tT") {
            assert!(started.elapsed() < HANG, "it was not stopped: {}", status());
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the predictor has noted at least this many calls.
    pub(crate) fn wait_for_calls(&mut self, calls: usize) {
        let started = Instant::now();
        while self.calls() < calls {
            assert!(started.elapsed() < HANG, "{} of {calls} calls were made in time", self.calls());
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the program ended ({status}) after {} of {calls} calls: {}",
                    self.calls(),
                    self.text(".stderr")
                );
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a file in the job's directory holds the text this many times. Standard error is in `.stderr`.
    pub(crate) fn wait_for(&mut self, name: &str, text: &str, times: usize) {
        let started = Instant::now();
        while self.text(name).matches(text).count() < times {
            let (said, running) = (self.text(".stderr"), self.is_running());
            assert!(running || self.text(name).matches(text).count() >= times, "it ended: {said}");
            assert!(started.elapsed() < HANG, "no `{text}` in {name} in time: {said}");
            sleep(Duration::from_millis(2));
        }
    }

    /// Lets no file that the program writes grow beyond this many bytes, as if the disk were full.
    #[cfg(target_os = "linux")]
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
        let pid = Pid::from_child(&self.child);
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
    }

    /// The number of calls noted so far.
    pub(crate) fn calls(&self) -> usize {
        self.text("calls").lines().count()
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The content of a file in the job's directory now; empty if there is no such file.
    pub(crate) fn text(&self, name: &str) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.directory.join(name)) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(mut self) -> Done {
        let mut peak_memory = 0;
        let status = loop {
            peak_memory = self.peak_memory().unwrap_or(peak_memory);
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if self.started.elapsed() > self.patience => {
                    panic!("the program hangs: {}", self.text(".stderr"));
                }
                None => sleep(Duration::from_millis(2)),
            }
        };
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).unwrap();
        Done { code, stdout: self.text(".stdout"), stderr, took: self.started.elapsed(), peak_memory }
    }

    /// The peak of resident memory in bytes, as the kernel counts it; `None` once the process has ended.
    fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// Checks the exit code. If it is another, the panic shows what the program printed.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that standard output contains the text.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no `{text}` in:\n{}", self.stdout);
        self
    }

    /// Checks that standard error contains the text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no `{text}` in:\n{}", self.stderr);
        self
    }
}
