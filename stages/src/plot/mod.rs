//! Figures: each consists of data, which is saved with it, and a function that draws the data as SVG.
//!
//! A figure is written as `<name>.svg` and `<name>.json`. The JSON file contains the plot's name and its data, so
//! that the figure can be drawn again, e.g. by the report with the style of the page.

mod architecture;
mod bars;
mod class_counts;
mod class_scores;
mod column_bars;
mod columns;
mod confusion_matrix;
mod count_bars;
mod heat_maps;
mod learning_curves;
mod model_comparison;
mod panels;
mod pipeline_graph;
mod precision_recall_curves;
mod reliability;
mod roc_curves;
mod run_curves;
mod sample_grid;
mod scale;
mod search_curves;
mod search_scores;
mod stacked_histogram;
mod subgroups;
mod svg;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;
pub use architecture::{ArchitecturePlot, LayerBlock};
pub use class_counts::ClassCountsPlot;
pub use class_scores::ClassScoresPlot;
pub use column_bars::ColumnBarsPlot;
pub use columns::{ColumnSeries, ColumnsPlot};
pub use confusion_matrix::ConfusionMatrixPlot;
pub use count_bars::CountBarsPlot;
pub use heat_maps::{HeatExample, HeatMapsPlot, heat_colour};
pub use learning_curves::{EpochPoint, LearningCurvesPlot};
pub use model_comparison::{ComparedModel, ModelComparisonPlot};
pub use pipeline_graph::{GraphNode, PipelineGraphPlot};
pub use precision_recall_curves::PrecisionRecallCurvesPlot;
pub use reliability::{ReliabilityBin, ReliabilityPlot};
pub use roc_curves::{ClassCurve, RocCurvesPlot};
pub use run_curves::{NamedCurves, RunCurvesPlot};
pub use sample_grid::{Sample, SampleGridPlot, SampleRow};
pub use scale::grouped;
pub use search_curves::SearchCurvesPlot;
pub use search_scores::{SearchScoresPlot, SearchedParameter};
pub use stacked_histogram::{HistogramSeries, StackedHistogramPlot};
pub use subgroups::{AttributeParts, Part, SubgroupsPlot};
pub use svg::{STYLE, Svg};

/// Colours of classes and other series by index, distinguishable with colour vision deficiency and by lightness in
/// greyscale (after Okabe, Ito 2008 and Tol 2021).
pub const PALETTE: [&str; 8] = ["hf-k0", "hf-k1", "hf-k2", "hf-k3", "hf-k4", "hf-k5", "hf-k6", "hf-k7"];

/// Data that can be drawn.
pub trait Drawing: Serialize + DeserializeOwned {
    /// The plot's name in [`PLOTS`].
    const PLOT: &'static str;

    /// Draws the data. Never fails: empty data gives a figure that says so.
    fn draw(&self) -> Svg;
}

/// A type of plot.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    /// The name in a figure's JSON file.
    pub name: &'static str,
    /// One sentence for the reference documentation.
    pub doc: &'static str,
    /// What to see in it, for the reader of a page.
    pub caption: &'static str,
    /// Draws the data of a figure's JSON file.
    pub draw: fn(&Value) -> Result<Svg, FigureError>,
}

