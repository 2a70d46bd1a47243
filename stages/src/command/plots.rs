//! Figures of what a program wrote: columns of CSV and JSON files.

use std::collections::BTreeSet;

use hamflow_stage_api::{DrawnPlots, Series, StageContext, StageError, Symlinks, near_miss, read_regular};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CommandParams;
use crate::plot::{ColumnBarsPlot, ColumnSeries, ColumnsPlot, ConfusionMatrixPlot, Drawing, Figure, Svg};
use crate::table::Sheet;

/// The output with the figures.
pub(super) const OUTPUT: &str = "plots";

/// A figure of the columns of an output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Plot {
    /// The column of the horizontal axis; by default the number of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    /// The column or columns to draw.
    y: Columns,
    /// How they are drawn.
    #[serde(skip_serializing_if = "super::is_default")]
    form: Form,
    /// The title; by default that of the columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The label of the horizontal axis; by default the name of the column.
    #[serde(skip_serializing_if = "Option::is_none")]
    x_label: Option<String>,
    /// The label of the vertical axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    y_label: Option<String>,
}

/// One column or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the name of a column, or a list of names")]
pub(super) enum Columns {
    One(String),
    Several(Vec<String>),
}

impl Default for Columns {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Columns {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// How columns are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// A line through the rows, in their order.
    #[default]
    Line,
    /// A point for each row.
    Scatter,
    /// A bar for each row, with the texts of `x`.
    Bar,
    /// Counts of the pairs of `x` (true class, down) and `y` (predicted class, across).
    Confusion,
}

impl Plot {
    /// What is wrong with the declaration, if anything.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match (self.form, self.y.names().len(), &self.x) {
            (_, 0, _) => Some("a plot needs `y`, the columns to draw"),
            (Form::Bar | Form::Scatter | Form::Confusion, _, None) => Some("a plot of this form needs `x`"),
            (Form::Confusion, 2.., _) => Some("a plot of the form `confusion` has one column `y`"),
            _ => None,
        }
    }

    fn title(&self) -> String {
        self.title.clone().unwrap_or_else(|| self.y.names().join(", "))
    }
}

/// The rows of a file, by column.
struct Rows {
    name: String,
    content: Content,
}

enum Content {
    Sheet(Sheet),
    Objects(Vec<Map<String, Value>>),
}

impl Rows {
    /// Reads CSV, or JSON: a list of objects, an object with one, or an object in each line.
    fn read(name: &str, bytes: &[u8]) -> Result<Self, StageError> {
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"[{".contains(byte));
        let content = match is_json {
            true => Content::Objects(objects(bytes).ok_or_else(|| {
                StageError::failed(format!("output `{name}` has plots, but no list of objects in its JSON"))
            })?),
            false => Content::Sheet(Sheet::read(name, bytes.to_vec())?),
        };
        Ok(Self { name: name.to_owned(), content })
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Sheet(sheet) => sheet.height(),
            Content::Objects(objects) => objects.len(),
        }
    }

    /// The texts of a column; empty where there is none.
    fn texts(&self, column: &str) -> Result<Vec<String>, StageError> {
        let (found, known): (Option<Vec<String>>, Vec<String>) = match &self.content {
            Content::Sheet(sheet) => {
                let texts = sheet
                    .find(column)
                    .map(|place| (0..sheet.height()).map(|row| sheet.text(row, place).trim().to_owned()).collect());
                (texts, sheet.header.clone())
            }
            Content::Objects(objects) => {
                let text = |value: Option<&Value>| match value {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => String::new(),
                    Some(other) => other.to_string(),
                };
                let has = objects.iter().any(|object| object.contains_key(column));
                let known: BTreeSet<&String> = objects.iter().flat_map(Map::keys).collect();
                let texts = has.then(|| objects.iter().map(|object| text(object.get(column))).collect());
                (texts, known.into_iter().cloned().collect())
            }
        };
        found.ok_or_else(|| {
            let message = format!("output `{}` has no column `{column}` for its plot", self.name);
            let near = near_miss::did_you_mean(column, known.iter().map(String::as_str));
            let columns = || format!("its columns are `{}`", known.join("`, `"));
            StageError::failed(message).hint(near.unwrap_or_else(columns))
        })
    }

    fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>, StageError> {
        let number = |(row, text): (usize, &String)| match text.parse::<f64>() {
            Ok(number) => Ok(Some(number).filter(|number| number.is_finite())),
            Err(_) if text.is_empty() => Ok(None),
            Err(_) => Err(StageError::failed(format!(
                "output `{}`: `{column}` in row {} is `{text}`, which is not a number, so it cannot be drawn",
                self.name,
                row + 1
            ))
            .hint("`form = \"bar\"` takes texts as `x`")),
        };
        self.texts(column)?.iter().enumerate().map(number).collect()
    }
}

