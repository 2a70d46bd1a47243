//! Properties of `split` on random tables and on the real dataset.

use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::{AnyKind, ArtifactType, Digest, Input, InputFile, JobEvent, Random};
use polars::prelude::{Column, DataFrame, df};
use serde_json::{Value, json};

use super::Split;
use crate::metadata::real::real_table;
use crate::table::{frame, integers, required_strings, write};
use crate::test_support::{
    Ran, file_input, files_input, folder_input, golden, resolve, run_kind, run_kind_with, shared,
};

fn run(table: &DataFrame, params: Value, images: Option<Input>) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let mut inputs =
        vec![("table", file_input(folder.path(), "table.parquet", &write(table).unwrap(), Some(ArtifactType::TABLE)))];
    inputs.extend(images.map(|images| ("images", images)));
    run_kind(&Split, &params, &inputs).unwrap()
}

/// A table of `n` images with one to six per lesion, imbalanced classes, and some lesions with two classes.
fn random_table(random: &mut Random, n: usize, contradicting: f64) -> DataFrame {
    let class = |random: &mut Random| {
        ["nv", "nv", "nv", "nv", "nv", "nv", "mel", "mel", "bkl", "df"][random.below(10) as usize]
    };
    let (mut lesions, mut images, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    while images.len() < n {
        let lesion = format!("L{:07}", random.below(10_000_000));
        let dx = class(random);
        let size = if random.unit() < 0.7 { 1 } else { 1 + random.below(6) };
        for _ in 0..size {
            lesions.push(lesion.clone());
            classes.push(if random.unit() < contradicting { class(random) } else { dx });
            images.push(format!("I{:07}", images.len()));
        }
    }
    frame(vec![
        Column::new("image_id".into(), images),
        Column::new("lesion_id".into(), lesions),
        Column::new("dx".into(), classes),
    ])
    .unwrap()
}

/// Images for a table, some of them byte-identical.
fn random_images(random: &mut Random, ids: &[String]) -> Input {
    let file = |id: &String| {
        let content = if random.unit() < 0.02 { random.below(20).to_string() } else { id.clone() };
        InputFile {
            root: 0,
            path: format!("{id}.jpg"),
            digest: Digest::of(content.as_bytes()).into(),
            source: "/none".into(),
        }
    };
    files_input(ids.iter().map(file).collect(), None)
}

fn sides<'a>(keys: &'a [String], splits: &'a [String]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut sides: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, split) in keys.iter().zip(splits) {
        sides.entry(key).or_default().insert(split);
    }
    sides
}

/// Asserts a tolerance of half a percentage point, or one lesion if that is more.
fn assert_fractions(balance: &Value, largest: f64) {
    for class in balance["classes"].as_array().unwrap() {
        let rows = class["rows"].as_f64().unwrap();
        for (split, side) in class["splits"].as_object().unwrap() {
            let off = (side["fraction"].as_f64().unwrap() - side["target"].as_f64().unwrap()).abs();
            assert!(off <= 0.005_f64.max(largest / rows), "{} {split} is off by {off} of {rows} rows", class["class"]);
        }
    }
}

#[test]
fn groups_and_identical_images_never_cross_and_fractions_hold() {
    let mut random = Random::new(3, "tables");
    for round in 0..12 {
        let contradicting = if round % 3 == 0 { 0.05 } else { 0.0 };
        let table = random_table(&mut random, 400 * (round + 1), contradicting);
        let ids = required_strings(&table, "image_id").unwrap();
        let images = random_images(&mut random, &ids);
        let digests: Vec<String> = ids
            .iter()
            .map(|id| images.files.iter().find(|file| file.path == format!("{id}.jpg")).unwrap().digest.to_string())
            .collect();
        let validation = [0.0, 0.08, 0.2][round % 3];
        let params = json!({
            "fractions": {"train": 0.8 - validation, "validation": validation, "test": 0.2},
            "folds": if round % 2 == 0 { 5 } else { 0 },
        });
        let ran = run(&table, params, Some(images));
        let result = ran.table("table.parquet");
        let splits = required_strings(&result, "split").unwrap();
        let lesions = required_strings(&result, "lesion_id").unwrap();
        for keys in [&lesions, &digests] {
            assert!(sides(keys, &splits).values().all(|sides| sides.len() == 1));
        }
        let balance = ran.json("balance.json");
        assert_eq!(balance["groups_crossing"], 0);
        assert_eq!(balance["identical_images"]["crossing"], 0);
        assert_fractions(&balance, 1.0);
        if round % 2 == 0 {
            assert_folds(&result, &lesions, &splits);
            assert_eq!(balance["folds"]["groups_crossing"], 0);
        }
    }
}

