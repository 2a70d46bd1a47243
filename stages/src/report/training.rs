//! The section about training: learning curves, selected epoch, and network.

use maud::{Markup, html};
use serde_json::Value;

use super::facts::{facts, text};
use super::layout::scroll;
use super::sources::Sources;
use super::{figure, recipe};
use crate::plot::{ArchitecturePlot, LayerBlock, LearningCurvesPlot};

/// The number of layers up to which their table is shown at once.
const MOST_LAYERS: usize = 20;

/// Renders the section, if anything is known about training.
pub fn section(sources: &Sources) -> Option<Markup> {
    if sources.history.is_empty() && sources.training.is_none() {
        return None;
    }
    let training = sources.training.as_ref();
    let chosen = training.and_then(|training| training.get("best_epoch")?.as_u64());
    let layers = training.and_then(|training| training.get("layers")?.as_array());
    Some(html! {
        (chosen_sentence(sources, chosen))
        @if !sources.history.is_empty() {
            @let plot = LearningCurvesPlot { title: "Learning curves".to_owned(), epochs: sources.history.clone(), chosen };
            (figure::drawn(&plot, "learning-curves", "Learning curves"))
        }
        @if let Some(recipe) = recipe::model(&sources.lineage) { (recipe) }
        @if let Some(layers) = layers {
            h3 { "Layers" }
            @if let Some(plot) = architecture(training, layers) { (figure::drawn(&plot, "architecture", "The network")) }
            @let table = layer_table(layers, training.and_then(|training| training.get("parameters")));
            @if layers.len() > MOST_LAYERS { details { summary { "All " (layers.len()) " layers" } (table) } } @else { (table) }
        }
        @if let Some(training) = training {
            h3 { "Settings and rows" }
            @let shown_elsewhere = ["layers", "parameters", "best_epoch", "kept"];
            @let skip: Vec<&str> = recipe::repeated(&sources.lineage, training).into_iter().chain(shown_elsewhere).collect();
            (facts(training, &skip))
        }
        @if !sources.history.is_empty() { (epoch_table(sources)) }
    })
}

fn chosen_by_validation(sources: &Sources) -> bool {
    let said = sources.training.as_ref().and_then(|training| training.get("keep")?.as_str().map(|keep| keep == "best"));
    said.unwrap_or(true)
}

fn chosen_sentence(sources: &Sources, chosen: Option<u64>) -> Markup {
    let Some(chosen) = chosen else { return html! {} };
    let epoch = sources.history.iter().find(|point| point.epoch == chosen);
    html! {
        p {
            "The model's weights are those of " strong { "epoch " (chosen) }
            @if !sources.history.is_empty() { " of " (sources.history.len()) }
            @if let Some(accuracy) = epoch.and_then(|epoch| epoch.validation_accuracy) {
                " (accuracy on the validation rows: " (format!("{accuracy:.3}")) ")"
            }
            ". "
            @if chosen_by_validation(sources) { "The choice was made on validation rows; test rows were not looked at." }
            @else { "They are the last epoch's." }
        }
    }
}

/// The network from input to output, if the summary contains everything that the drawing needs.
fn architecture(training: Option<&Value>, layers: &[Value]) -> Option<ArchitecturePlot> {
    let training = training?;
    let output = serde_json::from_value(training.get("input")?.clone()).ok()?;
    let input = LayerBlock { name: "input".to_owned(), kind: "image".to_owned(), output, parameters: 0 };
    let mut blocks = vec![input];
    for layer in layers {
        blocks.push(serde_json::from_value(layer.clone()).ok()?);
    }
    Some(ArchitecturePlot { title: format!("The network: {}", text(training.get("model")?)), layers: blocks })
}

fn layer_table(layers: &[Value], total: Option<&Value>) -> Markup {
    let field = |layer: &Value, name: &str| layer.get(name).map(text).unwrap_or_default();
    let shape = |layer: &Value| match layer.get("output").and_then(Value::as_array) {
        Some(sizes) => sizes.iter().map(text).collect::<Vec<_>>().join(" × "),
        None => field(layer, "output"),
    };
    let table = html! {
        table {
            caption { "Layers from the image to the classes" }
            thead { tr { th scope="col" { "layer" } th scope="col" { "what it does" } th.number scope="col" { "output" } th.number scope="col" { "weights" } } }
            tbody {
                @for layer in layers {
                    tr {
                        th scope="row" { (field(layer, "name")) }
                        td { (field(layer, "kind")) }
                        td.number { (shape(layer)) }
                        td.number { (field(layer, "parameters")) }
                    }
                }
            }
            @if let Some(total) = total {
                tfoot { tr { th scope="row" colspan="3" { "all layers" } td.number { (text(total)) } } }
            }
        }
    };
    scroll("Layers", &table)
}

fn epoch_table(sources: &Sources) -> Markup {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
    let table = html! {
        table {
            caption { "Every epoch" }
            thead {
                tr {
                    @for name in ["epoch", "learning rate", "training loss", "training accuracy", "validation loss", "validation accuracy"] {
                        th.number scope="col" { (name) }
                    }
                }
            }
            tbody {
                @for point in &sources.history {
                    tr {
                        th.number scope="row" { (point.epoch) }
                        td.number { (point.learning_rate.map_or("–".to_owned(), |rate| format!("{rate:e}"))) }
                        td.number { (number(point.train_loss)) }
                        td.number { (number(point.train_accuracy)) }
                        td.number { (number(point.validation_loss)) }
                        td.number { (number(point.validation_accuracy)) }
                    }
                }
            }
        }
    };
    html! { details { summary { "Numbers of every epoch" } (scroll("Every epoch", &table)) } }
}