/// The objects in JSON: a list, the first list in an object, or an object in each line.
fn objects(bytes: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let of_list = |list: &Vec<Value>| list.iter().map(|item| item.as_object().cloned()).collect::<Option<Vec<_>>>();
    let bytes = &with_nulls(bytes)[..];
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        return match &value {
            Value::Array(list) => of_list(list),
            Value::Object(map) => {
                let mut lists = map.values().filter_map(Value::as_array).filter_map(of_list);
                lists.find(|list| !list.is_empty()).or_else(|| Some(vec![map.clone()]))
            }
            _ => None,
        };
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Replaces the numbers that Python writes and JSON does not have (NaN, infinite ones) by `null`.
fn with_nulls(bytes: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let (mut rest, mut is_text) = (bytes, false);
    while let Some((&byte, after)) = rest.split_first() {
        let word = ["-Infinity", "Infinity", "NaN"].iter().find(|word| !is_text && rest.starts_with(word.as_bytes()));
        if let Some(word) = word {
            replaced.extend(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        match (byte, after.first()) {
            (b'\\', Some(&next)) if is_text => {
                replaced.extend([byte, next]);
                rest = &after[1..];
                continue;
            }
            (b'"', _) => is_text = !is_text,
            _ => {}
        }
        replaced.push(byte);
        rest = after;
    }
    replaced
}

/// Draws a plot of the files of one run or of several.
fn figure(plot: &Plot, runs: &[(String, Rows)]) -> Result<(Figure, Svg), StageError> {
    let named = |run: &str, column: &str| if runs.len() > 1 { format!("{run}: {column}") } else { column.to_owned() };
    let (x, title) = (plot.x.as_deref(), plot.title());
    let x_label = plot.x_label.clone().or_else(|| plot.x.clone()).unwrap_or_else(|| "row".to_owned());
    let y_label = plot.y_label.clone().unwrap_or_default();
    Ok(match plot.form {
        Form::Line | Form::Scatter => {
            let mut series = Vec::new();
            for (run, rows) in runs {
                let across = match x {
                    Some(column) => rows.numbers(column)?,
                    None => (0..rows.len()).map(|row| Some(row as f64)).collect(),
                };
                for column in plot.y.names() {
                    let points = across.iter().zip(rows.numbers(column)?);
                    let points = points.filter_map(|(x, y)| Some(((*x)?, y?))).collect();
                    series.push(ColumnSeries { name: named(run, column), points });
                }
            }
            let connected = plot.form == Form::Line;
            drawn(&ColumnsPlot { title, x: x_label, y: y_label, connected, series })
        }
        Form::Bar => {
            let mut groups: Vec<String> = Vec::new();
            let mut columns = Vec::new();
            for (run, rows) in runs {
                let texts = rows.texts(x.unwrap_or_default())?;
                groups.extend(texts.iter().filter(|text| !groups.contains(text)).cloned().collect::<BTreeSet<_>>());
                for column in plot.y.names() {
                    let values = rows.numbers(column)?;
                    columns.push((named(run, column), texts.clone().into_iter().zip(values).collect::<Vec<_>>()));
                }
            }
            // In the order of the first run's rows.
            let first: Vec<String> = columns
                .first()
                .map(|(_, values)| values.iter().map(|(text, _)| text.clone()).collect())
                .unwrap_or_default();
            groups.sort_by_key(|group| first.iter().position(|text| text == group).unwrap_or(usize::MAX));
            let value = |values: &[(String, Option<f64>)], group: &String| {
                values.iter().find(|(text, _)| text == group).and_then(|(_, value)| *value)
            };
            let values = groups.iter().map(|group| columns.iter().map(|(_, values)| value(values, group)).collect());
            let values = values.collect();
            let axis = if y_label.is_empty() { title.clone() } else { y_label };
            let series = columns.iter().map(|(name, _)| name.clone()).collect();
            drawn(&ColumnBarsPlot { title, axis, groups, series, values })
        }
        Form::Confusion => {
            // Two matrices would not fit into one figure.
            let Some((run, rows)) = runs.last() else { return Err(StageError::bug("nothing to draw")) };
            let actual = rows.texts(x.unwrap_or_default())?;
            let predicted = rows.texts(&plot.y.names()[0])?;
            let classes: BTreeSet<&String> = actual.iter().chain(&predicted).collect();
            let classes: Vec<String> = classes.into_iter().cloned().collect();
            let place = |text: &String| classes.binary_search(text).unwrap_or_default();
            let mut counts = vec![vec![0; classes.len()]; classes.len()];
            for (actual, predicted) in actual.iter().zip(&predicted) {
                counts[place(actual)][place(predicted)] += 1;
            }
            let title = if runs.len() > 1 { format!("{run}: {title}") } else { title };
            drawn(&ConfusionMatrixPlot { title, classes, counts })
        }
    })
}

fn drawn<T: Drawing>(plot: &T) -> (Figure, Svg) {
    (Figure::new(plot), plot.draw())
}

/// Draws the plots of an output in one run or in several; each with its title.
pub(super) fn draw(params: &CommandParams, output: &str, series: &[Series<'_>]) -> Result<DrawnPlots, StageError> {
    let plots = params.outputs.get(output).map(|declared| &declared.plots[..]).unwrap_or_default();
    let runs = series.iter().map(|series| Ok((series.name.to_owned(), Rows::read(output, series.values)?)));
    let runs = runs.collect::<Result<Vec<_>, StageError>>()?;
    plots.iter().map(|plot| Ok((plot.title(), figure(plot, &runs)?.1.file()))).collect()
}

/// Writes the figures of all outputs: `NAME.svg` and `NAME.json`.
pub(super) fn write(params: &CommandParams, context: &StageContext<'_>) -> Result<(), StageError> {
    for (name, declared) in params.outputs.iter().filter(|(_, declared)| !declared.plots.is_empty()) {
        let path = context.job().output_dir.join(declared.path(name));
        let bytes = read_regular(&path, Symlinks::Refuse).map_err(|source| StageError::io("read", &path, &source))?;
        let runs = [(String::new(), Rows::read(name, &bytes)?)];
        for (number, plot) in declared.plots.iter().enumerate() {
            let (figure, svg) = figure(plot, &runs)?;
            let file = if declared.plots.len() == 1 { name.clone() } else { format!("{name}-{}", number + 1) };
            context.write(&format!("{OUTPUT}/{file}.svg"), svg.file().as_bytes())?;
            context.write(&format!("{OUTPUT}/{file}.json"), &figure.json())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_objects_are_found_and_numbers_that_json_lacks_have_no_value() {
        let rows = |text: &str| Rows::read("x", text.as_bytes()).map(|rows| rows.numbers("a").unwrap()).unwrap();
        assert_eq!(rows(r#"[{"a": 1}, {"a": null}, {"b": 2}]"#), [Some(1.0), None, None]);
        assert_eq!(
            rows(r#"{"note": "NaN", "roc": [{"a": Infinity}, {"a": -Infinity}, {"a": NaN}, {"a": 0.5}]}"#),
            [None, None, None, Some(0.5)]
        );
        assert_eq!(rows("{\"a\": 1}\n{\"a\": 2, \"s\": \"\\\"Infinity\"}\n"), [Some(1.0), Some(2.0)]);
        assert_eq!(rows("a,b\n1,x\n,y\n2.5,z\n"), [Some(1.0), None, Some(2.5)]);
        assert!(Rows::read("x", b"[1, 2]").is_err());
    }
}
