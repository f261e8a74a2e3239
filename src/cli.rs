//! The command line: parses the options, runs the subcommand, and turns errors into messages and exit codes.

mod command;
mod form;
mod log;
mod near;
mod opposites;
mod stoppable;
mod variables;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::{Builder, Runtime};

use self::command::UsageError;
pub use self::command::actor;
use self::command::compare::{CompareOptions, compare};
use self::command::completions::completions;
use self::command::demo::{DemoOptions, demo};
use self::command::doctor::doctor;
use self::command::env_file;
use self::command::export::{ExportOptions, export};
use self::command::merge::{MergeOptions, merge};
use self::command::model::{ModelCommand, model};
use self::command::process::{NO_INPUT, ProcessOptions, process};
use self::command::report::{ReportOptions, report};
use self::command::resume::{ResumeOptions, resume};
use self::command::show::ShowOptions;
use self::command::signals::{self, outlive_file_size_limit};
use self::command::streams::{Streams, stderr};
use self::command::verify::{VerifyOptions, verify};
use self::command::worker::{WORKER, worker};
use self::stoppable::stoppable;
use crate::bridge::python::{interpreter, main_thread};
use crate::environment;
use crate::input::Format;
use crate::job::env_file::EnvFile;
use crate::job::spec::{JobSpec, PredictorPatch, RayAddress, WholePatch};
use crate::job::{self, JobError, with_causes};
use crate::observe::Level;
use crate::policy::stop::StopReason;
use crate::report::commands::Commands;
use crate::report::progress::{Form, message_line};
use crate::secret::Secrets;

const USES: &str = "\
Answers a CSV or JSONL file of questions with an async Python predictor.

  tokio-asyncio-bridge process questions.csv     answer every row
  tokio-asyncio-bridge compare questions.csv     time one call at a time against several
  tokio-asyncio-bridge resume ANSWERS            run failed and unfinished rows again

  tokio-asyncio-bridge demo                      see the bridge at work, in seven examples
  tokio-asyncio-bridge doctor                    check what a run needs, with the remedy for what is missing

Try `tokio-asyncio-bridge process data/questions.csv`: a small local model answers, with no key and no network.
`tokio-asyncio-bridge help` lists all commands, `help COMMAND` its options.
";

/// Answers a CSV or JSONL file of questions with an async Python predictor
#[derive(Debug, Parser)]
#[command(name = "tokio-asyncio-bridge", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
enum Command {
    /// Answer the rows of a file; write the answers and the timing report
    #[command(args_override_self = true)]
    Process(ProcessOptions),
    /// Run the failed and unfinished rows of an earlier run again
    #[command(args_override_self = true)]
    Resume(ResumeOptions),
    /// Time the same rows one call at a time and several at a time
    Compare(CompareOptions),
    /// Write the answers that a run has so far, even while it goes on; calls nothing
    Export(ExportOptions),
    /// Join the answers of the shards of one input into one file, journal and report; calls nothing
    Merge(MergeOptions),
    /// Check an answers file against its input and its journal; exit 1 on any fault
    Verify(VerifyOptions),
    /// Print a run's timing report again
    Report(ReportOptions),
    /// Check what a run needs, and say how to mend what fails; exit 1 if anything does
    #[command(
        args_override_self = true,
        mut_arg("input", |input| input.required(false).default_value(NO_INPUT).hide_default_value(true))
    )]
    Doctor(ProcessOptions),
    /// Install the local model, which answers with no key and no network
    #[command(subcommand)]
    Model(ModelCommand),
    /// Run the examples that show how the bridge works, live
    #[command(args_override_self = true)]
    Demo(DemoOptions),
    /// Print the completion script of a shell, to be saved where the shell looks for it
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// The answers file that hints name, as the user named it.
    fn answers(&self) -> Option<PathBuf> {
        Some(match self {
            Self::Process(options) => options.paths().ok()?.answers,
            Self::Resume(options) => options.answers.clone(),
            Self::Export(options) => options.answers.clone(),
            Self::Merge(options) => options.paths()?.answers,
            Self::Verify(options) => options.answers.clone(),
            Self::Report(options) => options.answers.clone(),
            _ => return None,
        })
    }

    /// The options about what is shown; `None` for a command that shows only its result.
    fn show(&self) -> Option<&ShowOptions> {
        Some(match self {
            Self::Process(options) | Self::Doctor(options) => &options.run.show,
            Self::Resume(options) => &options.run.show,
            Self::Compare(options) => &options.show,
            Self::Export(options) => &options.show,
            Self::Merge(options) => &options.show,
            Self::Verify(options) => &options.show,
            Self::Report(options) => &options.show,
            Self::Demo(options) => &options.show,
            Self::Model(_) | Self::Completions { .. } => return None,
        })
    }

    /// The options about the predictor; `None` for a command that calls none.
    fn predictor(&self) -> Option<&PredictorPatch> {
        Some(match self {
            Self::Process(options) | Self::Doctor(options) => &options.run.job.shared.predictor,
            Self::Resume(options) => &options.run.job.shared.predictor,
            Self::Compare(options) => &options.asked.job.predictor,
            Self::Demo(options) => &options.predictor,
            _ => return None,
        })
    }
}