/// Every plot, in documentation order.
pub const PLOTS: &[Plot] = &[
    Plot {
        name: CountBarsPlot::PLOT,
        doc: "Rows of each value, or of each value and another's, with their counts.",
        caption: "The number of images of each value, and their share of all.",
        draw: draw::<CountBarsPlot>,
    },
    Plot {
        name: StackedHistogramPlot::PLOT,
        doc: "Rows in each range of a number, series upon series.",
        caption: "The number of images in each range, with the series stacked.",
        draw: draw::<StackedHistogramPlot>,
    },
    Plot {
        name: SampleGridPlot::PLOT,
        doc: "Some images of each class with their names.",
        caption: "Images drawn at random, a row for each class.",
        draw: draw::<SampleGridPlot>,
    },
    Plot {
        name: ClassCountsPlot::PLOT,
        doc: "Rows of each class, one bar per split, with their counts.",
        caption: "The classes should have the same proportions in every split.",
        draw: draw::<ClassCountsPlot>,
    },
    Plot {
        name: LearningCurvesPlot::PLOT,
        doc: "Loss, accuracy and learning rate over the epochs, with the chosen epoch marked.",
        caption: "If the validation loss rises while the training loss falls, the model overfits. The marked epoch was kept.",
        draw: draw::<LearningCurvesPlot>,
    },
    Plot {
        name: RunCurvesPlot::PLOT,
        doc: "Loss and accuracy of several trainings over the epochs.",
        caption: "Compare the validation curves: the lower loss, or the same loss after fewer epochs, is better.",
        draw: draw::<RunCurvesPlot>,
    },
    Plot {
        name: ArchitecturePlot::PLOT,
        doc: "The layers of a network as blocks, with what comes out of each and its number of weights.",
        caption: "From the image to the classes: the shape of what each layer makes, and its number of weights.",
        draw: draw::<ArchitecturePlot>,
    },
    Plot {
        name: PipelineGraphPlot::PLOT,
        doc: "The stages of a pipeline and what they read.",
        caption: "Each arrow goes from what is read to the stage that reads it. Boxes without a colour are inputs from outside.",
        draw: draw::<PipelineGraphPlot>,
    },
    Plot {
        name: SearchScoresPlot::PLOT,
        doc: "The score of each trial of a search by each of its parameters, with the best marked.",
        caption: "Each point is a trial. A parameter matters if the points rise or fall along its axis.",
        draw: draw::<SearchScoresPlot>,
    },
    Plot {
        name: SearchCurvesPlot::PLOT,
        doc: "The score of each trial of a search over the epochs, with the best marked.",
        caption: "Each line is a trial; lines that end early were stopped.",
        draw: draw::<SearchCurvesPlot>,
    },
    Plot {
        name: ModelComparisonPlot::PLOT,
        doc: "Metrics of several models on the same rows, with their intervals.",
        caption: "Intervals that overlap widely do not tell the models apart.",
        draw: draw::<ModelComparisonPlot>,
    },
    Plot {
        name: ConfusionMatrixPlot::PLOT,
        doc: "Counts by true class (row) and predicted class (column), shaded by share of the row, in index order.",
        caption: "Each row shows how the images of one class were predicted. The diagonal is correct.",
        draw: draw::<ConfusionMatrixPlot>,
    },
    Plot {
        name: ClassScoresPlot::PLOT,
        doc: "Recall and precision of each class as bars.",
        caption: "Low recall: the class is often missed. Low precision: other classes are often predicted as it.",
        draw: draw::<ClassScoresPlot>,
    },
    Plot {
        name: RocCurvesPlot::PLOT,
        doc: "The ROC curve of each class against the rest, one panel per class, with its area.",
        caption: "Closer to the upper left corner is better. The diagonal is chance.",
        draw: draw::<RocCurvesPlot>,
    },
    Plot {
        name: PrecisionRecallCurvesPlot::PLOT,
        doc: "The precision–recall curve of each class against the rest, one panel per class, with its average precision.",
        caption: "Closer to the upper right corner is better. Chance is the share of the class.",
        draw: draw::<PrecisionRecallCurvesPlot>,
    },
    Plot {
        name: ReliabilityPlot::PLOT,
        doc: "How often the model is right, by how sure it is, with the rows of each bin.",
        caption: "On the diagonal, confidence equals accuracy. Below it, the model is overconfident.",
        draw: draw::<ReliabilityPlot>,
    },
    Plot {
        name: SubgroupsPlot::PLOT,
        doc: "One metric of every part of the rows (sex, age, site) with its interval.",
        caption: "Lines are 95 % intervals. If they overlap, a difference may be chance.",
        draw: draw::<SubgroupsPlot>,
    },
    Plot {
        name: HeatMapsPlot::PLOT,
        doc: "Images, where the model looked for the class that it predicted, and both upon each other.",
        caption: "Highlighted regions support the predicted class. Regions outside the lesion deserve a closer look.",
        draw: draw::<HeatMapsPlot>,
    },
    Plot {
        name: ColumnsPlot::PLOT,
        doc: "Columns that a program wrote, as lines or points.",
        caption: "Columns of the output of a program.",
        draw: draw::<ColumnsPlot>,
    },
    Plot {
        name: ColumnBarsPlot::PLOT,
        doc: "Columns that a program wrote, as bars.",
        caption: "Columns of the output of a program.",
        draw: draw::<ColumnBarsPlot>,
    },
];