fn assert_folds(table: &DataFrame, lesions: &[String], splits: &[String]) {
    let folds = integers(table, "fold").unwrap();
    let mut rows: BTreeMap<i64, usize> = BTreeMap::new();
    for (fold, split) in folds.iter().zip(splits) {
        assert_eq!(fold.is_none(), split == "test");
        if let Some(fold) = fold {
            *rows.entry(*fold).or_default() += 1;
        }
    }
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let (least, most) = (rows.values().min().unwrap(), rows.values().max().unwrap());
    assert!(most - least <= 12, "the folds have {least} to {most} rows");
    let named: Vec<String> = folds.iter().map(|fold| format!("{fold:?}")).collect();
    assert!(sides(lesions, &named).values().all(|sides| sides.len() == 1));
}

#[test]
fn the_split_depends_only_on_the_seed() {
    let table = random_table(&mut Random::new(1, "order"), 1_000, 0.01);
    let by_image = |table: &DataFrame, seed: u64, threads: usize| -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let bytes = write(table).unwrap();
        let input = file_input(folder.path(), "table.parquet", &bytes, Some(ArtifactType::TABLE));
        let ran = run_kind_with(&Split, &json!({}), &[("table", input)], |job| {
            job.seed = Some(seed);
            job.threads = threads;
        });
        let result = ran.unwrap().table("table.parquet");
        let ids = required_strings(&result, "image_id").unwrap();
        ids.into_iter().zip(required_strings(&result, "split").unwrap()).collect()
    };
    let first = by_image(&table, 1, 1);
    assert_eq!(by_image(&table, 1, 8), first);
    assert_ne!(by_image(&table, 2, 1), first);
    // Neither the order of the rows nor an unrelated column.
    let mut other = table.reverse();
    crate::table::with_column(&mut other, Column::new("age".into(), vec![1.0; table.height()])).unwrap();
    assert_eq!(by_image(&other, 1, 1), first);
}

#[test]
fn a_class_with_too_few_lesions_for_every_split_is_a_warning() {
    let table =
        df!("image_id" => ["a", "b", "c"], "lesion_id" => ["x", "x", "y"], "dx" => ["nv", "nv", "mel"]).unwrap();
    let ran = run(&table, json!({}), None);
    let warnings: Vec<&JobEvent> = ran.events.iter().filter(|e| matches!(e, JobEvent::Warning { .. })).collect();
    let message = "class `mel` has no rows in `validation`".to_owned();
    assert!(warnings.contains(&&JobEvent::Warning { message }), "{warnings:?}");
    assert_eq!(ran.json("balance.json")["identical_images"]["checked"], false);
}

#[test]
fn a_table_that_cannot_be_split_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let table = df!("image_id" => ["a"], "lesion_id" => ["x"], "dx" => [None::<&str>]).unwrap();
    let input = file_input(folder.path(), "table.parquet", &write(&table).unwrap(), Some(ArtifactType::TABLE));
    let message =
        |params: Value| run_kind(&Split, &params, &[("table", input.clone())]).map(|_| ()).unwrap_err().render();
    assert_eq!(message(json!({})), "column `dx` has no value in row 1 of the table");
    assert!(message(json!({"group": "lesionid"})).contains("did you mean `lesion_id`?"));

    let images = files_input(Vec::new(), None);
    let inputs = [("table", input.clone()), ("images", images)];
    let error = run_kind(&Split, &json!({"stratify": "lesion_id"}), &inputs).map(|_| ()).unwrap_err();
    assert_eq!(error.message, "1 image is missing in `inputs.folder`: `a`");
}

