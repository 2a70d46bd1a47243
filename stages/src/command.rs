//! The kind `command`: runs any program with declared inputs and outputs.

mod attempts;
mod check;
mod environment;
mod interpreter;
mod isolated;
mod plots;
mod process;
mod programs;
mod reads;
mod shell;
mod template;
mod unchanged;

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::time::Duration;

use hamflow_stage_api::{
    ArtifactType, DrawnPlots, Files, Kind, KindSpec, Output, ParamError, Params, Plots, Series, StageContext,
    StageError, Threads, Tools, Undeclared, Versions, near_miss, parameters,
};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact;
use environment::{Environment, Prepared};
use isolated::Isolated;
use plots::Plot;
use process::{Outcome, Program};
use reads::Places;
use template::{Placeholder, Template};
use unchanged::Stamps;

/// Incremented whenever the program is invoked differently for equal inputs.
///
/// 2: files that the command names are inputs only if the program reads them; lines end as on POSIX systems.
/// 1: first revision.
const REVISION: u32 = 2;

/// Whether a text is a line with valid placeholders. For fuzzing.
pub(crate) fn reads_as_line(text: &str) -> bool {
    Template::parse(text).is_ok_and(|template| {
        template.read_as_line();
        true
    })
}

/// Runs an external program.
pub struct Command;

/// The parameters of `command`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandParams {
    /// The command to run: a list (the program and its arguments), or one line for `sh -c`. `{inputs.x}`, `{outputs.y}`,
    /// `{params.z}` and `{threads}` are replaced with paths and values; `{{` and `}}` are literal braces. In a line, each
    /// value is one word for the shell, without quotes around its placeholder.
    run: Run,
    /// Whether a line fails as soon as one of its commands fails, also one in front of a pipe (`set -e -o pipefail`).
    /// Otherwise only the last command decides. The default is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    /// The shell of a line, such as `bash`; by default `sh`, or bash for a line with a pipe if `sh` cannot tell that a command in
    /// front of the pipe failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<String>,
    /// How long the program may run, such as `30s`, `90m` or `2h`. By default, there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    /// How often a program that fails or exceeds `timeout` is started again.
    #[schemars(range(max = 100))]
    #[serde(skip_serializing_if = "is_default")]
    retries: u32,
    /// Whether the program sees only its declared inputs, in a temporary folder. Reading another file of the project or of the home
    /// directory is an error.
    #[serde(skip_serializing_if = "is_default")]
    isolate: bool,
    /// What happens if the program reads a file of the project that no input declares.
    #[serde(skip_serializing_if = "is_default")]
    undeclared: Undeclared,
    /// Folders outside of the project and the home directory in which every file that the program uses counts, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    track: Vec<String>,
    /// The outputs by name: `{ type = "table", path = "y.parquet" }`. The path is optional. `plots` draws columns of CSV and JSON files.
    outputs: BTreeMap<String, Declared>,
    /// The environment that the program runs in: `"uv"`, or `{ uv = "FOLDER" }`, `{ conda = "NAME" }`, `{ container = "IMAGE" }`. The
    /// versions in it are part of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "environment::schema")]
    environment: Option<Environment>,
    /// Commands that print versions which are part of the key, such as `python3 --version`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<String>,
    /// Values for `{params.z}`, or a file of them: `params.toml`, `params.yaml` or `params.json`. The program finds them as JSON in the
    /// file that the environment variable `HAMFLOW_PARAMS` names.
    #[schemars(schema_with = "values")]
    params: BTreeMap<String, Value>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The command to run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of arguments, or one line for the shell")]
pub enum Run {
    /// The program and its arguments.
    Arguments(Vec<String>),
    /// A line for `sh -c`.
    Line(String),
}

impl Default for Run {
    fn default() -> Self {
        Self::Arguments(Vec::new())
    }
}

