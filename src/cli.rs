//! The command line: strings to options, errors to exit codes. Not what the commands do.

mod log;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::{Builder, Runtime};

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
use crate::config::{NO_INPUT, ProcessOptions, ResumeOptions, opposites, recorded, variables};
use crate::report::commands::Commands;
use crate::report::progress::{Form, Level, Screen, message_line};
use crate::run::signals::{self, outlive_file_size_limit};
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
    /// The answers file that hints are about, as the user names it.
    fn answers(&self) -> Option<PathBuf> {
        Some(match self {
            Self::Process(options) => {
                let format = options.job.rows.format_of(&options.input).ok()?;
                options.paths(format).answers
            }
            Self::Resume(options) => options.answers.clone(),
            Self::Export(options) => options.answers.clone(),
            Self::Verify(options) => options.answers.clone(),
            Self::Report(options) => options.answers.clone(),
            _ => return None,
        })
    }

    /// None for a command that says nothing but its result.
    fn show(&self) -> Option<&ShowOptions> {
        Some(match self {
            Self::Process(options) | Self::Doctor(options) => &options.job.show,
            Self::Resume(options) => &options.job.show,
            Self::Compare(options) => &options.job.show,
            Self::Export(options) => &options.show,
            Self::Verify(options) => &options.show,
            Self::Report(options) => &options.show,
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
    main_thread::lend(program)
}

/// Runs the program; returns its exit code.
fn program() -> u8 {
    // One thread for everything of ours: the event loop has its own, and the two share two cores.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("failed to start: {error}")),
    };
    let within = runtime.enter();
    // Before anything takes time: the signal's default is to kill.
    let asked = signals::Asked::new();
    drop(within);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let form = form_of(&arguments);
    let (cli, matches) = match parsed(arguments) {
        Ok(parsed) => parsed,
        Err(error) if form == Form::Json && error.use_stderr() => {
            let text = error.render().to_string();
            Screen::stderr().lines(&message_line(Level::Error, text.trim().trim_start_matches("error: ")));
            return 2;
        }
        Err(error) => error.exit(),
    };
    let commands = Commands::new(cli.command.as_ref().and_then(Command::answers).as_deref());
    let mut streams = match Streams::take(commands, form) {
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
    let code = match run(cli, &matches, &runtime, &mut streams) {
        Ok(code) => code,
        Err(error) => {
            streams.complain(&told(&error));
            if error.is::<Usage>() || error.is::<clap::Error>() { 2 } else { 1 }
        }
    };
    // A thread of ours that is still blocked must not hold up the end of the process.
    runtime.shutdown_background();
    if is_job {
        streams.finish(code);
    }
    code
}

/// What happens before there is anything to say it with.
fn failed(text: &str) -> u8 {
    let _ = writeln!(io::stderr(), "error: {text}");
    1
}

/// For whom standard error is written, as far as can be told before the options are read: what is wrong with them is
/// written so too.
fn form_of(arguments: &[OsString]) -> Form {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let last = (0..words.len()).rev().find_map(|at| match words[at].strip_prefix("--progress") {
        Some("") => words.get(at + 1).map(ToString::to_string),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let kind = last.or_else(|| std::env::var("TAB_PROGRESS").ok());
    if kind.as_deref() == Some("json") { Form::Json } else { Form::Text }
}

/// All that the command line may be.
fn known() -> clap::Command {
    variables::with_switches(Cli::command())
}

/// The error without a guess that names an option which `--help` does not.
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
    error
}

/// Says what of the options and variables has no effect, or probably another than was meant.
fn doubt(command: &Command, matches: &ArgMatches, streams: &Streams) {
    let Some(show) = command.show() else { return };
    let modes = ["TAB_SEQUENTIAL", "TAB_CONCURRENT", "TAB_HTML", "TAB_NO_HTML"];
    let mut doubts = variables::unknown(&Cli::command(), &modes, std::env::vars_os());
    if let Command::Process(ProcessOptions { job, .. }) | Command::Resume(ResumeOptions { job, .. }) = command
    {
        doubts.extend(job.predictor.misspelt());
        doubts.extend(
            idle_concurrency(matches)
                .map(|calls| format!("`--sequential` makes one call at a time: `-c {calls}` has no effect")),
        );
    }
    for doubt in doubts {
        streams.reporter(show).message(Level::Warning, &doubt);
    }
}

/// The command, and where its options come from.
fn parsed(arguments: Vec<OsString>) -> Result<(Cli, ArgMatches), clap::Error> {
    let mut command = known();
    let mut matches =
        command.try_get_matches_from_mut(&arguments).map_err(|error| without_hidden(error, &command))?;
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
    log::start(command.show(), &streams.screen);
    let within = runtime.enter();
    let _outlive = outlive_file_size_limit()?;
    drop(within);
    doubt(&command, matches, streams);
    match command {
        Command::Process(options) => runtime.block_on(process(options, given(true)?, streams)),
        Command::Resume(ResumeOptions { which, .. }) => {
            let Resumed { options, given, stdin } = resumed.context("`resume` was looked up")?;
            runtime.block_on(resume(options, which, given, stdin, streams))
        }
        Command::Compare(options) => runtime.block_on(compare(options, streams)),
        Command::Export(options) => export(&options, streams),
        Command::Verify(options) => verify(&options, streams),
        Command::Report(options) => report(&options, streams),
        Command::Doctor(options) => runtime.block_on(doctor(options, streams)),
        Command::Demo(options) => runtime.block_on(demo(&options, streams)),
        Command::Completions { shell } => completions(shell, streams),
    }
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

/// What went wrong, secrets masked.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Most errors already say what caused them.
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    Secrets::from_environment().mask(&text).into_owned()
}
