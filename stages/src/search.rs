//! The kind `search`: trains several models with different parameters and keeps the best by the validation rows.

mod results;
mod space;
mod trials;

use hamflow_stage_api::{
    Columns, Curves, Devices, Kind, KindSpec, Output, ParamError, Part, PartOutput, Parts, Planning, StageContext,
    StageError, Threads, View, Views,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::space::Space;
use self::trials::{PartKey, Plan, Trial, TrialResult};
use crate::artifact;
use crate::ml::backend::Choice;
use crate::ml::card;
use crate::ml::classifier::thread_pool;
use crate::ml::device;
use crate::ml::recipe::Recipe;
use crate::ml::switch::Switch;
use crate::training::curves::LearningCurves;
use crate::training::{self, Outcome, Run};

/// Incremented whenever equal inputs produce different results.
const REVISION: u32 = 1;

/// The kind `search`.
pub struct Search;

/// The parameters of `search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchParams {
    /// The parameters of `train` that all trials share (`hamflow kinds train`).
    train: Recipe,
    /// The parameters of `train` to search, by name: a list of values, or, with `method = "random"`, a range such as
    /// `{ min = 1e-4, max = 1e-2, log = true }`. A dot separates nested names: `"augment.zoom"`.
    space: Space,
    /// How trials are chosen: `grid` (every combination) or `random` (Bergstra, Bengio 2012).
    method: Method,
    /// Number of different trials with `method = "random"`. A higher number keeps the trials so far.
    #[schemars(range(min = 1, max = 1000))]
    trials: usize,
    /// Successive halving (Jamieson, Talwalkar 2016; Li et al. 2018): only the best 1 / `factor` of the trials continue after
    /// each of the budgets, which are the epochs divided by `factor`, by its square, and so on, as long as they are at least
    /// `min_epochs`; `false` (default) trains all to the end.
    halving: Switch<Halving>,
    /// The metric on the validation rows that scores the trials and chooses the epoch of each: the name of any metric of
    /// `evaluate`, such as `balanced_accuracy`.
    metric: String,
}

/// How trials are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every combination of the values.
    Grid,
    /// Random values, independently for each parameter.
    Random,
}

/// The parameters of successive halving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Halving {
    /// The least number of epochs after which trials are compared.
    #[schemars(range(min = 1, max = 1_000_000))]
    min_epochs: usize,
    /// The share of the trials that continue is 1 / `factor`.
    #[schemars(range(min = 2, max = 100))]
    factor: usize,
}

impl Default for Halving {
    fn default() -> Self {
        Self { min_epochs: 1, factor: 3 }
    }
}

impl Default for SearchParams {
    fn default() -> Self {
        Self {
            train: Recipe::default(),
            space: Space::new(),
            method: Method::Grid,
            trials: 20,
            halving: Switch(None),
            metric: "accuracy".to_owned(),
        }
    }
}

impl SearchParams {
    fn check(&self) -> Result<(), ParamError> {
        let within = |mut error: ParamError| {
            error.path.insert(0, "train".to_owned());
            error
        };
        self.train.check().map_err(within)?;
        let default = Recipe::default().keep_metric;
        if ![&default, &self.metric].contains(&&self.train.keep_metric) {
            let error = ParamError::new("train.keep_metric", "`keep_metric` is the `metric` of the search");
            return Err(error.hint("remove `keep_metric`, and set `metric`"));
        }
        Recipe { keep_metric: self.metric.clone(), ..Recipe::default() }.metric().map_err(|error| {
            let message = error.message.replace("`keep_metric`", "`metric`");
            ParamError { path: vec!["metric".to_owned()], message, hint: error.hint }
        })?;
        self.base().check().map_err(|mut error| {
            // The metric is the only difference to what was checked before.
            error.path = vec!["metric".to_owned()];
            error
        })?;
        space::check(&self.space, &self.base(), self.method == Method::Random)?;
        if self.method == Method::Grid {
            space::grid(&self.space)?.iter().try_for_each(|point| space::recipe(&self.base(), point).map(drop))?;
        }
        let Some(halving) = self.halving.0 else { return Ok(()) };
        if self.space.contains_key("epochs") {
            let message = "`epochs` cannot vary with `halving`, which gives the trials their epochs";
            return Err(ParamError {
                path: vec!["space".into(), "epochs".into()],
                message: message.into(),
                hint: None,
            });
        }
        let Halving { min_epochs, factor } = halving;
        if self.train.epochs / factor < min_epochs {
            let message = format!(
                "`halving` needs `train.epochs` of at least `min_epochs` · `factor` = {}, not {}",
                min_epochs.saturating_mul(factor),
                self.train.epochs
            );
            return Err(ParamError::new("halving.min_epochs", message));
        }
        Ok(())
    }

    /// The recipe that all trials share.
    fn base(&self) -> Recipe {
        Recipe { keep_metric: self.metric.clone(), ..self.train.clone() }
    }

