//! The space of a search: the values of each parameter, and the trials drawn from them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use hamflow_stage_api::{ParamError, Random, near_miss, parameters};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::ml::recipe::Recipe;
use crate::search_record::assignments;

/// The maximum number of trials.
pub const MAX_TRIALS: usize = 1000;

/// Random draws per trial, after which a space counts as exhausted.
const DRAWS_PER_TRIAL: usize = 50;

/// Parameters of `train` that a search cannot vary, and why.
const FIXED: &[(&str, &str)] = &[
    ("device", "it is the same for all trials"),
    ("precision", "it is the same for all trials"),
    ("keep_metric", "trials are only comparable by one metric"),
    ("keep", "trials are only comparable if all keep the same epoch"),
    ("fold", "trials are only comparable on the same validation rows"),
    ("row_weights", "trials are only comparable on the same rows"),
];

/// The values of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Dimension {
    /// These values.
    Values(Vec<Value>),
    /// All values of a range.
    Range(Range),
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// Draw the logarithm uniformly instead of the value.
    #[serde(default)]
    pub log: bool,
}

impl Serialize for Dimension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Values(values) => values.serialize(serializer),
            Self::Range(range) => range.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Dimension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrRange;
        impl<'de> Visitor<'de> for ListOrRange {
            type Value = Dimension;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values or a table with `min` and `max`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Dimension, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Dimension::Values)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Dimension, A::Error> {
                Range::deserialize(MapAccessDeserializer::new(table)).map(Dimension::Range)
            }
        }
        deserializer.deserialize_any(ListOrRange)
    }
}

impl JsonSchema for Dimension {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Dimension".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let range = generator.subschema_for::<Range>();
        json_schema!({ "anyOf": [{ "type": "array", "items": {}, "minItems": 1 }, range] })
    }
}

/// The values of each parameter, by name. A dot separates the names of nested parameters (`augment.zoom`).
pub type Space = BTreeMap<String, Dimension>;

/// The searched parameters of one trial.
pub type Point = Map<String, Value>;

/// Rejects a space without values, with names that cannot vary, or with values that `train` rejects.
pub fn check(space: &Space, base: &Recipe, takes_ranges: bool) -> Result<(), ParamError> {
    if space.is_empty() {
        return Err(ParamError::new("space", "`space` has no parameters to search")
            .hint("for example `space = { learning_rate = [1e-4, 1e-3] }`"));
    }
    for (name, dimension) in space {
        let refuse = |problem: String| ParamError { path: path(name), message: problem, hint: None };
        let first = name.split('.').next();
        if let Some((fixed, reason)) = FIXED.iter().find(|(fixed, _)| Some(*fixed) == first) {
            let hint = if *fixed == "keep_metric" { "set `metric`" } else { "set it in `train`" };
            return Err(refuse(format!("`{fixed}` cannot vary in a search: {reason}")).hint(hint));
        }
        match dimension {
            Dimension::Values(values) if values.is_empty() => {
                return Err(refuse(format!("`space.{name}` has no values")));
            }
            Dimension::Values(_) => {}
            Dimension::Range(_) if !takes_ranges => {
                return Err(refuse(format!("`space.{name}` is a range, which has no grid"))
                    .hint("list its values, or set `method = \"random\"`"));
            }
            Dimension::Range(Range { min, max, log }) => {
                if min >= max {
                    return Err(refuse(format!("`space.{name}.min` must be less than `max`, not {min}")));
                }
                if *log && *min <= 0.0 {
                    return Err(refuse(format!("`space.{name}.min` must be greater than 0 with `log`, not {min}")));
                }
            }
        }
        let mut recipes: Vec<Recipe> = Vec::new();
        for value in bounds(dimension, name)? {
            let made = recipe(base, &Point::from_iter([(name.clone(), value.clone())]))?;
            // The same number may be written in two ways.
            if recipes.contains(&made) && matches!(dimension, Dimension::Values(_)) {
                return Err(refuse(format!("`space.{name}` has the value {value} twice")));
            }
            recipes.push(made);
        }
    }
    Ok(())
}

fn path(name: &str) -> Vec<String> {
    vec!["space".to_owned(), name.to_owned()]
}

/// The values of a list, or the ends of a range.
fn bounds(dimension: &Dimension, name: &str) -> Result<Vec<Value>, ParamError> {
    match dimension {
        Dimension::Values(values) => Ok(values.clone()),
        Dimension::Range(Range { min, max, .. }) => Ok([*min, *max].map(|end| number(end, name)).to_vec()),
    }
}

/// A number as the parameter takes it: an integer if it is one.
fn number(value: f64, name: &str) -> Value {
    if is_integer(name) { Value::from(libm::round(value) as i64) } else { Value::from(value) }
}

fn is_integer(name: &str) -> bool {
    schema_type(name).as_deref() == Some("integer")
}

/// The type of a parameter of `train` in its JSON Schema.
fn schema_type(name: &str) -> Option<String> {
    let mut schema = parameters::schema::<Recipe>();
    for step in name.split('.') {
        let choices = schema.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_default();
        let found = std::iter::once(&schema).chain(&choices).find_map(|schema| schema.get("properties")?.get(step));
        schema = found?.clone();
    }
    schema.get("type").and_then(Value::as_str).map(str::to_owned)
}

