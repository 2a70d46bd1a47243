//! Predictions that were made elsewhere: by another program, or by the models of a cross-validation.

use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::{Input, StageContext, StageError, near_miss};

use super::external::External;
use super::params::EvaluateParams;
use super::predict::Predicted;
use super::rows::{self, Row};
use crate::dataset::{EXTERNAL, SPLITS};
use crate::ml::examples::unnamed_class;
use crate::prediction_table::ProbabilityTable;

/// Reads the predictions of all tables. A row's split is that of its prediction, or else that of the table `split`; its
/// lesion, class and attributes come from there, or from the external test set.
pub fn read(tables: &[Input], params: &EvaluateParams, context: &StageContext<'_>) -> Result<Predicted, StageError> {
    let internal = rows::read(context.inputs(), &SPLITS.map(str::to_owned), None)?;
    let external = External::of(context.inputs())?;
    let mut splits = params.splits.clone();
    splits.extend(external.as_ref().map(|_| EXTERNAL.to_owned()));
    let mut pool = Pool { splits: &splits, known: BTreeMap::new(), predicted: BTreeMap::new(), labels: Vec::new() };
    for row in &internal {
        pool.known.insert(&row.image_id, row);
    }
    let tables: Vec<(&str, ProbabilityTable)> = tables
        .iter()
        .map(|table| Ok((&table.name[..], ProbabilityTable::read(table)?)))
        .collect::<Result<_, StageError>>()?;
    pool.labels = labels(&tables, &internal)?;
    let external = external.map(|external| external.rows(&pool.labels)).transpose()?.unwrap_or_default();
    for row in &external {
        pool.known.entry(&row.image_id).or_insert(row);
    }
    for (name, table) in &tables {
        pool.add(name, table)?;
    }
    let mut predicted = Predicted { labels: pool.labels.clone(), ..Predicted::default() };
    // In the order of the table, whatever the order of the predictions is.
    for row in internal.iter().chain(&external) {
        if let Some(Prediction { split, probabilities, .. }) = pool.predicted.get(&row.image_id[..]) {
            predicted.rows.push(Row { split: split.clone(), ..row.clone() });
            predicted.probabilities.push(probabilities.clone());
        }
    }
    if let Some(split) = splits.iter().find(|split| predicted.rows.iter().all(|row| row.split != **split)) {
        let message = format!("`predictions` have no rows of the split `{split}`");
        return Err(StageError::input(message).hint("evaluate that split, or leave it out of `splits`"));
    }
    let known: Vec<&Row> = internal.iter().chain(&external).collect();
    predicted.left_out = missing(&known, &pool);
    for note in predicted.left_out.values() {
        context.warn(note.clone());
    }
    Ok(predicted)
}

/// The class labels in index order. All tables must have the same, and those of the rows at their index; a single table
/// may have them in another order.
fn labels(tables: &[(&str, ProbabilityTable)], rows: &[Row]) -> Result<Vec<String>, StageError> {
    let Some((first, table)) = tables.first() else { return Ok(Vec::new()) };
    if let Some((name, other)) = tables.iter().find(|(_, other)| other.labels != table.labels) {
        let [ours, theirs] = [&table.labels, &other.labels].map(|labels| labels.join("`, `"));
        return Err(StageError::input(format!(
            "the classes of `{name}` are `{theirs}`, but the classes of the tables before it are `{ours}`"
        )));
    }
    let known: BTreeMap<usize, &str> = rows.iter().map(|row| (row.class, row.label.as_str())).collect();
    let fits = |class: usize, label: &str| {
        let own = table.labels.get(class).map(String::as_str);
        own == Some(label) || own == Some(&unnamed_class(class).label)
    };
    if known.iter().all(|(class, label)| fits(*class, label)) {
        return Ok(table.labels.clone());
    }
    let given: BTreeSet<&str> = table.labels.iter().map(String::as_str).collect();
    if let Some(label) = known.values().find(|label| !given.contains(**label)) {
        let message = format!("`{first}` has no column `probability_{label}` for the class `{label}`");
        return Err(StageError::input(message).hint(match near_miss::did_you_mean(label, given) {
            Some(question) => question,
            None => "a predictions table has one column per class, named after the class in column `dx`".to_owned(),
        }));
    }
    if known.len() == table.labels.len() {
        return Ok(known.values().map(|label| (*label).to_owned()).collect());
    }
    Err(StageError::input(format!("the columns `probability_…` of `{first}` are not in the order of the classes"))
        .hint("some classes have no rows, so the order of their columns must be that of `cell_type_idx`"))
}

