//! `hamflow run`: runs the stages that are not up to date.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use clap::Args;

use super::error::exit_code;
use super::project::Project;
use super::{CliError, Common, closing, init, project, remote, status};
use crate::config::{self, Kinds};
use crate::config::{ExecutorOptions, TransportKind};
use crate::exec::{self, Executors, GuardError, Message, OnInterrupt, RunGuard, RunOptions, Scope, SealedRun, Workers};
use crate::graph::StageId;
use crate::plan::{Invocation, Planner, Seal};
use crate::store::remote::Remote;
use crate::sys;
use crate::threads;
use crate::ui::{self, Format, Reporter, Style};

/// Arguments of `hamflow run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Stages to run together with everything upstream (`train+` adds everything downstream) [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Run the selected stages even if they are up to date
    #[arg(long)]
    force: bool,
    /// Show what would run without running anything
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// After a failure, continue with the stages that do not depend on the failed one
    #[arg(short, long)]
    keep_going: bool,
    /// Number of threads for all jobs together [default: all available]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Run all jobs on this machine (`local`), whatever executors the stages name
    #[arg(long, value_name = "EXECUTOR", value_parser = ["local"])]
    executor: Option<String>,
    /// End as soon as only jobs in the queue of a batch system are left; a later run goes on with them
    #[arg(long)]
    detach: bool,
    /// What becomes of jobs in a queue on Ctrl-C [default: ask on a terminal, otherwise cancel]
    #[arg(long, value_name = "WHAT", value_parser = ["cancel", "leave"])]
    on_interrupt: Option<String>,
    /// Print events as JSON, one object per line
    #[arg(long)]
    json: bool,
    /// Fail if anything differs from the lock file
    #[arg(long)]
    locked: bool,
    /// Use the digests in the lock file for missing inputs
    #[arg(long)]
    allow_missing: bool,
    /// Fail instead of waiting if another run holds the cache
    #[arg(long)]
    no_wait: bool,
}

/// The root of the project and what this run would be sealed as, if the pipeline can be located.
fn invoked(arguments: &RunArguments) -> Option<(PathBuf, Invocation)> {
    let (root, file) = config::locate(&project::pipeline_file(&arguments.common)).ok()?;
    let Common { file: _, profile, set } = &arguments.common;
    let invocation = Invocation::new(&file, profile.as_deref(), set, &arguments.stages)?;
    Some((root, invocation))
}

/// Reports the run if the seal of the last one holds.
fn nothing_to_do(
    arguments: &RunArguments,
    kinds: Kinds,
    (root, invocation): &(PathBuf, Invocation),
    started: Instant,
) -> Result<bool, CliError> {
    if arguments.force || arguments.dry_run {
        return Ok(false);
    }
    let Some(seal) = Seal::read(root, *invocation) else { return Ok(false) };
    let guard = hold_if_writable(&Seal::store(root), arguments)?;
    if !seal.holds(kinds) {
        return Ok(false);
    }
    let mut reporter = reporter(arguments.json);
    let run = SealedRun { seal: &seal, root, guard: guard.as_ref(), started };
    exec::run_sealed(run, &mut |event| reporter.event(&event))?;
    Ok(true)
}