/// Runs the program and exits the process. `arguments` are the words that it was called with, its own name first. Must
/// be called on the process's first thread, which Python takes for its main one.
pub fn main(arguments: Vec<OsString>) -> ! {
    main_thread::lend(|| program(arguments))
}

/// Runs the program and returns its exit code.
fn program(arguments: Vec<OsString>) -> u8 {
    if arguments.get(1).is_some_and(|word| word == WORKER) {
        return worker(&arguments[2..]);
    }
    // One thread is enough: the event loop has its own, and two cores suffice for both.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("failed to start: {error}")),
    };
    let within = runtime.enter();
    // Before anything that takes time, because the signal kills by default.
    let asked = signals::Asked::new();
    drop(within);
    let form = form::of(&arguments);
    form::tell_panics(form);
    let program = arguments.first().cloned().unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
    let (cli, matches) = match environment::locked(|| parsed(&arguments)) {
        Ok(parsed) => parsed,
        Err(error) if form == Form::Json && error.use_stderr() => {
            let text = error.render().to_string();
            stderr().lines(&message_line(Level::Error, text.trim().trim_start_matches("error: ")));
            return 2;
        }
        Err(error) => error.exit(),
    };
    let commands = Commands::new(&program, cli.command.as_ref().and_then(Command::answers).as_deref());
    let mut streams = match Streams::take(arguments, commands, form) {
        Ok(streams) => streams,
        Err(error) => return failed(&format!("failed to set up standard output: {error}")),
    };
    if let Ok(mut asked) = asked {
        let standing = streams.standing.clone();
        runtime.spawn(async move {
            loop {
                asked.next().await;
                standing.tell();
            }
        });
    }
    let is_job = matches!(cli.command, Some(Command::Process(_) | Command::Resume(_) | Command::Compare(_)));
    let ran = {
        let _ends = PythonEnds;
        run(cli, &matches, &runtime, &mut streams)
    };
    let code = match ran {
        Ok(code) => code,
        Err(error) => match error.downcast_ref().map(JobError::kind) {
            // Whoever stopped the job knows why.
            Some(job::ErrorKind::Stopped(signal)) => StopReason::Signal(signal).exit_code(),
            kind => {
                streams.complain(&told(&error));
                let usage = kind == Some(job::ErrorKind::Usage)
                    || error.is::<UsageError>()
                    || error.is::<clap::Error>();
                match kind {
                    _ if usage => 2,
                    Some(job::ErrorKind::Cluster) => 5,
                    _ => 1,
                }
            }
        },
    };
    // A thread that is still blocked must not delay the end of the process.
    runtime.shutdown_background();
    if is_job {
        streams.finish(code);
    }
    code
}

