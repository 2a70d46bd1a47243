//! A small dataset to train on.

use hamflow_stage_api::{AnyKind, ArtifactType, Input, Inputs};
use polars::prelude::{Column, NamedFrom, Series};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::artifact;
use crate::shard::{INDEX_NAME, IndexRow, encode_index, tensor_digest};
use crate::table;
use crate::test_support::{Ran, file, file_input, files_input, resolve as resolve_kind, run_kind, shard};

/// A split table and shards of small images. Row `i` has class `i mod 3`; of ten rows one is for validation and two
/// are for testing.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) ids: Vec<String>,
    pub(crate) classes: Vec<i64>,
    pub(crate) splits: Vec<&'static str>,
    pub(crate) images: Vec<Vec<u8>>,
    labels: [(&'static str, &'static str); 3],
}

pub(crate) const LABELS: [(&str, &str); 3] =
    [("akiec", "Actinic keratoses"), ("bcc", "Basal cell carcinoma"), ("df", "Dermatofibroma")];
pub(crate) const SHAPE: [usize; 3] = [8, 10, 3];

fn split(row: usize) -> &'static str {
    match row % 10 {
        2 | 6 => "test",
        4 => "validation",
        _ => "train",
    }
}

impl Fixture {
    pub(crate) fn new(rows: usize) -> Self {
        let mut random = hamflow_stage_api::Random::new(9, "fixture");
        let image = |i: usize, random: &mut hamflow_stage_api::Random| {
            (0..SHAPE.iter().product()).map(|k| random.below(90) as u8 + if k % 3 == i % 3 { 140 } else { 0 }).collect()
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            ids: (0..rows).map(|i| format!("ISIC_{i:04}")).collect(),
            classes: (0..rows as i64).map(|i| i % 3).collect(),
            splits: (0..rows).map(split).collect(),
            images: (0..rows).map(|i| image(i, &mut random)).collect(),
            labels: LABELS,
        }
    }

    pub(crate) fn split(&self) -> Input {
        let text = |values: Vec<&str>, name: &str| Column::from(Series::new(name.into(), values));
        let class = |i: &i64| self.labels[*i as usize];
        let frame = table::frame(vec![
            text(self.ids.iter().map(String::as_str).collect(), "image_id"),
            text(self.ids.iter().map(String::as_str).collect(), "lesion_id"),
            text(self.classes.iter().map(|i| class(i).0).collect(), "label"),
            text(self.classes.iter().map(|i| class(i).1).collect(), "cell_type"),
            Column::from(Series::new("cell_type_idx".into(), self.classes.clone())),
            text(self.splits.clone(), "split"),
            Column::from(Series::new("fold".into(), self.folds())),
        ])
        .unwrap();
        file_input(self.folder.path(), "split.parquet", &table::write(&frame).unwrap(), Some(ArtifactType::TABLE))
    }

    /// Three folds over the rows outside the test split.
    pub(crate) fn folds(&self) -> Vec<Option<i64>> {
        let fold = |(row, split): (i64, &&str)| (*split != "test").then_some(row % 3);
        (0..).zip(&self.splits).map(fold).collect()
    }

    pub(crate) fn shards(&self) -> Input {
        let mut index = Vec::new();
        for (row, (id, image)) in (0..).zip(self.ids.iter().zip(&self.images)) {
            let shard = "shard-ISIC_0000.arrow".to_owned();
            index.push(IndexRow { image_id: id.clone(), shard, row, digest: tensor_digest(image) });
        }
        let rows = self.ids.iter().zip(&self.images).map(|(id, image)| (&id[..], &image[..]));
        let shard = shard(SHAPE, &json!({ "height": 8, "width": 10 }), rows);
        let shard = file(self.folder.path(), "shard-ISIC_0000.arrow", &shard);
        let index = file(self.folder.path(), INDEX_NAME, &encode_index(&index).unwrap());
        files_input(vec![shard, index], Some(artifact::SHARDS))
    }

    pub(crate) fn inputs(&self) -> [(&'static str, Input); 2] {
        [("shards", self.shards()), ("split", self.split())]
    }

    pub(crate) fn train(&self) -> Ran {
        run_kind(&Train, &short(), &self.inputs()).unwrap()
    }

    pub(crate) fn views(&self) -> Vec<View> {
        let inputs = Inputs(self.inputs().into_iter().map(|(port, input)| (port.to_owned(), vec![input])).collect());
        let params = resolve_kind(&Train, &json!({})).unwrap();
        AnyKind::views(&Train, &params, Planning { inputs: &inputs, seed: Some(1) }).unwrap()
    }

    /// Permutes the classes of the test rows.
    pub(crate) fn permute_test_labels(&mut self) {
        for (class, split) in self.classes.iter_mut().zip(&self.splits) {
            if *split == "test" {
                *class = (*class + 1) % 3;
            }
        }
    }

    pub(crate) fn images(&self) -> &[Vec<u8>] {
        &self.images
    }

    /// Changes a label everywhere.
    pub(crate) fn rename_class(&mut self, label: &str, other: &'static str) {
        self.labels.iter_mut().filter(|(known, _)| *known == label).for_each(|(known, _)| *known = other);
    }
}

/// Parameters of a short training.
pub(crate) fn short() -> Value {
    json!({ "epochs": 2, "batch_size": 7, "learning_rate": 2e-3, "device": "cpu" })
}