/// Runs the command.
pub fn execute(arguments: &RunArguments, kinds: Kinds) -> Result<u8, CliError> {
    let started = Instant::now();
    if !arguments.dry_run {
        init::prepare_demo(&arguments.common)?;
    }
    let invoked = invoked(arguments);
    if let Some(invoked) = &invoked
        && nothing_to_do(arguments, kinds, invoked, started)?
    {
        return Ok(0);
    }
    let mut opened = project::open(&arguments.common, kinds)?;
    let targets = opened.graph.select(&arguments.stages)?;
    if arguments.dry_run {
        let shown = status::Shown { targets: &targets, forced: arguments.force, json: arguments.json };
        return status::show(&opened, &shown, arguments.allow_missing);
    }
    opened.store.create().map_err(CliError::cache)?;
    let _guard = hold(opened.store.root(), arguments)?;
    // The cache may have been deleted while waiting for another run.
    opened.store.create().map_err(CliError::cache)?;
    if arguments.locked {
        require_lock(&opened)?;
    }
    // A run that this one waited for may have rewritten the lock file.
    opened.lock = project::read_lock(&opened.lock_paths, &opened.graph)?;
    let remote = remote::open(&opened)?.map(Arc::new);
    // `--force`, `--locked` and remotes need the keys up front, so the inputs must be hashed first.
    let hashing = match arguments.force || arguments.locked || remote.is_some() {
        true => Hashing::BeforeTheRun,
        false => Hashing::Postponed,
    };
    let planner = scan(&opened, &targets, hashing, arguments.allow_missing)?;

    let (sender, heard) = channel();
    interrupt_through(sender.clone(), remote.clone())?;
    let pipeline = &opened.graph.pipeline;
    let scope = scope(&opened, &targets, arguments.executor.is_some())?;
    let mut executor = Executors::new(&pipeline.executors, &opened.store.executors_dir(), &scope, &sender);
    let mut reporter = reporter(arguments.json);
    let options = RunOptions {
        targets: targets.clone(),
        force: arguments.force,
        keep_going: arguments.keep_going,
        threads: arguments.jobs.map_or_else(threads::available, usize::from),
        local: arguments.executor.is_some(),
        detach: arguments.detach,
        on_interrupt: on_interrupt(arguments),
        locked: arguments.locked,
        lock_path: opened.lock_paths[0].clone(),
        began: Some(started),
        remote,
        limits: Some(opened.graph.pipeline.cache.limits),
        invocation: invoked.map(|(_, invocation)| invocation),
        ..RunOptions::default()
    };
    let workers = Workers { executor: &mut executor, sender: &sender, messages: &heard };
    let summary = exec::run(planner, &options, workers, &mut |event| reporter.event(&event))?;
    let is_told = !arguments.json && summary.is_complete();
    is_told.then(|| closing::tell(&opened, &targets));
    if summary.begun.queued > 0 {
        let jobs = ui::plural(summary.begun.queued as u64, "job");
        ui::say(&format!("{jobs} left in the queue; `hamflow run` goes on with them, `hamflow status` shows them"));
    }
    Ok(match (summary.interrupted, summary.failures.worst) {
        (true, _) => 130,
        (false, Some(category)) => exit_code(category),
        (false, None) => u8::from(summary.flawed > 0),
    })
}

/// What the executors know of the run.
fn scope(opened: &Project, targets: &[StageId], local: bool) -> Result<Scope, CliError> {
    let (graph, remote) = (&opened.graph, remote::url(opened));
    let requested = graph.upstream(targets);
    let needs_one = |(name, options): &&(String, ExecutorOptions)| {
        let has_it = |id: &StageId| graph.stage(*id).executor.as_ref() == Some(name);
        options.transport == TransportKind::Remote && requested.iter().any(has_it)
    };
    if let Some((name, _)) = graph.pipeline.executors.iter().find(needs_one)
        && remote.is_none()
        && !local
    {
        let message = format!("`executors.{name}`: `transport = \"remote\"` needs a remote, and the pipeline has none");
        return Err(CliError::user(message)
            .hint("add `[cache.remote]` with `url` and `keys`; docs/guide/remotes.md explains them"));
    }
    let names = |stages: &mut dyn Iterator<Item = StageId>| stages.map(|id| graph.stage(id).name.clone()).collect();
    Ok(Scope {
        requested: Arc::new(names(&mut requested.into_iter())),
        known: Arc::new(names(&mut graph.order.iter().copied())),
        remote,
    })
}

/// What becomes of jobs in a queue if the user interrupts the run.
fn on_interrupt(arguments: &RunArguments) -> OnInterrupt {
    match arguments.on_interrupt.as_deref() {
        Some("leave") => OnInterrupt::Leave,
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => OnInterrupt::Ask(ask_to_cancel),
        _ => OnInterrupt::Cancel,
    }
}

