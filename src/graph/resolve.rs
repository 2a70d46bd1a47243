//! Resolves references to stages, artifacts, declared inputs and project files.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use hamflow_stage_api::{
    Access, ArtifactType, Output, Port,
    near_miss::{closest, did_you_mean, listed, there_is},
};

use super::{Binding, Source, StageId};
use crate::config::{Mistake, Mistakes, Pipeline, Reference, ReferenceTarget, Selection, Stage, ports};

/// Resolves the inputs of all stages.
pub(crate) fn resolve(pipeline: &Pipeline, mistakes: &mut Mistakes) -> Vec<Vec<Binding>> {
    let mut copies: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (id, stage) in pipeline.stages.iter().enumerate() {
        copies.entry(&stage.base).or_default().push(id);
    }
    let resolver = Resolver { pipeline, copies };
    pipeline.stages.iter().map(|stage| resolver.bindings(stage, mistakes)).collect()
}

/// The axis values that identify gathered stages.
type Labels = Vec<(String, String)>;

struct Resolver<'p> {
    pipeline: &'p Pipeline,
    /// By base name: the stage, or all combinations of a matrix.
    copies: BTreeMap<&'p str, Vec<usize>>,
}

/// The location of a reference, for error messages.
#[derive(Clone, Copy)]
struct ReferenceSite<'p> {
    stage: &'p Stage,
    port: &'p Port,
    reference: &'p Reference,
}

impl ReferenceSite<'_> {
    fn mistake(&self, what: impl std::fmt::Display) -> Mistake {
        Mistake::new(self.reference.span, format!("stage `{}`: {what}", self.stage.base))
    }
}