impl Run {
    /// Ends all lines as POSIX does: a shell takes the carriage return in a file from Windows for a part of the last word.
    fn with_posix_line_ends(self) -> Self {
        let replace = |text: String| text.replace("\r\n", "\n");
        match self {
            Self::Arguments(arguments) => Self::Arguments(arguments.into_iter().map(replace).collect()),
            Self::Line(line) => Self::Line(replace(line)),
        }
    }

    fn texts(&self) -> &[String] {
        match self {
            Self::Arguments(arguments) => arguments,
            Self::Line(line) => std::slice::from_ref(line),
        }
    }
}

/// One output as the pipeline declares it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// The artifact type; verified after the run.
    #[serde(rename = "type")]
    #[serde(with = "artifact")]
    #[schemars(schema_with = "artifact_types")]
    artifact_type: ArtifactType,
    /// The path below the stage's folder; the default is the output's name with the extension of its type.
    #[serde(default)]
    path: Option<String>,
    /// Figures of the columns of a CSV or JSON file, for `report` and `hamflow compare`: `[{ x = "epoch", y = "loss" }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    plots: Vec<Plot>,
}

fn artifact_types(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": artifact::NAMES })
}

fn values(_: &mut schemars::SchemaGenerator) -> Schema {
    // The engine replaces the path of a file by its values.
    json_schema!({ "type": ["object", "string"] })
}

impl Declared {
    fn path(&self, name: &str) -> String {
        let ending = match self.artifact_type {
            ArtifactType::TABLE | artifact::INDEX | artifact::PREDICTIONS => ".parquet",
            artifact::SUMMARY | artifact::BALANCE | artifact::HISTORY | ArtifactType::METRICS => ".json",
            ArtifactType::PAGE => ".html",
            artifact::CSV => ".csv",
            _ => "",
        };
        self.path.clone().unwrap_or_else(|| format!("{name}{ending}"))
    }
}

impl CommandParams {
    fn check(&self) -> Result<(), ParamError> {
        let texts = self.run.texts();
        if texts.first().is_none_or(|program| program.trim().is_empty()) {
            let hint = "write `run = [\"program\", \"argument\"]`, or one line for the shell";
            return Err(ParamError::new("run", "`run` is empty").hint(hint));
        }
        self.check_outputs()?;
        self.check_process()?;
        for text in texts {
            let template = Template::parse(text)
                .map_err(|problem| ParamError::new("run", problem).hint("write `{{` and `}}` for literal braces"))?;
            for placeholder in template.placeholders() {
                self.check_placeholder(placeholder)?;
            }
        }
        if let Some(environment) = &self.environment {
            environment.check()?;
        }
        self.check_places()
    }

    fn has_plots(&self) -> bool {
        self.outputs.values().any(|declared| !declared.plots.is_empty())
    }

    fn outputs(&self) -> Vec<Output> {
        let declared = self.outputs.iter().map(|(name, it)| Output::new(name, it.artifact_type, &it.path(name)));
        let plots = self.has_plots().then(|| Output::new(plots::OUTPUT, artifact::FIGURES, plots::OUTPUT));
        declared.chain(plots).collect()
    }

    /// The value at a dotted name.
    fn value(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.params.get(name) {
            return Some(value);
        }
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(self.params.get(first)?, |value, step| value.get(step))
    }

    fn check_process(&self) -> Result<(), ParamError> {
        if let Some(shell) = &self.shell {
            if matches!(self.run, Run::Arguments(_)) {
                let hint = "write the command as one line, or remove `shell`";
                return Err(ParamError::new("shell", "`shell` has no effect on a list of arguments").hint(hint));
            }
            if !interpreter::is_shell(shell) {
                let message = format!("`shell` cannot be `{shell}`, expected {}", interpreter::shells());
                let hint = format!("for another interpreter, write `run = [\"{shell}\", …]`");
                return Err(ParamError::new("shell", message).hint(&hint));
            }
        }
        self.time_limit().map(|_| ())
    }