/// The recipe of a trial: the shared parameters with its own in their place.
pub fn recipe(base: &Recipe, point: &Point) -> Result<Recipe, ParamError> {
    let shared = serde_json::to_value(base).map_err(|error| ParamError::new("train", error.to_string()))?;
    let Value::Object(mut params) = shared else { return Err(ParamError::new("train", "it must be a table")) };
    for (name, value) in point {
        set(&mut params, name, value.clone())?;
    }
    let parsed = parameters::resolve::<Recipe>(&params).and_then(|recipe| recipe.check().map(|()| recipe));
    parsed.map_err(|error| {
        // The shared parameters were checked before, so one of the trial's own is wrong.
        let wrong =
            point.keys().find(|name| error.path.first().is_some_and(|first| name.split('.').next() == Some(first)));
        let wrong = wrong.or(point.keys().next()).cloned().unwrap_or_default();
        let message = format!("the trial with {} is rejected: {}", assignments(point), error.message);
        ParamError { path: path(&wrong), message, hint: error.hint }
    })
}

/// Sets a parameter by its dotted name.
fn set(params: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), ParamError> {
    let mut steps: Vec<&str> = name.split('.').collect();
    let last = steps.pop().unwrap_or_default();
    let mut table = params;
    for step in steps {
        let names: Vec<String> = table.keys().cloned().collect();
        let Some(Value::Object(next)) = table.get_mut(step) else {
            return Err(ParamError {
                path: path(name),
                message: format!("`{step}` is not a table, so `{name}` cannot be set"),
                hint: near_miss::hint(step, names.iter().map(String::as_str)),
            });
        };
        table = next;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

/// All combinations of the values; the last parameter varies fastest.
pub fn grid(space: &Space) -> Result<Vec<Point>, ParamError> {
    let mut points = vec![Point::new()];
    for (name, dimension) in space {
        let values = bounds(dimension, name)?;
        if points.len() * values.len() > MAX_TRIALS {
            return Err(ParamError::new("space", format!("the grid has more than {MAX_TRIALS} trials"))
                .hint("set `method = \"random\"` and `trials`"));
        }
        let extended = |point: &Point| {
            let with = |value: &Value| {
                let mut point = point.clone();
                point.insert(name.clone(), value.clone());
                point
            };
            values.iter().map(with).collect::<Vec<_>>()
        };
        points = points.iter().flat_map(extended).collect();
    }
    Ok(points)
}

/// `count` different random points, or fewer if the space has not so many. Each draw has a random stream of its own, so a
/// higher `count` keeps the first ones.
pub fn random(space: &Space, count: usize, seed: u64) -> Result<Vec<Point>, ParamError> {
    let mut points: Vec<Point> = Vec::with_capacity(count);
    for draw in 0..DRAWS_PER_TRIAL * count {
        if points.len() == count {
            break;
        }
        let mut point = Point::new();
        for (name, dimension) in space {
            let mut random = Random::new(seed, &format!("trial {draw} {name}"));
            let value = match dimension {
                Dimension::Values(values) => values[random.below(values.len() as u64) as usize].clone(),
                Dimension::Range(range) => range.value(&mut random, name),
            };
            point.insert(name.clone(), value);
        }
        if !points.contains(&point) {
            points.push(point);
        }
    }
    Ok(points)
}

impl Range {
    /// A random value for a parameter. All integers of a range are equally likely.
    fn value(self, random: &mut Random, name: &str) -> Value {
        if self.log || !is_integer(name) {
            return number(self.draw(random), name);
        }
        let (min, max) = (libm::round(self.min) as i64, libm::round(self.max) as i64);
        Value::from(min + random.below((max - min).unsigned_abs() + 1) as i64)
    }

    /// A value with three significant digits.
    fn draw(self, random: &mut Random) -> f64 {
        let share = random.unit();
        let between = |low: f64, high: f64| low + share * (high - low);
        let value = match self.log {
            true => libm::exp(between(libm::log(self.min), libm::log(self.max))),
            false => between(self.min, self.max),
        };
        let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
        rounded.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn space(value: Value) -> Space {
        serde_json::from_value(value).unwrap()
    }

    fn problem(value: Value) -> (String, Vec<String>) {
        let error = check(&space(value), &Recipe::default(), true).unwrap_err();
        (error.message, error.path)
    }

    #[test]
    fn a_grid_has_every_combination_and_the_last_name_varies_fastest() {
        let points = grid(&space(json!({ "learning_rate": [0.1, 0.2], "batch_size": [8, 16] }))).unwrap();
        let shown: Vec<String> = points.iter().map(assignments).collect();
        assert_eq!(
            shown,
            [
                "batch_size = 8, learning_rate = 0.1",
                "batch_size = 8, learning_rate = 0.2",
                "batch_size = 16, learning_rate = 0.1",
                "batch_size = 16, learning_rate = 0.2"
            ]
        );
        let large: Vec<usize> = (1..=40).collect();
        let error = grid(&space(json!({ "batch_size": large, "epochs": large }))).unwrap_err();
        assert_eq!(error.message, "the grid has more than 1000 trials");
    }

    #[test]
    fn random_points_are_reproducible_and_more_of_them_keep_the_first() {
        let space = space(json!({
            "learning_rate": { "min": 1e-4, "max": 1e-2, "log": true },
            "batch_size": { "min": 8, "max": 64 },
            "optimiser": ["adam", "sgd"],
        }));
        let (few, more) = (random(&space, 5, 7).unwrap(), random(&space, 50, 7).unwrap());
        assert_eq!(few, more[..5]);
        assert_ne!(few, random(&space, 5, 8).unwrap());
        let rates: Vec<f64> = more.iter().map(|point| point["learning_rate"].as_f64().unwrap()).collect();
        assert!(rates.iter().all(|rate| (1e-4..=1e-2).contains(rate)));
        // Log-uniform: half of the draws are below the geometric mean of the ends.
        let low = rates.iter().filter(|rate| **rate < 1e-3).count();
        assert!((15..=35).contains(&low), "{low} of 50");
        assert!(more.iter().all(|point| point["batch_size"].is_i64()), "the batch size is an integer");
        for point in &more {
            recipe(&Recipe::default(), point).unwrap();
        }
    }

    #[test]
    fn all_integers_of_a_range_are_equally_likely() {
        let space = space(json!({ "warmup_epochs": [0.0, 1.0], "epochs": { "min": 1, "max": 3 } }));
        let mut counts = [0; 3];
        for seed in 0..300 {
            let point = &random(&space, 1, seed).unwrap()[0];
            counts[point["epochs"].as_u64().unwrap() as usize - 1] += 1;
        }
        // 100 each, with a standard deviation of 8.
        assert!(counts.iter().all(|count| (70..130).contains(count)), "{counts:?}");
    }

    #[test]
    fn random_points_differ() {
        let two = space(json!({ "optimiser": ["adam", "sgd"] }));
        assert_eq!(random(&two, 30, 1).unwrap().len(), 2);
        for seed in 0..20 {
            assert_eq!(random(&two, 2, seed).unwrap().len(), 2, "equal draws are repeated");
        }
    }

    #[test]
    fn nested_parameters_are_set_by_their_dotted_name() {
        let base = Recipe::default();
        let made = recipe(&base, &Point::from_iter([("augment.zoom".to_owned(), json!(0.3))])).unwrap();
        assert_eq!(made.augment.0.unwrap().zoom, 0.3);
        assert_eq!(made.augment.0.unwrap().rotation, base.augment.0.unwrap().rotation);
    }

    #[test]
    fn wrong_spaces_are_rejected_with_the_parameter() {
        for (value, message, name) in [
            (
                json!({ "fold": [0, 1] }),
                "`fold` cannot vary in a search: trials are only comparable on the same validation rows",
                "fold",
            ),
            (
                json!({ "row_weights.column": ["dx_type", "sex"] }),
                "`row_weights` cannot vary in a search: trials are only comparable on the same rows",
                "row_weights.column",
            ),
            (
                json!({ "learning_rate": [1, 0.1, 1.0] }),
                "`space.learning_rate` has the value 1.0 twice",
                "learning_rate",
            ),
            (
                json!({ "augment.zoom.x": [1] }),
                "`zoom` is not a table, so `augment.zoom.x` cannot be set",
                "augment.zoom.x",
            ),
            (json!({ "epochs": [] }), "`space.epochs` has no values", "epochs"),
            (json!({ "epochs": [1, 2, 1] }), "`space.epochs` has the value 1 twice", "epochs"),
            (
                json!({ "learning_rate": { "min": 1.0, "max": 0.1 } }),
                "`space.learning_rate.min` must be less than `max`, not 1",
                "learning_rate",
            ),
            (
                json!({ "learning_rate": { "min": 0.0, "max": 0.1, "log": true } }),
                "`space.learning_rate.min` must be greater than 0 with `log`, not 0",
                "learning_rate",
            ),
            (
                json!({ "lerning_rate": [1] }),
                "the trial with lerning_rate = 1 is rejected: unknown parameter `lerning_rate`",
                "lerning_rate",
            ),
            (
                json!({ "batch_size": [0] }),
                "the trial with batch_size = 0 is rejected: `batch_size` must be between 1 and 4096, not 0",
                "batch_size",
            ),
            (json!({ "zoom.x": [1] }), "`zoom` is not a table, so `zoom.x` cannot be set", "zoom.x"),
        ] {
            assert_eq!(problem(value), (message.to_owned(), vec!["space".to_owned(), name.to_owned()]));
        }
        let empty = check(&Space::new(), &Recipe::default(), true).unwrap_err();
        assert_eq!(empty.message, "`space` has no parameters to search");
        let range = space(json!({ "learning_rate": { "min": 0.1, "max": 1.0 } }));
        let error = check(&range, &Recipe::default(), false).unwrap_err();
        assert_eq!(error.message, "`space.learning_rate` is a range, which has no grid");
    }
}
