//! The outputs of a search: the table of trials, the best parameters, the best model, and the figures.

use std::collections::BTreeMap;

use hamflow_stage_api::{PartOutput, StageContext, StageError, Symlinks, read_regular};
use polars::prelude::{Column, DataFrame};
use serde_json::{Value, json};

use super::SearchParams;
use super::trials::{Plan, RESULT, Results, Trial, TrialResult};
use crate::json;
use crate::plot::{Drawing, Figure, SearchCurvesPlot, SearchScoresPlot};
use crate::search_record::{SearchRecord, TrialRecord, TrialStatus, assignments};
use crate::table;

/// The best parameters.
pub const BEST: &str = "best.json";
/// The record that the report shows.
pub const RECORD: &str = "search.json";
/// The table of trials.
pub const TRIALS: &str = "trials.parquet";

/// The number of diverged trials that an error names.
const NAMED: usize = 3;

/// Writes all outputs. An error if no trial has a score; the table of trials is then among the side outputs.
pub fn write(
    context: &StageContext<'_>,
    params: &SearchParams,
    plan: &Plan,
    results: &Results,
    parts: &[PartOutput],
) -> Result<(), StageError> {
    let trials: Vec<TrialRecord> = plan.trials.iter().map(|trial| record(plan, trial, results)).collect();
    let table = table::write(&frame(&trials, params)?)?;
    let last = results.last().filter(|_| results.len() == plan.budgets().len());
    let Some(best) = last.and_then(|last| plan.ranked(last).first().copied()) else {
        return Err(no_best(context, &trials, &table));
    };
    let trial = &plan.trials[best - 1];
    let record = SearchRecord {
        best,
        budgets: plan.budgets().into_iter().filter(|budget| *budget > 0).collect(),
        higher_is_better: plan.higher_is_better,
        metric: params.metric.clone(),
        parameters: params.space.keys().cloned().collect(),
        trials,
    };
    context.write(TRIALS, &table)?;
    context.write(RECORD, &json::indented(&record)?)?;
    context.write(BEST, &json::indented(&best_of(&record, trial))?)?;
    copy_model(context, plan, trial, parts)?;
    for (name, figure) in [
        (SearchScoresPlot::PLOT, Figure::new(&record.scores_plot())),
        (SearchCurvesPlot::PLOT, Figure::new(&record.curves_plot())),
    ] {
        let svg = figure.draw().map_err(|error| StageError::bug(error.problem))?;
        context.write(&format!("figures/{name}.svg"), svg.file().as_bytes())?;
        context.write(&format!("figures/{name}.json"), &figure.json())?;
    }
    warn_of_diverged(context, &record);
    if let Some(TrialRecord { status: TrialStatus::Diverged, reason: Some(reason), .. }) = record.best_trial() {
        context.flaw(format!("the best trial diverged after the epoch that was kept: {reason}"));
    }
    let score = record.best_trial().and_then(|trial| trial.score).unwrap_or(f64::NAN);
    context.note(format!(
        "the best of {} is trial {best} ({}) with a validation {} of {score:.4}",
        match record.trials.len() {
            1 => "1 trial".to_owned(),
            count => format!("{count} trials"),
        },
        assignments(&trial.values),
        params.metric.replace('_', " ")
    ));
    Ok(())
}

/// What is known of a trial after the last rung that it was in.
fn record(plan: &Plan, trial: &Trial, results: &Results) -> TrialRecord {
    let mut rungs = results.iter().enumerate().filter_map(|(rung, of_rung)| Some((rung, of_rung.get(&trial.number)?)));
    let (rung, result) = rungs.next_back().map_or((0, None), |(rung, result)| (rung, Some(result.clone())));
    let nothing = TrialResult { best_epoch: None, curve: Vec::new(), diverged: true, reason: None, score: None };
    let TrialResult { best_epoch, curve, diverged, reason, score } = result.unwrap_or(nothing);
    let status = match () {
        () if diverged => TrialStatus::Diverged,
        () if rung + 1 < plan.budgets().len() => TrialStatus::Pruned,
        () => TrialStatus::Completed,
    };
    TrialRecord { best_epoch, curve, reason, score, status, trial: trial.number, values: trial.values.clone() }
}

/// The best parameters: those that were searched, and all that `train` takes.
fn best_of(record: &SearchRecord, trial: &Trial) -> BTreeMap<&'static str, Value> {
    let score = record.best_trial().and_then(|trial| trial.score);
    BTreeMap::from([
        ("metric", json!(record.metric)),
        ("score", json!(score)),
        ("train", json!(trial.recipe)),
        ("trial", json!(trial.number)),
        ("values", json!(trial.values)),
    ])
}

