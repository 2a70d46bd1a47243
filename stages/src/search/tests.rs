//! Searches over small images, driven like the engine does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hamflow_stage_api::{AnyKind, Digest, EventSink, Input, Job, JobEvent, JobPart, Plan as Split, perform};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::ml::metric::METRICS;
use crate::search_record::{SearchRecord, TrialStatus};
use crate::table;
use crate::test_support::{file, job, resolve, run_kind};
use crate::train::Train;
use crate::train::test_fixture::{Fixture, short};

#[derive(Default)]
struct Said(Mutex<Vec<JobEvent>>);

impl EventSink for Said {
    fn emit(&self, event: JobEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// The outputs of a search, and what it ran.
struct Searched {
    folder: TempDir,
    /// The name of each part and its key, in the order in which they ran.
    parts: Vec<(String, Value)>,
    events: Vec<JobEvent>,
}

impl Searched {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("out").join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn record(&self) -> SearchRecord {
        serde_json::from_slice(&self.bytes(results::RECORD)).unwrap()
    }

    fn names(&self) -> Vec<&str> {
        self.parts.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn keys(&self) -> BTreeSet<String> {
        self.parts.iter().map(|(_, key)| key.to_string()).collect()
    }
}

/// Whether parts find the checkpoints of earlier ones.
#[derive(Clone, Copy, PartialEq)]
enum Checkpoints {
    Kept,
    Lost,
}

fn inputs_of(inputs: &[(&'static str, Input)], part: &Part) -> hamflow_stage_api::Inputs {
    let chosen = inputs.iter().map(|(port, input)| {
        let files = part.files[*port].iter().map(|index| input.files[*index as usize].clone()).collect();
        ((*port).to_owned(), vec![Input { files, ..input.clone() }])
    });
    hamflow_stage_api::Inputs(chosen.collect())
}

fn search(params: &Value, fixture: &Fixture, checkpoints: Checkpoints) -> Result<Searched, (StageError, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let inputs = fixture.inputs();
    let whole = job(&Search, params, &inputs, folder.path());
    let resolved = resolve(&Search, params).unwrap();
    let events = Said::default();
    let planning = Planning { inputs: &whole.inputs, seed: whole.seed };
    let Split::Parts(mut round) = AnyKind::plan(&Search, &resolved, planning).unwrap() else { panic!("it has parts") };
    let (mut outputs, mut parts) = (Vec::new(), Vec::new());
    while !round.is_empty() {
        for part in round {
            let output_dir = folder.path().join(&part.name);
            std::fs::create_dir_all(&output_dir).unwrap();
            let checkpoint = Digest::of(part.checkpoint.as_ref().unwrap().to_string().as_bytes()).short();
            let checkpoint_dir = folder.path().join("checkpoints").join(checkpoint);
            std::fs::create_dir_all(&checkpoint_dir).unwrap();
            let piece = Job {
                part: JobPart::Part { name: part.name.clone(), key: part.key.clone(), data: Value::Null },
                inputs: inputs_of(&inputs, &part),
                checkpoint_dir: (checkpoints == Checkpoints::Kept).then_some(checkpoint_dir),
                output_dir: output_dir.clone(),
                ..whole.clone()
            };
            if let Err(error) = perform(&Search, &piece, &events) {
                return Err((error, folder));
            }
            outputs.push(PartOutput { name: part.name.clone(), side: files(&output_dir), assembled: BTreeMap::new() });
            parts.push((part.name, part.key));
        }
        round = AnyKind::extend(&Search, &resolved, planning, &outputs).unwrap();
    }
    let whole = Job { part: JobPart::Merge { parts: outputs }, ..whole.clone() };
    match perform(&Search, &whole, &events) {
        Ok(()) => Ok(Searched { folder, parts, events: events.0.into_inner().unwrap() }),
        Err(error) => Err((error, folder)),
    }
}

fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(current) = pending.pop() {
        for entry in std::fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => pending.push(path),
                false => drop(found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), path)),
            }
        }
    }
    found
}

fn grid(rates: &[f64]) -> Value {
    json!({ "train": short(), "space": { "learning_rate": rates } })
}

fn found(params: &Value, fixture: &Fixture) -> Searched {
    search(params, fixture, Checkpoints::Kept).map_err(|(error, _)| error).unwrap()
}

