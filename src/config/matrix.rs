//! Makes one stage per combination of a matrix, and one per combination that a stage follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hamflow_stage_api::{Output, Resolved};

use super::axis::{Axis, AxisValue, Role, VALUES, replace, seed};
use super::diagnostic::{Mistake, Mistakes};
use super::pipeline::{Reference, Stage};
use super::reference::{ReferenceTarget, Selection};
use super::sections::LOCAL;
use super::template::Template;
use super::value::{Entry, Table, Value};
use crate::fs::MAX_NAME;

/// The largest matrix; a larger one is taken for a mistake.
const MAX_COMBINATIONS: usize = 1000;

/// An axis of a stage, its own or one that it follows: the stage that has it in its matrix, and its name.
///
/// Two references that lead to the same dimension pair up, because there is only one.
type Dimension = (usize, String);

/// Makes the stages in the order of the file, resolving the parameters of each combination.
pub(crate) fn expand(templates: &[Template], pipeline_seed: u64, mistakes: &mut Mistakes) -> Vec<Stage> {
    let dimensions = find_dimensions(templates, mistakes);
    let mut stages = Vec::new();
    for (index, template) in templates.iter().enumerate() {
        let Some(combinations) = combine(templates, template, &dimensions[index], mistakes) else { continue };
        for combination in &combinations {
            stages.extend(make_stage(template, index, combination, pipeline_seed, mistakes));
        }
    }
    stages
}

/// The longest name of a stage, in bytes. It is part of the names of folders and files, together with a suffix.
const MAX_STAGE_NAME: usize = 200;

/// Why no file system would take the names of a stage and its outputs.
fn length_problem(name: &str, outputs: &[Output]) -> Option<String> {
    if name.len() > MAX_STAGE_NAME {
        let length = name.len();
        return Some(format!(
            "the name of stage `{name}` has {length} bytes, but at most {MAX_STAGE_NAME} are possible"
        ));
    }
    let is_long = |output: &&Output| output.path.split('/').any(|step| step.len() > MAX_NAME);
    outputs.iter().find(is_long).map(|output| {
        let Output { name: output, path, .. } = output;
        format!("stage `{name}`: the path of output `{output}`, `{path}`, has a name of more than {MAX_NAME} bytes")
    })
}

/// The dimensions of every template: its own axes and those of whatever it follows.
fn find_dimensions(templates: &[Template], mistakes: &mut Mistakes) -> Vec<BTreeSet<Dimension>> {
    let indices: BTreeMap<&str, usize> =
        templates.iter().enumerate().map(|(index, template)| (template.name.as_str(), index)).collect();
    let followed: Vec<Vec<usize>> = templates
        .iter()
        .map(|template| {
            let references = template.references.iter().flat_map(|(_, references)| references);
            references.filter_map(|reference| indices.get(followed_name(&reference.text)?).copied()).collect()
        })
        .collect();
    let mut dimensions: Vec<BTreeSet<Dimension>> = templates
        .iter()
        .enumerate()
        .map(|(index, template)| template.axes.iter().map(|axis| (index, axis.name.clone())).collect())
        .collect();
    // The sets only grow, so this ends even where the references go round in a circle (which the graph reports).
    loop {
        let mut grown = false;
        for (index, followed) in followed.iter().enumerate() {
            for &other in followed {
                let inherited = dimensions[other].clone();
                let before = dimensions[index].len();
                dimensions[index].extend(inherited);
                grown |= dimensions[index].len() > before;
            }
        }
        if !grown {
            break;
        }
    }
    // If a value had a matrix itself, its combinations would exist for that value only.
    for template in templates {
        for axis in template.axes.iter().filter(|axis| matches!(axis.role, Role::Port(_))) {
            for value in &axis.values {
                let other = followed_name(value.reference()).and_then(|name| indices.get(name));
                if other.is_some_and(|&other| !dimensions[other].is_empty()) {
                    let message = format!(
                        "stage `{}`: `{}` has a matrix itself, so it cannot be a value of an axis",
                        template.name, value.label
                    );
                    mistakes.push(Mistake::new(value.node.span, message));
                }
            }
        }
    }
    dimensions
}

/// The stage that a reference follows.
fn followed_name(text: &str) -> Option<&str> {
    match ReferenceTarget::parse(text)? {
        ReferenceTarget::Stage { base, selection: Selection::Follow, .. } => Some(base),
        _ => None,
    }
}

/// A chosen value on every axis, sorted by axis name; the number is the template that has the axis.
type Combination<'t> = Vec<(usize, &'t Axis, &'t AxisValue)>;

