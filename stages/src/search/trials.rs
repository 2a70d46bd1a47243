//! The trials of a search as parts: what each depends on, its result, and which ones continue.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use hamflow_stage_api::{Part, PartOutput, Planning, StageError, Symlinks, read_regular};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::space::Point;
use super::{Halving, SearchParams};
use crate::ml::recipe::Recipe;
use crate::training::{self, Finished, Stopped};

/// A part's file with its [`TrialResult`].
pub const RESULT: &str = "trial.json";

/// A set of parameters to train with.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The number, 1-based.
    pub number: usize,
    /// The searched parameters.
    pub values: Point,
    /// All parameters.
    pub recipe: Recipe,
}

/// The trials of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The trials, by number.
    pub trials: Vec<Trial>,
    /// Successive halving, if enabled.
    pub halving: Option<Halving>,
    /// Whether a higher score is better.
    pub higher_is_better: bool,
}

/// What a part depends on, besides the seed and the pretrained weights.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartKey {
    /// The parameters of the training run.
    pub recipe: Recipe,
    /// The digest of what the run reads from shards and split.
    pub rows: String,
    /// The epoch to stop after.
    pub until: usize,
}

/// The result of a trial so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// The epoch of the score, 1-based; `None` if the trial diverged before there was one.
    pub best_epoch: Option<usize>,
    /// The score after each epoch.
    pub curve: Vec<Option<f64>>,
    /// Whether a step diverged. If there is a `best_epoch`, its weights are from before that.
    pub diverged: bool,
    /// Why the trial ended before its last epoch, if it did.
    pub reason: Option<String>,
    /// The score at the kept epoch.
    pub score: Option<f64>,
}

impl TrialResult {
    /// The result of a run that finished.
    pub fn of(finished: &Finished<'_>) -> Self {
        Self {
            best_epoch: Some(finished.trained.epoch),
            curve: finished.trained.scores.clone(),
            diverged: matches!(finished.stopped, Some(Stopped::Diverged(_))),
            reason: finished.stopped.as_ref().map(Stopped::reason).map(str::to_owned),
            score: finished.score(),
        }
    }

    /// The result of a run that diverged.
    pub fn diverged(error: &StageError) -> Self {
        Self { best_epoch: None, curve: Vec::new(), diverged: true, reason: Some(error.message.clone()), score: None }
    }
}

/// The results so far, by rung and number of the trial.
pub type Results = Vec<BTreeMap<usize, TrialResult>>;

impl Plan {
    /// The epochs after which the trials are compared. The last one is the end of training, which may differ by trial without
    /// halving and is then 0.
    ///
    /// With halving, they are ⌊R η^(i − s)⌋ for i = 0 … s with R epochs, the factor η, and the largest s for which the first is at
    /// least `min_epochs` (Li et al. 2018, algorithm 1).
    pub fn budgets(&self) -> Vec<usize> {
        let (Some(Halving { min_epochs, factor }), Some(first)) = (self.halving, self.trials.first()) else {
            return vec![0];
        };
        let mut budgets = vec![first.recipe.epochs];
        while let Some(next) = budgets.last().map(|last| last / factor).filter(|next| *next >= min_epochs.max(1)) {
            budgets.push(next);
        }
        budgets.reverse();
        budgets
    }

    /// The epoch to which a trial trains in a rung.
    fn until(&self, trial: &Trial, rung: usize) -> usize {
        match self.budgets()[rung] {
            0 => trial.recipe.epochs,
            budget => budget,
        }
    }

    fn part_name(&self, trial: &Trial, rung: usize) -> String {
        match self.halving {
            None => format!("trial-{}", trial.number),
            Some(_) => format!("trial-{}-epochs-{}", trial.number, self.until(trial, rung)),
        }
    }

    /// The results in these parts.
    pub fn results(&self, parts: &[PartOutput]) -> Result<Results, StageError> {
        let by_name: BTreeMap<&str, &PartOutput> = parts.iter().map(|part| (part.name.as_str(), part)).collect();
        let mut results = Results::new();
        for rung in 0..self.budgets().len() {
            let mut of_rung = BTreeMap::new();
            for trial in &self.trials {
                if let Some(part) = by_name.get(self.part_name(trial, rung).as_str()) {
                    of_rung.insert(trial.number, read(part)?);
                }
            }
            if !of_rung.is_empty() {
                results.push(of_rung);
            }
        }
        Ok(results)
    }