#[test]
fn the_best_trial_of_a_grid_is_what_train_makes_of_its_parameters() {
    let fixture = Fixture::new(60);
    let searched = found(&grid(&[1e-5, 3e-3]), &fixture);
    let record = searched.record();
    assert_eq!(searched.names(), ["trial-1", "trial-2"]);
    let scores: Vec<f64> = record.trials.iter().map(|trial| trial.score.unwrap()).collect();
    let best = if scores[1] > scores[0] { 2 } else { 1 };
    assert_eq!(record.best, best, "{scores:?}");
    let rate = record.best_trial().unwrap().values["learning_rate"].as_f64().unwrap();
    let mut alone = short();
    alone["learning_rate"] = json!(rate);
    let trained = run_kind(&Train, &alone, &fixture.inputs()).unwrap();
    for name in ["model/model.safetensors", "model/card.json", "history.json", "summary.json"] {
        assert!(searched.bytes(name) == trained.bytes(name), "{name} differs");
    }
    let best: Value = serde_json::from_slice(&searched.bytes(results::BEST)).unwrap();
    assert_eq!((&best["values"]["learning_rate"], &best["train"]["learning_rate"]), (&json!(rate), &json!(rate)));
    for plot in ["search_scores", "search_curves", "learning_curves", "architecture"] {
        assert!(searched.path(&format!("figures/{plot}.svg")).exists(), "{plot}");
    }
}

#[test]
fn the_table_has_a_row_for_each_trial_and_a_column_for_each_parameter() {
    let params = json!({
        "train": short(),
        "space": { "learning_rate": [1e-3], "optimiser": ["adam", "sgd"], "augment": [false, { "zoom": 0.2 }] },
        "metric": "balanced_accuracy",
    });
    let searched = found(&params, &Fixture::new(60));
    let frame = table::read(
        &file(&searched.folder.path().join("out"), results::TRIALS, &searched.bytes(results::TRIALS)),
        None,
    );
    let frame = frame.unwrap();
    assert_eq!(table::required_integers(&frame, "trial").unwrap(), [1, 2, 3, 4]);
    assert_eq!(table::required_strings(&frame, "optimiser").unwrap(), ["adam", "sgd", "adam", "sgd"]);
    assert_eq!(table::required_strings(&frame, "augment").unwrap()[2], "{\"zoom\":0.2}");
    assert_eq!(table::floats(&frame, "learning_rate").unwrap(), [Some(1e-3); 4]);
    assert!(table::floats(&frame, "balanced_accuracy").unwrap().iter().all(Option::is_some));
    assert_eq!(table::required_integers(&frame, "epochs_trained").unwrap(), [2; 4]);
}

#[test]
fn successive_halving_continues_the_best_third_after_each_rung() {
    let params = json!({
        "train": { "epochs": 9, "batch_size": 7, "device": "cpu" },
        "space": { "learning_rate": { "min": 1e-5, "max": 1e-2, "log": true } },
        "method": "random",
        "trials": 9,
        "halving": { "min_epochs": 1, "factor": 3 },
    });
    let fixture = Fixture::new(40);
    let searched = found(&params, &fixture);
    let record = searched.record();
    assert_eq!(record.budgets, [1, 3, 9]);
    let trained: Vec<usize> = record.trials.iter().map(|trial| trial.curve.len()).collect();
    let count = |epochs: usize| trained.iter().filter(|found| **found == epochs).count();
    assert_eq!((count(1), count(3), count(9)), (6, 2, 1), "{trained:?}");
    assert_eq!(searched.parts.len(), 9 + 3 + 1);
    let pruned = record.trials.iter().filter(|trial| trial.status == TrialStatus::Pruned).count();
    assert_eq!(pruned, 8);
    // Every survivor of the first rung was at least as good as the others after its epoch.
    let after_first = |trial: &&crate::search_record::TrialRecord| trial.curve[0].unwrap();
    let (survivors, others): (Vec<_>, Vec<_>) = record.trials.iter().partition(|trial| trial.curve.len() > 1);
    let worst = survivors.iter().map(after_first).fold(f64::INFINITY, f64::min);
    assert!(others.iter().map(after_first).all(|score| score <= worst));
    assert_eq!(record.best_trial().unwrap().curve.len(), 9);

    let without = search(&params, &fixture, Checkpoints::Lost).map_err(|(error, _)| error).unwrap();
    for name in ["model/model.safetensors", results::RECORD, "history.json"] {
        assert!(searched.bytes(name) == without.bytes(name), "{name} depends on checkpoints");
    }
    let resumed = |searched: &Searched| {
        let mentions = |event: &&JobEvent| matches!(event, JobEvent::Log { line } if line.contains("resumes"));
        searched.events.iter().filter(mentions).count()
    };
    assert_eq!((resumed(&searched), resumed(&without)), (4, 0));
}

#[test]
fn another_value_only_adds_trials() {
    let fixture = Fixture::new(40);
    let few = found(&grid(&[1e-4, 1e-3]), &fixture);
    let more = found(&grid(&[1e-4, 3e-4, 1e-3]), &fixture);
    assert!(few.keys().is_subset(&more.keys()));
    assert_eq!(more.keys().len(), 3);
}

