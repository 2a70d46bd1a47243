//! Resolution of references, and selections of stages.

use std::fs;

use super::{CHAIN, SWEEP, built, names};
use crate::config::Overrides;
use crate::config::tests::Project;
use crate::graph::{Source, build};

#[test]
fn a_reference_without_an_artifact_selects_the_one_of_a_fitting_type() {
    let graph = built(CHAIN);
    let fit = graph.find("fit").unwrap();
    let bound: Vec<(&str, String)> = graph
        .bindings(fit)
        .iter()
        .map(|binding| {
            let Source::Artifact { stage, output, .. } = &binding.sources[0] else { panic!() };
            let stage = graph.stage(*stage);
            (binding.port.name.as_str(), format!("{}.{}", stage.name, stage.outputs[*output].name))
        })
        .collect();
    assert_eq!(bound, [("shards", "pack.shards".to_owned()), ("split", "clean.table".to_owned())]);
    assert_eq!(names(&graph, &graph.order), ["source", "clean", "pack", "fit", "judge"]);
    assert_eq!(names(&graph, &graph.dependencies(fit)), ["clean", "pack"]);
    assert_eq!(names(&graph, &graph.dependents(graph.find("source").unwrap())), ["clean", "pack"]);
}

#[test]
fn patterns_select_stages() {
    let graph = built(CHAIN);
    let select = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        graph.select(&patterns).map(|ids| names(&graph, &ids).join(" ")).map_err(|error| error.render())
    };
    assert_eq!(select(&[]).unwrap(), "source clean pack fit judge");
    assert_eq!(select(&["fit"]).unwrap(), "fit");
    assert_eq!(select(&["+fit"]).unwrap(), "source clean pack fit");
    assert_eq!(select(&["clean+"]).unwrap(), "clean fit judge");
    assert_eq!(select(&["+pack+"]).unwrap(), "source pack fit judge");
    assert_eq!(select(&["judge", "source"]).unwrap(), "source judge");
    assert_eq!(select(&["+fti"]).unwrap_err(), "error: no stage `fti`\nhint: did you mean `fit`?");
    assert_eq!(
        select(&["everything"]).unwrap_err(),
        "error: no stage `everything`\nhint: the stages are `source`, `clean`, `pack`, `fit` and `judge`"
    );
}

#[test]
fn followers_read_their_own_combination_and_gatherers_read_all_in_order() {
    let graph = built(SWEEP);
    let judge = graph.find("judge[lr=9]").unwrap();
    assert_eq!(names(&graph, &graph.dependencies(judge)), ["fit[lr=9]"]);
    let all = graph.find("all").unwrap();
    let labels: Vec<(String, String)> = graph.bindings(all)[0]
        .sources
        .iter()
        .map(|source| {
            let Source::Artifact { stage, labels, .. } = source else { panic!() };
            (graph.stage(*stage).name.clone(), labels[0].1.clone())
        })
        .collect();
    let expected = [("judge[lr=0.001]", "0.001"), ("judge[lr=9]", "9"), ("judge[lr=10]", "10")];
    assert_eq!(labels, expected.map(|(name, label)| (name.to_owned(), label.to_owned())));
    assert_eq!(names(&graph, &graph.find_all("fit")), ["fit[lr=10]", "fit[lr=9]", "fit[lr=0.001]"]);
    assert_eq!(graph.find_all("fit[*]").len(), 3);
    assert_eq!(graph.find("fit"), None);
    assert_eq!(graph.select(&["judge".to_owned()]).unwrap().len(), 3);
}

#[test]
fn project_files_in_arguments_are_inputs() {
    let project = Project::new(
        "[stages.a]\nkind = \"command\"\nrun = [\"python\", \"./tools/../tools/x.py\", \"../outside\", \"tools\", \"no\"]\n",
    );
    fs::create_dir(project.folder.path().join("tools")).unwrap();
    fs::write(project.folder.path().join("tools/x.py"), "").unwrap();
    let graph = build(project.load(&Overrides::default()).unwrap()).unwrap();
    let bindings: Vec<(&str, &Source)> =
        graph.edges[0].iter().map(|binding| (binding.port.name.as_str(), &binding.sources[0])).collect();
    assert_eq!(bindings, [("file:tools/x.py", &Source::ProjectFile { path: "tools/x.py".to_owned() })]);
}
