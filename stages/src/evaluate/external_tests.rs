//! Tests of `evaluate` with an external test set.

use hamflow_stage_api::{AnyKind, Input, Inputs, Planning, StageError};
use serde_json::{Value, json};

use super::tests::Fixture;
use super::*;
use crate::table;
use crate::test_support::{Ran, resolve, run_kind};

/// Another dataset: images of other names, lesions and colours.
fn other() -> Fixture {
    let mut other = Fixture::new(30);
    for (number, (row, image)) in other.rows.iter_mut().zip(&mut other.images).enumerate() {
        row.image_id = format!("OTHER_{number:04}");
        row.lesion_id = format!("LESION_{:04}", number / 3);
        image.iter_mut().for_each(|value| *value = value.saturating_add(20));
    }
    other
}

fn inputs(internal: &Fixture, model: &Input, external: &Fixture) -> Vec<(&'static str, Input)> {
    let mut inputs = internal.inputs(model).to_vec();
    inputs.push(("external", Input { name: "elsewhere".to_owned(), ..external.split() }));
    inputs.push(("external_shards", external.shards()));
    inputs
}

fn run(internal: &Fixture, model: &Input, external: &Fixture) -> Result<Ran, StageError> {
    run_kind(&Evaluate, &json!({ "bootstrap": 20 }), &inputs(internal, model, external))
}

#[test]
fn an_external_test_set_is_measured_beside_the_internal_one() {
    let internal = Fixture::new(40);
    let (_trained, model) = internal.model();
    let mut external = other();
    // Its own table may have other indices, and lacks a class.
    external.rows.retain(|row| row.label != "akiec");
    external.images.truncate(external.rows.len());
    external.rows.iter_mut().for_each(|row| row.class = usize::from(row.label == "bcc"));
    let ran = run(&internal, &model, &external).unwrap();
    let metrics = ran.json("metrics.json");
    assert_eq!(metrics.as_object().unwrap().keys().collect::<Vec<_>>(), ["external", "test", "validation"]);
    assert_eq!(metrics["external"]["rows"], 20);
    let frame = ran.table("predictions.parquet");
    let splits = table::required_strings(&frame, "split").unwrap();
    assert_eq!(splits.iter().filter(|split| *split == "external").count(), 20);
    let classes = table::required_integers(&frame, "cell_type_idx").unwrap();
    assert!(classes[16..].iter().all(|class| [1, 2].contains(class)), "the model's indices: {classes:?}");

    let independence = json!({"compared_images": 32, "compared_lesions": 20, "compared_tensors": true, "without_lesion": 0, "in_test": 0});
    assert_eq!(metrics["external"]["independence"], independence);
    assert_eq!(metrics["test"].get("independence"), None);
    let population = &metrics["external"]["population"];
    assert_eq!((&population["images"], &population["classes"]), (&json!(20), &json!({"bcc": 0.5, "df": 0.5})));
    // The classes differ in their colours, but not in the mean of the channels.
    let mean = |split: &str| -> f64 {
        let colours = &metrics[split]["population"]["colours"]["mean"];
        colours.as_array().unwrap().iter().map(|mean| mean.as_f64().unwrap() / 3.0).sum()
    };
    let difference = mean("external") - mean("test");
    assert!((difference - 20.0 / 255.0).abs() < 0.02, "{difference}");

    let submission = String::from_utf8(ran.bytes("isic_2018_submission.csv")).unwrap();
    assert_eq!(submission.lines().count(), 21, "the challenge is about the external images");
    assert!(submission.contains("\nOTHER_0001,"), "{submission}");
    assert!(ran.output_dir().join("figures/confusion_matrix_external.svg").exists());

    // The internal numbers are the same as without it.
    let alone =
        run_kind(&Evaluate, &json!({ "bootstrap": 20 }), &internal.inputs(&model)).unwrap().json("metrics.json");
    for split in ["test", "validation"] {
        let mut with = metrics[split].clone();
        with.as_object_mut().unwrap().remove("population");
        assert_eq!(with, alone[split]);
    }
}

