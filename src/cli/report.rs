//! `hamflow report`: the report page together with the details of the run that made it.

use clap::Args;

use super::{CliError, Common, pages, project};
use crate::config::Kinds;
use crate::ui;

/// Arguments of `hamflow report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The stage that produces the page; optional if there is only one
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    #[command(flatten)]
    common: Common,
    /// Show the page of a past run (`last`, or an ID from `hamflow log`) [default: the current page]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Open the page in the browser
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
                digest
                    .ok_or_else(|| CliError::user(format!("run {} did not produce a page of `{stage}`", record.run)))?,
                Some(record),
            )
        }
        None => {
            let lock = opened.own_lock()?;
            let locked = lock.stages.get(&stage).and_then(|locked| locked.outputs.get(&artifact)).copied();
            let digest = locked.ok_or_else(|| {
                let hint = project::other_options(&opened, &arguments.common);
                let hint = hint.unwrap_or_else(|| format!("run `hamflow run {stage}` first"));
                CliError::user(format!("`{stage}` has not produced a page yet")).hint(hint)
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
        // The record of its run was deleted; show the page without run details.
        None => pages::write(&opened, "unknown", &format!("{stage}.html"), &page)?,
    };
    ui::data(&path.display().to_string());
    if arguments.open {
        pages::open(&path)?;
    }
    Ok(0)
}
