//! Checks that tables have the columns that are read from them, as far as columns are known before a run.

use std::collections::BTreeMap;

use hamflow_stage_api::{ArtifactType, Port, near_miss::did_you_mean};

use super::{Binding, Source};
use crate::config::{Mistake, Mistakes, Pipeline, Stage};

/// The columns of each table that are known before a run, by stage and output.
type Columns = BTreeMap<(usize, usize), Vec<String>>;

/// Checks all tables in topological order.
pub(super) fn check(pipeline: &Pipeline, edges: &[Vec<Binding>], order: &[usize], mistakes: &mut Mistakes) {
    let mut known = Columns::new();
    for &id in order {
        let stage = &pipeline.stages[id];
        let of = |port: &str| {
            let binding = edges[id].iter().find(|binding| binding.port.name == port)?;
            match &binding.sources[..] {
                [Source::Artifact { stage, output, .. }] => known.get(&(stage.index(), *output)).cloned(),
                _ => None,
            }
        };
        let tables = stage.outputs.iter().enumerate().filter(|(_, output)| output.artifact_type == ArtifactType::TABLE);
        let made: Vec<_> = tables
            .filter_map(|(place, output)| Some((place, stage.kind.columns_made(&stage.params, &output.name, &of)?)))
            .collect();
        for (port, column) in stage.kind.columns_read(&stage.params) {
            let binding = edges[id].iter().find(|binding| binding.port.name == port);
            for source in binding.into_iter().flat_map(|binding| &binding.sources) {
                let Source::Artifact { stage: from, output, .. } = source else { continue };
                if let Some(columns) = known.get(&(from.index(), *output)).filter(|columns| !columns.contains(&column))
                {
                    let from = &pipeline.stages[from.index()].base;
                    let alternatives = stages_with_column(pipeline, &known, &column);
                    mistakes.push(missing(stage, (port, from), (&column, columns), &alternatives));
                }
            }
        }
        known.extend(made.into_iter().map(|(place, columns)| ((id, place), columns)));
    }
}

/// The stages checked so far that have a table with this column.
fn stages_with_column<'p>(pipeline: &'p Pipeline, known: &Columns, column: &String) -> Vec<&'p str> {
    let with = known.iter().filter(|(_, columns)| columns.contains(column));
    let mut names: Vec<&str> = with.map(|((stage, _), _)| &pipeline.stages[*stage].base[..]).collect();
    names.dedup();
    names
}

fn missing(
    stage: &Stage,
    (port, from): (&str, &str),
    (column, columns): (&str, &[String]),
    alternatives: &[&str],
) -> Mistake {
    let references = stage.references.iter().filter(|(found, _): &&(Port, _)| found.name == port);
    let reference =
        references.flat_map(|(_, references)| references).find(|reference| reference.text.starts_with(from));
    let span = reference.map_or(stage.span, |reference| reference.span);
    let message = format!("stage `{}`: `{from}` has no column `{column}`, which `{port}` requires", stage.base);
    let mistake = Mistake::new(span, message);
    match (did_you_mean(column, columns.iter().map(String::as_str)), alternatives) {
        (Some(near), _) => mistake.hint(near),
        (None, [name]) => mistake.hint(format!("use `{port} = \"{name}\"`, which has this column")),
        (None, []) => mistake.hint(format!("available columns: `{}`", columns.join("`, `"))),
        (None, names) => mistake.hint(format!("stages with this column: `{}`", names.join("`, `"))),
    }
}