    fn time_limit(&self) -> Result<Option<Duration>, ParamError> {
        let Some(text) = &self.timeout else { return Ok(None) };
        match humantime::parse_duration(text) {
            Ok(limit) if !limit.is_zero() => Ok(Some(limit)),
            _ => Err(ParamError::new("timeout", format!("`timeout` cannot be `{text}`"))
                .hint("write a time with a unit, such as `30s`, `90m` or `2h`")),
        }
    }

    /// Rejects placeholders whose values could become code.
    fn check_places(&self) -> Result<(), ParamError> {
        let template = |text: &str| Template::parse(text).unwrap_or_default();
        let (lines, code) = match &self.run {
            Run::Line(line) => (vec![template(line)], Vec::new()),
            Run::Arguments(arguments) => {
                let of = |indices: Vec<usize>| {
                    let arguments = indices.into_iter().filter_map(|index| arguments.get(index));
                    arguments.map(|text| template(text)).collect()
                };
                (of(programs::scripts(arguments)), of(programs::code(arguments)))
            }
        };
        if let Some((placeholder, place)) = lines.iter().find_map(|line| line.misplaced(self)) {
            let message = format!("`{placeholder}` is {}, where its value could become code", place.describe());
            return Err(ParamError::new("run", message).hint(place.hint(&placeholder.to_string())));
        }
        let mut in_code = code.iter().flat_map(Template::placeholders);
        if let Some(placeholder) = in_code.find(|placeholder| placeholder.is_text(self)) {
            let message = format!("`{placeholder}` is part of a program text, so its value could be executed");
            let hint =
                format!("pass `{placeholder}` as an argument of its own, and let the program read its arguments");
            return Err(ParamError::new("run", message).hint(&hint));
        }
        Ok(())
    }

