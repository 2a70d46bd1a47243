//! `hamflow run`: rebuilds what is invalid.

use std::io::IsTerminal;
use std::sync::mpsc::channel;

use clap::Args;

use super::error::exit_code;
use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::exec::{self, GuardError, Heard, Local, RunGuard, RunOptions};
use crate::plan::Planner;
use crate::ui::{self, Format, Style};

/// Arguments of `hamflow run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Stages to bring up to date with all before them (`train`, `train+` with all behind it); all by default
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Run the named stages (or all) even where their results are known
    #[arg(long)]
    force: bool,
    /// Say what would run, and run nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// After a failure, go on with stages that do not depend on it
    #[arg(short, long)]
    keep_going: bool,
    /// Threads that all jobs together may use; by default all of the machine
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// One JSON object per line on standard output
    #[arg(long)]
    json: bool,
    /// Fail on any difference from the lock
    #[arg(long)]
    locked: bool,
    /// Take the digests of absent inputs from the lock
    #[arg(long)]
    allow_missing: bool,
    /// Fail instead of waiting where another run holds the cache
    #[arg(long)]
    no_wait: bool,
}

/// Runs the command.
pub fn execute(arguments: &RunArguments, kinds: Kinds) -> Result<u8, CliError> {
    let mut opened = project::open(&arguments.common, kinds)?;
    let targets = opened.graph.select(&arguments.stages)?;
    if arguments.dry_run {
        let shown = status::Shown { targets: &targets, forced: arguments.force, json: arguments.json };
        return status::show(&opened, &shown, arguments.allow_missing);
    }
    let store = &opened.store;
    store.create()?;
    let waiting = &mut |holder: &exec::Holder| ui::say(&format!("waiting for another run: {}", holder.text));
    let waiting: Option<&mut dyn FnMut(&exec::Holder)> = if arguments.no_wait { None } else { Some(waiting) };
    let _guard = RunGuard::take(store.root(), waiting).map_err(|error| match error {
        GuardError::Held(_) => CliError::user(format!("{error}\nhint: leave out `--no-wait` to wait for its end")),
        GuardError::Fs(error) => error.into(),
    })?;
    if arguments.locked && !opened.lock_paths[0].exists() {
        let path = opened.lock_paths[0].display();
        return Err(CliError::user(format!(
            "`--locked` compares with `{path}`, which does not exist\nhint: run without `--locked` and commit the lock"
        )));
    }
    // The run that was waited for has written it.
    opened.lock = project::read_lock(&opened.lock_paths)?;
    let (graph, store) = (&opened.graph, &opened.store);
    let mut planner = Planner::new(graph, store, &opened.lock, arguments.allow_missing);
    let missing = planner.scan(&graph.upstream(&targets))?;
    if !missing.is_empty() {
        return Err(project::missing_inputs(graph, &missing));
    }

    let (sender, heard) = channel();
    interrupt_through(sender.clone())?;
    let program = std::env::current_exe().map_err(|error| CliError::bug(format!("where am I? {error}")))?;
    let mut executor = Local::new(program, sender);
    let format = match (arguments.json, std::io::stderr().is_terminal()) {
        (true, _) => Format::Json,
        (false, true) => Format::Bars,
        (false, false) => Format::Plain,
    };
    let mut reporter = ui::reporter(format, Style::of(&std::io::stderr()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = RunOptions {
        targets,
        force: arguments.force,
        keep_going: arguments.keep_going,
        threads: arguments.jobs.map_or(threads, usize::from),
        locked: arguments.locked,
        lock_path: opened.lock_paths[0].clone(),
    };
    let summary = exec::run(planner, &options, &mut executor, &heard, &mut |event| reporter.event(&event))?;
    Ok(match (summary.interrupted, summary.failure) {
        (true, _) => 130,
        (false, Some(category)) => exit_code(category),
        (false, None) => 0,
    })
}

/// Turns Ctrl-C and termination into a word to the scheduler; a second one ends the process at once.
fn interrupt_through(sender: std::sync::mpsc::Sender<Heard>) -> Result<(), CliError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| CliError::bug(format!("signals cannot be handled: {error}")))?;
    std::thread::spawn(move || {
        let mut count = 0;
        for _ in signals.forever() {
            count += 1;
            if count > 1 || sender.send(Heard::Interrupted).is_err() {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}
