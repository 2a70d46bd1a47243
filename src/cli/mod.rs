//! The commands: arguments in, exit codes out.

mod cache;
mod compare;
mod completions;
mod dag;
mod error;
mod follow;
mod init;
mod kinds;
mod log;
mod metrics;
mod pages;
mod predict;
mod preview;
mod project;
mod remote;
mod report;
mod run;
mod schema;
mod status;
mod verify;
mod why;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Kinds;
use crate::ui;

pub use error::CliError;

/// Runs dataflow pipelines and rebuilds only what a change invalidates.
#[derive(Debug, Parser)]
#[command(name = "hamflow", bin_name = "hamflow", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What every command that reads a pipeline takes.
#[derive(Debug, Clone, Default, Args)]
struct Common {
    /// The pipeline file; by default `pipeline.toml` here or in the nearest folder above
    #[arg(short, long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    /// Apply `[profiles.NAME]` of the pipeline
    #[arg(short, long, value_name = "NAME", global = true)]
    profile: Option<String>,
    /// Override a value, such as `stages.train.epochs=5`; may be given several times
    #[arg(short, long, value_name = "PATH=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rebuild what is invalid
    Run(run::RunArguments),
    /// Say of each stage whether it is up to date, and why not; runs nothing
    Status(status::StatusArguments),
    /// Explain why a stage must run, down to the file, the parameter or the variable
    Why(why::WhyArguments),
    /// Show how the stages depend on each other
    Dag(dag::DagArguments),
    /// Show the metrics of this state, or of two runs side by side
    Metrics(metrics::MetricsArguments),
    /// Show the page that the pipeline made, with what is known of its run
    Report(report::ReportArguments),
    /// Show two runs side by side on one page
    Compare(compare::CompareArguments),
    /// Classify images of your own with a model
    Predict(predict::PredictArguments),
    /// Write a picture of what a stage does to some of its inputs; runs nothing
    Preview(preview::PreviewArguments),
    /// Show past runs, what a run did, or the log of a stage
    #[command(mut_arg("file", |file| file.short(None)))]
    Log(log::LogArguments),
    /// Write a pipeline to begin with
    Init(init::InitArguments),
    /// Print the JSON Schema of `pipeline.toml`, for editors
    Schema,
    /// List the kinds of stage, or describe one
    Kinds(kinds::KindsArguments),
    /// Look at the cache, clear it, check it
    Cache(cache::CacheArguments),
    /// Run stages again from nothing in a scratch place, and compare bytes
    Verify(verify::VerifyArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
    /// Do jobs that come on standard input; started by `run`
    #[command(hide = true)]
    Worker,
}

/// Runs the program with the kinds that it knows.
pub fn main(kinds: Kinds) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help and version to standard output, mistakes to standard error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // What panics says itself where it did so.
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| execute(arguments.command, kinds)))
        .unwrap_or_else(|_| Err(CliError::bug("a mistake in hamflow, see above; please report it")));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(CliError { code, text }) => {
            ui::say(&text);
            ExitCode::from(code)
        }
    }
}

fn execute(command: Command, kinds: Kinds) -> Result<u8, CliError> {
    match command {
        Command::Run(arguments) => run::execute(&arguments, kinds),
        Command::Status(arguments) => status::execute(&arguments, kinds),
        Command::Why(arguments) => why::execute(&arguments, kinds),
        Command::Dag(arguments) => dag::execute(&arguments, kinds),
        Command::Metrics(arguments) => metrics::execute(&arguments, kinds),
        Command::Report(arguments) => report::execute(&arguments, kinds),
        Command::Compare(arguments) => compare::execute(&arguments, kinds),
        Command::Predict(arguments) => predict::execute(&arguments, kinds),
        Command::Preview(arguments) => preview::execute(&arguments, kinds),
        Command::Log(arguments) => log::execute(&arguments, kinds),
        Command::Init(arguments) => init::execute(&arguments),
        Command::Schema => schema::execute(kinds),
        Command::Kinds(arguments) => kinds::execute(&arguments, kinds),
        Command::Cache(arguments) => cache::execute(&arguments, kinds),
        Command::Verify(arguments) => verify::execute(&arguments, kinds),
        Command::Completions(arguments) => completions::execute(&arguments),
        Command::Worker => crate::exec::serve(kinds).map(|()| 0).map_err(|error| CliError::bug(error.to_string())),
    }
}