/// Asks whether to cancel jobs in a queue. No answer means that they stay: nothing is lost then.
fn ask_to_cancel(jobs: usize) -> bool {
    let jobs = ui::plural(jobs as u64, "job");
    ui::say(&format!("{jobs} in the queue: [c]ancel, or leave for the next run? [c/L] "));
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    answer.trim().to_lowercase().starts_with('c')
}

/// Checks that the lock file exists, as `--locked` requires.
fn require_lock(opened: &Project) -> Result<(), CliError> {
    let path = &opened.lock_paths[0];
    if path.exists() {
        return Ok(());
    }
    let hint = if path.starts_with(opened.store.root()) {
        "run once without `--locked`: the lock file of a run with `--profile` or `--set` is kept in the local cache"
    } else {
        "run without `--locked` and commit the lock file"
    };
    let path = path.display();
    Err(CliError::user(format!("`--locked` requires `{path}`, which does not exist")).hint(hint))
}

/// When the inputs are hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hashing {
    BeforeTheRun,
    Postponed,
}

/// A planner that has scanned the inputs of the targets.
fn scan<'a>(
    opened: &'a Project,
    targets: &[StageId],
    hashing: Hashing,
    allow_missing: bool,
) -> Result<Planner<'a>, CliError> {
    let graph = &opened.graph;
    let mut planner = Planner::new(graph, &opened.store, &opened.lock, allow_missing);
    let stages = graph.upstream(targets);
    if hashing == Hashing::Postponed {
        planner.postpone_hashing(&stages);
    }
    let missing = planner.scan(&stages)?;
    if missing.is_empty() { Ok(planner) } else { Err(project::missing_inputs(graph, &missing)) }
}

/// Takes the run lock, waiting for another run unless `--no-wait` is given.
fn hold(store: &Path, arguments: &RunArguments) -> Result<RunGuard, GuardError> {
    let waiting = &mut |holder: &exec::Holder| ui::say(&format!("waiting for another run to finish: {}", holder.text));
    let waiting: Option<&mut dyn FnMut(&exec::Holder)> = if arguments.no_wait { None } else { Some(waiting) };
    RunGuard::take(store, waiting)
}

/// Like [`hold`], but without a lock on a read-only cache, where a run with nothing to do also works.
fn hold_if_writable(store: &Path, arguments: &RunArguments) -> Result<Option<RunGuard>, GuardError> {
    match hold(store, arguments) {
        Err(GuardError::Fs(_)) => Ok(None),
        taken => taken.map(Some),
    }
}

/// The reporter for this run: JSON, progress bars on a terminal, or plain lines.
pub(super) fn reporter(json: bool) -> Box<dyn Reporter> {
    let format = match (json, std::io::stderr().is_terminal()) {
        (true, _) => Format::Json,
        (false, true) => Format::Bars,
        (false, false) => Format::Plain,
    };
    ui::reporter(format, Style::of(&std::io::stderr()))
}

/// Forwards Ctrl-C and termination signals to the scheduler. A second signal exits the process immediately.
pub(super) fn interrupt_through(
    sender: std::sync::mpsc::Sender<Message>,
    remote: Option<Arc<Remote>>,
) -> Result<(), CliError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    // `nohup` ignores SIGHUP, and that is respected. Shell scripts ignore SIGINT in background processes, but if one arrives, the run
    // must still end cleanly.
    let heard =
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !sys::is_signal_ignored(*signal));
    let mut signals = signal_hook::iterator::Signals::new(heard)
        .map_err(|error| CliError::bug(format!("internal error: cannot install signal handlers: {error}")))?;
    std::thread::spawn(move || {
        let mut count = 0;
        for _ in signals.forever() {
            count += 1;
            // A thread that waits for the remote would not see the scheduler's event.
            if let Some(remote) = &remote {
                remote.abort();
            }
            if count > 1 || sender.send(Message::Interrupted).is_err() {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}
