//! The command line: parses arguments, runs a command, returns an exit code.

mod cache;
mod closing;
mod compare;
mod completions;
mod contributed;
mod curves;
mod dag;
mod dvc;
mod error;
mod follow;
mod guard;
mod init;
mod kinds;
mod log;
mod man;
mod metrics;
mod pages;
mod preview;
mod project;
mod reads;
mod remote;
mod report;
mod revision;
mod run;
mod schema;
mod serve;
mod status;
mod trust;
mod verify;
mod why;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use hamflow_stage_api::{ProjectDetector, Subcommand as Contributed, escape_controls};

use crate::config::Kinds;
use crate::ui;

pub use error::CliError;

/// What a program consists of besides the engine.
#[derive(Clone, Copy, Default)]
pub struct Program {
    /// The kinds of stage.
    pub kinds: Kinds,
    /// The commands that come with them.
    pub commands: &'static [&'static dyn Contributed],
    /// What `init` looks for in a folder.
    pub detect: Option<ProjectDetector>,
}

/// Runs dataflow pipelines and reruns only the stages that a change affects
#[derive(Debug, Parser)]
#[command(name = "hamflow", bin_name = "hamflow", version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Arguments {}

/// Options of every command that reads a pipeline.
#[derive(Debug, Clone, Default, Args)]
struct Common {
    /// The pipeline file [default: `pipeline.toml` in this directory or the nearest parent]
    #[arg(short, long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    /// Apply the profile `[profiles.NAME]` of the pipeline
    #[arg(short, long, value_name = "NAME", global = true)]
    profile: Option<String>,
    /// Override a value, such as `stages.train.epochs=5` (repeatable)
    #[arg(short, long, value_name = "PATH=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the stages that are not up to date
    Run(run::RunArguments),
    /// Show which stages are up to date and why the others are not, without running anything
    Status(status::StatusArguments),
    /// Explain why a stage must run, down to the file, parameter or environment variable
    Why(why::WhyArguments),
    /// Show the dependency graph of the stages
    Dag(dag::DagArguments),
    /// Show the current metrics, or compare two runs
    Metrics(metrics::MetricsArguments),
    /// Show the report page together with the details of the run that made it
    Report(report::ReportArguments),
    /// Compare two runs on one HTML page
    Compare(compare::CompareArguments),
    /// Serve a live view of runs, logs, curves and artifacts to the browser
    Serve(serve::ServeArguments),
    /// Render what a stage does to a sample of its inputs, without running it
    Preview(preview::PreviewArguments),
    /// List past runs, or show one run or the log of a stage
    #[command(mut_arg("file", |file| file.short(None)))]
    Log(log::LogArguments),
    /// Create a new project from a template
    Init(init::InitArguments),
    /// Print the JSON Schema of `pipeline.toml` for editors
    Schema,
    /// List the available kinds of stage, or describe one
    Kinds(kinds::KindsArguments),
    /// Inspect and manage the cache
    Cache(cache::CacheArguments),
    /// Rerun stages from scratch and compare their outputs byte by byte
    Verify(verify::VerifyArguments),
    /// Generate a shell completion script
    Completions(completions::CompletionsArguments),
    /// Write man pages of all commands to a directory
    Man(man::ManArguments),
    /// Execute jobs received on standard input (internal; started by `run`)
    #[command(hide = true)]
    Worker(WorkerArguments),
}

/// Arguments of `hamflow worker`.
#[derive(Debug, clap::Args)]
struct WorkerArguments {
    /// The folder of tasks, instead of jobs on standard input
    #[arg(long, requires = "index")]
    tasks: Option<std::path::PathBuf>,
    /// The name of tasks in a remote
    #[arg(long, requires = "index", conflicts_with = "tasks")]
    remote_tasks: Option<String>,
    /// The number of the task
    #[arg(long)]
    index: Option<usize>,
}

/// Runs a worker.
fn worker(arguments: &WorkerArguments, kinds: Kinds) -> Result<u8, CliError> {
    let done = match (&arguments.tasks, &arguments.remote_tasks, arguments.index) {
        (Some(folder), _, Some(task)) => crate::exec::tasks::perform(kinds, folder, task),
        (_, Some(name), Some(task)) => {
            let done = crate::exec::node::perform(kinds, name, task);
            return Ok(done.map_or_else(
                |error| {
                    ui::say(&error.to_string());
                    crate::exec::NO_REMOTE
                },
                |()| 0,
            ));
        }
        _ => crate::exec::serve(kinds),
    };
    done.map(|()| 0).map_err(|error| CliError::bug(error.to_string()))
}

