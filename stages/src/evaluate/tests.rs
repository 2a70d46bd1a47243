//! Tests of `evaluate` through the interface of the engine.

use std::collections::BTreeMap;

use hamflow_stage_api::{AnyKind, ArtifactType, Input, Inputs, JobEvent, Random};
use polars::prelude::Column;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::artifact;
use crate::ml::metric::{Resampling, SplitMetrics, fixture};
use crate::shard::{INDEX_NAME, IndexRow, encode_index, tensor_digest};
use crate::table;
use crate::test_support::{Ran, file, file_input, files_input, folder_input, resolve, run_kind, run_kind_with, shard};
use crate::train::Train;

const LABELS: [(&str, &str); 3] =
    [("akiec", "Actinic keratoses"), ("bcc", "Basal cell carcinoma"), ("df", "Dermatofibroma")];
const SHAPE: [usize; 3] = [8, 10, 3];

/// A split table and shards of small images, two images per lesion.
pub struct Fixture {
    pub folder: TempDir,
    pub rows: Vec<Row>,
    pub images: Vec<Vec<u8>>,
}

impl Fixture {
    pub fn new(rows: usize) -> Self {
        let mut random = hamflow_stage_api::Random::new(3, "fixture");
        let row = |i: usize| Row {
            image_id: format!("ISIC_{i:04}"),
            lesion_id: format!("HAM_{:04}", i / 2),
            label: LABELS[i % 3].0.to_owned(),
            class: i % 3,
            split: ["train", "train", "train", "test", "validation"][i % 5].to_owned(),
            attributes: BTreeMap::new(),
            synthetic: false,
        };
        let mut image = |i: usize| -> Vec<u8> {
            (0..SHAPE.iter().product())
                .map(|k: usize| random.below(90) as u8 + if k % 3 == i % 3 { 140 } else { 0 })
                .collect()
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            rows: (0..rows).map(row).collect(),
            images: (0..rows).map(&mut image).collect(),
        }
    }

    pub fn split(&self) -> Input {
        let text = |name: &str, of: &dyn Fn(&Row) -> String| {
            Column::new(name.into(), self.rows.iter().map(of).collect::<Vec<String>>())
        };
        let mut columns = vec![
            text("image_id", &|row| row.image_id.clone()),
            text("lesion_id", &|row| row.lesion_id.clone()),
            text("label", &|row| row.label.clone()),
            text("cell_type", &|row| LABELS[row.class].1.to_owned()),
            Column::new("cell_type_idx".into(), self.rows.iter().map(|row| row.class as i64).collect::<Vec<i64>>()),
            text("split", &|row| row.split.clone()),
        ];
        if self.rows[0].attributes.contains_key("sex") {
            columns.push(text("sex", &|row| row.attributes["sex"].clone()));
        }
        let frame = table::frame(columns).unwrap();
        file_input(self.folder.path(), "split.parquet", &table::write(&frame).unwrap(), Some(ArtifactType::TABLE))
    }

    pub fn shards(&self) -> Input {
        let mut index = Vec::new();
        for (number, (row, image)) in (0..).zip(self.rows.iter().zip(&self.images)) {
            let shard = "shard-ISIC_0000.arrow".to_owned();
            index.push(IndexRow { image_id: row.image_id.clone(), shard, row: number, digest: tensor_digest(image) });
        }
        let rows = self.rows.iter().zip(&self.images).map(|(row, image)| (&row.image_id[..], &image[..]));
        let shard = shard(SHAPE, &json!({ "height": 8, "width": 10 }), rows);
        let shard = file(self.folder.path(), "shard-ISIC_0000.arrow", &shard);
        let index = file(self.folder.path(), INDEX_NAME, &encode_index(&index).unwrap());
        files_input(vec![shard, index], Some(artifact::SHARDS))
    }

    /// Trains a model. The returned run owns its folder.
    pub fn model(&self) -> (Ran, Input) {
        let inputs = [("shards", self.shards()), ("split", self.split())];
        let ran = run_kind(&Train, &json!({ "epochs": 2, "batch_size": 7, "device": "cpu" }), &inputs).unwrap();
        let model = folder_input(&[&ran.output_dir().join("model")], Some(artifact::MODEL));
        (ran, model)
    }