/// The caption of the plot with this name; empty if there is none.
pub fn caption(name: &str) -> &'static str {
    PLOTS.iter().find(|plot| plot.name == name).map_or("", |plot| plot.caption)
}

fn draw<T: Drawing>(data: &Value) -> Result<Svg, FigureError> {
    let data = T::deserialize(data)
        .map_err(|error| FigureError { problem: format!("no data of a `{}`: {error}", T::PLOT) })?;
    Ok(data.draw())
}

/// An invalid figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FigureError {
    /// The problem, starting in lowercase.
    pub problem: String,
}

/// The content of a figure's JSON file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The data of the plot.
    pub data: Value,
    /// The plot's name in [`PLOTS`].
    pub plot: String,
}

impl Figure {
    /// Creates a figure from data; the keys of its JSON are sorted.
    pub fn new<T: Drawing>(data: &T) -> Self {
        let data = serde_json::to_value(data).expect("figures only contain lists, numbers and strings");
        Self { data, plot: T::PLOT.to_owned() }
    }

    /// Parses a figure's JSON file.
    pub fn from_json(bytes: &[u8]) -> Result<Self, FigureError> {
        serde_json::from_slice(bytes).map_err(|error| FigureError { problem: format!("no figure: {error}") })
    }

    /// The figure's JSON file.
    pub fn json(&self) -> Vec<u8> {
        json::indented(self).expect("a figure serialises to JSON")
    }

    /// Draws the figure.
    pub fn draw(&self) -> Result<Svg, FigureError> {
        let plot = PLOTS
            .iter()
            .find(|plot| plot.name == self.plot)
            .ok_or_else(|| FigureError { problem: format!("there is no plot `{}`", self.plot) })?;
        (plot.draw)(&self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_and_files_correspond() {
        let helpers = ["bars", "mod", "panels", "scale", "svg"];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plot");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| !helpers.contains(&name.as_str()))
            .collect();
        files.sort_unstable();
        let mut plots: Vec<&str> = PLOTS.iter().map(|plot| plot.name).collect();
        plots.sort_unstable();
        assert_eq!(files, plots);
    }

    #[test]
    fn a_figure_can_be_drawn_again_from_its_file() {
        let plot = ClassScoresPlot {
            title: "Test".to_owned(),
            classes: vec!["nv".to_owned(), "mel".to_owned()],
            precision: vec![Some(0.5), None],
            recall: vec![Some(1.0), Some(0.0)],
        };
        let figure = Figure::new(&plot);
        let read = Figure::from_json(&figure.json()).unwrap();
        assert_eq!(read, figure);
        assert_eq!(read.draw().unwrap().file(), plot.draw().file());
    }

    #[test]
    fn unknown_plots_and_invalid_data_are_errors() {
        let unknown = Figure { data: Value::Null, plot: "pie".to_owned() };
        assert_eq!(unknown.draw().unwrap_err().problem, "there is no plot `pie`");
        let foreign = Figure { data: Value::Null, plot: "roc_curves".to_owned() };
        assert!(foreign.draw().unwrap_err().problem.starts_with("no data of a `roc_curves`: "));
        assert!(Figure::from_json(b"[").is_err());
    }
}
