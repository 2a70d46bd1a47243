//! The figures of a training run: learning curves and network architecture.

use hamflow_stage_api::{StageContext, StageError};

use crate::ml::card::Card;
use crate::ml::network::LayerSummary;
use crate::ml::trainer::{EpochRecord, Trained};
use crate::plot::{ArchitecturePlot, EpochPoint, Figure, LayerBlock, LearningCurvesPlot};

/// Writes the figures of a finished training run to `figures`.
pub fn write(context: &StageContext<'_>, card: &Card, trained: &Trained) -> Result<(), StageError> {
    let curves = LearningCurvesPlot {
        title: "Learning curves".to_owned(),
        epochs: trained.history.iter().map(point).collect(),
        chosen: card.training.chosen_by_validation.then_some(trained.epoch as u64),
    };
    for (name, figure) in
        [("learning_curves", Figure::new(&curves)), ("architecture", Figure::new(&architecture(card)))]
    {
        let svg = figure.draw().map_err(|error| StageError::bug(error.problem))?;
        context.write(&format!("figures/{name}.svg"), svg.file().as_bytes())?;
        context.write(&format!("figures/{name}.json"), &figure.json())?;
    }
    Ok(())
}

fn point(record: &EpochRecord) -> EpochPoint {
    EpochPoint {
        epoch: record.epoch as u64,
        learning_rate: Some(record.learning_rate),
        train_accuracy: Some(record.train_accuracy),
        train_loss: Some(record.train_loss),
        validation_accuracy: record.validation_accuracy,
        validation_loss: record.validation_loss,
    }
}

fn architecture(card: &Card) -> ArchitecturePlot {
    let Card { model, input, layers, .. } = card;
    let input = LayerBlock {
        name: "input".to_owned(),
        kind: "image".to_owned(),
        output: vec![input.height, input.width, input.channels],
        parameters: 0,
    };
    let block = |layer: &LayerSummary| {
        let LayerSummary { name, kind, output, parameters } = layer.clone();
        LayerBlock { name, kind, output, parameters }
    };
    let layers = std::iter::once(input).chain(layers.iter().map(block)).collect();
    ArchitecturePlot { title: format!("The network: {model}"), layers }
}
