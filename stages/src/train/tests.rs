//! Tests of `train` through the interface of the engine.

use hamflow_stage_api::{AnyKind, ArtifactType, JobEvent};
use serde_json::{Value, json};

use super::test_fixture::{Fixture, SHAPE, short};
use super::*;
use crate::artifact;
use crate::ml::classifier::Classifier;
use crate::test_support::{
    Ran, file, file_input, files_input, folder_input, golden, resolve as resolve_kind, run_kind, run_kind_with,
};

const WEIGHTS: &str = "model/model.safetensors";

/// If this digest changes, increment `REVISION`; otherwise caches return results of the old version.
#[test]
fn the_golden_digest_of_the_revision() {
    let ran = Fixture::new(40).train();
    assert_eq!(Kind::spec(&Train).revision, 3);
    let digest = blake3::hash(&ran.bytes(WEIGHTS)).to_hex().to_string();
    assert_eq!(digest, "367ee600745809c1f3ccd92f89919ed414a4bb32ba29b640dcbb08798d9f4662");
    let others = ["model/card.json", "model/README.md", "figures/architecture.svg", "figures/learning_curves.json"];
    assert_eq!(golden(&ran, &others), "2a57ee50026d");
}

#[test]
fn figures_and_model_card_describe_this_training_run() {
    let ran = Fixture::new(40).train();
    let curves = ran.json("figures/learning_curves.json");
    let history = ran.json("history.json");
    assert_eq!(curves["data"]["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(curves["data"]["epochs"][1]["train_loss"], history["epochs"][1]["train_loss"]);
    assert_eq!(curves["data"]["chosen"], ran.json("summary.json")["best_epoch"]);
    let layers = ran.json("figures/architecture.json")["data"]["layers"].clone();
    assert_eq!((&layers[0]["name"], layers.as_array().unwrap().len()), (&json!("input"), 13));
    let card = String::from_utf8(ran.bytes("model/README.md")).unwrap();
    assert!(card.starts_with("# Model card: baseline\n") && card.contains("## Quantitative analyses"), "{card}");
}

#[test]
fn the_output_does_not_depend_on_the_number_of_threads() {
    let fixture = Fixture::new(40);
    let expected = fixture.train();
    for threads in [1, 3] {
        let ran = run_kind_with(&Train, &short(), &fixture.inputs(), |job| job.threads = threads).unwrap();
        for path in [WEIGHTS, "model/card.json", "history.json", "summary.json"] {
            assert!(ran.bytes(path) == expected.bytes(path), "{path} with {threads} threads");
        }
    }
}

#[test]
fn test_rows_affect_neither_model_nor_key() {
    let mut fixture = Fixture::new(40);
    let (expected, views) = (fixture.train(), fixture.views());
    fixture.permute_test_labels();
    for (image, split) in fixture.images.iter_mut().zip(&fixture.splits) {
        if *split == "test" {
            image.fill(7);
        }
    }
    let ran = fixture.train();
    for path in [WEIGHTS, "model/card.json", "history.json", "summary.json"] {
        assert!(ran.bytes(path) == expected.bytes(path), "{path}");
    }
    assert_eq!(fixture.views(), views);
    let text = &views[0].text;
    assert_eq!(text.lines().next(), Some("ISIC_0000\takiec\tActinic keratoses\t0\ttrain"));
    assert_eq!(text.lines().count(), views[1].text.lines().count());
    assert!(!text.contains("\ttest") && !views[1].text.contains("ISIC_0002"));

    fixture.images[0][0] ^= 1;
    assert_ne!(fixture.views()[1], views[1]);
}

#[test]
fn the_model_is_self_contained_and_classifies_images() {
    let fixture = Fixture::new(40);
    let params = json!({ "epochs": 8, "learning_rate": 2e-3, "class_weights": "balanced", "device": "cpu" });
    let ran = run_kind(&Train, &params, &fixture.inputs()).unwrap();
    let card = ran.json("model/card.json");
    assert_eq!(card["format"], 1);
    assert_eq!(card["preprocess"]["width"], 10);
    assert_eq!(card["classes"][1], json!({ "label": "bcc", "name": "Basal cell carcinoma" }));
    let history = ran.json("history.json");
    assert_eq!(history["epochs"].as_array().unwrap().len(), 8);
    assert_eq!(history["epochs"][2]["epoch"], 3);
    let summary = ran.json("summary.json");
    assert_eq!(summary["best_epoch"], card["training"]["epoch"]);
    assert_eq!(summary["parameters"], card["parameters"]);
    assert_eq!(summary["rows"], json!({ "train": 28, "validation": 4 }));

    let model = folder_input(&[&ran.output_dir().join("model")], Some(artifact::MODEL));
    let classifier = Classifier::load(&model).unwrap();
    assert_eq!(classifier.shape(), SHAPE);
    assert_eq!(classifier.classes()[2].label, "df");
    let images: Vec<&[u8]> = fixture.images.iter().map(Vec::as_slice).collect();
    let probabilities = classifier.probabilities(&images, 1, 2).unwrap();
    assert_eq!(classifier.probabilities(&images[3..4], 1, 1).unwrap()[0], probabilities[3]);
    let right = |(row, class): (&Vec<f64>, &i64)| row.iter().all(|p| *p <= row[*class as usize]);
    let correct = probabilities.iter().zip(&fixture.classes).filter(|pair| right(*pair)).count();
    assert!(correct >= 36, "{correct} of 40");
    assert!(probabilities.iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    assert!(classifier.probabilities(&[&[0; 5]], 1, 1).unwrap_err().message.contains("8×10×3"));
}

#[test]
fn the_error_for_a_damaged_model_names_the_defect() {
    let ran = Fixture::new(40).train();
    let folder = ran.output_dir().join("model");
    let load = |name: &str, bytes: &[u8]| {
        let other = if name == card::CARD_NAME { card::WEIGHTS_NAME } else { card::CARD_NAME };
        let scratch = tempfile::tempdir().unwrap();
        let kept = std::fs::read(folder.join(other)).unwrap();
        let files = vec![file(scratch.path(), name, bytes), file(scratch.path(), other, &kept)];
        Classifier::load(&files_input(files, Some(artifact::MODEL))).err().unwrap().message
    };
    let mut card = ran.json("model/card.json");
    card["format"] = json!(2);
    assert!(load(card::CARD_NAME, card.to_string().as_bytes()).contains("format version 2"));
    card["format"] = json!(1);
    card["input"]["width"] = json!(12);
    assert!(load(card::CARD_NAME, card.to_string().as_bytes()).contains("tensor `dense1.weight` is f32"));
    card["model"] = json!("baselin");
    assert!(load(card::CARD_NAME, card.to_string().as_bytes()).contains("unknown model `baselin`"));
    assert!(load(card::CARD_NAME, b"{}").contains("is not a valid card"));
    assert!(load(card::WEIGHTS_NAME, b"nonsense").contains("safetensors"));
}

#[test]
fn tables_without_usable_rows_are_rejected() {
    let refuse = |change: fn(&mut Fixture)| {
        let mut fixture = Fixture::new(40);
        change(&mut fixture);
        run_kind(&Train, &short(), &fixture.inputs()).err().unwrap().render()
    };
    let error = refuse(|fixture| {
        fixture.splits.iter_mut().for_each(|split| {
            if *split == "validation" {
                *split = "test";
            }
        })
    });
    assert!(error.contains("no validation rows") && error.contains("keep = \"last\""), "{error}");
    let error = refuse(|fixture| fixture.splits[3] = "tets");
    assert!(error.contains("row 4") && error.contains("did you mean `test`"), "{error}");
    let error = refuse(|fixture| fixture.splits.iter_mut().for_each(|split| *split = "validation"));
    assert!(error.contains("has no training rows with an image"), "{error}");
}

#[test]
fn classes_without_training_rows_cause_a_warning_and_keep_their_index() {
    let warned = |change: fn(&mut Fixture)| {
        let mut fixture = Fixture::new(40);
        change(&mut fixture);
        let ran = run_kind(&Train, &short(), &fixture.inputs()).unwrap();
        let card = ran.json("model/card.json");
        let labels: Vec<String> = card["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|class| class["label"].as_str().unwrap().to_owned())
            .collect();
        (format!("{:?}", ran.events), labels)
    };
    // A class that only test rows have: its index is known, but its name is not.
    let (said, labels) = warned(|fixture| {
        for (class, split) in fixture.classes.iter_mut().zip(&fixture.splits) {
            if *class == 1 && *split != "test" {
                *class = 2;
            }
        }
    });
    assert!(said.contains("class `class-1` has no training examples"), "{said}");
    assert_eq!(labels, ["akiec", "class-1", "df"]);
    let (said, labels) = warned(|fixture| {
        for (class, split) in fixture.classes.iter_mut().zip(&fixture.splits) {
            *class = if *split == "validation" { 2 } else { *class % 2 };
        }
    });
    assert!(said.contains("class `df` has no training examples"), "{said}");
    assert_eq!(labels, ["akiec", "bcc", "df"]);
    let (said, labels) = warned(|fixture| fixture.classes.iter_mut().for_each(|class| *class = 1));
    assert!(said.contains("class `class-0` has no training examples"), "{said}");
    assert_eq!(labels, ["class-0", "bcc"]);
}

#[test]
fn progress_is_reported_during_training() {
    let fixture = Fixture::new(40);
    let folder = tempfile::tempdir().unwrap();
    let ran =
        run_kind_with(&Train, &short(), &fixture.inputs(), |job| job.side_dir = folder.path().to_owned()).unwrap();
    let lines = std::fs::read_to_string(folder.path().join("history.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::Array(lines), ran.json("history.json")["epochs"]);
    let told = ran.events.iter().any(|event| {
        let JobEvent::Progress { done: 56, total: 56, round: Some(round), message, .. } = event else { return false };
        round == "epoch 2/2 · 28/28 images" && message.contains("validation accuracy")
    });
    assert!(told, "{:?}", ran.events);
}

#[test]
fn an_extended_training_resumes_and_matches_one_from_scratch() {
    let fixture = Fixture::new(40);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = || folder.path().join("checkpoint");
    std::fs::create_dir(checkpoint()).unwrap();
    let train = |epochs: usize, side: &str, goes_on: bool| {
        let params = json!({ "epochs": epochs, "batch_size": 7, "learning_rate": 2e-3, "device": "cpu" });
        let side_dir = folder.path().join(side);
        std::fs::create_dir(&side_dir).unwrap();
        run_kind_with(&Train, &params, &fixture.inputs(), |job| {
            job.side_dir = side_dir;
            job.checkpoint_dir = goes_on.then(checkpoint);
        })
        .unwrap()
    };
    let notes = |ran: &Ran| -> Vec<String> {
        let note = |event: &JobEvent| match event {
            JobEvent::Note { message } => Some(message.clone()),
            _ => None,
        };
        ran.events.iter().filter_map(note).collect()
    };
    let same = |a: &Ran, b: &Ran| {
        for path in [WEIGHTS, "model/card.json", "history.json", "summary.json"] {
            assert!(a.bytes(path) == b.bytes(path), "{path}");
        }
    };
    assert_eq!(notes(&train(3, "first", true)), Vec::<String>::new());
    let saved = std::fs::read(checkpoint().join("training")).unwrap();
    let longer = train(5, "longer", true);
    assert_eq!(notes(&longer), ["training resumes from the checkpoint of epoch 3"]);
    same(&longer, &train(5, "whole", false));
    let live = |side: &str| std::fs::read_to_string(folder.path().join(side).join("history.jsonl")).unwrap();
    assert_eq!(live("longer"), live("whole"));
    let five = std::fs::read(checkpoint().join("training")).unwrap();
    same(&train(2, "shorter", true), &train(2, "shorter whole", false));
    assert!(std::fs::read(checkpoint().join("training")).unwrap() == five, "the checkpoint with more epochs is kept");
    let mut damaged = saved;
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(checkpoint().join("training"), damaged).unwrap();
    let anew = train(5, "anew", true);
    let note = "training starts from scratch: the checkpoint is damaged or belongs to another training run";
    assert_eq!(notes(&anew), [note]);
    same(&anew, &longer);
    // The checkpoint of another training run in this folder, and one from a version that did not record its owner.
    let other = folder.path().join("other").join("training");
    std::fs::create_dir(other.parent().unwrap()).unwrap();
    std::fs::rename(checkpoint().join("training"), &other).unwrap();
    run_kind_with(&Train, &json!({ "epochs": 3, "batch_size": 7, "device": "cpu" }), &fixture.inputs(), |job| {
        job.seed = Some(99);
        job.checkpoint_dir = Some(checkpoint());
    })
    .unwrap();
    std::fs::copy(checkpoint().join("training"), &other).unwrap();
    let misled =
        run_kind_with(&Train, &json!({ "epochs": 5, "batch_size": 7, "device": "cpu" }), &fixture.inputs(), |job| {
            job.checkpoint_dir = other.parent().map(Into::into);
        });
    assert_eq!(notes(&misled.unwrap()), [note]);
    std::fs::write(&other, b"hamflow-training 3\n...").unwrap();
    let older =
        run_kind_with(&Train, &json!({ "epochs": 1, "batch_size": 7, "device": "cpu" }), &fixture.inputs(), |job| {
            job.checkpoint_dir = other.parent().map(Into::into);
        });
    assert_eq!(
        notes(&older.unwrap()),
        ["training starts from scratch: the checkpoint is from an earlier version of hamflow"]
    );
}

#[test]
fn a_training_that_stopped_early_does_not_continue_when_extended() {
    let fixture = Fixture::new(40);
    let folder = tempfile::tempdir().unwrap();
    // The learning rate is too small to change any prediction, so nothing improves after the first epoch.
    let train = |epochs: usize, checkpoint: Option<std::path::PathBuf>| {
        let params =
            json!({ "epochs": epochs, "batch_size": 7, "learning_rate": 1e-30, "early_stopping": 2, "device": "cpu" });
        run_kind_with(&Train, &params, &fixture.inputs(), |job| job.checkpoint_dir = checkpoint).unwrap()
    };
    let here = || Some(folder.path().to_owned());
    // The first run ends exactly when patience does, the second resumes from there, the third from where that stopped.
    for epochs in [3, 8, 9] {
        let (ran, whole) = (train(epochs, here()), train(epochs, None));
        assert_eq!(ran.json("history.json")["epochs"].as_array().unwrap().len(), 3);
        assert_eq!(ran.json("model/card.json")["training"]["epochs"], 3, "the number of epochs that were run");
        for path in [WEIGHTS, "model/card.json", "history.json", "summary.json"] {
            assert!(ran.bytes(path) == whole.bytes(path), "{path} of {epochs}");
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_causes_a_warning() {
    let fixture = Fixture::new(40);
    let nowhere = std::path::PathBuf::from("/proc/hamflow");
    let ran =
        run_kind_with(&Train, &short(), &fixture.inputs(), |job| job.checkpoint_dir = Some(nowhere.clone())).unwrap();
    let warnings = ran.events.iter().filter(|event| matches!(event, JobEvent::Warning { .. })).count();
    assert_eq!(warnings, 1, "{:?}", ran.events);
    assert!(ran.bytes(WEIGHTS) == fixture.train().bytes(WEIGHTS));
}

#[test]
fn parameters_are_validated() {
    let resolve = |value: Value| resolve_kind(&Train, &value);
    let resolved = resolve(json!({ "augment": false })).unwrap();
    assert_eq!(resolved.json()["augment"], json!(false));
    assert_eq!(resolved.json()["plateau"], json!({ "patience": 3, "factor": 0.5, "min_learning_rate": 1e-5 }));
    assert_eq!(resolved.json()["epochs"], json!(50));
    assert_eq!(resolve(Value::Object(resolved.json().clone())).unwrap().json(), resolved.json());
    let refused = |value: Value| resolve(value).unwrap_err();
    assert_eq!(refused(json!({ "model": "basline" })).hint.unwrap(), "did you mean `baseline`?");
    assert_eq!(refused(json!({ "augment": { "zoom": 2.0 } })).path, ["augment", "zoom"]);
    assert_eq!(refused(json!({ "augment": { "zom": 2.0 } })).path, ["augment", "zom"]);
    assert_eq!(refused(json!({ "epochs": 0 })).path, ["epochs"]);
    assert_eq!(resolved.json()["precision"], json!("f32"));
    let error = refused(json!({ "device": "cpu", "precision": "bf16" }));
    assert_eq!(
        (&error.path[..], &error.message[..]),
        (&["precision".to_owned()][..], "`precision` must be `f32` on the CPU")
    );
    let on_the_processor = resolve(json!({ "device": "cpu" })).unwrap();
    assert_eq!(Train.device_class(&on_the_processor).unwrap().as_deref(), Some("cpu"));
    if cfg!(not(feature = "cuda")) {
        let error = refused(json!({ "device": "cuda" }));
        assert!(error.message.contains("does not support CUDA") && error.hint.unwrap().contains("--features cuda"));
        assert_eq!(Train.device_class(&resolved).unwrap().as_deref(), Some("cpu"));
    }
}

#[test]
fn rows_are_weighted_by_a_column() {
    let fixture = Fixture::new(40);
    let with = |weights: Value| {
        let mut params = short();
        params["row_weights"] = weights;
        run_kind(&Train, &params, &fixture.inputs()).unwrap().bytes(WEIGHTS)
    };
    let plain = fixture.train().bytes(WEIGHTS);
    assert!(with(json!({ "column": "label", "values": { "bcc": 3.0 } })) != plain);
    assert!(with(json!({ "column": "label", "values": { "none such": 3.0 } })) == plain);
    let mut params = short();
    params["row_weights"] = json!({ "column": "lable", "values": {} });
    let error = run_kind(&Train, &params, &fixture.inputs()).err().unwrap().render();
    assert!(error.contains("lable"), "{error}");
}

#[test]
fn training_starts_from_pretrained_weights() {
    let fixture = Fixture::new(40);
    let params = json!({ "model": "efficientnet-lite0", "epochs": 1, "batch_size": 20, "device": "cpu" });
    let ran = run_kind(&Train, &params, &fixture.inputs()).unwrap();
    assert!(ran.json("model/card.json")["training"].get("pretrained").is_none());
    // A model of hamflow has the names of public weights, but in another order of dimensions.
    // A model of hamflow has the names of public weights, but in another order of dimensions.
    let folder = tempfile::tempdir().unwrap();
    let with = |weights: Vec<u8>, params: &Value| {
        let weights = file_input(folder.path(), "weights.safetensors", &weights, Some(ArtifactType::FILE));
        let inputs = [&fixture.inputs()[..], &[("pretrained", weights)]].concat();
        run_kind(&Train, params, &inputs)
    };
    let error = with(ran.bytes(WEIGHTS), &params).err().unwrap().render();
    assert!(
        error.contains("`weights.safetensors` has the tensor `conv_stem.weight` of shape [3, 3, 3, 32]"),
        "{error}"
    );
    assert!(error.contains("`pretrained` takes public weights of `efficientnet-lite0`"), "{error}");

    // What `export` writes is read, with its normalisation. With a rate of almost 0, only the head differs.
    let model = folder_input(&[&ran.output_dir().join("model")], Some(artifact::MODEL));
    let exported = run_kind(&crate::export::Export, &json!({}), &[("model", model)]).unwrap();
    let mut still = params.clone();
    (still["learning_rate"], still["freeze"]) =
        (json!(1e-30), json!(["conv_stem", "bn1", "blocks", "conv_head", "bn2"]));
    let next = with(exported.bytes("hugging_face/model.safetensors"), &still).unwrap();
    let tensors =
        |ran: &Ran| candle_core::safetensors::load_buffer(&ran.bytes(WEIGHTS), &candle_core::Device::Cpu).unwrap();
    let (before, after) = (tensors(&ran), tensors(&next));
    for (name, tensor) in &before {
        let [before, after] =
            [tensor, &after[name]].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert!(before == after || name.starts_with("classifier."), "{name}");
    }
    let cards = [&ran, &next].map(|ran| ran.json("model/card.json"));
    assert_eq!(cards[0]["normalisation"], cards[1]["normalisation"]);
    assert!(cards[1]["training"]["pretrained"].is_string() && cards[0]["training"].get("pretrained").is_none());

    let mut misspelt = params.clone();
    misspelt["freeze"] = json!(["conv_stm"]);
    let error = run_kind(&Train, &misspelt, &fixture.inputs()).err().unwrap().render();
    assert!(error.contains("`conv_stm` in `freeze` is no layer") && error.contains("`conv_stem`"), "{error}");
}

#[test]
fn a_fold_is_for_validation_and_all_others_are_for_training() {
    let fixture = Fixture::new(40);
    let train = |fold: u32| {
        let mut params = short();
        params["fold"] = json!(fold);
        run_kind(&Train, &params, &fixture.inputs())
    };
    let of_fold = |fold: i64| fixture.folds().iter().filter(|other| **other == Some(fold)).count();
    let mut weights = Vec::new();
    for fold in 0..3 {
        let ran = train(fold).unwrap();
        let rows = ran.json("summary.json")["rows"].clone();
        let all: usize = (0..3).map(of_fold).sum();
        let validation = of_fold(i64::from(fold));
        assert_eq!(rows, json!({ "train": all - validation, "validation": validation }));
        assert_eq!(ran.json("model/card.json")["training"]["fold"], json!(fold));
        weights.push(ran.bytes(WEIGHTS));
    }
    assert!(weights[0] != weights[1] && weights[1] != weights[2]);
    let error = train(3).err().unwrap().render();
    assert!(error.contains("has no rows in fold 3") && error.contains("numbered from 0"), "{error}");
    assert!(fixture.train().json("model/card.json")["training"].get("fold").is_none());
}