/// Copies what the best trial wrote.
fn copy_model(context: &StageContext<'_>, plan: &Plan, trial: &Trial, parts: &[PartOutput]) -> Result<(), StageError> {
    let part = plan.last_part(trial, parts).ok_or_else(|| StageError::bug("the best trial has no part"))?;
    for (name, path) in part.side.iter().filter(|(name, _)| *name != RESULT) {
        let bytes = read_regular(path, Symlinks::Refuse).map_err(|source| StageError::io("read", path, &source))?;
        context.write(name, &bytes)?;
    }
    Ok(())
}

fn warn_of_diverged(context: &StageContext<'_>, record: &SearchRecord) {
    let diverged: Vec<&TrialRecord> =
        record.trials.iter().filter(|trial| trial.status == TrialStatus::Diverged).collect();
    if let Some(first) = diverged.first() {
        let count = diverged.len();
        let of = record.trials.len();
        context.warn(format!(
            "{count} of {of} trials diverged (first: trial {}, {}); they are in `{TRIALS}`",
            first.trial,
            assignments(&first.values)
        ));
    }
}

/// The error of a search without a best trial. Each trial is in the log, and the table among the side outputs.
fn no_best(context: &StageContext<'_>, trials: &[TrialRecord], table: &[u8]) -> StageError {
    let say = |trial: &TrialRecord| {
        let reason = trial.reason.as_deref().unwrap_or("no score");
        format!("trial {} ({}): {reason}", trial.trial, assignments(&trial.values))
    };
    trials.iter().for_each(|trial| context.log(say(trial)));
    let path = context.side_dir().join(TRIALS);
    if let Err(source) = std::fs::write(&path, table) {
        return StageError::io("write", &path, &source);
    }
    let left: Vec<&TrialRecord> = trials.iter().filter(|trial| trial.status != TrialStatus::Pruned).collect();
    let mut message = match left.len() {
        0 => "no trial has a score".to_owned(),
        1 => "the only trial diverged".to_owned(),
        count if count == trials.len() => format!("all {count} trials diverged"),
        count => format!("all {count} trials that were left diverged"),
    };
    for trial in left.iter().take(NAMED) {
        message.push_str(&format!("\n{}", say(trial)));
    }
    StageError::failed(message).hint(format!(
        "smaller learning rates, or `clip_norm`, usually help; the table of trials is `{}`",
        path.display()
    ))
}

/// The table: one row per trial, with a column for each searched parameter.
fn frame(trials: &[TrialRecord], params: &SearchParams) -> Result<DataFrame, StageError> {
    let integers = |of: &dyn Fn(&TrialRecord) -> Option<usize>| -> Vec<Option<i64>> {
        trials.iter().map(|trial| of(trial).and_then(|value| i64::try_from(value).ok())).collect()
    };
    let mut columns = vec![Column::new("trial".into(), integers(&|trial| Some(trial.trial)))];
    for name in params.space.keys() {
        let values: Vec<&Value> = trials.iter().map(|trial| &trial.values[name]).collect();
        columns.push(column(name, &values));
    }
    columns.extend([
        Column::new("status".into(), trials.iter().map(|trial| trial.status.name()).collect::<Vec<&str>>()),
        Column::new(
            params.metric.as_str().into(),
            trials.iter().map(|trial| trial.score).collect::<Vec<Option<f64>>>(),
        ),
        Column::new("best_epoch".into(), integers(&|trial| trial.best_epoch)),
        Column::new("epochs_trained".into(), integers(&|trial| Some(trial.curve.len()))),
        Column::new("reason".into(), trials.iter().map(|trial| trial.reason.clone()).collect::<Vec<Option<String>>>()),
    ]);
    table::frame(columns)
}

/// A column of the narrowest type that all values have: integers, numbers, booleans or texts.
fn column(name: &str, values: &[&Value]) -> Column {
    if values.iter().all(|value| value.is_i64()) {
        return Column::new(name.into(), values.iter().map(|value| value.as_i64()).collect::<Vec<_>>());
    }
    if values.iter().all(|value| value.is_number()) {
        return Column::new(name.into(), values.iter().map(|value| value.as_f64()).collect::<Vec<_>>());
    }
    if values.iter().all(|value| value.is_boolean()) {
        return Column::new(name.into(), values.iter().map(|value| value.as_bool()).collect::<Vec<_>>());
    }
    let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Column::new(name.into(), values.iter().map(text).collect::<Vec<String>>())
}
