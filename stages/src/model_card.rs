//! The model card, after Mitchell et al., *Model Cards for Model Reporting* (FAT* 2019), with its nine headings.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::ml::card::{CARD_NAME, Card, WEIGHTS_NAME};
use crate::ml::metric::{METRICS, SplitMetrics};
use crate::ml::normalisation::Channels;
use crate::ml::optim::OptimiserKind;
use crate::plot::grouped;

/// The metrics that a card shows; `metrics.json` contains all.
const SHOWN: [&str; 10] = [
    "accuracy",
    "majority_class_accuracy",
    "balanced_accuracy",
    "f1_macro",
    "roc_auc_macro",
    "average_precision_macro",
    "matthews_correlation",
    "log_loss",
    "brier",
    "expected_calibration_error",
];

/// The content of a model card.
pub struct ModelCard<'a> {
    /// The model's card file.
    pub card: &'a Card,
    /// The training rows of each class in index order, if known.
    pub training_rows: Vec<usize>,
    /// Loss and accuracy on the validation rows in the selected epoch, if measured.
    pub validation: Option<(f64, f64)>,
    /// The metrics by split; `None` if the model has not been evaluated.
    pub evaluation: Option<&'a BTreeMap<String, SplitMetrics>>,
    /// Whether the images are synthetic.
    pub synthetic: bool,
}

