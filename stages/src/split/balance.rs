//! How the classes fell on the splits, and the proof that nothing crosses, counted on the result.

use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::Digest;
use serde_json::{Map, Value, json};

use super::groups::Groups;
use super::{SPLITS, SplitParams};

/// What the balance is counted from: one entry per row.
pub struct Balance<'a> {
    /// The parameters.
    pub params: &'a SplitParams,
    /// The images.
    pub ids: &'a [String],
    /// The values of the group column.
    pub names: &'a [String],
    /// The values of the stratify column.
    pub classes: &'a [String],
    /// The digests of the images, where they were given.
    pub digests: Option<&'a [Digest]>,
    /// The groups that were kept together.
    pub groups: &'a Groups,
    /// The splits.
    pub splits: &'a [usize],
    /// The folds, where there are folds.
    pub folds: Option<&'a [Option<i64>]>,
}

impl Balance<'_> {
    /// The balance as it is written.
    pub fn to_json(&self) -> Value {
        let everything = self.sides(|_| true);
        let mut rows_of_class: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, class) in self.classes.iter().enumerate() {
            rows_of_class.entry(class).or_default().push(row);
        }
        let classes: Vec<Value> = rows_of_class.iter().map(|(class, rows)| self.class(class, rows)).collect();
        let mixed = self.groups.groups.iter().filter(|group| group.classes.len() > 1).count();
        json!({
            "group": self.params.group,
            "stratify": self.params.stratify,
            "targets": self.params.fractions,
            "rows": self.ids.len(),
            "groups": self.names.iter().collect::<BTreeSet<_>>().len(),
            "groups_joined_by_identical_images": self.groups.joined,
            "groups_with_contradicting_classes": mixed,
            "largest_group": self.groups.groups.iter().map(|group| group.size()).max(),
            "splits": everything,
            "classes": classes,
            "groups_crossing": crossing(self.names, self.splits),
            "identical_images": self.identical_images(),
            "folds": self.folds(),
        })
    }

    fn sides(&self, wanted: impl Fn(usize) -> bool) -> Value {
        let rows: Vec<usize> = (0..self.ids.len()).filter(|&row| wanted(row)).collect();
        self.sides_of(&rows)
    }

    fn class(&self, class: &str, rows: &[usize]) -> Value {
        let groups = rows.iter().map(|&row| &self.names[row]).collect::<BTreeSet<_>>().len();
        json!({"class": class, "rows": rows.len(), "groups": groups, "splits": self.sides_of(rows)})
    }

    fn sides_of(&self, rows: &[usize]) -> Value {
        let targets = self.params.fractions.in_order();
        let mut sides = Map::new();
        for (split, (name, target)) in SPLITS.iter().zip(targets).enumerate() {
            let here = || rows.iter().filter(|&&row| self.splits[row] == split);
            let n = here().count();
            let groups = here().map(|&row| &self.names[row]).collect::<BTreeSet<_>>().len();
            let fraction = n as f64 / rows.len().max(1) as f64;
            let side = json!({"rows": n, "groups": groups, "fraction": fraction, "target": target});
            sides.insert((*name).to_owned(), side);
        }
        Value::Object(sides)
    }

    fn identical_images(&self) -> Value {
        let Some(digests) = self.digests else { return json!({"checked": false, "sets": [], "crossing": 0}) };
        let mut rows_of_digest: Vec<(Digest, usize)> = digests.iter().copied().zip(0..).collect();
        rows_of_digest.sort_unstable();
        let mut sets: Vec<(Vec<&str>, Vec<&str>, BTreeSet<&str>)> = Vec::new();
        for same in rows_of_digest.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            let mut rows: Vec<usize> = same.iter().map(|(_, row)| *row).collect();
            rows.sort_unstable_by_key(|&row| &self.ids[row]);
            let images = rows.iter().map(|&row| self.ids[row].as_str()).collect();
            let groups = rows.iter().map(|&row| self.names[row].as_str()).collect();
            sets.push((images, groups, rows.iter().map(|&row| SPLITS[self.splits[row]]).collect()));
        }
        sets.sort_unstable();
        let crossing = sets.iter().filter(|(_, _, splits)| splits.len() > 1).count();
        let sets: Vec<Value> = sets
            .into_iter()
            .map(|(images, groups, splits)| json!({"images": images, "groups": groups, "splits": splits}))
            .collect();
        json!({"checked": true, "sets": sets, "crossing": crossing})
    }

    fn folds(&self) -> Value {
        let Some(folds) = self.folds else { return Value::Null };
        let mut rows: BTreeMap<i64, BTreeMap<&str, usize>> = BTreeMap::new();
        for (fold, class) in folds.iter().zip(self.classes) {
            if let Some(fold) = fold {
                *rows.entry(*fold).or_default().entry(class).or_insert(0) += 1;
            }
        }
        let each: Vec<Value> = rows
            .into_iter()
            .map(|(fold, classes)| json!({"fold": fold, "rows": classes.values().sum::<usize>(), "classes": classes}))
            .collect();
        json!({"groups_crossing": crossing(self.names, folds), "each": each})
    }
}

/// How many names are on more than one side.
fn crossing<T: Copy + Ord>(names: &[String], sides: &[T]) -> usize {
    let mut pairs: Vec<(&str, T)> = names.iter().map(String::as_str).zip(sides.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.chunk_by(|a, b| a.0 == b.0).filter(|pairs| pairs.first().map(|p| p.1) != pairs.last().map(|p| p.1)).count()
}

/// A sentence for every class that a split wants some of and has none of.
pub fn empty_sides(balance: &Value) -> Vec<String> {
    let mut sentences = Vec::new();
    for class in balance["classes"].as_array().into_iter().flatten() {
        for (split, side) in class["splits"].as_object().into_iter().flatten() {
            if side["rows"] == 0 && side["target"].as_f64().is_some_and(|target| target > 0.0) {
                sentences.push(format!("no row of the class {} is in `{split}`", class["class"]).replace('"', "`"));
            }
        }
    }
    sentences
}
