//! References, selections and renderings of whole pipelines.

mod drawings;
mod messages;
mod references;

use super::{Graph, StageId, build};
use crate::config::Overrides;
use crate::config::tests::{Project, loaded};

/// Builds the graph of a valid pipeline.
fn built(text: &str) -> Graph {
    build(loaded(text)).unwrap_or_else(|errors| {
        let shown: Vec<String> = errors.iter().map(|error| error.render()).collect();
        panic!("{}", shown.join("\n"))
    })
}

/// The errors of a pipeline with invalid references.
fn refused(text: &str) -> String {
    let project = Project::new(text);
    let pipeline = project.load(&Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let folder = project.folder.path().join("pipeline.toml").display().to_string();
    let errors = build(pipeline).err().expect("the references are wrong");
    let shown: Vec<String> = errors.iter().map(|error| error.render()).collect();
    shown.join("\n\n").replace(&folder, "pipeline.toml")
}

fn names(graph: &Graph, ids: &[StageId]) -> Vec<String> {
    ids.iter().map(|&id| graph.stage(id).name.clone()).collect()
}

const CHAIN: &str = "[inputs]\nrows = \"rows.csv\"\n[stages.source]\ncsv = \"inputs.rows\"\n\
    [stages.clean]\nkind = \"map\"\ntable = \"source\"\n[stages.pack]\ntable = \"source\"\n\
    [stages.fit]\nshards = \"pack\"\nsplit = \"clean\"\n[stages.judge]\nkind = \"gather\"\nmodel = \"fit\"\n\
    metrics = \"fit\"\n";

const SWEEP: &str = "[inputs]\nrows = \"rows.csv\"\n[stages.source]\ncsv = \"inputs.rows\"\n[stages.pack]\n\
    table = \"source\"\n[stages.fit]\nshards = \"pack\"\nmatrix.lr = [10, 9, 1e-3]\n[stages.judge]\n\
    kind = \"gather\"\nmodel = \"fit\"\nmetrics = \"fit\"\n[stages.all]\nkind = \"gather\"\n\
    metrics = [\"judge[*]\"]\nmodel = \"fit[lr=9].model\"\n";