    /// The trials, with the epochs after which they are compared.
    fn trials(&self, seed: u64) -> Result<Plan, StageError> {
        let points = match self.method {
            Method::Grid => space::grid(&self.space),
            Method::Random => space::random(&self.space, self.trials, seed),
        };
        let rejected = |error: ParamError| {
            let error_of = StageError::input(error.message);
            match error.hint {
                Some(hint) => error_of.hint(hint),
                None => error_of,
            }
        };
        let trial = |(place, values): (usize, space::Point)| {
            let recipe = space::recipe(&self.base(), &values).map_err(rejected)?;
            Ok(Trial { number: place + 1, values, recipe })
        };
        let trials: Vec<Trial> =
            points.map_err(rejected)?.into_iter().enumerate().map(trial).collect::<Result<_, StageError>>()?;
        Ok(Plan { trials, halving: self.halving.0, higher_is_better: self.base().prefers_higher_scores() })
    }
}

impl Kind for Search {
    type Params = SearchParams;

    fn spec(&self) -> KindSpec {
        let summary =
            "Trains a model with each of several sets of parameters and keeps the best by the validation rows.";
        let spec = KindSpec::new("search", REVISION, summary, training::ports());
        KindSpec { seeded: true, threads: Threads::Spare, part_unit: "epochs", ..spec }
    }

    fn check(&self, params: &SearchParams) -> Result<(), ParamError> {
        params.check()
    }

    fn outputs(&self, _params: &SearchParams) -> Vec<Output> {
        vec![
            Output::new("model", artifact::MODEL, card::FOLDER),
            Output::new("history", artifact::HISTORY, "history.json"),
            Output::new("summary", artifact::SUMMARY, "summary.json"),
            Output::new("figures", artifact::FIGURES, "figures"),
            Output::new("best", artifact::SUMMARY, results::BEST),
            Output::new("record", artifact::SEARCH, results::RECORD),
            Output::new("trials", hamflow_stage_api::ArtifactType::TABLE, results::TRIALS),
        ]
    }

    fn curves(&self) -> Option<&dyn Curves> {
        Some(&LearningCurves)
    }

    fn devices(&self) -> Option<&dyn Devices<SearchParams>> {
        Some(self)
    }

    fn columns(&self) -> Option<&dyn Columns<SearchParams>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<SearchParams>> {
        Some(self)
    }

    fn parts(&self) -> Option<&dyn Parts<SearchParams>> {
        Some(self)
    }

    fn run(&self, _params: &SearchParams, _context: &StageContext<'_>) -> Result<(), StageError> {
        Err(StageError::bug("`search` runs in parts"))
    }
}

impl Devices<SearchParams> for Search {
    fn class(&self, params: &SearchParams) -> Result<Option<String>, ParamError> {
        Choice::from(&params.base()).class().map(Some)
    }

    fn evidence(&self) -> Option<String> {
        Some(device::evidence())
    }

    fn accepts_others(&self, _params: &SearchParams) -> bool {
        true
    }
}

impl Columns<SearchParams> for Search {
    fn read(&self, params: &SearchParams) -> Vec<(&'static str, String)> {
        params.train.selection().columns().into_iter().map(|column| ("split", column.to_owned())).collect()
    }
}

impl Views<SearchParams> for Search {
    fn project(&self, params: &SearchParams, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        training::views(&params.train, planning)
    }
}

impl Parts<SearchParams> for Search {
    fn plan(&self, params: &SearchParams, planning: Planning<'_>) -> Result<Vec<Part>, StageError> {
        let plan = params.trials(seed(planning)?)?;
        let all: Vec<&Trial> = plan.trials.iter().collect();
        trials::parts(&plan, &all, 0, params, planning)
    }

    fn extend(
        &self,
        params: &SearchParams,
        planning: Planning<'_>,
        parts: &[PartOutput],
    ) -> Result<Vec<Part>, StageError> {
        let plan = params.trials(seed(planning)?)?;
        let results = plan.results(parts)?;
        match plan.next_rung(&results) {
            Some((rung, survivors)) => trials::parts(&plan, &survivors, rung, params, planning),
            None => Ok(Vec::new()),
        }
    }

    fn keys_parameters(&self) -> bool {
        false
    }

    fn run_part(&self, _params: &SearchParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let (name, key, _) = context.part()?;
        let PartKey { recipe, until, .. } = PartKey::deserialize(key)
            .map_err(|error| StageError::bug(format!("cannot parse the key of `{name}`: {error}")))?;
        let recipe = Recipe { seed: context.seed()?, ..recipe };
        let trial = name.split_once("-epochs").map_or(name, |(trial, _)| trial);
        let run = Run { context, recipe: &recipe, until, trial: Some(trial) };
        let pool = thread_pool(context.threads())?;
        pool.install(|| {
            let result = match run.fit()? {
                Outcome::Diverged(error) => TrialResult::diverged(&error),
                Outcome::Finished(finished) => {
                    if until == recipe.epochs {
                        finished.write(context)?;
                    }
                    TrialResult::of(&finished)
                }
            };
            context.write(trials::RESULT, &crate::json::indented(&result)?)
        })
    }

    fn merge(&self, params: &SearchParams, context: &StageContext<'_>, parts: &[PartOutput]) -> Result<(), StageError> {
        let plan = params.trials(context.seed()?)?;
        let results = plan.results(parts)?;
        training::warn_of_missing_rows(context, &params.train)?;
        results::write(context, params, &plan, &results, parts)
    }
}

fn seed(planning: Planning<'_>) -> Result<u64, StageError> {
    planning.seed.ok_or_else(|| StageError::bug("`search` is planned without a seed"))
}

#[cfg(test)]
mod tests;