    fn check_placeholder(&self, placeholder: &Placeholder) -> Result<(), ParamError> {
        let unknown = |name: &str, known: Vec<&str>, table: &str| {
            let message = format!("`run` names `{{{table}.{name}}}`, but `{table}` has no `{name}`");
            ParamError { hint: near_miss::hint(name, known), ..ParamError::new("run", message) }
        };
        match placeholder {
            Placeholder::Output(name) if !self.outputs.contains_key(name) => {
                Err(unknown(name, self.outputs.keys().map(String::as_str).collect(), "outputs"))
            }
            Placeholder::Param(name) => match self.value(name) {
                None => Err(unknown(name, self.params.keys().map(String::as_str).collect(), "params")),
                Some(value) if value.is_array() || value.is_object() || value.is_null() => {
                    let message = format!("`{{params.{name}}}` must be a string, a number, true or false");
                    Err(ParamError::new("run", message)
                        .hint("name a value within it, or let the program read the file in `HAMFLOW_PARAMS`"))
                }
                Some(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether the command is a line with more than one command.
    fn has_several_commands(&self) -> bool {
        let Run::Line(line) = &self.run else { return false };
        Template::parse(line).is_ok_and(|template| template.read_as_line().0.has_several_commands)
    }

    /// Whether the program's uses of files are observed, where that is possible. Those of a container are not: its programs are children
    /// of a service.
    fn is_observed(&self) -> bool {
        (self.isolate || self.undeclared != Undeclared::Off)
            && !self.environment.as_ref().is_some_and(Environment::is_container)
    }

    fn check_outputs(&self) -> Result<(), ParamError> {
        if self.outputs.is_empty() {
            let hint = "write `outputs = { result = { type = \"file\" } }`";
            return Err(ParamError::new("outputs", "a command must declare at least one output").hint(hint));
        }
        for (name, declared) in &self.outputs {
            let is_name =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            if !is_name {
                let message = format!("invalid output name `{name}`: use letters, digits, `_` and `-`");
                return Err(ParamError::new("outputs", message));
            }
            if let Some(problem) = declared.plots.iter().find_map(Plot::problem) {
                let message = format!("output `{name}`: {problem}");
                return Err(ParamError::new(&format!("outputs.{name}"), message)
                    .hint("write `plots = [{ x = \"epoch\", y = \"loss\" }]`"));
            }
            if !declared.plots.is_empty() && declared.artifact_type.is_folder() {
                let message = format!("output `{name}` is a folder, and only files have plots");
                return Err(ParamError::new(&format!("outputs.{name}"), message));
            }
            let path = declared.path(name);
            if self.has_plots() && (name == plots::OUTPUT || Path::new(&path).starts_with(plots::OUTPUT)) {
                let message =
                    format!("the figures of `plots` are the output `{}`, so `{name}` cannot be there", plots::OUTPUT);
                let hint = "give the output another name and another path";
                return Err(ParamError::new(&format!("outputs.{name}"), message).hint(hint));
            }
            if !stays_inside(&path) {
                let message = format!("the path of output `{name}` is outside the stage's folder: `{path}`");
                let hint = "use a normalised relative path without `..` and with `/` as separator";
                return Err(ParamError::new(&format!("outputs.{name}"), message).hint(hint));
            }
        }
        let paths: Vec<(&String, String)> = self.outputs.iter().map(|(name, it)| (name, it.path(name))).collect();
        for (name, path) in &paths {
            let within = |other: &&(&String, String)| other.0 != *name && Path::new(path).starts_with(&other.1);
            if let Some((other, _)) = paths.iter().find(within) {
                let message = format!("the paths of outputs `{other}` and `{name}` overlap: `{path}`");
                return Err(ParamError::new(&format!("outputs.{name}"), message));
            }
        }
        Ok(())
    }
}

/// Whether a path is normalised, relative and stays below its base folder.
fn stays_inside(path: &str) -> bool {
    let normal = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    normal
        && !path.is_empty()
        && !path.ends_with('/')
        && !path.contains("//")
        && !path.contains("/./")
        && !path.contains('\\')
}

impl Kind for Command {
    type Params = CommandParams;

    fn spec(&self) -> KindSpec {
        let summary = "Runs any program on declared inputs and keeps its declared outputs.";
        let spec = KindSpec::new("command", REVISION, summary, Vec::new());
        KindSpec {
            dynamic_ports: true,
            threads: Threads::One,
            observed: true,
            unkeyed: &["timeout", "retries", "undeclared"],
            ..spec
        }
    }

    /// Fills in the paths of the outputs, so that they enter the key.
    fn resolve(&self, params: &Params) -> Result<CommandParams, ParamError> {
        let mut parsed: CommandParams = parameters::parse(params)?;
        for (name, declared) in &mut parsed.outputs {
            declared.path = Some(declared.path(name));
        }
        parsed.run = parsed.run.with_posix_line_ends();
        parsed.check()?;
        // Only where it makes a difference, so that it is not in the key of other commands.
        parsed.strict = parsed.has_several_commands().then(|| parsed.strict.unwrap_or(true));
        Ok(parsed)
    }

    fn outputs(&self, params: &CommandParams) -> Vec<Output> {
        params.outputs()
    }

    fn observes(&self, params: &CommandParams) -> bool {
        params.is_observed() && hamflow_process::can_observe()
    }

    fn tools(&self) -> Option<&dyn Tools<CommandParams>> {
        Some(self)
    }

    fn files(&self) -> Option<&dyn Files<CommandParams>> {
        Some(self)
    }

    fn plots(&self) -> Option<&dyn Plots<CommandParams>> {
        Some(self)
    }

    fn run(&self, params: &CommandParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let outputs = self.outputs(params);
        let stamps = Stamps::take(context.inputs())?;
        for output in &outputs {
            // Creates the parent folder of each output; the program creates the output itself.
            context.output_file(&output.path)?;
        }
        let prepared = environment::prepare(params, context)?;
        let isolated = params.isolate.then(|| Isolated::of(&prepared, context)).transpose()?;
        let places = params.is_observed().then(|| Places::of(params, isolated.as_ref(), context));
        let outcome = match &isolated {
            Some(isolated) => {
                warn_of_visible_files(context);
                start(params, &prepared, Some(isolated), places.as_ref(), &context.with_job(isolated.job()))?
            }
            None => start(params, &prepared, None, places.as_ref(), context)?,
        };
        let failed = outcome.result.is_err();
        if let (Some(observed), Some(places)) = (outcome.observed, places)
            && (!failed || params.isolate)
        {
            let reported = reads::report(&observed, params, &places, context);
            // The program most likely failed because it did not get the file.
            reported
                .map_err(|error| outcome.result.as_ref().err().map_or(error.clone(), |cause| because(cause, &error)))?;
        }
        outcome.result?;
        stamps.check(context.inputs())?;
        for output in outputs.iter().filter(|output| !params.has_plots() || output.name != plots::OUTPUT) {
            check::output(output, &context.job().output_dir)?.into_iter().for_each(|warning| context.warn(warning));
        }
        plots::write(params, context)
    }
}

/// Runs the program of a stage. `context` is that of the program.
fn start(
    params: &CommandParams,
    prepared: &Prepared,
    isolated: Option<&Isolated>,
    places: Option<&Places>,
    context: &StageContext<'_>,
) -> Result<Outcome, StageError> {
    let begin = || isolated.map_or(Ok(()), Isolated::lay_out);
    // Placeholders of files are looked up in the working folder.
    begin()?;
    let command_line = template::fill(params, context)?;
    let timeout = params.time_limit().map_err(|error| StageError::bug(error.message))?;
    let watch = places.map(Places::watch);
    let values = (!params.params.is_empty()).then(|| json_of(&params.params)).transpose()?;
    let program = Program {
        command_line: &command_line,
        is_strict: params.strict == Some(true),
        timeout,
        watch: watch.as_ref(),
        prepared,
        isolation: isolated.map(Isolated::isolation),
        values: values.as_deref(),
    };
    attempts::run(program, params.retries, &params.outputs(), context, &begin)
}

/// The values as JSON for the program.
fn json_of(values: &BTreeMap<String, Value>) -> Result<Vec<u8>, StageError> {
    serde_json::to_vec(values).map_err(|error| StageError::bug(error.to_string()))
}

/// Says that a program sees files that should be hidden.
fn warn_of_visible_files(context: &StageContext<'_>) {
    if !hamflow_process::can_isolate() {
        context.warn("this system cannot hide files (Landlock, Linux 5.13), so the program can read others by their absolute paths");
    }
}

/// The error of a program that failed since a file was hidden from it.
fn because(failure: &StageError, hidden: &StageError) -> StageError {
    let error = StageError::failed(format!("{}\n{}", hidden.message, failure.message));
    match &hidden.hint {
        Some(hint) => error.hint(hint.clone()),
        None => error,
    }
}

impl Tools<CommandParams> for Command {
    fn questions(&self, params: &CommandParams) -> Vec<String> {
        let environment = params.environment.as_ref().and_then(Environment::question);
        environment.into_iter().chain(params.tools.iter().map(|line| environment::tool_question(line))).collect()
    }

    fn versions(&self, question: &str, project: &Path) -> Result<Versions, StageError> {
        environment::versions(question, project)
    }
}

impl Plots<CommandParams> for Command {
    fn plotted(&self, params: &CommandParams) -> Vec<String> {
        let plotted = params.outputs.iter().filter(|(_, declared)| !declared.plots.is_empty());
        plotted.map(|(name, _)| name.clone()).collect()
    }

    fn draw(&self, params: &CommandParams, output: &str, series: &[Series<'_>]) -> Result<DrawnPlots, StageError> {
        plots::draw(params, output, series)
    }
}

impl Files<CommandParams> for Command {
    fn candidates(&self, params: &CommandParams) -> Vec<String> {
        let image = params.environment.as_ref().and_then(Environment::file).map(str::to_owned);
        params.run.texts().iter().flat_map(|text| template::files(text)).chain(image).collect()
    }
}

#[cfg(test)]
mod tests;