#[test]
fn invalid_fractions_are_rejected() {
    let refused = |params: Value| resolve(&Split, &params).unwrap_err();
    let fractions = |train: f64, validation: f64, test: f64| json!({"fractions": {"train": train, "validation": validation, "test": test}});
    assert_eq!(refused(fractions(0.5, 0.25, 0.5)).message, "`fractions` must sum to 1, not 1.25");
    assert_eq!(refused(fractions(1.5, -0.5, 0.0)).path, ["fractions", "train"]);
    assert_eq!(refused(fractions(0.0, 0.5, 0.5)).path, ["fractions", "train"]);
    assert_eq!(refused(json!({"folds": 1})).path, ["folds"]);
    assert!(resolve(&Split, &fractions(0.7, 0.0, 0.3)).is_ok());
    assert_eq!(refused(json!({"fractions": {"train": 1.0}})).message, "`fractions`: missing field `validation`");
}

#[test]
fn the_output_bytes_match_the_revision() {
    let mut random = Random::new(5, "golden");
    let table = random_table(&mut random, 200, 0.05);
    let images = random_images(&mut random, &required_strings(&table, "image_id").unwrap());
    let ran = run(&table, json!({"folds": 3}), Some(images));
    let digest = golden(&ran, &["table.parquet", "balance.json"]);
    assert_eq!((Split.spec().revision, digest.as_str()), (2, "eafbefe72d9b"));
}

#[test]
#[ignore = "needs the real data"]
fn the_real_dataset_splits_without_leakage() {
    let ((_metadata, table), folder) = (real_table(), shared("ham10000"));
    let (first, second) = (folder.join("HAM10000_images_part_1"), folder.join("HAM10000_images_part_2"));
    let images = folder_input(&[&first, &second], None);
    let ran = run_kind(&Split, &json!({"folds": 5}), &[("table", table), ("images", images)]).unwrap();
    let balance = ran.json("balance.json");
    assert_eq!(balance["rows"], 10_015);
    assert_eq!(balance["groups"], 7_470);
    assert_eq!(balance["groups_crossing"], 0);
    assert_eq!(balance["groups_with_contradicting_classes"], 0);
    assert_eq!(balance["largest_group"], 6);
    assert_fractions(&balance, 1.0);
    assert!(ran.events.is_empty());
    // sha256sum HAM10000_images_part_*/*.jpg | sort | uniq -w64 -D
    let sets = balance["identical_images"]["sets"].as_array().unwrap();
    let images: Vec<&Value> = sets.iter().map(|set| &set["images"]).collect();
    assert_eq!(images, [&json!(["ISIC_0024366", "ISIC_0029861"]), &json!(["ISIC_0024777", "ISIC_0029938"])]);
    assert!(sets.iter().all(|set| set["splits"].as_array().unwrap().len() == 1));

    let result = ran.table("table.parquet");
    let splits = required_strings(&result, "split").unwrap();
    let lesions = required_strings(&result, "lesion_id").unwrap();
    assert!(sides(&lesions, &splits).values().all(|sides| sides.len() == 1));
}

// The engine rejects pipelines based on the declared columns, so they must match the produced ones.
#[test]
fn the_declared_columns_match_the_produced_columns() {
    let table = random_table(&mut Random::new(5, "columns"), 60, 0.0);
    let there: Vec<String> = table.get_column_names_owned().into_iter().map(|name| name.to_string()).collect();
    for params in [json!({}), json!({ "folds": 3 })] {
        let resolved = resolve(&Split, &params).unwrap();
        let made = Split.columns_made(&resolved, "table", &|_| Some(there.clone())).unwrap();
        assert_eq!(made, run(&table, params, None).table("table.parquet").get_column_names_owned());
    }
}
