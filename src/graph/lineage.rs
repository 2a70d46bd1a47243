//! The lineage of a stage.

use std::collections::BTreeMap;

use hamflow_stage_api::{Lineage, LineageInput, LineageSource, LineageStage, Params};

use super::{Binding, Graph, Source, StageId};

impl Graph {
    /// The stages upstream of `stage` and the stage itself. Depends on no name of a stage: the order follows the ports.
    pub fn lineage(&self, stage: StageId) -> Lineage {
        let mut lineage = Lineage::default();
        let mut places: BTreeMap<StageId, usize> = BTreeMap::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut outside: Vec<&Source> = Vec::new();
        // Each stage is visited twice: to push what it reads, and then to be added after it.
        let mut todo = vec![(stage, false)];
        while let Some((id, is_ready)) = todo.pop() {
            if places.contains_key(&id) {
                continue;
            }
            let bindings = self.sorted_bindings(id);
            if !is_ready {
                todo.push((id, true));
                let sources = bindings.iter().flat_map(|binding| &binding.sources);
                let upstream: Vec<StageId> = sources.filter_map(stage_of).collect();
                todo.extend(upstream.into_iter().rev().map(|id| (id, false)));
                continue;
            }
            let of = self.stage(id);
            let kind = of.spec.name.to_owned();
            let count = counts.entry(kind.clone()).or_default();
            *count += 1;
            let mut inputs = Vec::new();
            for binding in bindings {
                for source in &binding.sources {
                    let from = match stage_of(source) {
                        Some(id) => LineageSource::Stage(places[&id]),
                        None => LineageSource::Outside(number(&mut outside, source)),
                    };
                    inputs.push(LineageInput { port: binding.port.name.clone(), from });
                }
            }
            let added = LineageStage {
                label: if *count == 1 { kind.clone() } else { format!("{kind} {count}") },
                params: if of.spec.dynamic_ports { Params::new() } else { of.params.json().clone() },
                seed: of.spec.seeded.then_some(of.seed),
                kind,
                inputs,
            };
            places.insert(id, lineage.stages.len());
            lineage.stages.push(added);
        }
        lineage
    }

    fn sorted_bindings(&self, id: StageId) -> Vec<&Binding> {
        let mut bindings: Vec<&Binding> = self.bindings(id).iter().collect();
        bindings.sort_by(|a, b| a.port.name.cmp(&b.port.name));
        bindings
    }
}

/// The place of a source among those known so far; a new one is added.
fn number<'a>(known: &mut Vec<&'a Source>, source: &'a Source) -> usize {
    known.iter().position(|found| *found == source).unwrap_or_else(|| {
        known.push(source);
        known.len() - 1
    })
}

fn stage_of(source: &Source) -> Option<StageId> {
    match source {
        Source::Artifact { stage, .. } => Some(*stage),
        Source::Declared { .. } | Source::ProjectFile { .. } => None,
    }
}