#[test]
fn what_training_has_seen_is_no_external_test() {
    let internal = Fixture::new(40);
    let (_trained, model) = internal.model();
    let error = |change: &dyn Fn(&mut Fixture)| {
        let mut external = other();
        change(&mut external);
        run(&internal, &model, &external).map(|_| ()).unwrap_err()
    };
    // Of the internal rows, 0 to 2 are for training, 3 is for the test.
    let same_name = error(&|external| external.rows[4].image_id = "ISIC_0001".to_owned());
    assert_eq!(
        same_name.message,
        "the external test set `elsewhere` shares 1 image with training and validation: `ISIC_0001`"
    );
    assert!(same_name.hint.unwrap().contains("`exclude_images`"));
    let same_lesion = error(&|external| external.rows[4].lesion_id = "HAM_0000".to_owned());
    assert_eq!(
        same_lesion.message,
        "the external test set `elsewhere` shares 1 lesion with training and validation: `HAM_0000`"
    );
    let same_pixels = error(&|external| external.images[4] = Fixture::new(40).images[2].clone());
    assert_eq!(
        same_pixels.message,
        "the external test set `elsewhere` shares 1 picture with training and validation: `OTHER_0004 (training: ISIC_0002)`"
    );
    let unknown = error(&|external| external.rows[4].label = "scc".to_owned());
    assert_eq!(
        unknown.message,
        "image `OTHER_0004` of `elsewhere` has the class `scc`, which is not among those of the model, `akiec`, `bcc`, `df`"
    );

    // A test image is no training image, and an image without a lesion shares none.
    let mut external = other();
    external.rows[4].image_id = "ISIC_0003".to_owned();
    external.rows[5].lesion_id = "lesion of OTHER_0005".to_owned();
    let independence =
        run(&internal, &model, &external).unwrap().json("metrics.json")["external"]["independence"].clone();
    assert_eq!((&independence["in_test"], &independence["without_lesion"]), (&json!(1), &json!(1)));

    let external = other();
    let without_shards = &inputs(&internal, &model, &external)[..4];
    let error = run_kind(&Evaluate, &json!({}), without_shards).map(|_| ()).unwrap_err();
    assert_eq!(error.message, "`external` needs `external_shards`");
}

#[test]
fn the_views_have_everything_that_the_proof_depends_on() {
    let internal = Fixture::new(40);
    let (_trained, model) = internal.model();
    let views = |internal: &Fixture, external: &Fixture| {
        let mut by_port: std::collections::BTreeMap<String, Vec<Input>> = std::collections::BTreeMap::new();
        for (port, input) in inputs(internal, &model, external) {
            by_port.entry(port.to_owned()).or_default().push(input);
        }
        let params = resolve(&Evaluate, &json!({})).unwrap();
        AnyKind::views(&Evaluate, &params, Planning { inputs: &Inputs(by_port), seed: Some(1) }).unwrap()
    };
    let before = views(&internal, &other());
    assert_eq!(before.len(), 5);
    // A lesion of a training row, which no internal metric depends on.
    let mut changed = Fixture::new(40);
    changed.rows[0].lesion_id = "LESION_0001".to_owned();
    let after = views(&changed, &other());
    assert_eq!((after[..4] == before[..4], after[4] == before[4]), (true, false));
    let mut external = other();
    external.images[0][0] ^= 1;
    assert_ne!(views(&internal, &external)[3], before[3]);
    external.rows[0].label = "df".to_owned();
    assert_ne!(views(&internal, &external)[2], before[2]);
}

#[test]
fn malignant_classes_may_be_declared() {
    let internal = Fixture::new(40);
    let (_trained, model) = internal.model();
    let run = |params: Value| run_kind(&Evaluate, &params, &internal.inputs(&model));
    let known = run(json!({ "bootstrap": 0 })).unwrap();
    assert_eq!(known.json("metrics.json")["test"]["malignant"]["classes"], json!(["akiec", "bcc"]));
    assert!(known.output_dir().join("figures/roc_curves_malignant_test.svg").exists());
    let declared = run(json!({ "bootstrap": 0, "malignant": ["df"] })).unwrap();
    let malignant = declared.json("metrics.json")["test"]["malignant"].clone();
    assert_eq!((&malignant["classes"], &malignant["intervals"]), (&json!(["df"]), &json!({})));
    let error = run(json!({ "malignant": ["dff"] })).map(|_| ()).unwrap_err();
    assert_eq!(error.message, "`malignant` names `dff`, which is not a class of the model");
    assert_eq!(error.hint.unwrap(), "did you mean `df`?");
}
