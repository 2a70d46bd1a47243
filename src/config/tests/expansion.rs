//! Profiles, `--set` and matrices: which stages there are in the end, and with what.

use serde_json::{Value, json};

use super::{Project, loaded, overrides, refused};
use crate::config::{Cpus, LinkMode, Needs, Origin, Pipeline, Stage};

const BASE: &str = r#"
[pipeline]
name = "toy"
seed = 7

[inputs]
rows = "rows.csv"

[stages.source]
csv = "inputs.rows"

[stages.pack]
table = "source"

[stages.fit]
shards = "pack"
epochs = 50

[profiles.demo]
stages.fit.epochs = 3
stages.extra = { kind = "map", table = "source" }
inputs.rows = "demo.csv"
inputs.more = ["a", "b"]
pipeline.seed = 8
cache.link = "hard"
"#;

fn stage<'p>(pipeline: &'p Pipeline, name: &str) -> &'p Stage {
    pipeline.stages.iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.stages.iter().map(|stage| stage.name.as_str()).collect()
}

fn param(stage: &Stage, name: &str) -> Value {
    stage.params.json()[name].clone()
}

#[test]
fn defaults_are_filled_in_and_the_order_is_the_file_s() {
    let project = Project::new(BASE);
    let pipeline = project.load(&overrides(None, &[])).unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.seed, pipeline.overridden), ("toy", 7, false));
    assert_eq!(pipeline.root, project.folder.path().canonicalize().unwrap());
    assert_eq!(names(&pipeline), ["source", "pack", "fit"]);
    let fit = stage(&pipeline, "fit");
    assert_eq!(serde_json::to_string(fit.params.json()).unwrap(), r#"{"epochs":50,"lr":0.001,"model":"baseline"}"#);
    assert_eq!((fit.seed, fit.references[0].1[0].text.as_str()), (7, "pack"));
    assert_eq!(pipeline.sources.text(fit.span), "[stages.fit]");
    assert_eq!(pipeline.sources.text(fit.references[0].1[0].span), "\"pack\"");
    assert_eq!((pipeline.cache.dir.to_str().unwrap(), pipeline.cache.link), ("cache", LinkMode::Copy));
}

#[test]
fn a_profile_merges_tables_and_replaces_the_rest() {
    let pipeline = Project::new(BASE).load(&overrides(Some("demo"), &[])).unwrap();
    assert_eq!(names(&pipeline), ["source", "pack", "fit", "extra"]);
    assert_eq!(param(stage(&pipeline, "fit"), "epochs"), json!(3));
    assert_eq!((pipeline.seed, pipeline.overridden, pipeline.cache.link), (8, true, LinkMode::Hard));
    let inputs: Vec<(&str, usize, bool)> =
        pipeline.inputs.iter().map(|input| (input.name.as_str(), input.paths.len(), input.list)).collect();
    assert_eq!(inputs, [("more", 2, true), ("rows", 1, false)]);
}

#[test]
fn set_wins_over_the_profile_and_takes_toml_or_a_plain_text() {
    let set = [
        "stages.fit.epochs=5",
        "stages.fit.model=deep net",
        "stages.fit.lr=1e-2",
        "pipeline.seed=9",
        "inputs.rows=other.csv",
        "stages.fit.seed = 11",
    ];
    let pipeline = Project::new(BASE).load(&overrides(Some("demo"), &set)).unwrap();
    let fit = stage(&pipeline, "fit");
    assert_eq!(Value::Object(fit.params.json().clone()), json!({ "epochs": 5, "lr": 0.01, "model": "deep net" }));
    assert_eq!((pipeline.seed, fit.seed), (9, 11));
    assert_eq!(pipeline.inputs[1].paths[0].to_str().unwrap(), "other.csv");
}

#[test]
fn an_input_knows_who_wrote_it() {
    let project = Project::new(BASE);
    let origins = |profile, set: &[&str]| -> Vec<(String, Origin)> {
        let inputs = project.load(&overrides(profile, set)).unwrap().inputs;
        inputs.into_iter().map(|input| (input.name, input.origin)).collect()
    };
    let (more, rows) = ("more".to_owned(), "rows".to_owned());
    assert_eq!(origins(None, &[]), [(rows.clone(), Origin::File)]);
    let of_profile = [(more.clone(), Origin::Profile), (rows.clone(), Origin::Profile)];
    assert_eq!(origins(Some("demo"), &[]), of_profile);
    let set = ["inputs.rows=other.csv", "inputs.more=[\"a\", \"b\"]"];
    assert_eq!(origins(Some("demo"), &set), [(more, Origin::Profile), (rows.clone(), Origin::Set)]);
    assert_eq!(origins(None, &["inputs.rows=rows.csv"]), [(rows, Origin::File)], "the same is not another input");
}

#[test]
fn a_stage_has_its_own_seed_memory_and_environment() {
    let pipeline = loaded(
        "[stages.a]\nkind = \"command\"\nenv = [\"B\", \"A\", \"B\"]\nsecret_env = [\"TOKEN\"]\nmemory = \"2GB\"\n\
         inputs = { x = \"b\", all = [\"b\"] }\n[stages.b]\nkind = \"command\"\n\
         outputs = { y = { type = \"file\" } }\n",
    );
    let stage = stage(&pipeline, "a");
    assert_eq!((stage.env.join(" "), stage.secret_env.join(" ")), ("A B".to_owned(), "TOKEN".to_owned()));
    assert_eq!(stage.needs.memory, Some(2_000_000_000));
    assert_eq!(stage.needs.cpus, None);
    let ports: Vec<(&str, bool, bool)> =
        stage.references.iter().map(|(port, _)| (port.name.as_str(), port.many, port.external)).collect();
    assert_eq!(ports, [("x", false, true), ("all", true, true)]);
}