impl ModelCard<'_> {
    /// The card as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Model card: {}\n\n", self.card.model);
        if self.synthetic {
            text.push_str(
                "> **Synthetic data.** The images were made by a program, not by a camera: nothing here says anything about \
                 skin.\n\n",
            );
        }
        for (title, body) in [
            ("Model details", self.details()),
            ("Intended use", intended_use()),
            ("Factors", self.factors()),
            ("Metrics", self.metrics()),
            ("Evaluation data", self.evaluation_data()),
            ("Training data", self.training_data()),
            ("Quantitative analyses", self.analyses()),
            ("Ethical considerations", ethics()),
            ("Caveats and recommendations", self.caveats()),
        ] {
            let _ = write!(text, "## {title}\n\n{}\n\n", body.trim_end());
        }
        text.push_str(
            "---\nWritten by hamflow after Mitchell et al., *Model Cards for Model Reporting* (2019). No number was typed by \
             hand.\n",
        );
        text
    }

    fn details(&self) -> String {
        let Card { model, layers, parameters, input, classes, normalisation, preprocess, training, .. } = self.card;
        if !self.card.members.is_empty() {
            return format!(
                "An ensemble of {} networks that gives an image of {}×{} pixels a probability for each of {} classes: the mean of \
                 theirs. It has {} weights. Each member is in a directory of its own (`{}`) with its card.\n\n\
                 - Images were prepared with `{preprocess}`.\n",
                self.card.members.len(),
                input.height,
                input.width,
                classes.len(),
                grouped(*parameters as u64),
                self.card.members.join("`, `")
            );
        }
        let start = match &training.pretrained {
            None => "trained from random ones".to_owned(),
            Some(digest) => format!("trained from public ones (digest `{digest}`)"),
        };
        let origin = match training.pretrained {
            None => "mean and standard deviation of the training images",
            Some(_) => "those of the weights that training started from",
        };
        let mut text = format!(
            "A convolutional network, `{model}`, that gives an image of {}×{} pixels a probability for each of {} classes. It has \
             {} weights in {} layers, {start}.\n\n",
            input.height,
            input.width,
            classes.len(),
            grouped(*parameters as u64),
            layers.len()
        );
        text.push_str("| layer | what it does | output | weights |\n| --- | --- | --- | ---: |\n");
        for layer in layers {
            let sizes: Vec<String> = layer.output.iter().map(usize::to_string).collect();
            let weights = grouped(layer.parameters as u64);
            let _ = writeln!(text, "| {} | {} | {} | {weights} |", layer.name, layer.kind, sizes.join(" × "));
        }
        let _ = write!(
            text,
            "\n- Weights: `{WEIGHTS_NAME}` (safetensors, f32). Everything needed to prepare an image for them: `{CARD_NAME}`.\n\
             - Pixels: bytes of red, green and blue, less {}, divided by {} ({origin}).\n\
             - Images were prepared with `{preprocess}`.\n\
             - Seed {}, {} epochs of {}; the weights are those of epoch {}.\n\
             - The licence of the weights follows from that of the training images{}{}.\n",
            numbers(normalisation.mean),
            numbers(normalisation.standard_deviation),
            training.seed,
            training.epochs,
            match training.optimiser {
                OptimiserKind::Adam => "Adam",
                OptimiserKind::AdamW => "AdamW",
                OptimiserKind::Sgd => "SGD with momentum",
            },
            training.epoch,
            if training.pretrained.is_some() { " and of the weights that training started from" } else { "" },
            if self.synthetic { ", which a program made" } else { " (of HAM10000: CC BY-NC 4.0)" }
        );
        text
    }

    fn factors(&self) -> String {
        let attributes: Vec<&str> = self
            .evaluation
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(|split| split.subgroups.keys().map(String::as_str))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let measured = if attributes.is_empty() {
            "Nothing was measured by sex, age or site of the lesion yet.".to_owned()
        } else {
            format!("The metrics were also measured by {}.", attributes.join(", "))
        };
        format!(
            "What an image looks like depends on the dermatoscope and its light, on hair, ink and gel, on the site of the body, \
             on age and sex, and on the colour of the skin. {measured} {}\n",
            if self.synthetic {
                "None of that is in images that a program made."
            } else {
                "HAM10000, whose patients come from Austria and Australia, records neither the colour of the skin nor the device, so \
                 of its images nothing can be said about them."
            }
        )
    }

    fn metrics(&self) -> String {
        let mut text = String::from(
            "The classes are far from equally frequent, so accuracy is shown beside that of always naming the most frequent one, \
             and balanced accuracy beside both.",
        );
        let drawn = self.evaluation.is_some_and(|splits| splits.values().any(|split| split.resamples.is_some()));
        text.push_str(match drawn {
            true => " Intervals are 95 % percentile intervals over lesions drawn again with replacement.\n\n",
            false => "\n\n",
        });
        for metric in METRICS.iter().filter(|metric| SHOWN.contains(&metric.name)) {
            let _ = writeln!(text, "- **{}**: {} ({})", metric.title, metric.doc, metric.direction.name());
        }
        text
    }

    fn evaluation_data(&self) -> String {
        let Some(splits) = self.evaluation else {
            let chosen = match self.card.training.chosen_by_validation {
                true => "The epoch was chosen by the validation rows. ",
                false => "",
            };
            return format!("{chosen}Test rows are evaluated by another stage; the model has not seen them.\n");
        };
        let shown = |fitted: bool| {
            let these = splits.iter().filter(|(name, _)| (*name == "train") == fitted);
            let each = these.map(|(name, split)| format!("{name}: {} images", grouped(split.rows as u64)));
            each.collect::<Vec<_>>().join(", ")
        };
        let mut text = match &shown(false)[..] {
            "" => String::new(),
            rows => format!("Rows of the same dataset that the weights were not fitted to ({rows}). "),
        };
        if !shown(true).is_empty() {
            let _ = write!(text, "For comparison also the rows that they were fitted to ({}). ", shown(true));
        }
        text.push_str(
            "Where the split was made by hamflow, no lesion and no byte-identical image is on two sides. Images of another clinic were \
             not looked at.\n",
        );
        text
    }

    fn training_data(&self) -> String {
        let Card { classes, training, .. } = self.card;
        let of_them = match (training.chosen_by_validation, training.steered_by_validation) {
            (true, _) => "chose the epoch",
            (false, true) => "decided when training ended or slowed down",
            (false, false) => "are for validation and chose nothing",
        };
        let chosen = match training.validation_rows {
            0 => String::new(),
            rows => format!("; {} more {of_them}", grouped(rows as u64)),
        };
        let mut text = format!("{} images{chosen}.\n", grouped(training.training_rows as u64));
        if self.training_rows.len() == classes.len() {
            text.push_str("\n| class | name | training images |\n| --- | --- | ---: |\n");
            for (class, rows) in classes.iter().zip(&self.training_rows) {
                let _ =
                    writeln!(text, "| {} | {} | {} |", plain(&class.label), plain(&class.name), grouped(*rows as u64));
            }
        }
        text
    }

    fn analyses(&self) -> String {
        let Some(splits) = self.evaluation else {
            return match self.validation {
                Some((loss, accuracy)) => {
                    format!(
                        "On the validation rows, in the epoch of the weights: accuracy {accuracy:.4}, loss {loss:.4}.\n"
                    )
                }
                None => "None yet: there were no validation rows.\n".to_owned(),
            };
        };
        let mut text = String::from("| metric |");
        splits.keys().for_each(|name| text.push_str(&format!(" {name} |")));
        text.push_str("\n| --- |");
        splits.keys().for_each(|_| text.push_str(" --- |"));
        text.push('\n');
        for metric in METRICS.iter().filter(|metric| SHOWN.contains(&metric.name)) {
            let _ = write!(text, "| {} |", metric.title);
            for split in splits.values() {
                let _ = write!(text, " {} |", number(split.value(metric.name), split.intervals.get(metric.name)));
            }
            text.push('\n');
        }
        for (name, split) in splits {
            let _ = write!(text, "\nPer class, {name}:\n\n| class | images | recall | precision | ROC-AUC |\n");
            text.push_str("| --- | ---: | --- | --- | --- |\n");
            for label in &split.classes {
                let Some(class) = split.class(label) else { continue };
                let value = |metric: &str| {
                    number(class.value(metric), split.intervals.get(&format!("per_class.{label}.{metric}")))
                };
                let (recall, precision, auc) = (value("recall"), value("precision"), value("roc_auc"));
                let rows = grouped(class.support as u64);
                let _ = writeln!(text, "| {} | {rows} | {recall} | {precision} | {auc} |", plain(label));
            }
            let gaps: Vec<String> = split
                .gaps
                .iter()
                .filter(|gap| gap.metric == "balanced_accuracy")
                .map(|gap| {
                    let [highest, lowest] = [&gap.highest, &gap.lowest].map(|name| plain(name));
                    format!("- {}: {:.3}, between {highest} and {lowest}", gap.attribute, gap.gap)
                })
                .collect();
            if !gaps.is_empty() {
                let _ = write!(text, "\nLargest differences in balanced accuracy, {name}:\n\n{}\n", gaps.join("\n"));
            }
        }
        text
    }

    fn caveats(&self) -> String {
        let mut text = String::from(
            "- Probabilities are not calibrated unless the report says so.\n\
             - An image that shows none of the classes still gets one of them.\n\
             - Images from other devices, sites and people than those of the training data may be classified much worse: measure \
             on them before anything is built on it.\n",
        );
        if !self.synthetic && self.evaluation.is_none() {
            text.push_str(
                "- This card was written when the model was trained; the pipeline's report has one with the numbers of the test \
                 rows, and says where the images came from.\n",
            );
        }
        text
    }
}

