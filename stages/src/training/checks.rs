//! What is checked before training begins.

use hamflow_stage_api::{StageContext, StageError, near_miss};

use crate::ml::examples::Examples;
use crate::ml::network::{Network, Workspace};
use crate::ml::recipe::Recipe;
use crate::ml::trainer::{HEAD, has_layers};

/// Warns of rows without images, and of classes without rows.
pub(super) fn warn_of_gaps(context: &StageContext<'_>, examples: &Examples) {
    if let [first, ..] = examples.left_out() {
        let count = examples.left_out().len();
        let rows = if count == 1 { "row" } else { "rows" };
        context.warn(format!("skipped {count} {rows} without an image in the shards (first: `{first}`)"));
    }
    if let absent @ [first, rest @ ..] = &examples.classes_without_examples()[..] {
        let message = match rest {
            [] => format!("class `{first}` has no training examples"),
            _ => format!("classes `{}` have no training examples", absent.join("`, `")),
        };
        context.warn(message);
    }
}

/// Rejects batches that the network cannot train with, or that do not fit into memory.
pub(super) fn check_batch(
    recipe: &Recipe,
    network: &Network,
    rows: usize,
    memory: Option<u64>,
) -> Result<(), StageError> {
    if recipe.batch_size == 1 && network.is_normalised() {
        let message =
            format!("model `{}` has batch normalisation, which needs at least 2 images per step", recipe.model);
        return Err(StageError::input(message).hint("set `batch_size` to 16 or more"));
    }
    let Some(memory) = memory else { return Ok(()) };
    let batch_size = recipe.batch_size.min(rows);
    // Weights, the best ones, their average and the moments of the optimiser.
    let fixed = 6 * size_of::<f32>() * network.parameter_count();
    let needed = |images: usize| (Workspace::bytes_for(network, images) + fixed) as u64;
    if needed(batch_size) <= memory {
        return Ok(());
    }
    let least = if network.is_normalised() { 2 } else { 1 };
    let fitting = (least..batch_size).rev().find(|images| needed(*images) <= memory);
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let (needed, available) = (gigabytes(needed(batch_size)), gigabytes(memory));
    let message =
        format!("a step of {batch_size} images needs about {needed} of memory, but {available} are available");
    Err(StageError::input(message).hint(match fitting {
        Some(images) => format!("`batch_size = {images}` fits"),
        None => "use a smaller model or smaller images".to_owned(),
    }))
}

/// Rejects names of layers that the network does not have.
pub(super) fn check_names(recipe: &Recipe, network: &Network) -> Result<(), StageError> {
    let given = recipe.freeze.iter().map(|name| ("freeze", name));
    let given = given.chain(recipe.rate_factors.keys().map(|name| ("rate_factors", name)));
    let unknown = given.into_iter().find(|(_, name)| !has_layers(network, name));
    let Some((parameter, name)) = unknown else { return Ok(()) };
    let message = format!("`{name}` in `{parameter}` is no layer of model `{}`", recipe.model);
    let layers = network.layers().iter().map(|layer| &layer.name[..]).chain([HEAD]);
    let hint = near_miss::hint(name, layers);
    Err(StageError::input(message).hint(hint.unwrap_or_else(|| {
        "layers are in `out/train/summary.json`; a name stands for all layers below it, such as `blocks`".to_owned()
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_do_not_fit_are_rejected_with_the_size_that_does() {
        use hamflow_kernels::shape::MapShape;
        let recipe = |batch_size| Recipe { batch_size, model: "efficientnet-lite0".to_owned(), ..Recipe::default() };
        let model = recipe(1).model().unwrap();
        let network = model.network(MapShape { height: 150, width: 200, channels: 3 }, 7).unwrap();
        let error = check_batch(&recipe(64), &network, 1000, Some(1_500_000_000)).unwrap_err();
        assert!(error.message.contains("a step of 64 images needs about"), "{}", error.message);
        let hint = error.hint.unwrap();
        let fitting: usize = hint.split(' ').nth(2).unwrap().trim_end_matches('`').parse().unwrap();
        assert!((20..64).contains(&fitting), "{hint}");
        check_batch(&recipe(fitting), &network, 1000, Some(1_500_000_000)).unwrap();
        check_batch(&recipe(fitting + 1), &network, 1000, Some(1_500_000_000)).unwrap_err();
        check_batch(&recipe(64), &network, 1000, None).unwrap();
        check_batch(&recipe(4096), &network, fitting, Some(1_500_000_000)).expect("a step has at most all rows");
        let error = check_batch(&recipe(1), &network, 1000, None).unwrap_err();
        assert!(error.message.contains("at least 2 images per step"), "{}", error.message);
    }
}
