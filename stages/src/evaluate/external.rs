//! An external test set: rows of another dataset that no training may have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Input, Inputs, StageError, View};

use super::rows::{self, Row};
use crate::dataset::{EXTERNAL, SPLITS};
use crate::ml::metric::Independence;
use crate::shard;
use crate::table::{self, group_of_one};

/// The port with the table of the external test set.
pub const TABLE: &str = "external";

/// The port with its tensors.
pub const SHARDS: &str = "external_shards";

/// The inputs of an external test set.
pub struct External<'a> {
    inputs: &'a Inputs,
    table: &'a Input,
}

impl<'a> External<'a> {
    /// The external test set, if one is connected.
    pub fn of(inputs: &'a Inputs) -> Result<Option<Self>, StageError> {
        match (inputs.optional(TABLE), inputs.optional(SHARDS)) {
            (None, None) => Ok(None),
            (Some(table), _) => Ok(Some(Self { inputs, table })),
            (None, Some(_)) => Err(StageError::input(format!("`{SHARDS}` needs `{TABLE}`"))
                .hint("connect the table of the same `metadata`")),
        }
    }

    /// Its tensors, which a model needs.
    pub fn shards(&self) -> Result<&'a Input, StageError> {
        self.inputs.optional(SHARDS).ok_or_else(|| {
            StageError::input(format!("`{TABLE}` needs `{SHARDS}`")).hint("connect a `preprocess` of the same images")
        })
    }

    /// Its rows, with the class indices of the model.
    pub fn rows(&self, labels: &[String]) -> Result<Vec<Row>, StageError> {
        let mut found = self.unnumbered_rows()?;
        for row in &mut found {
            row.class = labels.iter().position(|label| *label == row.label).ok_or_else(|| {
                let known = labels.join("`, `");
                StageError::input(format!(
                    "image `{}` of `{}` has the class `{}`, which is not among those of the model, `{known}`",
                    row.image_id, self.table.name, row.label
                ))
                .hint("set `exclude_classes` or `labels` in its `metadata`")
            })?;
        }
        Ok(found)
    }

    /// Its rows with the class indices of its own table.
    fn unnumbered_rows(&self) -> Result<Vec<Row>, StageError> {
        let mut frame = table::read(self.table.file()?, None)?;
        let names = vec![EXTERNAL; frame.height()];
        table::with_column(&mut frame, polars::prelude::Column::new("split".into(), names))?;
        rows::of_frame(&frame, &[EXTERNAL.to_owned()], None)
    }

    /// Compares the rows with all rows that may have been for training or validation. Shared images, lesions and tensors
    /// are an error.
    pub fn prove(&self) -> Result<Independence, StageError> {
        let rows = &self.unnumbered_rows()?[..];
        let known = rows::read(self.inputs, &SPLITS.map(str::to_owned), None)?;
        let (test, seen): (Vec<Row>, Vec<Row>) = known.into_iter().partition(|row| row.split == "test");
        let images: BTreeSet<&str> = seen.iter().map(|row| row.image_id.as_str()).collect();
        let lesions: BTreeSet<&str> =
            seen.iter().filter(|row| has_lesion(row)).map(|row| row.lesion_id.as_str()).collect();
        self.refuse(rows, ["image", "images"], |row| {
            images.contains(row.image_id.as_str()).then(|| row.image_id.clone())
        })?;
        self.refuse(rows, ["lesion", "lesions"], |row| {
            (has_lesion(row) && lesions.contains(row.lesion_id.as_str())).then(|| row.lesion_id.clone())
        })?;
        let tensors = self.tensors()?;
        if let Some([internal, external]) = &tensors {
            let by_tensor: BTreeMap<&str, &str> = seen
                .iter()
                .filter_map(|row| Some((internal.get(&row.image_id)?.as_str(), row.image_id.as_str())))
                .collect();
            self.refuse(rows, ["picture", "pictures"], |row| {
                let same = by_tensor.get(external.get(&row.image_id)?.as_str())?;
                Some(format!("{} (training: {same})", row.image_id))
            })?;
        }
        let in_test: BTreeSet<&str> = test.iter().map(|row| row.image_id.as_str()).collect();
        Ok(Independence {
            compared_images: images.len(),
            compared_lesions: lesions.len(),
            compared_tensors: tensors.is_some(),
            without_lesion: rows.iter().filter(|row| !has_lesion(row)).count(),
            in_test: rows.iter().filter(|row| in_test.contains(row.image_id.as_str())).count(),
        })
    }

    /// Fails if `shared` names anything of a row that training has seen.
    fn refuse(
        &self,
        rows: &[Row],
        [one, many]: [&str; 2],
        shared: impl Fn(&Row) -> Option<String>,
    ) -> Result<(), StageError> {
        const SHOWN: usize = 3;
        let found: BTreeSet<String> = rows.iter().filter_map(shared).collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut names = found.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if found.len() > SHOWN {
            names.push_str(", …");
        }
        let (count, what) = (found.len(), if found.len() == 1 { one } else { many });
        Err(StageError::input(format!(
            "the external test set `{}` shares {count} {what} with training and validation: {names}",
            self.table.name
        ))
        .hint("leave the images out with `exclude_images` in its `metadata`, or in that of the training data"))
    }

    /// The tensor digests of internal and external images by id; `None` without shards of both.
    fn tensors(&self) -> Result<Option<[BTreeMap<String, String>; 2]>, StageError> {
        let (Some(internal), Some(external)) = (self.inputs.optional("shards"), self.inputs.optional(SHARDS)) else {
            return Ok(None);
        };
        let digests = |input: &Input| -> Result<BTreeMap<String, String>, StageError> {
            let index = shard::read_index(input.member(shard::INDEX_NAME)?)?;
            Ok(index.into_iter().map(|row| (row.image_id, row.digest)).collect())
        };
        Ok(Some([digests(internal)?, digests(external)?]))
    }

    /// What the result depends on, beside the views of the internal rows: the external rows with their tensors, and all
    /// rows that they are compared with.
    pub fn views(&self) -> Result<Vec<View>, StageError> {
        let rows = self.unnumbered_rows()?;
        let seen = rows::read(self.inputs, &SPLITS.map(str::to_owned), None)?;
        let tensors = self.tensors()?;
        let (mut compared, mut external) = (String::new(), String::new());
        for row in &seen {
            let digest =
                tensors.as_ref().and_then(|[internal, _]| internal.get(&row.image_id)).map_or("", String::as_str);
            let [image, lesion] = [&row.image_id, &row.lesion_id].map(|value| table::field(value));
            let is_test = row.split == "test";
            let _ = writeln!(compared, "{image}\t{lesion}\t{is_test}\t{digest}");
        }
        for row in &rows {
            let digest =
                tensors.as_ref().and_then(|[_, external]| external.get(&row.image_id)).map_or("", String::as_str);
            let _ = writeln!(external, "{}\t{digest}", table::field(&row.image_id));
        }
        Ok(vec![
            View {
                name: "image, lesion, class and attributes of the external rows".to_owned(),
                text: rows::text(&rows),
            },
            View { name: "tensors of the external rows".to_owned(), text: external },
            View {
                name: "images, lesions and tensors that the external rows must not share".to_owned(),
                text: compared,
            },
        ])
    }
}

fn has_lesion(row: &Row) -> bool {
    row.lesion_id != group_of_one(&row.image_id)
}
