//! The class distribution over the splits, and the proof that no group spans two, both counted from the result.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::SplitParams;
use super::groups::Groups;
use crate::dataset::SPLITS;

/// The data from which the balance is counted.
pub struct Balance<'a> {
    /// The parameters.
    pub params: &'a SplitParams,
    /// The image id of each row.
    pub ids: &'a [String],
    /// The value of the group column in each row.
    pub names: &'a [String],
    /// The number of rows that are groups of their own because their group is not known.
    pub alone: usize,
    /// Whether byte-identical images were looked for.
    pub images_checked: bool,
    /// The groups of the rows.
    pub groups: &'a Groups<'a>,
    /// The split of each row.
    pub splits: &'a [usize],
    /// The fold of each row, if there are folds.
    pub folds: Option<&'a [Option<i64>]>,
}

/// The number of rows and names of one class in one split.
#[derive(Clone, Copy, Default)]
struct Cell {
    rows: usize,
    names: usize,
}

impl Balance<'_> {
    /// The balance as JSON.
    pub fn to_json(&self) -> Value {
        let groups = self.groups;
        let one_class = vec![0; self.ids.len()];
        let cells = self.cells(&groups.class_of_row, groups.classes.len());
        // A name with two classes counts once per class, but only once in the total.
        let names_of_class = names_per(&groups.class_of_row, &groups.name_of_row, groups.classes.len());
        let classes = groups.classes.iter().zip(&cells).zip(names_of_class);
        let classes: Vec<Value> = classes
            .map(|((class, cells), names)| {
                let rows: usize = cells.iter().map(|cell| cell.rows).sum();
                json!({"class": class, "rows": rows, "groups": names, "splits": self.sides(cells)})
            })
            .collect();
        json!({
            "group": self.params.group,
            "stratify": self.params.stratify,
            "targets": self.params.fractions,
            "rows": self.ids.len(),
            "groups": groups.names,
            "rows_without_group": self.alone,
            "groups_joined_by_identical_images": groups.names - groups.groups.len(),
            "groups_with_contradicting_classes": groups.groups.iter().filter(|group| group.classes.len() > 1).count(),
            "largest_group": groups.groups.iter().map(|group| group.size()).max(),
            "splits": self.sides(&self.cells(&one_class, 1)[0]),
            "classes": classes,
            "groups_crossing": self.crossing(self.splits),
            "identical_images": self.identical_images(),
            "folds": self.folds(),
        })
    }

    fn cells(&self, class_of_row: &[usize], classes: usize) -> Vec<[Cell; 3]> {
        let mut cells = vec![[Cell::default(); 3]; classes];
        let side_of_row: Vec<usize> =
            class_of_row.iter().zip(self.splits).map(|(class, split)| class * SPLITS.len() + split).collect();
        for &side in &side_of_row {
            cells[side / SPLITS.len()][side % SPLITS.len()].rows += 1;
        }
        let names = names_per(&side_of_row, &self.groups.name_of_row, classes * SPLITS.len());
        for (side, names) in names.into_iter().enumerate() {
            cells[side / SPLITS.len()][side % SPLITS.len()].names = names;
        }
        cells
    }

    fn sides(&self, cells: &[Cell; 3]) -> Value {
        let total: usize = cells.iter().map(|cell| cell.rows).sum();
        let mut sides = Map::new();
        for ((name, target), cell) in SPLITS.iter().zip(self.params.fractions.in_order()).zip(cells) {
            let fraction = cell.rows as f64 / total.max(1) as f64;
            let side = json!({"rows": cell.rows, "groups": cell.names, "fraction": fraction, "target": target});
            sides.insert((*name).to_owned(), side);
        }
        Value::Object(sides)
    }

    /// The number of names that occur on more than one side.
    fn crossing<T: Copy + PartialEq>(&self, sides: &[T]) -> usize {
        let mut first: Vec<Option<T>> = vec![None; self.groups.names];
        let mut crosses = vec![false; self.groups.names];
        for (&name, &side) in self.groups.name_of_row.iter().zip(sides) {
            crosses[name] |= *first[name].get_or_insert(side) != side;
        }
        crosses.into_iter().filter(|crosses| *crosses).count()
    }

    fn identical_images(&self) -> Value {
        let mut sets: Vec<(Vec<&str>, BTreeSet<&str>, BTreeSet<&str>)> = Vec::new();
        for rows in &self.groups.identical {
            let mut images: Vec<&str> = rows.iter().map(|&row| self.ids[row].as_str()).collect();
            images.sort_unstable();
            let names = rows.iter().map(|&row| self.names[row].as_str()).collect();
            sets.push((images, names, rows.iter().map(|&row| SPLITS[self.splits[row]]).collect()));
        }
        // Ordered by their first image, because the order of digests is meaningless to a reader.
        sets.sort_unstable();
        let crossing = sets.iter().filter(|(_, _, splits)| splits.len() > 1).count();
        let sets: Vec<Value> = sets
            .into_iter()
            .map(|(images, names, splits)| json!({"images": images, "groups": names, "splits": splits}))
            .collect();
        json!({"checked": self.images_checked, "sets": sets, "crossing": crossing})
    }

    fn folds(&self) -> Value {
        let Some(folds) = self.folds else { return Value::Null };
        let mut rows: BTreeMap<i64, BTreeMap<&str, usize>> = BTreeMap::new();
        for (fold, &class) in folds.iter().zip(&self.groups.class_of_row) {
            if let Some(fold) = fold {
                *rows.entry(*fold).or_default().entry(self.groups.classes[class]).or_insert(0) += 1;
            }
        }
        let each: Vec<Value> = rows
            .into_iter()
            .map(|(fold, classes)| json!({"fold": fold, "rows": classes.values().sum::<usize>(), "classes": classes}))
            .collect();
        json!({"groups_crossing": self.crossing(folds), "each": each})
    }
}

/// The number of distinct names on each side.
fn names_per(side_of_row: &[usize], name_of_row: &[usize], sides: usize) -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = side_of_row.iter().copied().zip(name_of_row.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut names = vec![0; sides];
    for (side, _) in pairs {
        names[side] += 1;
    }
    names
}

/// A message for each class without rows in a split whose fraction is not 0.
pub fn empty_sides(balance: &Value) -> Vec<String> {
    let mut sentences = Vec::new();
    for class in balance["classes"].as_array().into_iter().flatten() {
        let name = class["class"].as_str().unwrap_or_default();
        for (split, side) in class["splits"].as_object().into_iter().flatten() {
            if side["rows"] == 0 && side["target"].as_f64().is_some_and(|target| target > 0.0) {
                sentences.push(format!("class `{name}` has no rows in `{split}`"));
            }
        }
    }
    sentences
}
