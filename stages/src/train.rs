//! The kind `train`: trains a network on the training rows and selects the best epoch by the validation rows.

use hamflow_stage_api::{
    Columns, Curves, Devices, Kind, KindSpec, Output, ParamError, Planning, StageContext, StageError, View, Views,
};

use crate::artifact;
use crate::ml::backend::Choice;
use crate::ml::card;
use crate::ml::classifier::thread_pool;
use crate::ml::device;
use crate::ml::recipe::Recipe;
use crate::training::curves::LearningCurves;
use crate::training::{self, Outcome, Run, Stopped};

/// Incremented whenever equal inputs produce a different model.
///
/// 3: the card records how the epoch was selected and whether the images are synthetic; a class without rows has weight 1.
/// 2: the first numbered revision.
const REVISION: u32 = 3;

/// The kind `train`.
pub struct Train;

impl Kind for Train {
    type Params = Recipe;

    fn spec(&self) -> KindSpec {
        let summary = "Trains a network on the training rows and selects the best epoch by the validation rows.";
        let spec = KindSpec::new("train", REVISION, summary, training::ports());
        KindSpec { seeded: true, extendable: &["epochs"], ..spec }
    }

    fn check(&self, recipe: &Recipe) -> Result<(), ParamError> {
        recipe.check()
    }

    fn outputs(&self, _recipe: &Recipe) -> Vec<Output> {
        vec![
            Output::new("model", artifact::MODEL, card::FOLDER),
            Output::new("history", artifact::HISTORY, "history.json"),
            Output::new("summary", artifact::SUMMARY, "summary.json"),
            Output::new("figures", artifact::FIGURES, "figures"),
        ]
    }

    fn curves(&self) -> Option<&dyn Curves> {
        Some(&LearningCurves)
    }

    fn devices(&self) -> Option<&dyn Devices<Recipe>> {
        Some(self)
    }

    fn columns(&self) -> Option<&dyn Columns<Recipe>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<Recipe>> {
        Some(self)
    }

    fn run(&self, recipe: &Recipe, context: &StageContext<'_>) -> Result<(), StageError> {
        let pool = thread_pool(context.threads())?;
        let recipe = Recipe { seed: context.seed()?, ..recipe.clone() };
        let run = Run { context, recipe: &recipe, until: recipe.epochs, trial: None };
        pool.install(|| match run.fit()? {
            Outcome::Finished(finished) => {
                if let Some(Stopped::Diverged(reason)) = &finished.stopped {
                    context.flaw(format!("{reason}; the best weights until then are kept"));
                }
                finished.write(context)
            }
            Outcome::Diverged(error) => Err(error),
        })
    }
}

impl Devices<Recipe> for Train {
    fn class(&self, recipe: &Recipe) -> Result<Option<String>, ParamError> {
        Choice::from(recipe).class().map(Some)
    }

    fn evidence(&self) -> Option<String> {
        Some(device::evidence())
    }

    fn accepts_others(&self, _recipe: &Recipe) -> bool {
        true
    }
}

impl Columns<Recipe> for Train {
    fn read(&self, recipe: &Recipe) -> Vec<(&'static str, String)> {
        recipe.selection().columns().into_iter().map(|column| ("split", column.to_owned())).collect()
    }
}

impl Views<Recipe> for Train {
    fn project(&self, recipe: &Recipe, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        training::views(recipe, planning)
    }
}

#[cfg(test)]
pub(crate) mod test_fixture;
#[cfg(test)]
mod tests;
