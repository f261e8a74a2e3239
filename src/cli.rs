//! The command line: strings to options, errors to exit codes. Not what the commands do.

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Context;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;

use crate::bridge::python::main_thread;
use crate::command::Usage;
use crate::command::compare::{CompareOptions, compare};
use crate::command::demo::{DemoOptions, demo};
use crate::command::doctor::doctor;
use crate::command::export::{ExportOptions, export};
use crate::command::process::process;
use crate::command::report::{ReportOptions, report};
use crate::command::resume::{Earlier, earlier, resume};
use crate::command::streams::Streams;
use crate::command::verify::{VerifyOptions, verify};
use crate::config::env_file::EnvFile;
use crate::config::options::{PredictorOptions, ShowOptions};
use crate::config::{NO_INPUT, ProcessOptions, ResumeOptions, opposites, recorded};
use crate::report::progress::{Level, Screen};
use crate::report::text::escape_lines;
use crate::run::signals::outlive_file_size_limit;
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
    /// Write the answers so far; calls nothing, works beside a running job
    Export(ExportOptions),
    /// Check an answers file against its input and its journal; exit 1 on any fault
    Verify(VerifyOptions),
    /// Print a run's timing report again
    Report(ReportOptions),
    /// Check what a run needs: each line a check mark, or a cross with its remedy; exit 1 on a cross
    #[command(
        args_override_self = true,
        mut_arg("input", |input| input.required(false).default_value(NO_INPUT).hide_default_value(true))
    )]
    Doctor(ProcessOptions),
    /// Run the examples from which the bridge is learned, live
    #[command(args_override_self = true)]
    Demo(DemoOptions),
    /// Print the completions of a shell, to be saved where it looks for them
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// None for a command that says nothing but its result.
    fn show(&self) -> Option<&ShowOptions> {
        Some(match self {
            Self::Process(options) => &options.job.show,
            Self::Resume(options) => &options.job.show,
            Self::Compare(options) => &options.job.show,
            Self::Export(options) => &options.show,
            Self::Verify(options) => &options.show,
            Self::Report(options) => &options.show,
            Self::Doctor(options) => &options.job.show,
            Self::Demo(options) => &options.show,
            Self::Completions { .. } => return None,
        })
    }

    /// None for a command that asks no predictor, and for `resume`, whose earlier run has the options.
    fn predictor(&self) -> Option<&PredictorOptions> {
        Some(match self {
            Self::Process(options) | Self::Doctor(options) => &options.job.predictor,
            Self::Compare(options) => &options.job.predictor,
            Self::Demo(options) => &options.predictor,
            _ => return None,
        })
    }
}