/// Ends Python when dropped, so that it ends on every way out, after everything that a command has started.
struct PythonEnds;

impl Drop for PythonEnds {
    fn drop(&mut self) {
        interpreter::end();
    }
}

/// Reports an error from before the streams are set up, and returns the exit code.
fn failed(text: &str) -> u8 {
    let _ = writeln!(io::stderr(), "error: {text}");
    1
}

/// The definition of the command line.
fn known() -> clap::Command {
    let command = with_defaults(variables::with_switches(Cli::command()));
    // The help would show what is secret among them.
    let command =
        command.mut_subcommands(|command| command.mut_args(|argument| argument.hide_env_values(true)));
    // `resume` takes a job's options from the journal, so the variables of the environment do not count.
    let of_jobs = WholePatch::augment_args(clap::Command::new("job"));
    let ids: Vec<_> = of_jobs.get_arguments().map(|argument| argument.get_id().clone()).collect();
    command.mut_subcommand("resume", |command| {
        ids.iter().fold(command, |command, id| command.mut_arg(id, |argument| argument.env(None::<&str>)))
    })
}

/// Adds the defaults of a job's options to the help of the commands that begin one. Clap does not know these defaults,
/// because the options have none in a patch.
fn with_defaults(command: clap::Command) -> clap::Command {
    let defaults = JobSpec::new(Path::new("/"), Path::new(NO_INPUT), Format::Csv).words();
    let told = |argument: clap::Arg| {
        let default = defaults.iter().find(|(name, _)| argument.get_long() == Some(name));
        match (default, argument.get_help().map(ToString::to_string)) {
            (Some((_, values)), Some(help)) if !values.is_empty() && !help.contains("[default") => {
                argument.help(format!("{help} [default: {}]", values.join(" ")))
            }
            _ => argument,
        }
    };
    ["process", "compare", "doctor", "demo"]
        .iter()
        .fold(command, |command, name| command.mut_subcommand(name, |command| command.mut_args(told)))
}

/// Removes a suggestion from an error if it names an option that `--help` hides.
fn without_hidden(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let hidden = |guess: &str| {
        let all = command.get_subcommands().flat_map(clap::Command::get_arguments);
        let mut hidden = all.filter(|argument| argument.is_hide_set()).filter_map(clap::Arg::get_long);
        hidden.any(|long| guess.trim_start_matches('-') == long)
    };
    if let Some(ContextValue::String(guess)) = error.get(ContextKind::SuggestedArg)
        && hidden(guess)
    {
        error.remove(ContextKind::SuggestedArg);
    }
    // For an option before the command, the suggestion is a sentence that names an option of a command.
    if let Some(ContextValue::StyledStrs(guesses)) = error.get(ContextKind::Suggested)
        && guesses.iter().any(|guess| guess.to_string().split(['\'', ' ']).any(hidden))
    {
        error.remove(ContextKind::Suggested);
    }
    error
}

/// Warns of options and variables that have no effect, or probably not the one that was meant. `recorded` is the cluster
/// of the job that is resumed.
fn doubt(command: &Command, matches: &ArgMatches, recorded: Option<&RayAddress>, streams: &Streams) {
    let Some(show) = command.show() else { return };
    let mut doubts = variables::unknown(&Cli::command(), &variables::SWITCHES, environment::variables());
    let lm = command.predictor().and_then(|predictor| predictor.lm.as_deref()).unwrap_or_default();
    doubts.extend(lm.iter().filter_map(|(name, _)| near::misspelt(name)));
    if matches!(command, Command::Process(_) | Command::Resume(_)) {
        doubts.extend(
            opposites::idle_concurrency(matches)
                .map(|calls| format!("`--sequential` makes one call at a time: `-c {calls}` has no effect")),
        );
    }
    let idle = opposites::idle_ray(matches, recorded).into_iter();
    doubts.extend(idle.map(|option| format!("`{option}` has no effect without `--ray`")));
    for doubt in doubts {
        streams.observer(show).message(Level::Warning, &doubt);
    }
}