/// Escapes a name for Markdown and replaces line breaks, which would end a table row.
fn plain(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '|' | '<' | '>' | '[' | ']' => text.extend(['\\', character]),
            control if control.is_control() => text.push(' '),
            other => text.push(other),
        }
    }
    text
}

fn number(value: Option<f64>, interval: Option<&[f64; 2]>) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => format!("{value:.3} ({low:.3} to {high:.3})"),
        (Some(value), None) => format!("{value:.3}"),
        (None, _) => "undefined".to_owned(),
    }
}

fn intended_use() -> String {
    "Research and teaching: to study how images of skin lesions can be classified, and how that goes wrong. Not for the diagnosis \
     or treatment of anybody, not for triage, not as a part of a medical device; it has not been tested for any of that.\n"
        .to_owned()
}

fn ethics() -> String {
    "The images show people's skin; the dataset was published without names under its licence, and nothing here may be used to find \
     out who they are. A wrong answer about a lesion can do harm in both directions: a melanoma that is called harmless, and a \
     harmless spot that is cut out. People whose skin the training data does not show get worse answers.\n"
        .to_owned()
}

/// A number, or one for each channel.
fn numbers(channels: Channels) -> String {
    match channels {
        Channels::All(value) => format!("{value:.4}"),
        Channels::Each(values) => values.map(|value| format!("{value:.4}")).join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn card() -> Card {
        serde_json::from_value(json!({
            "format": 1, "model": "baseline",
            "layers": [{"name": "conv1", "kind": "conv 3×3, ReLU", "output": [75, 100, 32], "parameters": 896}],
            "parameters": 3752999, "input": {"height": 75, "width": 100, "channels": 3},
            "classes": [{"label": "mel", "name": "Melanoma"}, {"label": "nv", "name": "Melanocytic nevi"}],
            "normalisation": {"mean": 160.5, "standard_deviation": 46.25}, "preprocess": {"height": 75},
            "training": {"seed": 1234, "epochs": 50, "epoch": 31, "training_rows": 7211, "validation_rows": 801},
        }))
        .unwrap()
    }

    const HEADINGS: [&str; 9] = [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ];

    #[test]
    fn names_cannot_change_the_structure_of_a_table() {
        assert_eq!(plain("Benign | <b>\nkeratosis_like"), "Benign \\| \\<b\\> keratosis\\_like");
    }

    #[test]
    fn a_card_describes_the_role_of_rows_correctly() {
        let mut card = card();
        card.training.chosen_by_validation = false;
        let scores = crate::ml::metric::fixture::certain(&[(0, 0), (1, 1)], 2);
        let labels = ["mel", "nv"].map(str::to_owned);
        let splits = ["test", "train"].map(|name| (name.to_owned(), SplitMetrics::of(&scores, &labels)));
        let splits = BTreeMap::from(splits);
        let of = |evaluation, synthetic| {
            ModelCard { card: &card, training_rows: Vec::new(), validation: None, evaluation, synthetic }.markdown()
        };
        let text = of(Some(&splits), true);
        assert!(text.contains("801 more are for validation and chose nothing"), "{text}");
        assert!(text.contains(
            "not fitted to (test: 2 images). For comparison also the rows that they were fitted to (train: 2 images)"
        ));
        assert!(!text.contains("percentile intervals"), "nothing was drawn: {text}");
        assert!(!text.contains("CC BY-NC") && !text.contains("Austria"), "nobody photographed these: {text}");
        let text = of(None, false);
        assert!(
            !text.contains("chosen by the validation rows") && text.contains("CC BY-NC") && text.contains("Austria")
        );
    }

    #[test]
    fn a_card_has_nine_headings_and_the_training_results() {
        let (card, validation) = (card(), Some((0.5, 0.75)));
        let of =
            ModelCard { card: &card, training_rows: vec![801, 6410], validation, evaluation: None, synthetic: false };
        let text = of.markdown();
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, HEADINGS);
        for part in [
            "3,752,999 weights",
            "| conv1 | conv 3×3, ReLU | 75 × 100 × 32 | 896 |",
            "less 160.5000, divided by 46.2500",
            "those of epoch 31",
            "| nv | Melanocytic nevi | 6,410 |",
            "accuracy 0.7500, loss 0.5000",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("Synthetic data"));
    }

    #[test]
    fn the_card_of_an_evaluated_model_has_metrics_with_intervals() {
        let scores =
            crate::ml::metric::Scores::new(vec![0, 0, 1], vec![vec![0.9, 0.1], vec![0.2, 0.8], vec![0.3, 0.7]], 2);
        let mut split = SplitMetrics::of(&scores.unwrap(), &["mel".to_owned(), "nv".to_owned()]);
        split.intervals.insert("accuracy".to_owned(), [0.25, 1.0]);
        split.values.insert("log_loss".to_owned(), None);
        let splits = BTreeMap::from([("test".to_owned(), split)]);
        let card = card();
        let of = ModelCard {
            card: &card,
            training_rows: vec![],
            validation: None,
            evaluation: Some(&splits),
            synthetic: true,
        };
        let text = of.markdown();
        for part in [
            "| Accuracy | 0.667 (0.250 to 1.000) |",
            "| Log loss | undefined |",
            "| mel | 2 | 0.500 | 1.000 |",
            "test: 3 images",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("> **Synthetic data.**"));
    }
}
