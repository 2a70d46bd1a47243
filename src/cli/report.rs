//! `hamflow report`: the page that a pipeline made, with what is known of the run.

use clap::Args;

use super::{CliError, Common, pages, project};
use crate::config::Kinds;
use crate::ui;

/// Arguments of `hamflow report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The stage that makes the page; may be left out where there is one
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    common: Common,
    /// The page of a past run (`last`, or a name from `hamflow log`); by default that of this state
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Show it in the browser
    #[arg(long)]
    open: bool,
}

/// Runs the command.
pub fn execute(arguments: &ReportArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let (stage, artifact) = pages::page_stage(&opened, arguments.stage.as_deref())?;
    let (digest, record) = match &arguments.run {
        Some(run) => {
            let record = project::past_run(&opened.store, run)?;
            let found = record.stages.iter().find(|found| found.stage == stage);
            let digest = found.and_then(|found| found.outputs.get(&artifact)).copied();
            (
                digest.ok_or_else(|| CliError::user(format!("run {} made no page of `{stage}`", record.run)))?,
                Some(record),
            )
        }
        None => {
            let lock = opened.own_lock()?;
            let locked = lock.stages.get(&stage).and_then(|locked| locked.outputs.get(&artifact)).copied();
            let digest = locked.ok_or_else(|| {
                let hint = project::other_options(&opened, &arguments.common);
                let hint = hint.unwrap_or_else(|| format!("`hamflow run {stage}` makes it"));
                CliError::user(format!("`{stage}` has made no page yet\nhint: {hint}"))
            })?;
            (digest, pages::run_of(&opened, &stage, &artifact, &digest))
        }
    };
    let page = pages::read(&opened, &stage, &digest)?;
    let path = match record {
        Some(record) => {
            let page = pages::with_facts(&page, &pages::run_facts(&record));
            pages::write(&opened, &record.run, &format!("{stage}.html"), &page)?
        }
        // Its run's record is gone; the page alone is still worth looking at.
        None => pages::write(&opened, "unknown", &format!("{stage}.html"), &page)?,
    };
    ui::data(&path.display().to_string());
    if arguments.open {
        pages::open(&path)?;
    }
    Ok(0)
}