/// Parses the command line. Also returns the matches, which tell where each value comes from.
fn parsed(arguments: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    let mut command = known();
    let mut matches =
        command.try_get_matches_from_mut(arguments).map_err(|error| without_hidden(error, &command))?;
    if let Some((name, options)) = matches.subcommand() {
        let conflict = |text| command.error(ErrorKind::ArgumentConflict, text);
        let beaten = opposites::beaten(options).map_err(conflict)?;
        let without = |command: clap::Command, option| command.mut_arg(option, |arg| arg.env(None::<&str>));
        let command = known().mut_subcommand(name, |command| beaten.into_iter().fold(command, without));
        matches = command.try_get_matches_from(arguments)?;
    }
    Ok((Cli::from_arg_matches(&matches)?, matches))
}

fn run(cli: Cli, matches: &ArgMatches, runtime: &Runtime, streams: &mut Streams) -> anyhow::Result<u8> {
    let Some(mut command) = cli.command else {
        streams.print(USES)?;
        return Ok(0);
    };
    if let Command::Process(options) | Command::Doctor(options) = &mut command {
        variables::switch_on(&mut options.run.job).map_err(UsageError)?;
    }
    let resumed = match &command {
        Command::Resume(options) => {
            let answers = std::path::absolute(&options.answers)?;
            let spec = options.spec()?;
            // Relative paths, including those that a predictor opens, mean what they meant to the earlier run.
            std::env::set_current_dir(&spec.directory).with_context(|| {
                format!("failed to enter `{}`, where the run was started", spec.directory.display())
            })?;
            Some((spec, answers))
        }
        _ => None,
    };
    // Now, while there is only one thread, and before anything looks for secrets in the environment.
    let recorded = resumed.as_ref().map(|(spec, _)| spec.predictor.env_file.as_deref());
    let given = || command.predictor().and_then(|predictor| predictor.env_file.as_deref());
    if let Some(file) = recorded.unwrap_or_else(given) {
        match EnvFile::read(file) {
            Ok(variables) => env_file::set(variables),
            // `doctor` reports this among everything else that is wrong.
            Err(_) if matches!(command, Command::Doctor(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    log::start(command.show(), &streams.screen);
    let within = runtime.enter();
    let _outlive = outlive_file_size_limit()?;
    drop(within);
    doubt(&command, matches, resumed.as_ref().map(|(spec, _)| &spec.ray.ray), streams);
    match command {
        Command::Process(options) => runtime.block_on(process(options, streams)),
        Command::Resume(options) => {
            let (spec, answers) = resumed.context("`resume` was looked up")?;
            runtime.block_on(resume(options, spec, &answers, streams))
        }
        Command::Compare(options) => runtime.block_on(compare(options, streams)),
        Command::Export(options) => {
            stoppable(runtime, streams, |streams, control| export(&options, streams, control))
        }
        Command::Merge(options) => {
            stoppable(runtime, streams, |streams, control| merge(options, streams, control))
        }
        Command::Verify(options) => {
            stoppable(runtime, streams, |streams, control| verify(&options, streams, control))
        }
        Command::Report(options) => {
            stoppable(runtime, streams, |streams, control| report(&options, streams, control))
        }
        Command::Doctor(options) => runtime.block_on(doctor(options, streams)),
        Command::Demo(options) => runtime.block_on(demo(&options, streams)),
        Command::Model(command) => model(&command, streams),
        Command::Completions { shell } => completions(shell, Cli::command(), streams),
    }
}

/// The text of an error and its causes, with secrets masked.
fn told(error: &anyhow::Error) -> String {
    let text = with_causes(&error.to_string(), error.source());
    let mut secrets = Secrets::default();
    secrets.add_variables(environment::last_variables());
    secrets.mask(&text).into_owned()
}