/// Runs the program, to the end of the process.
pub fn main() -> ! {
    let (cli, matches) = match parsed(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    main_thread::lend(move || run(cli, &matches).unwrap_or_else(|error| complain(&error)))
}

/// The command, and where its options come from.
fn parsed(arguments: Vec<OsString>) -> Result<(Cli, ArgMatches), clap::Error> {
    let mut command = Cli::command();
    let mut matches = command.try_get_matches_from_mut(&arguments)?;
    if let Some((name, options)) = matches.subcommand() {
        let conflict = |text| command.error(ErrorKind::ArgumentConflict, text);
        let beaten = opposites::beaten(options).map_err(conflict)?;
        let without = |command: clap::Command, option| command.mut_arg(option, |arg| arg.env(None::<&str>));
        let command =
            Cli::command().mut_subcommand(name, |command| beaten.into_iter().fold(command, without));
        matches = command.try_get_matches_from(arguments)?;
    }
    Ok((Cli::from_arg_matches(&matches)?, matches))
}

fn run(cli: Cli, matches: &ArgMatches) -> anyhow::Result<u8> {
    let mut streams = Streams::take().context("failed to set up standard output")?;
    let Some(command) = cli.command else {
        streams.print(USES)?;
        return Ok(0);
    };
    let given = |environment| {
        let (name, matches) = matches.subcommand().context("a command was parsed")?;
        let command = Cli::command();
        let command = command.find_subcommand(name).context("the command parsed is known")?;
        anyhow::Ok(recorded::given(command, matches, environment))
    };
    let resumed = match &command {
        Command::Resume(options) => Some(resumed(options, given(false)?)?),
        _ => None,
    };
    // While there is one thread, and before anything looks for secrets.
    let predictor = resumed.as_ref().map(|resumed| &resumed.options.job.predictor);
    if let Some(file) = predictor.or_else(|| command.predictor()).and_then(|of| of.env_file.as_deref()) {
        match EnvFile::read(file) {
            Ok(variables) => variables.set(),
            // It looks for everything that is wrong, and tells this among it.
            Err(_) if matches!(command, Command::Doctor(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    log(command.show().map_or(0, |show| show.verbose), &streams.screen);
    // One thread for everything of ours: the event loop has its own, and the two share two cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let _outlive = outlive_file_size_limit()?;
    drop(within);
    if let Command::Process(ProcessOptions { job, .. }) | Command::Resume(ResumeOptions { job, .. }) =
        &command
        && let Some(calls) = idle_concurrency(matches)
    {
        let text = format!("`--sequential` makes one call at a time: `-c {calls}` has no effect");
        streams.reporter(&job.show).message(Level::Warning, &text);
    }
    let code = match command {
        Command::Process(options) => runtime.block_on(process(options, given(true)?, &mut streams)),
        Command::Resume(ResumeOptions { which, .. }) => {
            let Resumed { options, given, stdin } = resumed.context("`resume` was looked up")?;
            runtime.block_on(resume(options, which, given, stdin, &mut streams))
        }
        Command::Compare(options) => runtime.block_on(compare(options, &mut streams)),
        Command::Export(options) => export(&options, &mut streams),
        Command::Verify(options) => verify(&options, &mut streams),
        Command::Report(options) => report(&options, &mut streams),
        Command::Doctor(options) => runtime.block_on(doctor(options, &mut streams)),
        Command::Demo(options) => runtime.block_on(demo(&options, &mut streams)),
        Command::Completions { shell } => completions(shell, &mut streams),
    };
    // A thread of ours that is still blocked must not hold up the end of the process.
    runtime.shutdown_background();
    code
}

/// Prints the completions of a shell.
fn completions(shell: Shell, streams: &mut Streams) -> anyhow::Result<u8> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    // For a name with dashes, bash's generator writes two names of each function, and then finds none of them.
    let [broken, whole] = ["__subcmd__", "__"].map(|joint| name.replace('-', joint));
    streams.print(&String::from_utf8(script)?.replace(&broken, &whole))?;
    Ok(0)
}

/// The `-c` that was given beside `--sequential`.
fn idle_concurrency(matches: &ArgMatches) -> Option<usize> {
    let (_, options) = matches.subcommand()?;
    let given = |id| options.value_source(id) == Some(ValueSource::CommandLine);
    let idle = given("concurrency") && given("sequential") && options.get_flag("sequential");
    idle.then(|| options.get_one("concurrency").copied()).flatten()
}

/// What `resume` goes on with.
struct Resumed {
    options: ProcessOptions,
    /// Its options as the journal keeps them.
    given: Vec<String>,
    /// Whether the input came by standard input.
    stdin: bool,
}

/// Looks the earlier run up, and enters the directory that it ran in.
fn resumed(options: &ResumeOptions, given: Vec<String>) -> anyhow::Result<Resumed> {
    let earlier = earlier(&options.answers)?;
    let answers = std::path::absolute(&options.answers)?;
    // Relative paths, the predictor's above all, mean what they meant to the earlier run.
    std::env::set_current_dir(&earlier.directory).with_context(|| {
        format!("failed to enter `{}`, where the run was started", earlier.directory.display())
    })?;
    let options = ResumeOptions { answers, ..options.clone() };
    let (options, given) = laid_over(&earlier, &options, given)?;
    Ok(Resumed { options, given, stdin: earlier.stdin })
}

/// The earlier run's options with those given now laid over them: the later one wins.
fn laid_over(
    earlier: &Earlier,
    options: &ResumeOptions,
    mut given: Vec<String>,
) -> anyhow::Result<(ProcessOptions, Vec<String>)> {
    for (flag, mode) in [(options.pace.sequential, "--sequential"), (options.pace.concurrent, "--concurrent")]
    {
        given.extend(flag.then(|| mode.to_owned()));
    }
    let mut arguments: Vec<OsString> = vec!["tokio-asyncio-bridge".into(), "process".into()];
    arguments.extend(opposites::give_way(&earlier.options, &given).map(OsString::from));
    arguments.extend(given.iter().map(OsString::from));
    arguments.push(format!("--format={}", earlier.format).into());
    arguments.extend(["--output".into(), options.answers.clone().into_os_string(), "--".into()]);
    arguments.push(earlier.input.clone().into_os_string());
    let (cli, matches) = parsed(arguments)?;
    let Some(Command::Process(mut merged)) = cli.command else {
        unreachable!("the arguments are those of `process`")
    };
    let given_keys = merged.job.predictor.keys();
    if let Some(key) = earlier.keys.iter().find(|key| !given_keys.contains(&key.as_str())) {
        let text =
            format!("the run was started with `--lm {key}=…`, which is never written down: give it again");
        return Err(Usage(text).into());
    }
    merged.job.show = options.job.show.clone();
    merged.job.dry_run = options.job.dry_run;
    let (_, matches) = matches.subcommand().context("a command was parsed")?;
    let command = Cli::command();
    let command = command.find_subcommand("process").context("`process` is known")?;
    Ok((merged, recorded::given(command, matches, false)))
}

/// Logs to standard error: warnings, more with `-v`, or what `RUST_LOG` says; secrets masked.
fn log(verbose: u8, screen: &Screen) {
    let level = ["warn", "info", "debug"][usize::from(verbose.min(2))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let masked = Masked { screen: screen.clone(), secrets: Secrets::from_environment() };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || masked.clone());
    // Fails only where a test has set one up already.
    let _ = subscriber.with_ansi(false).without_time().try_init();
}

/// Standard error without secrets.
#[derive(Clone)]
struct Masked {
    screen: Screen,
    secrets: Secrets,
}

impl Write for Masked {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(text);
        self.screen.write_all(self.secrets.mask(&line).as_bytes())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.screen.flush()
    }
}

/// Says what went wrong; returns the exit code.
fn complain(error: &anyhow::Error) -> u8 {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Most errors already say what caused them.
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    let text = Secrets::from_environment().mask(&text).into_owned();
    // Nobody may be left to read it.
    let _ = writeln!(io::stderr(), "error: {}", escape_lines(&text));
    if error.is::<Usage>() || error.is::<clap::Error>() { 2 } else { 1 }
}