/// The prediction of an image.
struct Prediction {
    /// The name of its table.
    table: String,
    split: String,
    probabilities: Vec<f64>,
}

/// The predictions that were read.
struct Pool<'a> {
    splits: &'a [String],
    known: BTreeMap<&'a str, &'a Row>,
    predicted: BTreeMap<String, Prediction>,
    labels: Vec<String>,
}

impl Pool<'_> {
    fn add(&mut self, name: &str, table: &ProbabilityTable) -> Result<(), StageError> {
        let order: Vec<usize> = self
            .labels
            .iter()
            .map(|label| table.labels.iter().position(|own| own == label))
            .collect::<Option<_>>()
            .ok_or_else(|| StageError::bug("a class of the tables has no column"))?;
        for row in 0..table.height() {
            let image = table.image_id(row)?;
            let given = table.text(row, "split")?;
            if given.is_some_and(|split| !self.splits.iter().any(|wanted| wanted == split)) {
                continue;
            }
            let known = self.check(table, name, row)?;
            let split = given.unwrap_or(&known.split).to_owned();
            if (known.split == EXTERNAL) != (split == EXTERNAL) {
                let (from, is) = (&known.split, if split == EXTERNAL { "external" } else { "of the internal data" });
                let message = format!("image `{image}` is {is}, but the tables have it as `{from}`");
                return Err(table.error(row, &message));
            }
            if !self.splits.contains(&split) {
                continue;
            }
            let values = table.probabilities(row)?;
            let probabilities = order.iter().map(|column| values[*column]).collect();
            let prediction = Prediction { table: name.to_owned(), split: split.clone(), probabilities };
            if let Some(Prediction { table: other, .. }) = self.predicted.insert(image.to_owned(), prediction) {
                let error = format!("image `{image}` has two predictions, in `{other}` and in `{name}`");
                return Err(StageError::input(error).hint(match split.as_str() {
                    _ if other == name => "each image must have one row in a table",
                    "test" => "every fold predicts the test rows: set `splits = [\"validation\"]`, or evaluate an `ensemble` of the models on them",
                    _ => "predictions to pool must come from different folds",
                }));
            }
        }
        Ok(())
    }

    /// Fails if the image is not in the table, or with another class.
    fn check(&self, table: &ProbabilityTable, name: &str, row: usize) -> Result<&Row, StageError> {
        let hint = "`predictions` and `split` must come from the same data";
        let image = table.image_id(row)?;
        let Some(known) = self.known.get(image) else {
            return Err(
                StageError::input(format!("image `{image}` of `{name}` is not in the table `split`")).hint(hint)
            );
        };
        match table.text(row, "label")? {
            Some(label) if label != known.label => Err(StageError::input(format!(
                "image `{image}` has class `{label}` in `{name}`, but `{}` in the table `split`",
                known.label
            ))
            .hint(hint)),
            _ => Ok(known),
        }
    }
}

/// Notes about rows that have no prediction. The validation rows of folds are all rows outside the test split.
fn missing(known: &[&Row], pool: &Pool<'_>) -> BTreeMap<String, String> {
    let is_of_folds = known
        .iter()
        .filter(|row| row.split == "train")
        .any(|row| pool.predicted.get(&row.image_id).is_some_and(|prediction| prediction.split == "validation"));
    let mut notes = BTreeMap::new();
    for split in pool.splits {
        let belongs = |row: &&&Row| match &split[..] {
            "validation" if is_of_folds => row.split != "test" && row.split != EXTERNAL,
            _ => row.split == *split,
        };
        let without: Vec<&&Row> =
            known.iter().filter(belongs).filter(|row| !pool.predicted.contains_key(&row.image_id)).collect();
        if let Some(first) = without.first() {
            let count = without.len();
            let note = format!("skipped {count} rows of `{split}` without a prediction (first: `{}`)", first.image_id);
            notes.insert(split.clone(), note);
        }
    }
    notes
}
