//! Kinds without work, for what happens before anything runs.

use hamflow_stage_api::{
    AnyKind, ArtifactType, Files, Kind, KindSpec, Output, ParamError, Params, Port, StageContext, StageError,
};
use serde_json::{Value, json};

/// The toy kinds: `source` → `map` → `pack` → `fit` → `gather`, and `command`.
pub(crate) const KINDS: &[&dyn AnyKind] = &[&Source, &Map, &Pack, &Fit, &Gather, &Command];

/// Checks the names' types by a list of `(name, default, what it takes)`.
fn resolve(params: &Params, defaults: &[(&str, Value)]) -> Result<Params, ParamError> {
    let mut resolved = Params::new();
    for (name, default) in defaults {
        let value = params.get(*name).cloned().unwrap_or_else(|| default.clone());
        let same = (value.is_number() && default.is_number())
            || std::mem::discriminant(&value) == std::mem::discriminant(default);
        if !same {
            return Err(ParamError::new(name, format!("invalid type, expected something like {default}")));
        }
        resolved.insert((*name).to_owned(), value);
    }
    Ok(resolved)
}

macro_rules! no_work {
    () => {
        fn run(&self, _params: &Params, _context: &StageContext<'_>) -> Result<(), StageError> {
            Ok(())
        }
    };
}

/// Reads a CSV file.
pub(crate) struct Source;

impl Kind for Source {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        let csv = Port {
            accepts: vec![ArtifactType::file("csv")],
            ..Port::new("csv", ArtifactType::file("csv"), "The rows.")
        };
        let images = Port { accepts: Vec::new(), ..Port::new("images", ArtifactType::folder("images"), "The images.") };
        KindSpec::new("source", 1, "Reads a table.", vec![csv.or_external(), images.or_external().optional()])
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "properties": {}, "additionalProperties": false })
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, &[])
    }

    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![
            Output::new("table", ArtifactType::TABLE, "table.parquet"),
            Output::new("summary", ArtifactType::file("summary"), "summary.json"),
        ]
    }

    no_work!();
}

/// Changes a table.
pub(crate) struct Map;

impl Kind for Map {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        KindSpec::new("map", 1, "Changes a table.", vec![Port::new("table", ArtifactType::TABLE, "What is changed.")])
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "properties": { "column": { "type": "string" } }, "additionalProperties": false })
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        let resolved = resolve(params, &[("column", json!("age"))])?;
        match resolved["column"].as_str() {
            Some("") => Err(ParamError::new("column", "`column` is empty").hint("name a column of the table")),
            _ => Ok(resolved),
        }
    }

    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![
            Output::new("table", ArtifactType::TABLE, "table.parquet"),
            Output::new("balance", ArtifactType::file("balance"), "balance.json"),
        ]
    }

    no_work!();
}

/// Packs a table into shards.
pub(crate) struct Pack;

impl Kind for Pack {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        KindSpec::new("pack", 1, "Packs a table.", vec![Port::new("table", ArtifactType::TABLE, "What is packed.")])
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "properties": {}, "additionalProperties": false })
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, &[])
    }

    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![
            Output::new("shards", ArtifactType::folder("shards"), "shards"),
            Output::new("index", ArtifactType::file("index"), "shards/index.parquet"),
        ]
    }

    no_work!();
}

/// Learns from shards.
pub(crate) struct Fit;

impl Kind for Fit {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("shards", ArtifactType::folder("shards"), "What it learns from."),
            Port::new("split", ArtifactType::TABLE, "Which rows it learns from.").optional(),
        ];
        let mut spec = KindSpec::new("fit", 1, "Learns.", ports);
        spec.seeded = true;
        spec.extendable = &["epochs"];
        spec
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "epochs": { "type": "integer", "default": 10 },
                "lr": { "type": "number", "default": 0.001 },
                "model": { "type": "string", "default": "baseline" },
            },
            "additionalProperties": false,
        })
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        let resolved = resolve(params, &[("model", json!("baseline")), ("lr", json!(1e-3)), ("epochs", json!(10))])?;
        match resolved["epochs"].as_i64() {
            Some(epochs) if epochs > 0 => Ok(resolved),
            _ => Err(ParamError::new("epochs", "`epochs` must be a whole number of at least 1")),
        }
    }

    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![
            Output::new("model", ArtifactType::folder("model"), "model"),
            Output::new("history", ArtifactType::file("history"), "history.json"),
            Output::new("metrics", ArtifactType::METRICS, "metrics.json"),
        ]
    }

    no_work!();
}

/// Puts metrics side by side, and judges a model.
pub(crate) struct Gather;

impl Kind for Gather {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("metrics", ArtifactType::METRICS, "What is compared.").many().optional(),
            Port::new("model", ArtifactType::folder("model"), "What is judged.").optional(),
            Port::new("other", ArtifactType::folder("model"), "What it is judged against.").optional(),
            Port::new("shards", ArtifactType::folder("shards"), "What it is judged on.").unless("metrics").optional(),
        ];
        KindSpec::new("gather", 1, "Compares.", ports)
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "properties": { "top": { "type": "integer" } }, "additionalProperties": false })
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        resolve(params, &[("top", json!(3))])
    }

    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![Output::new("metrics", ArtifactType::METRICS, "metrics.json")]
    }

    no_work!();
}

/// Runs a program, with inputs and outputs of the user's choice.
pub(crate) struct Command;

impl Kind for Command {
    type Params = Params;

    fn spec(&self) -> KindSpec {
        let mut spec = KindSpec::new("command", 1, "Runs a program.", Vec::new());
        spec.dynamic_ports = true;
        spec
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "run": { "type": "array", "items": { "type": "string" } },
                "outputs": { "type": "object", "additionalProperties": { "$ref": "#/$defs/DeclaredOutput" } },
            },
            "additionalProperties": false,
            "$defs": { "DeclaredOutput": { "type": "object" } },
        })
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        let resolved = resolve(params, &[("outputs", json!({})), ("run", json!([]))])?;
        for (name, output) in resolved["outputs"].as_object().into_iter().flatten() {
            if known_type(&output["type"]).is_none() {
                let mut error = ParamError::new("outputs", format!("no artifact type {}", output["type"]));
                error.path.extend([name.clone(), "type".to_owned()]);
                return Err(error);
            }
        }
        Ok(resolved)
    }

    fn outputs(&self, params: &Params) -> Vec<Output> {
        let declared = params["outputs"].as_object().into_iter().flatten();
        declared
            .map(|(name, output)| {
                let artifact_type = known_type(&output["type"]).unwrap();
                Output::new(name, artifact_type, output["path"].as_str().unwrap_or(name))
            })
            .collect()
    }

    fn files(&self) -> Option<&dyn Files<Params>> {
        Some(self)
    }

    no_work!();
}

impl Files<Params> for Command {
    fn candidates(&self, params: &Params) -> Vec<String> {
        let arguments = params["run"].as_array().into_iter().flatten();
        arguments.filter_map(|argument| Some(argument.as_str()?.to_owned())).collect()
    }
}

/// The types that a toy command can declare.
fn known_type(name: &Value) -> Option<ArtifactType> {
    let known = [
        ArtifactType::TABLE,
        ArtifactType::METRICS,
        ArtifactType::PAGE,
        ArtifactType::FILE,
        ArtifactType::FOLDER,
        ArtifactType::file("csv"),
        ArtifactType::file("summary"),
        ArtifactType::folder("images"),
    ];
    known.into_iter().find(|known| *name == known.name())
}
