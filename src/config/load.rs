//! Loads `pipeline.toml`: parses it, merges the overrides, deserializes the sections and resolves the stages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hamflow_stage_api::near_miss::did_you_mean;

use super::diagnostic::{Diagnostic, Mistake, Mistakes, Sources, Span};
use super::field_schema::properties_of;
use super::foreach::Folders;
use super::known_kinds::KnownKinds;
use super::params_file::ParamsFiles;
use super::pipeline::{Kinds, Overrides, Pipeline, Stage};
use super::reader::read as read_section;
use super::sections::{Document, ExecutorOptions, LOCAL};
use super::spanned::Spanned;
use super::template::{Template, read_stage};
use super::value::{Entry, Node, Table, Value, parse_document};
use super::{matrix, overlay, ports};
use crate::fs::{Symlinks, read_regular};

/// Reads and resolves the pipeline at `path`.
///
/// Fails with every mistake that was found, sorted by place. References are resolved later, by
/// [`graph::build`](crate::graph::build).
pub fn load(path: &Path, kinds: Kinds, overrides: &Overrides) -> Result<Pipeline, Vec<Diagnostic>> {
    let (text, folder, file) = read(path).map_err(|diagnostic| vec![diagnostic])?;
    let mut mistakes = Mistakes::default();
    let mut sources = Sources::new(path.display().to_string(), text);
    let mut table = parse_document(0, sources.file_text(), &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes.into_diagnostics(&sources));
    }
    let mut files = ParamsFiles::default();
    files.replace(&mut table, kinds, &folder, &mut sources, &mut mistakes);
    overlay::apply_profile(&mut table, overrides.profile.as_deref(), &mut sources, &mut mistakes);
    files.replace(&mut table, kinds, &folder, &mut sources, &mut mistakes);
    overlay::apply_set(&mut table, overrides, &mut sources, &mut mistakes);
    files.replace(&mut table, kinds, &folder, &mut sources, &mut mistakes);
    if !files.are_read() {
        return Err(mistakes.into_diagnostics(&sources));
    }
    files.select(&mut table, &mut mistakes);
    take_misplaced_stages(&mut table, kinds, &mut mistakes);
    let root = Node { value: Value::Table(table), span: Span::default() };
    let document: Document = read_section("", &root, &mut mistakes).unwrap_or_default();
    document.check(&mut mistakes);
    let mut inputs = document.inputs.into_declarations(&sources);
    let mut folders = Folders::new(&folder, &inputs);
    let mut templates = read_templates(&document.stages, kinds, &mut folders, &mut mistakes);
    for template in &mut templates {
        template.params_file = files.of(&template.name).map(str::to_owned);
    }
    let executors = document.executors.into_options();
    check_executors(&templates, &executors, &mut mistakes);
    let stages = make_stages(&templates, document.pipeline.seed, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes.into_diagnostics(&sources));
    }
    let Folders { declarations, matched, .. } = folders;
    inputs.extend(declarations);
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Pipeline {
        name: document.pipeline.name,
        seed: document.pipeline.seed,
        missing_inputs: document.pipeline.missing_inputs,
        params_files: files.digests().map(|(path, digest)| (folder.join(path), digest)).collect(),
        matched_files: matched,
        root: folder,
        file,
        inputs,
        stages,
        cache: document.cache.into_options(),
        executors,
        profile: overrides.profile.clone(),
        overridden: overrides.profile.is_some() || !overrides.set.is_empty(),
        sources,
    })
}

/// The text of the file, the project's root and the file's absolute path.
fn read(path: &Path) -> Result<(String, PathBuf, PathBuf), Diagnostic> {
    let shown = path.display();
    let cannot = |error: io::Error| Diagnostic::new(format!("cannot read `{shown}`: {error}"));
    let bytes = read_regular(path, Symlinks::Follow).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Diagnostic::new(format!("`{shown}` does not exist")).hint("`hamflow init` writes one to start from")
        }
        _ => cannot(error),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Diagnostic::new(format!("`{shown}` is not UTF-8 in line {}", line + 1)).hint("save it as UTF-8")
    })?;
    let (root, file) = locate(path).map_err(cannot)?;
    Ok((text, root, file))
}

/// The project's root and the absolute path of the pipeline file at `path`.
///
/// Symlinks of the folder are resolved, a symlink at the file itself is not: the link's folder is the project.
pub fn locate(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let root = fs::canonicalize(folder)?;
    let file = root.join(path.file_name().unwrap_or_default());
    Ok((root, file))
}

/// Reports and removes top-level tables named like a kind; they belong below `[stages]`.
fn take_misplaced_stages(table: &mut Table, kinds: Kinds, mistakes: &mut Mistakes) {
    let sections = properties_of::<Document>();
    table.entries.retain(|entry| {
        let key = &entry.key;
        let is_misplaced = !sections.contains_key(key) && kinds.iter().any(|kind| kind.spec().name == key);
        if is_misplaced {
            let hint = format!("did you mean `[stages.{key}]`?");
            mistakes.push(Mistake::new(entry.header(), format!("unknown key `{key}`")).hint(hint));
        }
        !is_misplaced
    });
}

fn read_templates(table: &Table, kinds: Kinds, folders: &mut Folders<'_>, mistakes: &mut Mistakes) -> Vec<Template> {
    if table.entries.is_empty() && mistakes.is_empty() {
        mistakes.push(
            Mistake::placeless("the pipeline has no stages")
                .hint("add `[stages.NAME]`; `hamflow kinds` lists what a stage can do".to_owned()),
        );
    }
    let names: Vec<&str> = table.keys().collect();
    let mut known = KnownKinds::new(kinds);
    let read = |entry: &Entry| read_stage(entry, &mut known, &names, folders, mistakes);
    table.entries.iter().filter_map(read).collect()
}

/// Reports stages whose executor is not declared.
fn check_executors(templates: &[Template], executors: &[(String, ExecutorOptions)], mistakes: &mut Mistakes) {
    let names = || executors.iter().map(|(name, _)| name.as_str()).chain([LOCAL]);
    for template in templates {
        let Some(Spanned { span, value }) = &template.executor else { continue };
        if !names().any(|name| name == value) {
            let message = format!("stage `{}`: no executor `{value}`", template.name);
            let declare = format!("declare it: `[executors.{value}]` with `kind = \"slurm\"`");
            mistakes.push(Mistake::new(*span, message).hint(did_you_mean(value, names()).unwrap_or(declare)));
        }
    }
}

fn make_stages(templates: &[Template], seed: u64, mistakes: &mut Mistakes) -> Vec<Stage> {
    let stages = matrix::expand(templates, seed, mistakes);
    ports::check(&stages, mistakes);
    ports::require_ports(templates, &stages, mistakes);
    stages
}