impl<'p> Resolver<'p> {
    fn bindings(&self, stage: &'p Stage, mistakes: &mut Mistakes) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for (port, references) in &stage.references {
            let mut sources = Vec::new();
            for reference in references {
                let site = ReferenceSite { stage, port, reference };
                match self.sources(site) {
                    Ok(found) => {
                        if found.iter().any(|source| sources.contains(source)) {
                            mistakes.push(site.mistake(format!("`{}` takes `{}` twice", port.name, reference.text)));
                        }
                        sources.extend(found);
                    }
                    Err(mistake) => mistakes.push(mistake),
                }
            }
            bindings.push(Binding { port: port.clone(), sources });
        }
        bindings.extend(self.project_files(stage, mistakes));
        bindings
    }

    fn sources(&self, site: ReferenceSite<'p>) -> Result<Vec<Source>, Mistake> {
        match ReferenceTarget::parse(&site.reference.text) {
            Some(ReferenceTarget::Input(name)) => self.declared(site, name).map(|source| vec![source]),
            Some(ReferenceTarget::Stage { base, selection, artifact }) => {
                let stages = self.stages(site, base, selection)?;
                stages.into_iter().map(|(id, labels)| self.artifact(site, id, labels, artifact)).collect()
            }
            None => Err(site
                .mistake(format!("`{}` is not a reference", site.reference.text))
                .hint("write `inputs.NAME`, `STAGE`, `STAGE.ARTIFACT` or `STAGE[*]`".to_owned())),
        }
    }

    fn declared(&self, site: ReferenceSite<'p>, name: &str) -> Result<Source, Mistake> {
        let inputs = &self.pipeline.inputs;
        let Some(index) = inputs.iter().position(|input| input.name == name) else {
            let names = || inputs.iter().map(|input| input.name.as_str());
            let hint = match inputs.is_empty() {
                true => format!("declare it: `[inputs] {name} = \"PATH\"`"),
                false => did_you_mean(name, names()).unwrap_or_else(|| there_is("input", names())),
            };
            return Err(site.mistake(format!("no input `{name}`")).hint(hint));
        };
        if !site.port.external {
            let message = format!(
                "`{}` takes {} from a stage, not a declared input",
                site.port.name,
                ports::types(&site.port.accepts)
            );
            return Err(site.mistake(message).hint(self.suggestion(site)));
        }
        let paths = inputs[index].paths.iter().filter_map(|path| path_below(&self.pipeline.root, path));
        if let Some((path, other)) =
            paths.into_iter().find_map(|path| Some((path.clone(), self.stage_of_output(&path)?)))
        {
            let message = format!("`inputs.{name}` is `{path}`, an output of stage `{other}`");
            return Err(site.mistake(message).hint(format!("refer to the stage: `{} = \"{other}\"`", site.port.name)));
        }
        Ok(Source::Declared { index })
    }

    /// The stages that a reference selects, with labels for gathered ones.
    fn stages(
        &self,
        site: ReferenceSite<'p>,
        base: &str,
        selection: Selection<'_>,
    ) -> Result<Vec<(usize, Labels)>, Mistake> {
        let copies = self.copies.get(base).ok_or_else(|| self.unknown_stage(site, base))?;
        match selection {
            Selection::One(name) => match copies.iter().find(|&&id| self.stage(id).name == name) {
                Some(id) => Ok(vec![(*id, Vec::new())]),
                None => {
                    let names: Vec<&str> = copies.iter().map(|&id| self.stage(id).name.as_str()).collect();
                    let hint = format!("the combinations are {}", listed(names));
                    Err(site.mistake(format!("no stage `{name}`")).hint(hint))
                }
            },
            Selection::All if !site.port.many => {
                let message =
                    format!("`{}` takes one artifact, but `{}` selects several", site.port.name, site.reference.text);
                let hint = format!("use `{base}` without `[*]` to run this stage once per combination");
                Err(site.mistake(message).hint(hint))
            }
            Selection::All => {
                let mut gathered: Vec<(usize, Labels)> =
                    copies.iter().map(|&id| (id, self.stage(id).axes.clone())).collect();
                gathered.sort_by(|(_, a), (_, b)| compare_labels(a, b));
                Ok(gathered)
            }
            Selection::Follow => {
                // A follower has all axes of the stage it follows, so exactly one combination matches.
                let agrees = |id: &usize| self.stage(*id).axes.iter().all(|axis| site.stage.axes.contains(axis));
                Ok(copies.iter().copied().filter(agrees).map(|id| (id, Vec::new())).collect())
            }
        }
    }

    fn unknown_stage(&self, site: ReferenceSite<'p>, name: &str) -> Mistake {
        let mistake = site.mistake(format!("no stage `{name}`"));
        if self.pipeline.inputs.iter().any(|input| input.name == name) {
            return mistake.hint(format!("did you mean `inputs.{name}`?"));
        }
        if name == "input" || name == "inputs" {
            let rest = site.reference.text.split_once('.').map_or("NAME", |(_, rest)| rest);
            return mistake.hint(format!("did you mean `inputs.{rest}`?"));
        }
        if site.reference.text.contains('/') {
            return mistake.hint("declare files under `[inputs]` and refer to them as `inputs.NAME`".to_owned());
        }
        let mut names: Vec<&str> = self.pipeline.stages.iter().map(|stage| stage.base.as_str()).collect();
        names.dedup();
        let hint = match closest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => there_is("stage", names),
        };
        mistake.hint(hint)
    }

    fn artifact(
        &self,
        site: ReferenceSite<'p>,
        id: usize,
        labels: Labels,
        artifact: Option<&str>,
    ) -> Result<Source, Mistake> {
        let from = self.stage(id);
        let output = match artifact {
            Some(name) => self.named_output(site, from, name)?,
            None => self.fitting_output(site, from)?,
        };
        let stage = StageId(u32::try_from(id).expect("a pipeline has fewer than 2^32 stages"));
        Ok(Source::Artifact { stage, output, labels })
    }

    fn named_output(&self, site: ReferenceSite<'p>, from: &Stage, name: &str) -> Result<usize, Mistake> {
        let names = || from.outputs.iter().map(|output| output.name.as_str());
        let Some(index) = from.outputs.iter().position(|output| output.name == name) else {
            let makes = format!("`{}` makes {}", from.base, listed(names()));
            let hint = match did_you_mean(name, names()) {
                Some(question) => format!("{question} {makes}"),
                None => makes,
            };
            return Err(site.mistake(format!("`{}` has no artifact `{name}`", from.base)).hint(hint));
        };
        if fits(site.port, &from.outputs[index]) {
            return Ok(index);
        }
        let what = from.outputs[index].artifact_type;
        let message = format!(
            "`{}` takes {}, but `{}` has the type {what}",
            site.port.name,
            ports::wanted(site.port),
            site.reference.text
        );
        Err(site.mistake(message).hint(self.suggestion(site)))
    }

    fn fitting_output(&self, site: ReferenceSite<'p>, from: &Stage) -> Result<usize, Mistake> {
        let fitting: Vec<usize> =
            (0..from.outputs.len()).filter(|&index| fits(site.port, &from.outputs[index])).collect();
        match &fitting[..] {
            [index] => Ok(*index),
            [] => {
                let made: Vec<ArtifactType> = from.outputs.iter().map(|output| output.artifact_type).collect();
                let message = format!(
                    "`{}` takes {}, but `{}` makes {}",
                    site.port.name,
                    ports::wanted(site.port),
                    from.base,
                    ports::all_types(&made)
                );
                Err(site.mistake(message).hint(self.suggestion(site)))
            }
            several => {
                let text = &site.reference.text;
                let message = format!("`{}` could take several artifacts of `{}`", site.port.name, from.base);
                let names: Vec<String> =
                    several.iter().map(|&index| format!("`{text}.{}`", from.outputs[index].name)).collect();
                let hint = format!("choose one: {}", ports::either(names));
                Err(site.mistake(message).hint(hint))
            }
        }
    }

    /// Suggests what to write instead.
    fn suggestion(&self, site: ReferenceSite<'p>) -> String {
        ports::ways(site.port, &self.pipeline.stages, &site.stage.base)
    }

    /// The project files that the arguments of a stage refer to.
    fn project_files(&self, stage: &Stage, mistakes: &mut Mistakes) -> Vec<Binding> {
        let mut paths = BTreeSet::new();
        for path in candidate_paths(self.pipeline, stage) {
            if let Some(other) = self.stage_of_output(&path) {
                let message = format!("stage `{}`: `{path}` is an output of stage `{other}`", stage.base);
                let hint = format!("declare it as an input: `inputs = {{ x = \"{other}\" }}`, and use `{{inputs.x}}`");
                mistakes.push(Mistake::new(stage.span, message).hint(hint));
            } else if self.pipeline.root.join(&path).is_file() {
                paths.insert(path);
            }
        }
        paths
            .into_iter()
            .map(|path| Binding {
                port: Port {
                    name: format!("file:{path}"),
                    accepts: Vec::new(),
                    any: false,
                    external: true,
                    required: true,
                    unless: None,
                    many: false,
                    access: Access::Content,
                    doc: "A project file that an argument refers to.",
                },
                sources: vec![Source::ProjectFile { path }],
            })
            .collect()
    }

    /// The stage that `path` is an output of, if it is below `out/`. Such files are not stable, so no key may depend on them.
    fn stage_of_output(&self, path: &str) -> Option<&str> {
        let below = path.strip_prefix("out/")?;
        let folder = below.split_once('/').map_or(below, |(folder, _)| folder);
        self.pipeline.stages.iter().map(|stage| stage.name.as_str()).find(|name| *name == folder)
    }

    fn stage(&self, id: usize) -> &'p Stage {
        &self.pipeline.stages[id]
    }
}

