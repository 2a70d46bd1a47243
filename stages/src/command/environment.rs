//! The software that a program runs with: an environment of uv or conda, a container, and tools whose versions count.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use hamflow_process::{Isolation, Line, Lines, Running};
use hamflow_stage_api::{Digest, ParamError, StageContext, StageError, Symlinks, Versions, read_regular, sys};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::CommandParams;

/// Variables that programs inherit without a declaration. Outputs should not depend on them.
pub(super) const PASSED: [&str; 2] = ["PATH", "HOME"];

/// How long a program that tells its version may take.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The length in bytes of what is kept of a version.
const MAX_VERSION: u64 = 4096;

/// The environment of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `\"uv\"`, or a table with `uv`, `conda` or `container`")]
pub(super) enum Environment {
    /// `uv`: the project of uv beside `pipeline.toml`.
    Named(EnvironmentName),
    /// An environment in another place.
    At(EnvironmentTable),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EnvironmentName {
    Uv,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EnvironmentTable {
    /// The folder of a project of uv: `pyproject.toml` and `uv.lock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    uv: Option<String>,
    /// The folder of an environment of conda, or its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    conda: Option<String>,
    /// An image for Docker or Podman, or a `.sif` file for Apptainer.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

/// The schema of an environment: the name of uv, or a table.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    let place = json!({ "type": "string", "minLength": 1 });
    let table = json!({
        "type": "object",
        "properties": { "uv": place, "conda": place, "container": place },
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    });
    json_schema!({ "anyOf": [{ "type": "string", "pattern": "^uv$" }, table] })
}

/// What a stage says, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Uv(&'a str),
    Conda(&'a str),
    /// An image.
    Image(&'a str),
    /// A file for Apptainer, which is an input.
    File(&'a str),
}

impl Environment {
    fn kind(&self) -> Option<Kind<'_>> {
        let table = match self {
            Self::Named(EnvironmentName::Uv) => return Some(Kind::Uv(".")),
            Self::At(table) => table,
        };
        match (table.uv.as_deref(), table.conda.as_deref(), table.container.as_deref()) {
            (Some(folder), None, None) => Some(Kind::Uv(folder)),
            (None, Some(place), None) => Some(Kind::Conda(place)),
            (None, None, Some(image)) if image.ends_with(".sif") => Some(Kind::File(image)),
            (None, None, Some(image)) => Some(Kind::Image(image)),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ParamError> {
        match self.kind() {
            Some(Kind::Uv(text) | Kind::Conda(text) | Kind::Image(text) | Kind::File(text))
                if !text.is_empty() && !text.starts_with('-') =>
            {
                Ok(())
            }
            _ => Err(ParamError::new("environment", "`environment` must name one environment")
                .hint("write `\"uv\"`, `{ uv = \"FOLDER\" }`, `{ conda = \"NAME\" }` or `{ container = \"IMAGE\" }`")),
        }
    }

    /// The file that is the environment.
    pub(super) fn file(&self) -> Option<&str> {
        match self.kind() {
            Some(Kind::File(path)) => Some(path),
            _ => None,
        }
    }

    /// Whether the program runs outside of the worker's processes, so that its uses of files are not seen.
    pub(super) fn is_container(&self) -> bool {
        matches!(self.kind(), Some(Kind::Image(_) | Kind::File(_)))
    }

    /// The question whose answer the key depends on.
    pub(super) fn question(&self) -> Option<String> {
        match self.kind()? {
            Kind::Uv(folder) => Some(format!("uv {folder}")),
            Kind::Conda(place) => Some(format!("conda {place}")),
            Kind::Image(image) => Some(format!("container {image}")),
            Kind::File(_) => None,
        }
    }
}

/// The question about a tool.
pub(super) fn tool_question(line: &str) -> String {
    format!("tool {line}")
}

/// The answer to a question.
pub(super) fn versions(question: &str, project: &Path) -> Result<Versions, StageError> {
    match question.split_once(' ') {
        Some(("uv", folder)) => uv_versions(&project.join(folder)),
        Some(("conda", place)) => conda_versions(&conda_prefix(place, project)?),
        Some(("container", image)) => Ok(Versions::from([("image".to_owned(), image_digest(image)?)])),
        Some(("tool", line)) => {
            let words: Vec<&str> = line.split_whitespace().collect();
            let version = ask(&words, project).map_err(|problem| {
                StageError::input(format!("`tools`: `{line}` {problem}"))
                    .hint("name a command that prints a version, such as `python3 --version`")
            })?;
            Ok(Versions::from([(line.to_owned(), version)]))
        }
        _ => Err(StageError::bug(format!("unknown question `{question}`"))),
    }
}

/// What a command prints, on one line.
fn ask(words: &[&str], folder: &Path) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let (mut reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear();
    command.envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let again = writer.try_clone().map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(again).stderr(writer);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    // The command holds the ends of the pipe that are written to.
    drop(command);
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        // A read error ends the output.
        let _ = reader.by_ref().take(MAX_VERSION).read_to_end(&mut output);
        // Nobody waits for what comes too late.
        let _ = sender.send(output);
    });
    let Ok(output) = receiver.recv_timeout(MAX_WAIT) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("took longer than {} s", MAX_WAIT.as_secs()));
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    match status.success() {
        true if text.is_empty() => Err("printed nothing".to_owned()),
        true => Ok(text),
        false => Err(format!("failed ({status}): {text}")),
    }
}

/// The interpreter and the locked packages of a project of uv.
fn uv_versions(folder: &Path) -> Result<Versions, StageError> {
    let lock = folder.join("uv.lock");
    let bytes = read_regular(&lock, Symlinks::Follow).map_err(|error| {
        StageError::input(format!("`environment`: cannot read `{}`: {error}", lock.display()))
            .hint("`uv lock` writes it; `{ uv = \"FOLDER\" }` names the folder of another project")
    })?;
    let python = ask(&["uv", "python", "find", "--show-version"], folder).map_err(|problem| {
        StageError::input(format!("`environment`: `uv python find` {problem}"))
            .hint("install uv, or the version of Python that the project asks for: `uv python install`")
    })?;
    let mut versions =
        Versions::from([("Python".to_owned(), python), ("uv.lock".to_owned(), Digest::of(&bytes).to_string())]);
    let text = String::from_utf8_lossy(&bytes);
    let packages = toml::from_str::<UvLock>(&text).map(|lock| lock.package).unwrap_or_default();
    versions.extend(packages.into_iter().filter_map(|package| Some((package.name, package.version?))));
    Ok(versions)
}

/// What is read of `uv.lock`. Its digest counts, too, so this is for messages.
#[derive(Deserialize)]
struct UvLock {
    #[serde(default)]
    package: Vec<UvPackage>,
}

#[derive(Deserialize)]
struct UvPackage {
    name: String,
    version: Option<String>,
}

/// The folder of an environment of conda.
fn conda_prefix(place: &str, project: &Path) -> Result<PathBuf, StageError> {
    let is_prefix = |path: &Path| path.join("conda-meta").is_dir();
    let beside = project.join(place);
    if is_prefix(&beside) {
        return Ok(beside);
    }
    let roots = ["MAMBA_ROOT_PREFIX", "CONDA_PREFIX_1", "CONDA_ROOT", "CONDA_PREFIX"].into_iter();
    let roots = roots.filter_map(std::env::var_os).map(PathBuf::from);
    let home = std::env::home_dir().unwrap_or_default();
    let names = ["miniforge3", "miniconda3", "anaconda3", "mambaforge", "micromamba", ".conda"];
    let mut all = roots.chain(names.iter().map(|name| home.join(name)));
    let is_name = !place.contains('/');
    let found = all.find_map(|root| {
        let prefix = if place == "base" { root } else { root.join("envs").join(place) };
        (is_name && is_prefix(&prefix)).then_some(prefix)
    });
    found.ok_or_else(|| {
        StageError::input(format!("`environment`: there is no environment `{place}` of conda"))
            .hint("give the path of its folder, as `conda env list` shows it, or create it: `conda env create`")
    })
}

/// The packages of an environment of conda: those that conda installed, and those that pip did.
fn conda_versions(prefix: &Path) -> Result<Versions, StageError> {
    let mut versions = Versions::new();
    let list = |folder: &Path| -> Result<Vec<String>, StageError> {
        let entries = fs::read_dir(folder).map_err(|source| StageError::io("list", folder, &source))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    };
    for name in list(&prefix.join("conda-meta"))? {
        // NAME-VERSION-BUILD.json
        let mut parts = name.strip_suffix(".json").into_iter().flat_map(|name| name.rsplitn(3, '-'));
        if let (Some(build), Some(version), Some(name)) = (parts.next(), parts.next(), parts.next()) {
            versions.insert(name.to_owned(), format!("{version} ({build})"));
        }
    }
    for library in list(&prefix.join("lib")).unwrap_or_default().iter().filter(|name| name.starts_with("python")) {
        for name in list(&prefix.join("lib").join(library).join("site-packages")).unwrap_or_default() {
            let Some((name, version)) = name.strip_suffix(".dist-info").and_then(|name| name.rsplit_once('-')) else {
                continue;
            };
            let name = name.to_lowercase().replace('_', "-");
            versions.entry(name).or_insert_with(|| version.to_owned());
        }
    }
    Ok(versions)
}

/// The program that runs images.
fn engine() -> Result<&'static str, StageError> {
    ["docker", "podman"].into_iter().find(|name| is_installed(name)).ok_or_else(|| {
        StageError::input("`environment`: neither `docker` nor `podman` is installed")
            .hint("install one; Apptainer runs images in `.sif` files: `{ container = \"image.sif\" }`")
    })
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What identifies an image: its digest in the name, or that of the image which is there.
fn image_digest(image: &str) -> Result<String, StageError> {
    if let Some((_, digest)) = image.split_once('@') {
        return Ok(digest.to_owned());
    }
    let engine = engine()?;
    ask(&[engine, "image", "inspect", "--format", "{{.Id}}", image], Path::new("/")).map_err(|problem| {
        StageError::input(format!("`environment`: `{engine} image inspect {image}` {problem}"))
            .hint(format!("get the image first: `{engine} pull {image}`; or name it by its digest: `IMAGE@sha256:…`"))
    })
}

/// How a program is started within an environment.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Variables that replace those of the worker.
    pub variables: BTreeMap<&'static str, OsString>,
    /// The container that the program runs in.
    pub container: Option<Container>,
    /// The folders of the environment.
    pub software: Vec<PathBuf>,
}

/// A container that a program runs in.
#[derive(Debug)]
pub(super) struct Container {
    engine: &'static str,
    image: String,
    /// The name, to remove it if the program is stopped.
    name: String,
}

/// Brings the environment of a stage up to date.
pub(super) fn prepare(params: &CommandParams, context: &StageContext<'_>) -> Result<Prepared, StageError> {
    let project = &context.job().project_dir;
    let Some(kind) = params.environment.as_ref().and_then(Environment::kind) else { return Ok(Prepared::default()) };
    match kind {
        Kind::Uv(folder) => {
            let folder = project.join(folder);
            sync(&folder, context)?;
            let environment = folder.join(".venv");
            Ok(Prepared::of(environment, "VIRTUAL_ENV"))
        }
        Kind::Conda(place) => {
            let prefix = conda_prefix(place, project)?;
            Ok(Prepared::of(prefix, "CONDA_PREFIX"))
        }
        Kind::Image(image) => {
            let name = format!("hamflow-{}-{}", std::process::id(), context.job().id);
            let container = Container { engine: engine()?, image: image.to_owned(), name };
            Ok(Prepared { container: Some(container), ..Prepared::default() })
        }
        Kind::File(path) => {
            if !project.join(path).is_file() {
                return Err(StageError::input(format!("`environment`: there is no file `{path}`")));
            }
            let engine = ["apptainer", "singularity"].into_iter().find(|name| is_installed(name)).ok_or_else(|| {
                StageError::input("`environment`: neither `apptainer` nor `singularity` is installed")
            })?;
            let image = project.join(path).display().to_string();
            let container = Container { engine, image, name: String::new() };
            Ok(Prepared { container: Some(container), ..Prepared::default() })
        }
    }
}

impl Prepared {
    /// An activated environment in a folder; `variable` names it.
    fn of(folder: PathBuf, variable: &'static str) -> Self {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let folders = [folder.join("bin")].into_iter().chain(std::env::split_paths(&old));
        let path = std::env::join_paths(folders).unwrap_or(old);
        let variables = BTreeMap::from([("PATH", path), (variable, folder.as_os_str().to_owned())]);
        Self { variables, container: None, software: vec![folder] }
    }
}

/// Installs what `uv.lock` says. uv itself makes other stages that do so wait.
fn sync(folder: &Path, context: &StageContext<'_>) -> Result<(), StageError> {
    let mut command = Command::new("uv");
    command.args(["sync", "--locked", "--no-progress", "--color", "never"]).current_dir(folder);
    command.env_remove("VIRTUAL_ENV").env("UV_PROJECT_ENVIRONMENT", folder.join(".venv"));
    let scratch = context.scratch_dir().display().to_string();
    command.env("TMPDIR", &scratch);
    let (mut lines, mut said) = (Lines::default(), Vec::new());
    let running = Running { marker: ("TMPDIR", &scratch), timeout: None, watch: None, isolation: None };
    let mut keep = |line: Line| {
        if let Line::Whole(text) = line {
            context.log(text.as_str());
            said.push(text);
        }
    };
    let ended = hamflow_process::run(command, running, |piece| lines.push(piece, &mut keep));
    lines.finish(&mut keep);
    let ended = ended.map_err(|error| StageError::input(format!("cannot start `uv`: {error}")))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = said.iter().rev().take(10).rev().map(|line| format!("\n  {line}")).collect::<String>();
    Err(StageError::input(format!("`uv sync --locked` failed in `{}`{said}", folder.display()))
        .hint("if `uv.lock` is older than `pyproject.toml`, run `uv lock`"))
}

impl Container {
    /// The command that runs a program in the container, with the project and the folders of the job at their own paths. An isolated
    /// program has its working folder and its inputs instead of the project.
    pub(super) fn command_line(
        &self,
        command_line: &[String],
        variables: &BTreeMap<String, OsString>,
        isolation: Option<&Isolation>,
        context: &StageContext<'_>,
    ) -> Vec<OsString> {
        let job = context.job();
        let mut folders = vec![&job.project_dir, &job.output_dir, &job.scratch_dir];
        let inputs = context.inputs().0.values().flatten().filter_map(|input| input.path.as_ref());
        folders.extend(inputs.filter(|path| !path.starts_with(&job.project_dir)));
        folders.extend(isolation.iter().flat_map(|isolation| &isolation.readable));
        folders.sort();
        folders.dedup();
        let mut words: Vec<OsString> = match self.name.is_empty() {
            true => vec![self.engine.into(), "exec".into(), "--cleanenv".into()],
            false => {
                let user = sys::user();
                let options = ["run", "--rm", "--name", &self.name, "--user", &user, "--workdir"];
                let mut words = vec![OsString::from(self.engine)];
                words.extend(options.map(OsString::from));
                words.push(job.project_dir.clone().into());
                words
            }
        };
        let (bind, set) = if self.name.is_empty() { ("--bind", "--env") } else { ("--volume", "--env") };
        if self.name.is_empty() {
            words.extend(["--pwd".into(), job.project_dir.clone().into()]);
        }
        for folder in folders {
            let mut pair = folder.clone().into_os_string();
            pair.push(":");
            pair.push(folder);
            words.extend([bind.into(), pair]);
        }
        for (name, value) in variables {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(value);
            words.extend([set.into(), pair]);
        }
        words.push(OsString::from(&self.image));
        words.extend(command_line.iter().map(OsString::from));
        words
    }

    /// Removes the container if the program was stopped: the client that ended is not the program.
    pub(super) fn remove(&self) {
        if !self.name.is_empty() {
            let mut command = Command::new(self.engine);
            command.args(["rm", "--force", &self.name]);
            // The engine removes containers whose program ends, so there may be none.
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
