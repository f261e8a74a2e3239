//! The subcommand `completions`, which prints the completion script of a shell.

use clap::Command;
use clap_complete::{Shell, generate};

use super::streams::Streams;

/// Runs `completions` for the command line that `command` defines, and returns the exit code.
///
/// # Errors
///
/// Fails if standard output cannot be written to.
pub(crate) fn completions(shell: Shell, mut command: Command, streams: &mut Streams) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    generate(shell, &mut command, &name, &mut script);
    // For a program name with dashes, the generator for bash defines functions under one name and calls them by
    // another.
    let [broken, whole] = ["__subcmd__", "__"].map(|joint| name.replace('-', joint));
    streams.print(&String::from_utf8(script)?.replace(&broken, &whole))?;
    Ok(0)
}