    /// The part of a trial's last rung.
    pub fn last_part<'p>(&self, trial: &Trial, parts: &'p [PartOutput]) -> Option<&'p PartOutput> {
        let name = self.part_name(trial, self.budgets().len() - 1);
        parts.iter().find(|part| part.name == name)
    }

    /// The next rung and the trials that continue in it: the best ⌊n / factor⌋ of the n in the last one, but at least one. `None` if
    /// the last rung is done or every trial in it diverged.
    pub fn next_rung(&self, results: &Results) -> Option<(usize, Vec<&Trial>)> {
        let last = results.last()?;
        if results.len() >= self.budgets().len() {
            return None;
        }
        let count = (last.len() / self.halving?.factor).max(1);
        let ranked = self.ranked(last);
        let best = &ranked[..count.min(ranked.len())];
        // In the order of their numbers, like the first rung.
        let survivors: Vec<&Trial> = self.trials.iter().filter(|trial| best.contains(&trial.number)).collect();
        (!survivors.is_empty()).then_some((results.len(), survivors))
    }

    /// The numbers of the trials with a score, the best first; in a tie the lower number first.
    pub fn ranked(&self, results: &BTreeMap<usize, TrialResult>) -> Vec<usize> {
        let scored = results.iter().filter_map(|(number, result)| Some((*number, result.score?)));
        let mut scored: Vec<(usize, f64)> = scored.collect();
        scored.sort_by(|(a, first), (b, second)| {
            let order = first.partial_cmp(second).unwrap_or(Ordering::Equal);
            (if self.higher_is_better { order.reverse() } else { order }).then(a.cmp(b))
        });
        scored.into_iter().map(|(number, _)| number).collect()
    }
}

fn read(part: &PartOutput) -> Result<TrialResult, StageError> {
    let lacking = || StageError::bug(format!("`{}` has no `{RESULT}`", part.name));
    let path = part.side.get(RESULT).ok_or_else(lacking)?;
    let bytes = read_regular(path, Symlinks::Refuse).map_err(|source| StageError::io("read", path, &source))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| StageError::bug(format!("cannot parse `{RESULT}` of `{}`: {error}", part.name)))
}

/// The parts that train these trials to the end of a rung.
pub fn parts(
    plan: &Plan,
    trials: &[&Trial],
    rung: usize,
    params: &SearchParams,
    planning: Planning<'_>,
) -> Result<Vec<Part>, StageError> {
    let mut hasher = blake3::Hasher::new();
    for view in training::views(&params.train, planning)? {
        hasher.update(view.name.as_bytes()).update(b"\0").update(view.text.as_bytes()).update(b"\0");
    }
    let rows = hasher.finalize().to_hex().to_string();
    let of_port = |(port, inputs): (&String, &Vec<hamflow_stage_api::Input>)| {
        let count = inputs.first().map_or(0, |input| input.files.len());
        (port.clone(), (0..count as u32).collect())
    };
    let files: BTreeMap<String, Vec<u32>> = planning.inputs.0.iter().map(of_port).collect();
    let part = |trial: &&Trial| {
        let until = plan.until(trial, rung);
        let before = if rung == 0 { 0 } else { plan.until(trial, rung - 1) };
        let key = PartKey { recipe: trial.recipe.clone(), rows: rows.clone(), until };
        let key: Value = serde_json::to_value(key)
            .map_err(|error| StageError::bug(format!("cannot serialise the key of a trial: {error}")))?;
        Ok(Part {
            name: plan.part_name(trial, rung),
            checkpoint: Some(json!({ "recipe": key["recipe"], "rows": key["rows"] })),
            key,
            data: Value::Null,
            files: files.clone(),
            amount: Some((until - before) as u64),
        })
    };
    trials.iter().map(part).collect()
}