    pub fn inputs(&self, model: &Input) -> [(&'static str, Input); 3] {
        [("model", model.clone()), ("shards", self.shards()), ("split", self.split())]
    }

    fn views(&self) -> Vec<View> {
        let by_port = [("shards", self.shards()), ("split", self.split())];
        let inputs = Inputs(by_port.into_iter().map(|(port, input)| (port.to_owned(), vec![input])).collect());
        let params = resolve(&Evaluate, &json!({})).unwrap();
        AnyKind::views(&Evaluate, &params, Planning { inputs: &inputs, seed: Some(1) }).unwrap()
    }
}

#[test]
fn predictions_metrics_and_figures_are_consistent() {
    let fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    let ran = run_kind(&Evaluate, &json!({}), &fixture.inputs(&model)).unwrap();
    let frame = ran.table("predictions.parquet");
    assert_eq!(frame.height(), 16);
    let splits = table::required_strings(&frame, "split").unwrap();
    assert_eq!(splits[..3], ["test", "validation", "test"], "rows stay in the order of the table");
    let right = table::booleans(&frame, "correct").unwrap();
    let metrics = ran.json("metrics.json");
    for split in ["test", "validation"] {
        let of: Vec<bool> =
            right.iter().zip(&splits).filter(|(_, s)| *s == split).map(|(right, _)| right.unwrap()).collect();
        let accuracy = of.iter().filter(|right| **right).count() as f64 / of.len() as f64;
        assert_eq!(metrics[split]["accuracy"], accuracy);
        assert_eq!(metrics[split]["rows"], of.len());
        assert_eq!(metrics[split]["classes"], json!(["akiec", "bcc", "df"]));
        let figure = ran.json(&format!("figures/confusion_matrix_{split}.json"));
        assert_eq!(figure["data"]["counts"], metrics[split]["confusion_matrix"]);
    }
    let sum: f64 = ["akiec", "bcc", "df"]
        .iter()
        .map(|label| table::floats(&frame, &format!("probability_{label}")).unwrap()[0].unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-12);
}

#[test]
fn every_split_has_intervals_subgroups_a_temperature_and_a_submission() {
    let mut fixture = Fixture::new(200);
    for (i, row) in fixture.rows.iter_mut().enumerate() {
        row.attributes.insert("sex", ["female", "male"][i / 7 % 2].to_owned());
    }
    let (_trained, model) = fixture.model();
    let ran = run_kind(&Evaluate, &json!({ "bootstrap": 200 }), &fixture.inputs(&model)).unwrap();
    let metrics = ran.json("metrics.json");
    for split in ["test", "validation"] {
        let metrics = &metrics[split];
        let (interval, value) = (&metrics["intervals"]["log_loss"], metrics["log_loss"].as_f64().unwrap());
        let (low, high) = (interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap());
        assert!(low < value && value < high, "{low} {value} {high}");
        let lesions = metrics["resamples"].as_str().unwrap();
        assert!(lesions.starts_with("200 resamples of ") && lesions.ends_with(" lesions"), "{lesions}");
        let parts = metrics["subgroups"]["sex"].as_array().unwrap();
        assert_eq!((&parts[0]["name"], &parts[1]["name"]), (&json!("female"), &json!("male")));
        let rows = parts[0]["rows"].as_u64().unwrap() + parts[1]["rows"].as_u64().unwrap();
        assert_eq!(rows, metrics["rows"].as_u64().unwrap());
        assert!(metrics["calibration"]["temperature"].is_f64() || metrics["undefined"]["calibration"].is_string());
        assert!(ran.bytes(&format!("figures/subgroups_{split}.svg")).starts_with(b"<svg"));
    }
    let submission = String::from_utf8(ran.bytes("isic_2018_submission.csv")).unwrap();
    assert_eq!(submission.lines().next(), Some("image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"));
    assert_eq!(submission.lines().count() as u64, 1 + metrics["test"]["rows"].as_u64().unwrap());

    let none = run_kind(&Evaluate, &json!({ "bootstrap": 0 }), &fixture.inputs(&model)).unwrap().json("metrics.json");
    assert_eq!((&none["test"]["intervals"], &none["test"]["resamples"]), (&json!({}), &Value::Null));
    assert_eq!(none["test"]["accuracy"], metrics["test"]["accuracy"]);
}

#[test]
fn the_output_does_not_depend_on_threads_and_batch_size() {
    let fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    let expected = run_kind(&Evaluate, &json!({}), &fixture.inputs(&model)).unwrap();
    for (threads, batch) in [(1, 1), (3, 5)] {
        let change = |job: &mut hamflow_stage_api::Job| job.threads = threads;
        let params = json!({ "batch_size": batch });
        let ran = run_kind_with(&Evaluate, &params, &fixture.inputs(&model), change).unwrap();
        for path in ["predictions.parquet", "metrics.json", "figures/roc_curves_test.svg"] {
            assert!(ran.bytes(path) == expected.bytes(path), "{path} with {threads} threads in batches of {batch}");
        }
    }
}

#[test]
fn only_the_evaluated_rows_affect_the_key() {
    let mut fixture = Fixture::new(20);
    let views = fixture.views();
    assert_eq!(views[0].text.lines().next(), Some("ISIC_0003\tHAM_0001\takiec\t0\ttest"));
    assert_eq!(views[1].text.lines().count(), 8);
    fixture.images[0].fill(1);
    fixture.rows[0].label = "df".to_owned();
    assert_eq!(fixture.views(), views, "the first row is for training");
    fixture.images[3].fill(1);
    assert_eq!(fixture.views()[0], views[0]);
    assert_ne!(fixture.views()[1], views[1], "an image for testing changed");
}

#[test]
fn a_split_without_rows_has_undefined_metrics_and_others_are_evaluated() {
    let mut fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    fixture.rows.retain(|row| row.split != "test");
    let ran = run_kind(
        &Evaluate,
        &json!({}),
        &[("model", model), ("shards", Fixture::new(40).shards()), ("split", fixture.split())],
    );
    let ran = ran.unwrap();
    let metrics = ran.json("metrics.json");
    assert!(metrics["test"]["accuracy"].is_null() && metrics["test"]["undefined"]["accuracy"] == "no rows");
    assert!(metrics["validation"]["accuracy"].is_f64());
    assert!(
        ran.events.iter().any(
            |event| matches!(event, JobEvent::Warning { message } if message.contains("split `test` has no rows"))
        )
    );
}

#[test]
fn a_row_without_an_image_is_skipped_and_counted() {
    let fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    let mut partial = Fixture::new(40);
    partial.rows.remove(3);
    partial.images.remove(3);
    let inputs = [("model", model.clone()), ("shards", partial.shards()), ("split", fixture.split())];
    let metrics = run_kind(&Evaluate, &json!({}), &inputs).unwrap().json("metrics.json");
    assert_eq!(metrics["test"]["rows"], 7);
    let warning = metrics["test"]["warnings"]["rows"].as_str().unwrap();
    assert_eq!(warning, "skipped 1 rows of `test` without an image in the shards (first: `ISIC_0003`)");

    partial.rows.truncate(3);
    partial.images.truncate(3);
    let inputs = [("model", model), ("shards", partial.shards()), ("split", fixture.split())];
    let error = run_kind(&Evaluate, &json!({}), &inputs).err().unwrap();
    assert_eq!(error.message, "the shards contain none of the images to evaluate (first: `ISIC_0003`)");
}

#[test]
fn classes_in_a_different_order_than_the_model_are_rejected() {
    let mut fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    for row in &mut fixture.rows {
        row.class = [1, 0, 2][row.class];
    }
    let error = run_kind(&Evaluate, &json!({}), &fixture.inputs(&model)).err().unwrap();
    assert_eq!(error.message, "class `bcc` has index 0 in the table, but 1 in the model");
}

#[test]
fn shards_with_different_preprocessing_are_rejected() {
    let fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    let rows = fixture.rows.iter().zip(&fixture.images).map(|(row, image)| (&row.image_id[..], &image[..]));
    let bytes = shard(SHAPE, &json!({ "height": 8, "width": 10, "filter": "nearest" }), rows.clone());
    let known = file(fixture.folder.path(), "known.arrow", &bytes);
    let inputs = |shard| {
        [
            ("model", model.clone()),
            ("shards", files_input(vec![shard], Some(artifact::SHARDS))),
            ("split", fixture.split()),
        ]
    };
    assert!(run_kind(&Evaluate, &json!({}), &inputs(known)).is_ok(), "the model does not say which filter it wants");
    let other = file(fixture.folder.path(), "other.arrow", &shard(SHAPE, &json!({ "height": 9, "width": 10 }), rows));
    let error = run_kind(&Evaluate, &json!({}), &inputs(other)).err().unwrap();
    assert_eq!(error.message, "the shards have `height = 9`, but the model was trained on shards with `height = 8`");
}

#[test]
fn a_synthetic_row_marks_model_and_metrics_as_synthetic() {
    let mut fixture = Fixture::new(40);
    let columns = |made: &str| {
        let frame = table::read(&fixture.split().files[0], None).unwrap();
        let sources: Vec<&str> = (0..40).map(|row| if row == 3 { made } else { "vidir_modern" }).collect();
        let mut frame = frame;
        table::with_column(&mut frame, Column::new("dataset".into(), sources)).unwrap();
        file_input(
            fixture.folder.path(),
            "with-source.parquet",
            &table::write(&frame).unwrap(),
            Some(ArtifactType::TABLE),
        )
    };
    let (_trained, model) = fixture.model();
    let of = |split: Input| {
        let inputs = [("model", model.clone()), ("shards", fixture.shards()), ("split", split)];
        run_kind(&Evaluate, &json!({}), &inputs).unwrap().json("metrics.json")
    };
    let metrics = of(columns("synthetic"));
    assert_eq!((&metrics["test"]["synthetic"], &metrics["validation"]["synthetic"]), (&json!(true), &json!(false)));
    assert_eq!(of(columns("rosendahl"))["test"]["synthetic"], false);
    let numbers = {
        let mut frame = table::read(&fixture.split().files[0], None).unwrap();
        table::with_column(&mut frame, Column::new("dataset".into(), vec![1i64; 40])).unwrap();
        file_input(fixture.folder.path(), "numbers.parquet", &table::write(&frame).unwrap(), Some(ArtifactType::TABLE))
    };
    assert_eq!(of(numbers)["test"]["synthetic"], false, "a column of something else says nothing");
    fixture.rows[3].split = "train".to_owned();
    let inputs = [
        ("shards", fixture.shards()),
        ("split", {
            let mut frame = table::read(&fixture.split().files[0], None).unwrap();
            table::with_column(&mut frame, Column::new("dataset".into(), vec!["synthetic"; 40])).unwrap();
            file_input(fixture.folder.path(), "made.parquet", &table::write(&frame).unwrap(), Some(ArtifactType::TABLE))
        }),
    ];
    let ran = run_kind(&Train, &json!({ "epochs": 1, "batch_size": 7, "device": "cpu" }), &inputs).unwrap();
    assert_eq!(ran.json("model/card.json")["training"]["synthetic"], true);
    assert!(String::from_utf8(ran.bytes("model/README.md")).unwrap().contains("> **Synthetic data.**"));
}

#[test]
fn the_error_for_a_nan_probability_names_the_image() {
    let rows = Fixture::new(2).rows;
    let error = measure(&rows, vec![vec![1.0, 0.0, 0.0], vec![f64::NAN, 0.5, 0.5]], 3).unwrap_err();
    assert_eq!(
        error.message,
        "cannot evaluate the prediction for image `ISIC_0001`: the probability of class 0 is NaN"
    );
}

#[test]
fn a_split_with_a_nan_prediction_has_undefined_metrics() {
    let rows = Fixture::new(10).rows;
    let mut probabilities = vec![vec![0.5, 0.25, 0.25]; 10];
    probabilities[4][1] = f64::NAN;
    let (kept, answers, reasons) = drop_non_finite(rows, probabilities);
    assert_eq!((kept.len(), answers.len()), (9, 9));
    let reason = "the model's answer is no number for 1 of 2 images (first: `ISIC_0004`)".to_owned();
    let undefined = UndefinedSplit { reason, truth: vec![1, 0] };
    assert_eq!(reasons, [("validation".to_owned(), undefined)].into());
}

#[test]
fn a_model_with_nan_weights_is_a_flaw_and_all_outputs_are_written() {
    let fixture = Fixture::new(40);
    let (trained, _) = fixture.model();
    let path = trained.output_dir().join("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header_end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..header_end]).unwrap();
    for (_, tensor) in header.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("bias")) {
        let start = header_end + tensor["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let model = folder_input(&[&trained.output_dir().join("model")], Some(artifact::MODEL));
    let ran = run_kind(&Evaluate, &json!({}), &fixture.inputs(&model)).unwrap();
    let reason = "the model's answer is no number for 8 of 8 images (first: `ISIC_0003`)";
    let metrics = ran.json("metrics.json");
    assert_eq!(metrics["test"]["undefined"]["accuracy"], reason);
    assert!(metrics["test"]["accuracy"].is_null() && metrics["test"]["per_class"]["bcc"]["recall"].is_null());
    assert_eq!(metrics["test"]["rows"], 8);
    assert_eq!(ran.table("predictions.parquet").height(), 0);
    let flaws: Vec<&String> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            JobEvent::Flaw { message } => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(flaws.len(), 2, "{flaws:?}");
    assert_eq!(*flaws[1], format!("the numbers of the split `test` are undefined: {reason}"));
}

#[test]
fn a_class_that_only_test_rows_have_is_measured_with_recall_0() {
    let mut fixture = Fixture::new(40);
    for row in fixture.rows.iter_mut().filter(|row| row.class == 1 && row.split != "test") {
        (row.class, row.label) = (2, "df".to_owned());
    }
    let (_trained, model) = fixture.model();
    let metrics = run_kind(&Evaluate, &json!({}), &fixture.inputs(&model)).unwrap().json("metrics.json");
    assert_eq!(metrics["test"]["classes"], json!(["akiec", "class-1", "df"]));
    assert!(metrics["test"]["per_class"]["class-1"]["support"].as_u64().unwrap() > 0);
    assert!(metrics["test"]["accuracy"].is_f64());
}

#[test]
fn parameters_are_validated() {
    let refuse = |params: Value| resolve(&Evaluate, &params).unwrap_err();
    assert_eq!(refuse(json!({"splits": ["validaton"]})).hint.as_deref(), Some("did you mean `validation`?"));
    assert_eq!(refuse(json!({"splits": ["test", "test"]})).message, "duplicate split `test`");
    assert_eq!(refuse(json!({"splits": []})).message, "`splits` must not be empty");
    assert_eq!(refuse(json!({"batch_size": 0})).path, ["batch_size"]);
    assert_eq!(refuse(json!({"bootstrap": 1_000_000})).path, ["bootstrap"]);
    let resolved = resolve(&Evaluate, &json!({})).unwrap();
    assert_eq!(resolved.json()["splits"], json!(["validation", "test"]));
}

/// If this digest changes, increment `REVISION`; otherwise caches return results of the old version.
#[test]
fn the_golden_digest_of_the_revision() {
    let scores = fixture::scores();
    let labels: Vec<String> = (0..7).map(|class| format!("c{class}")).collect();
    let names: Vec<String> = (0..120).map(|row| format!("lesion {}", row / 2)).collect();
    let resampling = Resampling::over(names.iter().map(String::as_str));
    let draws: Vec<Vec<u32>> =
        (0..50).map(|number| resampling.draw(&mut Random::new(1, &format!("bootstrap test {number}")))).collect();
    let mut metrics = SplitMetrics::of(&scores, &labels);
    metrics.add_intervals(&scores, &draws, "60 lesions");
    metrics.add_subgroups("half", &(0..120).map(|row| ["a", "b"][row / 60]).collect::<Vec<_>>(), &scores, &draws);
    metrics.add_calibration(&scores, &scores);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&json::write(&metrics).unwrap());
    for (name, figure) in figures::of_split("test", &scores, &metrics) {
        hasher.update(name.as_bytes()).update(figure.draw().unwrap().file().as_bytes()).update(&figure.json());
    }
    assert_eq!(Kind::spec(&Evaluate).revision, 6);
    assert_eq!(hasher.finalize().to_hex().as_str(), "c5ec2a8590e0f642743dbc8fb1f0a92ac2ddf108108ec3680fd1929267c453e5");
}

/// A predictions table as an input.
fn predictions(fixture: &Fixture, name: &str, frame: &polars::prelude::DataFrame) -> Input {
    let bytes = table::write(frame).unwrap();
    Input {
        name: name.to_owned(),
        ..file_input(fixture.folder.path(), &format!("{name}.parquet"), &bytes, Some(artifact::PREDICTIONS))
    }
}

#[test]
fn pooled_predictions_are_measured_like_those_of_one_model() {
    let fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    let params = json!({ "splits": ["validation", "test"] });
    let whole = run_kind(&Evaluate, &params, &fixture.inputs(&model)).unwrap();
    let frame = whole.table("predictions.parquet");
    let (first, rest) = (frame.slice(0, 7), frame.slice(7, 100));
    let [first, rest] = [("fold-0", &first), ("fold-1", &rest)].map(|(name, frame)| predictions(&fixture, name, frame));
    let inputs = |tables: [&Input; 2]| {
        let [a, b] = tables.map(|table| ("predictions", table.clone()));
        [a, b, ("split", fixture.split())]
    };
    let pooled = run_kind(&Evaluate, &params, &inputs([&rest, &first])).unwrap();
    for name in ["predictions.parquet", "metrics.json", "isic_2018_submission.csv"] {
        assert!(pooled.bytes(name) == whole.bytes(name), "{name}");
    }
    let error = run_kind(&Evaluate, &params, &inputs([&first, &first])).err().unwrap();
    assert!(error.message.starts_with("image `ISIC_"), "{error:?}");
    assert!(error.message.ends_with("has two predictions, in `fold-0` and in `fold-0`"), "{error:?}");
    assert_eq!(error.hint.unwrap(), "each image must have one row in a table");
    let again = predictions(&fixture, "fold-2", &frame.slice(0, 7));
    let error = run_kind(&Evaluate, &params, &inputs([&first, &again])).err().unwrap();
    assert!(error.message.ends_with("has two predictions, in `fold-0` and in `fold-2`"), "{error:?}");
    assert!(error.hint.is_some_and(|hint| hint.contains("an `ensemble`") || hint.contains("different folds")));

    let mut other = Fixture::new(40);
    other.rows[0].class = 1;
    other.rows[0].label = "bcc".to_owned();
    other.rows.truncate(30);
    let inputs = [("predictions", rest.clone()), ("split", other.split())];
    let error = run_kind(&Evaluate, &params, &inputs).err().unwrap();
    assert_eq!(error.message, "image `ISIC_0033` of `fold-1` is not in the table `split`");
}

#[test]
fn rows_outside_the_test_split_that_no_fold_predicts_are_named() {
    let mut fixture = Fixture::new(40);
    let (_trained, model) = fixture.model();
    for row in fixture.rows.iter_mut().filter(|row| row.split == "train").take(4) {
        row.split = "validation".to_owned();
    }
    let params = json!({ "splits": ["validation"] });
    let frame = run_kind(&Evaluate, &params, &fixture.inputs(&model)).unwrap().table("predictions.parquet");
    // Four of the predicted rows are for training in the other folds, and so in the table.
    let original = Fixture::new(40);
    let inputs = [("predictions", predictions(&original, "fold-0", &frame)), ("split", original.split())];
    let ran = run_kind(&Evaluate, &params, &inputs).unwrap();
    let metrics = ran.json("metrics.json");
    assert_eq!(metrics["validation"]["rows"], 12);
    assert_eq!(
        metrics["validation"]["warnings"]["rows"],
        "skipped 20 rows of `validation` without a prediction (first: `ISIC_0006`)"
    );
}