/// The paths in the project that the arguments of a stage may refer to, whether or not they exist.
pub(super) fn candidate_paths(pipeline: &Pipeline, stage: &Stage) -> BTreeSet<String> {
    let arguments = stage.kind.candidate_files(&stage.params);
    arguments.iter().filter_map(|argument| path_below(&pipeline.root, Path::new(argument))).collect()
}

/// Normalizes `argument` to a path relative to the root, with `/`; `None` if it is outside of the root.
fn path_below(root: &Path, argument: &Path) -> Option<String> {
    let path = argument;
    // The root is canonical, but the argument may contain symlinks, and `..` behind a symlink is not the lexical parent.
    let real = || Some(root.join(path).parent()?.canonicalize().ok()?.join(path.file_name()?));
    let climbs = path.components().any(|step| step == Component::ParentDir);
    let real = if climbs || (path.is_absolute() && !path.starts_with(root)) { real() } else { None };
    let path = real.as_deref().unwrap_or(path);
    let path = path.strip_prefix(root).unwrap_or(path);
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn fits(port: &Port, output: &Output) -> bool {
    port.takes(output.artifact_type)
}

/// Compares numbers by value, everything else as strings, and numbers before strings.
fn compare_labels(a: &[(String, String)], b: &[(String, String)]) -> Ordering {
    for ((_, a), (_, b)) in a.iter().zip(b) {
        let order = match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_labels_sort_by_value() {
        let label = |text: &str| vec![("x".to_owned(), text.to_owned())];
        let mut labels = [label("10"), label("1b"), label("9"), label("1e-3"), label("b"), label("a")];
        labels.sort_by(|a, b| compare_labels(a, b));
        let sorted: Vec<&str> = labels.iter().map(|label| label[0].1.as_str()).collect();
        assert_eq!(sorted, ["1e-3", "9", "10", "1b", "a", "b"]);
    }
}
