//! The record of a comparison of models, as the kind `compare` writes it and the report reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ml::metric::{Interval, METRICS};
use crate::plot::{ComparedModel, ConfusionMatrixPlot, ModelComparisonPlot};

/// Models that were evaluated on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRecord {
    /// The class labels in index order.
    pub classes: Vec<String>,
    /// The differences of each model but the first to the first one.
    pub differences: Vec<Difference>,
    /// The number of lesions.
    pub lesions: usize,
    /// The metrics in the order in which they are shown.
    pub metrics: Vec<String>,
    /// The models; the first is the reference.
    pub models: Vec<ModelRecord>,
    /// The number of bootstrap resamples.
    pub resamples: usize,
    /// The number of rows.
    pub rows: usize,
    /// The split that the rows are from.
    pub split: String,
    /// Whether any of the images is synthetic.
    pub synthetic: bool,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The display name.
    pub name: String,
    /// What is known of the model itself; `None` if only its predictions are.
    pub card: Option<ModelFacts>,
    /// Row counts by true class (row) and predicted class (column).
    pub confusion_matrix: Vec<Vec<usize>>,
    /// The 95 % confidence intervals by metric.
    pub intervals: BTreeMap<String, Interval>,
    /// The metrics; null if undefined.
    pub values: BTreeMap<String, Option<f64>>,
}

/// What the card of a model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The architecture.
    pub architecture: String,
    /// The size of the model's files in bytes.
    pub bytes: u64,
    /// The digest of the model.
    pub digest: String,
    /// The number of epochs of training.
    pub epochs: usize,
    /// The number of training rows.
    pub training_rows: usize,
    /// Height, width and channels of its images.
    pub input: [usize; 3],
    /// The number of weights.
    pub parameters: usize,
}

/// The difference of a metric between two models: the other's value minus the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The metric.
    pub metric: String,
    /// The place of the other model.
    pub model: usize,
    /// The difference; null if one of the values is undefined.
    pub value: Option<f64>,
    /// The 95 % interval of the paired bootstrap: the same lesions are drawn for both models.
    pub interval: Option<Interval>,
}

/// The time of predictions and of training steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The models, in the order of the comparison.
    pub models: Vec<ModelLatency>,
    /// The number of threads.
    pub threads: usize,
}

/// The measured times of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelLatency {
    /// The median milliseconds for one image.
    pub one_image_ms: f64,
    /// The median milliseconds per image in a batch of [`BATCH`](Self::BATCH).
    pub batch_ms_per_image: f64,
    /// The median milliseconds per image of a training step with a batch of [`BATCH`](Self::BATCH), without
    /// augmentation. That of an ensemble is the sum over its members.
    pub training_ms_per_image: f64,
}

impl ModelLatency {
    /// The number of images in the batch.
    pub const BATCH: usize = 32;
}

impl ComparisonRecord {
    /// The plot of the metrics with their intervals.
    pub fn plot(&self) -> ModelComparisonPlot {
        let title = |name: &String| {
            let metric = METRICS.iter().find(|metric| metric.name == *name);
            metric.map_or_else(|| name.clone(), |metric| metric.title.to_owned())
        };
        let model = |model: &ModelRecord| ComparedModel {
            name: model.name.clone(),
            values: self.metrics.iter().map(|name| model.values.get(name).copied().flatten()).collect(),
            intervals: self.metrics.iter().map(|name| model.intervals.get(name).copied()).collect(),
        };
        ModelComparisonPlot {
            title: format!("Models on the {} split", self.split),
            metrics: self.metrics.iter().map(title).collect(),
            models: self.models.iter().map(model).collect(),
        }
    }

    /// The confusion matrix of a model.
    pub fn confusion_plot(&self, model: &ModelRecord) -> ConfusionMatrixPlot {
        ConfusionMatrixPlot {
            title: model.name.clone(),
            classes: self.classes.clone(),
            counts: model.confusion_matrix.clone(),
        }
    }
}