/// The command of the engine before which the contributed commands are listed.
const BEFORE: &str = "preview";

/// The grammar of the command line.
fn command_line(program: Program) -> clap::Command {
    let own = Command::augment_subcommands(clap::Command::new("hamflow"));
    let mut commands: Vec<clap::Command> = own.get_subcommands().cloned().collect();
    let place = commands.iter().position(|command| command.get_name() == BEFORE).unwrap_or(commands.len());
    commands.splice(place..place, program.commands.iter().map(|command| contributed::grammar(&command.spec())));
    let ordered = commands.into_iter().enumerate().map(|(place, command)| command.display_order(place));
    Arguments::command().subcommands(ordered)
}

/// A command to run.
enum Invocation {
    Own(Command),
    Contributed(&'static dyn Contributed, ArgMatches),
}

fn parse(program: Program) -> Result<Invocation, clap::Error> {
    let mut grammar = command_line(program);
    let matches = grammar.try_get_matches_from_mut(std::env::args_os())?;
    let (name, chosen) = matches.subcommand().expect("a subcommand is required");
    match program.commands.iter().find(|command| command.spec().name == name) {
        Some(command) => Ok(Invocation::Contributed(*command, chosen.clone())),
        None => Command::from_arg_matches(&matches).map(Invocation::Own).map_err(|error| error.format(&mut grammar)),
    }
}

/// Prints help and version to standard output, errors to standard error.
fn print_usage(error: &clap::Error) {
    let text = error.to_string();
    match escape_controls(&text) {
        Cow::Borrowed(_) => drop(error.print()),
        // Without clap's colours, because an argument that is not valid has control characters.
        Cow::Owned(_) => ui::say(text.trim_end()),
    }
}

/// Prints the message of a panic, which can quote text from outside.
fn set_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        ui::say(&format!("thread `{}` {panic}", thread.name().unwrap_or("unnamed")));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            ui::say(&backtrace.to_string());
        }
    }));
}

/// Runs the command line of a program.
pub fn main(program: Program) -> ExitCode {
    set_panic_hook();
    let invocation = match parse(program) {
        Ok(invocation) => invocation,
        Err(error) => {
            print_usage(&error);
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // The panic hook has already printed the message and its location.
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| execute(invocation, program)))
        .unwrap_or_else(|_| Err(CliError::bug("internal error, see above; please report it")));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui::say(&error.to_string());
            ExitCode::from(error.code)
        }
    }
}

fn execute(invocation: Invocation, program: Program) -> Result<u8, CliError> {
    let kinds = program.kinds;
    let command = match invocation {
        Invocation::Own(command) => command,
        Invocation::Contributed(command, matches) => return contributed::execute(command, &matches, kinds),
    };
    match command {
        Command::Run(arguments) => run::execute(&arguments, kinds),
        Command::Status(arguments) => status::execute(&arguments, kinds),
        Command::Why(arguments) => why::execute(&arguments, kinds),
        Command::Dag(arguments) => dag::execute(&arguments, kinds),
        Command::Metrics(arguments) => metrics::execute(&arguments, kinds),
        Command::Report(arguments) => report::execute(&arguments, kinds),
        Command::Compare(arguments) => compare::execute(&arguments, kinds),
        Command::Serve(arguments) => serve::execute(&arguments, kinds),
        Command::Preview(arguments) => preview::execute(&arguments, kinds),
        Command::Log(arguments) => log::execute(&arguments, kinds),
        Command::Init(arguments) => init::execute(&arguments, program.detect),
        Command::Schema => schema::execute(kinds),
        Command::Kinds(arguments) => kinds::execute(&arguments, kinds),
        Command::Cache(arguments) => cache::execute(&arguments, kinds),
        Command::Verify(arguments) => verify::execute(&arguments, kinds),
        Command::Completions(arguments) => completions::execute(&arguments, program),
        Command::Man(arguments) => man::execute(&arguments, program),
        Command::Worker(arguments) => worker(&arguments, kinds),
    }
}
