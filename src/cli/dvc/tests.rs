//! Pipelines of DVC and what becomes of them.

use super::*;

fn converted(files: &[(&str, &str)]) -> Converted {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    convert(&folder.path().join("dvc.yaml")).unwrap()
}

/// The stages of a converted pipeline, which must be TOML.
fn stages(converted: &Converted) -> toml::Table {
    let table: toml::Table =
        converted.pipeline.parse().unwrap_or_else(|error| panic!("{error}\n{}", converted.pipeline));
    table["stages"].as_table().unwrap().clone()
}

#[test]
fn dependencies_become_inputs_and_paths_become_placeholders() {
    let dvc = "stages:\n  prepare:\n    cmd: python src/prepare.py data/raw.csv > data/clean.csv\n    deps: [data/raw.csv, src/prepare.py]\n\
               \x20   params: [prepare.seed]\n    outs:\n    - data/clean.csv\n  fit:\n    cmd: [python src/fit.py --in=data/clean.csv model.pkl]\n\
               \x20   deps: [data/clean.csv, src/fit.py]\n    outs: [model.pkl]\n    metrics:\n    - scores.json: {cache: false}\n";
    let done = converted(&[("dvc.yaml", dvc)]);
    let stages = stages(&done);
    assert_eq!(stages["prepare"]["run"].as_str().unwrap(), "python {inputs.prepare} {inputs.raw} > {outputs.clean}");
    assert_eq!(stages["prepare"]["params_used"].as_array().unwrap().len(), 1);
    assert!(stages["prepare"].get("isolate").is_none());
    assert_eq!(stages["fit"]["inputs"]["clean"].as_str().unwrap(), "prepare.clean");
    // The program writes its metrics to a path of its own.
    let run = "python {inputs.fit} --in={inputs.clean} {outputs.model}\nmv scores.json {outputs.scores}\n";
    assert_eq!((stages["fit"]["run"].as_str().unwrap(), stages["fit"]["isolate"].as_bool()), (run, Some(true)));
    assert_eq!(stages["fit"]["outputs"]["scores"]["type"].as_str().unwrap(), "metrics");
    assert_eq!(done.notes, Vec::<String>::new());
}

#[test]
fn foreach_matrix_and_templates_are_expanded() {
    let dvc = "vars: [{suffix: csv}, sizes.yaml]\nstages:\n  split:\n    foreach: ${names}\n    do:\n      cmd: cut ${item} -s ${train.seed} > ${item}.${suffix}\n\
               \x20     outs: ['${item}.${suffix}']\n  table:\n    foreach: {a: {n: 1}, b: {n: 2}}\n    do:\n      cmd: echo ${key} ${item.n} > ${key}.txt\n      outs: ['${key}.txt']\n\
               \x20 fit:\n    matrix: {model: [cnn, rf], size: '${sizes}'}\n    cmd: fit ${item.model} ${item.size} ${unknown}\n    outs: ['${item.model}-${item.size}.bin']\n";
    let files =
        [("dvc.yaml", dvc), ("params.yaml", "names: [x, y]\ntrain: {seed: 7}\n"), ("sizes.yaml", "sizes: [1, 2]\n")];
    let done = converted(&files);
    let stages = stages(&done);
    let names: Vec<&String> = stages.keys().collect();
    assert_eq!(names, ["fit-cnn-1", "fit-cnn-2", "fit-rf-1", "fit-rf-2", "split-x", "split-y", "table-a", "table-b"]);
    assert_eq!(stages["split-x"]["run"].as_str().unwrap(), "cut x -s {params.train.seed} > {outputs.x}");
    assert_eq!(stages["split-x"]["params_used"][0].as_str().unwrap(), "train.seed");
    assert_eq!(stages["table-b"]["run"].as_str().unwrap(), "echo b 2 > {outputs.b}");
    assert!(stages["fit-rf-2"]["run"].as_str().unwrap().ends_with("mv rf-2.bin {outputs.rf-2}\n"));
    assert!(
        done.notes.iter().any(|note| note == "stage `split` became 2 stages; a `matrix` over `params` may be shorter")
    );
    assert!(
        done.notes.iter().any(|note| note.contains("`${unknown}` in stage `fit-cnn-1` is not known")),
        "{:?}",
        done.notes
    );
}

#[test]
fn metrics_and_plots_within_a_folder_are_outputs_of_their_own() {
    let dvc = "stages:\n  evaluate:\n    cmd: python evaluate.py model.pkl\n    deps: [model.pkl]\n    outs: [eval]\n\
               metrics: [eval/metrics.json]\nplots:\n- ROC: {x: fpr, y: {eval/roc/train.json: tpr, eval/roc/test.json: tpr}, title: ROC}\n\
               - eval/cm.json: {template: confusion, x: actual, y: predicted}\n- eval/image.png\n- other.csv: {x: a, y: b}\nartifacts: {}\n";
    let done = converted(&[("dvc.yaml", dvc)]);
    let evaluate = &stages(&done)["evaluate"];
    let run = evaluate["run"].as_str().unwrap();
    let expected = "python evaluate.py {inputs.model}\ncp eval/metrics.json {outputs.metrics}\ncp eval/roc/train.json {outputs.train}\n\
                    cp eval/roc/test.json {outputs.test}\ncp eval/cm.json {outputs.cm}\nmv eval {outputs.eval}\n";
    assert_eq!(run, expected);
    let outputs = &evaluate["outputs"];
    assert_eq!(
        (outputs["eval"]["type"].as_str(), outputs["metrics"]["type"].as_str()),
        (Some("folder"), Some("metrics"))
    );
    assert_eq!(outputs["test"]["plots"][0]["title"].as_str(), Some("ROC (test)"));
    let report = &stages(&done)["report"];
    assert_eq!(
        (report["metrics"].as_str(), report["figures"][0].as_str()),
        (Some("evaluate.metrics"), Some("evaluate.plots"))
    );
    let confusion = &outputs["cm"]["plots"][0];
    assert_eq!(
        (confusion["form"].as_str(), confusion["x"].as_str(), confusion["y"].as_str()),
        (Some("confusion"), Some("actual"), Some("predicted"))
    );
    for note in [
        "the plot of `eval/image.png` names no columns",
        "no stage has `other.csv`",
        "the section `artifacts`",
        "plot `ROC` has several files",
    ] {
        assert!(done.notes.iter().any(|said| said.contains(note)), "{note}: {:?}", done.notes);
    }
}

#[test]
fn what_stages_of_others_expect_at_their_own_paths_is_linked() {
    let dvc = "stages:\n  a:\n    wdir: sub\n    cmd: ./make.sh\n    deps: [make.sh]\n    outs: [../data/x]\n  b:\n    cmd: python use.py\n    deps: [data/x/part.csv, use.py]\n    outs: [y.csv]\n";
    let done = converted(&[("dvc.yaml", dvc)]);
    let stages = stages(&done);
    let run = |name: &str| stages[name]["run"].as_str().unwrap().to_owned();
    assert_eq!(run("a"), "mkdir -p data\nmkdir -p sub\n(\ncd sub\n{inputs.make}\n)\nmv data/x {outputs.x}\n");
    let expected =
        "mkdir -p data/x\nln -s {inputs.part}/part.csv data/x/part.csv\npython {inputs.use}\nmv y.csv {outputs.y}\n";
    assert_eq!(run("b"), expected);
}