#[test]
fn a_stage_declares_what_a_job_needs() {
    let needs = |resources: &str| {
        let text = format!("[stages.a]\nkind = \"command\"\nresources = {resources}\n");
        stage(&loaded(&text), "a").needs
    };
    let gib = 1 << 30;
    assert_eq!(needs("{ cpus = 4, memory = \"2GiB\" }"), Needs { cpus: Some(Cpus::Count(4)), memory: Some(2 * gib) });
    assert_eq!(needs("{ cpus = \"all\" }"), Needs { cpus: Some(Cpus::All), memory: None });
    assert_eq!([Cpus::All.of(8), Cpus::Count(4).of(8), Cpus::Count(4).of(2)], [8, 4, 2]);
}

const HEAD: &str = "[inputs]\nrows = \"rows.csv\"\n[stages.source]\ncsv = \"inputs.rows\"\n[stages.pack]\n\
    table = \"source\"\n[stages.fit]\nshards = \"pack\"\n";

#[test]
fn a_matrix_makes_one_stage_per_combination() {
    let text = format!("{HEAD}[stages.fit.matrix]\nlr = [3e-3, 1e-3]\nepochs = [5, 50]\n");
    let pipeline = loaded(&text);
    assert_eq!(
        names(&pipeline),
        [
            "source",
            "pack",
            "fit[epochs=5,lr=0.003]",
            "fit[epochs=5,lr=0.001]",
            "fit[epochs=50,lr=0.003]",
            "fit[epochs=50,lr=0.001]",
        ]
    );
    let last = stage(&pipeline, "fit[epochs=50,lr=0.001]");
    assert_eq!((param(last, "epochs"), param(last, "lr")), (json!(50), json!(0.001)));
    assert_eq!(last.base, "fit");
    assert_eq!(last.axes, [("epochs".to_owned(), "50".to_owned()), ("lr".to_owned(), "0.001".to_owned())]);
}

#[test]
fn seeds_and_inputs_can_be_axes() {
    let text = format!(
        "{HEAD}matrix = {{ seed = [1, 2] }}\n[stages.left]\nkind = \"map\"\ntable = \"source\"\n\
         [stages.again]\nkind = \"pack\"\nmatrix.table = [\"source\", \"left\"]\n"
    );
    let pipeline = loaded(&text);
    assert_eq!((stage(&pipeline, "fit[seed=1]").seed, stage(&pipeline, "fit[seed=2]").seed), (1, 2));
    let left = stage(&pipeline, "again[table=left]");
    assert_eq!(left.references[0].1[0].text, "left");
}

#[test]
fn a_reader_of_a_matrix_follows_it_and_one_with_a_star_does_not() {
    let text = format!(
        "{HEAD}matrix.lr = [0.1, 0.2]\n\
         [stages.judge]\nkind = \"gather\"\nmodel = \"fit\"\nmetrics = [\"fit.metrics\"]\nmatrix.top = [1, 2]\n\
         [stages.both]\nkind = \"gather\"\nmodel = \"fit.model\"\nmetrics = \"judge\"\n\
         [stages.all]\nkind = \"gather\"\nmetrics = [\"fit[*].metrics\", \"judge[*]\"]\n"
    );
    let pipeline = loaded(&text);
    assert_eq!(
        names(&pipeline)[4..],
        [
            "judge[lr=0.1,top=1]",
            "judge[lr=0.1,top=2]",
            "judge[lr=0.2,top=1]",
            "judge[lr=0.2,top=2]",
            "both[lr=0.1,top=1]",
            "both[lr=0.1,top=2]",
            "both[lr=0.2,top=1]",
            "both[lr=0.2,top=2]",
            "all",
        ]
    );
}

#[test]
fn two_matrices_that_are_followed_cross() {
    let text = format!(
        "{HEAD}matrix.lr = [0.1, 0.2]\n\
         [stages.deep]\nkind = \"fit\"\nshards = \"pack\"\nmatrix.epochs = [1, 2]\n\
         [stages.duel]\nkind = \"gather\"\nmodel = \"fit\"\nother = \"deep\"\n"
    );
    let names_of_duels: Vec<String> =
        loaded(&text).stages.iter().filter(|stage| stage.base == "duel").map(|stage| stage.name.clone()).collect();
    assert_eq!(
        names_of_duels,
        ["duel[epochs=1,lr=0.1]", "duel[epochs=1,lr=0.2]", "duel[epochs=2,lr=0.1]", "duel[epochs=2,lr=0.2]"]
    );
}

#[test]
fn two_axes_of_one_name_cannot_both_be_followed() {
    let text = format!(
        "{HEAD}matrix.lr = [0.1, 0.2]\n\
         [stages.deep]\nkind = \"fit\"\nshards = \"pack\"\nmatrix.lr = [1, 2]\n\
         [stages.duel]\nkind = \"gather\"\nmodel = \"fit\"\nother = \"deep\"\n"
    );
    assert_eq!(
        refused(&text),
        "error: stage `duel`: `fit` and `deep` both have an axis `lr`, and it follows both\n\
         \x20 --> pipeline.toml:14:1\n\
         \x20  |\n\
         14 | [stages.duel]\n\
         \x20  | ^^^^^^^^^^^^^\n\
         hint: gather one of them: `deep[*]`"
    );
}