#[test]
fn test_rows_are_not_in_the_keys_of_trials_and_training_rows_are() {
    let keys = |fixture: &Fixture| found(&grid(&[1e-3]), fixture).keys();
    let before = keys(&Fixture::new(40));
    let mut other_test = Fixture::new(40);
    other_test.permute_test_labels();
    assert_eq!(keys(&other_test), before);
    let mut other_images = Fixture::new(40);
    other_images.images[0][0] ^= 1;
    assert!(keys(&other_images).is_disjoint(&before));
}

#[test]
fn a_diverged_trial_is_named_and_the_others_are_kept() {
    let params = json!({
        "train": { "epochs": 2, "batch_size": 7, "device": "cpu", "optimiser": "sgd" },
        "space": { "learning_rate": [10.0, 1e-3] },
    });
    let searched = found(&params, &Fixture::new(40));
    let record = searched.record();
    assert_eq!(record.trials[0].status, TrialStatus::Diverged);
    assert!(record.trials[0].reason.as_ref().unwrap().contains("with learning rate"));
    assert_eq!(record.best, 2);
    let warned = |event: &JobEvent| {
        matches!(event, JobEvent::Warning { message }
            if message == "1 of 2 trials diverged (first: trial 1, learning_rate = 10.0); they are in `trials.parquet`")
    };
    assert!(searched.events.iter().any(warned), "{:?}", searched.events);
}

#[test]
fn a_search_whose_trials_all_diverge_names_them_and_leaves_the_table() {
    let params = json!({
        "train": { "epochs": 2, "batch_size": 7, "device": "cpu", "optimiser": "sgd" },
        "space": { "learning_rate": [9.0, 10.0] },
    });
    let Err((error, folder)) = search(&params, &Fixture::new(40), Checkpoints::Kept) else { panic!("all diverge") };
    assert!(error.message.starts_with("all 2 trials diverged\ntrial 1 (learning_rate = 9.0): "), "{}", error.message);
    assert!(error.message.contains("\ntrial 2 (learning_rate = 10.0): "), "{}", error.message);
    let table = folder.path().join("side").join(results::TRIALS);
    assert!(error.hint.unwrap().contains(table.to_str().unwrap()));
    let frame = table::read_bytes("trials", std::fs::read(table).unwrap(), None, &[]).unwrap();
    assert_eq!(table::required_strings(&frame, "status").unwrap(), ["diverged", "diverged"]);
    assert!(!folder.path().join("out/model").exists());
}

#[test]
fn wrong_parameters_are_rejected_with_their_place() {
    let refused = |params: Value| resolve(&Search, &params).unwrap_err();
    let space = json!({ "learning_rate": [1e-3] });
    let error = refused(json!({ "space": space, "train": { "keep_metric": "f1_macro" } }));
    assert_eq!(
        (error.path, error.hint.unwrap()),
        (vec!["train".to_owned(), "keep_metric".into()], "remove `keep_metric`, and set `metric`".to_owned())
    );
    let error = refused(json!({ "space": space, "metric": "acuracy" }));
    assert_eq!(
        (error.message.as_str(), error.hint.as_deref()),
        ("`metric` cannot be `acuracy`", Some("did you mean `accuracy`?"))
    );
    let error = refused(json!({ "space": space, "train": { "epochs": 3 }, "halving": { "min_epochs": 3 } }));
    assert_eq!(error.message, "`halving` needs `train.epochs` of at least `min_epochs` · `factor` = 9, not 3");
    let error = refused(json!({ "space": { "epochs": [1, 2] }, "halving": true }));
    assert_eq!(error.message, "`epochs` cannot vary with `halving`, which gives the trials their epochs");
    let error = refused(json!({ "space": { "learning_rate": { "min": 0.1, "max": 1.0 } } }));
    assert_eq!(error.hint.as_deref(), Some("list its values, or set `method = \"random\"`"));
    let error = refused(json!({ "space": { "schedule": ["one-cycle", "cosine"] }, "train": { "warmup_epochs": 1 } }));
    assert!(error.message.starts_with("the trial with schedule = \"one-cycle\" is rejected: "), "{}", error.message);
    // Each value is fine, but not together.
    let error = refused(json!({ "space": { "logit_adjustment": [0.0, 1.0], "sampling": ["shuffled", "balanced"] } }));
    assert!(error.message.contains("logit_adjustment = 1.0, sampling = \"balanced\""), "{}", error.message);
    assert!(METRICS.iter().any(|metric| metric.name == SearchParams::default().metric));
}

#[test]
fn a_lower_loss_is_better() {
    let params = json!({ "train": short(), "space": { "learning_rate": [1e-5, 3e-3] }, "metric": "log_loss" });
    let record = found(&params, &Fixture::new(60)).record();
    let scores: Vec<f64> = record.trials.iter().map(|trial| trial.score.unwrap()).collect();
    assert!(!record.higher_is_better);
    assert_eq!(record.best, if scores[0] <= scores[1] { 1 } else { 2 }, "{scores:?}");
}