fn combine<'t>(
    templates: &'t [Template],
    template: &Template,
    dimensions: &BTreeSet<Dimension>,
    mistakes: &mut Mistakes,
) -> Option<Vec<Combination<'t>>> {
    let mut axes: Vec<(usize, &Axis)> = Vec::new();
    for (owner, name) in dimensions {
        axes.extend(templates[*owner].axes.iter().filter(|axis| axis.name == *name).map(|axis| (*owner, axis)));
    }
    axes.sort_by(|(owner_a, a), (owner_b, b)| (&a.name, owner_a).cmp(&(&b.name, owner_b)));
    for pair in axes.windows(2) {
        let [(a, axis), (b, other)] = pair else { continue };
        if axis.name == other.name {
            let (a, b) = (&templates[*a].name, &templates[*b].name);
            let message = format!(
                "stage `{}`: `{a}` and `{b}` both have an axis `{}`, and it follows both",
                template.name, axis.name
            );
            mistakes.push(Mistake::new(template.header, message).hint(format!("gather one of them: `{b}[*]`")));
            return None;
        }
    }
    let count = axes.iter().try_fold(1usize, |count, (_, axis)| count.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MAX_COMBINATIONS) {
        let message = format!("stage `{}`: more than {MAX_COMBINATIONS} combinations", template.name);
        let span = template.axes.first().map_or(template.header, |axis| axis.span);
        mistakes.push(Mistake::new(span, message));
        return None;
    }
    let mut combinations: Vec<Combination<'t>> = vec![Vec::new()];
    for (owner, axis) in axes {
        combinations = combinations
            .iter()
            .flat_map(|chosen| {
                axis.values.iter().map(|value| {
                    let mut chosen = chosen.clone();
                    chosen.push((owner, axis, value));
                    chosen
                })
            })
            .collect();
    }
    Some(combinations)
}

fn make_stage(
    template: &Template,
    index: usize,
    combination: &Combination<'_>,
    pipeline_seed: u64,
    mistakes: &mut Mistakes,
) -> Option<Stage> {
    let mut params = template.params.clone();
    let mut references = template.references.clone();
    let mut stage_seed = template.seed.unwrap_or(pipeline_seed);
    for (_, axis, value) in combination.iter().filter(|(owner, ..)| *owner == index) {
        match &axis.role {
            Role::Parameter => {
                params.insert(Entry { key: axis.name.clone(), key_span: axis.span, node: value.node.clone() })
            }
            Role::Value => {
                if let Some(Value::Table(values)) = params.get_mut(VALUES).map(|entry| &mut entry.node.value) {
                    replace(values, &axis.name, &value.node);
                }
            }
            Role::Seed => {
                if let Some(seed) = seed(&format!("stage `{}`", template.name), &value.node, mistakes) {
                    stage_seed = seed;
                }
            }
            Role::Port(port) => {
                let reference = Reference { text: value.reference().to_owned(), span: value.node.span };
                references.retain(|(other, _)| other.name != port.name);
                references.push((port.clone(), vec![reference]));
            }
        }
    }
    let axes: Vec<(String, String)> =
        combination.iter().map(|(_, axis, value)| (axis.name.clone(), value.label.clone())).collect();
    let params = resolve(template, &params, mistakes)?;
    let outputs = template.kind.outputs(&params);
    let name = stage_name(&template.name, &axes);
    if let Some(message) = length_problem(&name, &outputs) {
        let hint = "shorten the name, the path or the values of the axes".to_owned();
        mistakes.push(Mistake::new(template.header, message).hint(hint));
        return None;
    }
    Some(Stage {
        name,
        base: template.name.clone(),
        axes,
        kind: template.kind,
        spec: Arc::clone(&template.spec),
        params,
        references,
        outputs,
        env: template.env.clone(),
        secret_env: template.secret_env.clone(),
        seed: stage_seed,
        needs: template.needs,
        requests: template.requests.clone(),
        executor: template.executor.as_ref().map(|executor| executor.value.clone()).filter(|name| name != LOCAL),
        params_file: template.params_file.clone(),
        span: template.header,
    })
}

fn resolve(template: &Template, params: &Table, mistakes: &mut Mistakes) -> Option<Resolved> {
    match template.kind.resolve(&params.to_params()) {
        Ok(resolved) => Some(resolved),
        Err(error) => {
            mistakes.push(template.refuse(params, error));
            None
        }
    }
}

fn stage_name(base: &str, axes: &[(String, String)]) -> String {
    if axes.is_empty() {
        return base.to_owned();
    }
    let axes: Vec<String> = axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    format!("{base}[{}]", axes.join(","))
}
