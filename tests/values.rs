//! Values of programs: files of parameters, matrices over them, and a stage per file.

use crate::harness::Project;

const FIT: &str = r#"
[stages.fit]
kind = "command"
params = "params.yaml"
params_used = ["seed", "train.*"]
outputs = { y = { type = "file", path = "y.txt" } }
run = "echo {params.train.lr} {params.seed} > {outputs.y}; cat $HAMFLOW_PARAMS >> {outputs.y}"
"#;

const PARAMS: &str = "seed: 1\ntrain:\n  lr: 0.10\n  layers: [8, 4]\nother:\n  x: 1\n";

#[test]
fn only_the_used_values_of_a_file_count() {
    let project = Project::builtin(FIT);
    project.write("params.yaml", PARAMS);
    assert_eq!(project.run().ran(), ["fit"]);
    assert_eq!(project.read("out/fit/y.txt"), "0.1 1\n{\"seed\":1,\"train\":{\"layers\":[8,4],\"lr\":0.1}}");
    project.until_sealed(|| drop(project.run()));
    project.write("params.yaml", PARAMS.replace("x: 1", "x: 2"));
    assert_eq!(project.run().count("fresh"), 1);
    project.write("params.yaml", PARAMS.replace("[8, 4]", "[8, 2]"));
    let why = project.hamflow(&["why", "fit"]);
    assert!(why.stdout.contains("`params.train.layers` changed from [8,4] to [8,2]"), "{why:?}");
    assert_eq!(project.run().ran(), ["fit"]);
}

#[test]
fn the_format_of_a_file_of_parameters_does_not_matter() {
    let project = Project::builtin(FIT);
    project.write("params.yaml", PARAMS);
    project.run();
    let toml = "seed = 1\n[train]\nlr = 0.1\nlayers = [8, 4]\n";
    let json = r#"{"train": {"layers": [8, 4], "lr": 0.1}, "seed": 1}"#;
    for (file, text) in [("params.toml", toml), ("params.json", json)] {
        project.write(file, text);
        project.write("pipeline.toml", FIT.replace("params.yaml", file));
        assert_eq!(project.run().count("fresh"), 1, "{file}");
    }
}

#[test]
fn a_program_that_reads_its_file_of_parameters_depends_on_the_used_values_only() {
    let project = Project::builtin(&FIT.replace("cat $HAMFLOW_PARAMS", "cat params.yaml"));
    project.write("params.yaml", PARAMS);
    assert_eq!(project.run().ran(), ["fit"]);
    project.write("params.yaml", PARAMS.replace("x: 1", "x: 2"));
    assert_eq!(project.run().count("fresh"), 1);
    project.write("params.yaml", PARAMS.replace("seed: 1", "seed: 2"));
    assert_eq!(project.run().ran(), ["fit"]);
}

#[test]
fn a_profile_the_command_line_and_a_matrix_change_values_of_a_file() {
    let matrix = "[stages.fit.matrix]\ntrain.lr = [0.1, 0.5]\n[profiles.quick.stages.fit.params]\nseed = 7\n";
    let project = Project::builtin(&format!("{FIT}{matrix}"));
    project.write("params.yaml", PARAMS);
    assert_eq!(project.run_with(&["--jobs", "1"]).ran(), ["fit[train.lr=0.1]", "fit[train.lr=0.5]"]);
    let last = project.read("out/fit[train.lr=0.5]/y.txt");
    assert_eq!(last, "0.5 1\n{\"seed\":1,\"train\":{\"layers\":[8,4],\"lr\":0.5}}");
    let ran = project.run_with(&["--profile", "quick", "--set", "stages.fit.params.train.layers=[1]"]);
    assert_eq!(ran.ran().len(), 2);
    let last = project.read("out/fit[train.lr=0.5]/y.txt");
    assert_eq!(last, "0.5 7\n{\"seed\":7,\"train\":{\"layers\":[1],\"lr\":0.5}}");
    let hidden = project.hamflow(&["run", "--set", "stages.fit.params.train.lr=1"]);
    assert!(hidden.code == 2 && hidden.stderr.contains("`train.lr` is an axis of the matrix"), "{hidden:?}");
}

#[test]
fn mistakes_in_files_of_parameters_show_their_place() {
    let project = Project::builtin(FIT);
    let refused = |text: &str| {
        project.write("params.yaml", text);
        let ran = project.hamflow(&["status"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        ran.stderr
    };
    let missing = project.hamflow(&["status"]);
    assert!(missing.stderr.contains("cannot read the parameters in `params.yaml`"), "{missing:?}");
    assert!(refused("seed: [1\n").contains("params.yaml:2:1"));
    assert!(refused("seed: 1\ntrain: {lr: .inf}\n").contains("`lr` is not a finite number\n  --> params.yaml:2:13"));
    let unused = refused("sed: 1\ntrain: {lr: 1}\n");
    let hint = "`params_used` names `seed`, but `params.yaml` has no such value";
    assert!(unused.contains(hint) && unused.contains("did you mean `sed`?"), "{unused}");
    let table = refused("seed: 1\ntrain: {lr: {}}\n");
    assert!(table.contains("`{params.train.lr}` must be a string, a number, true or false"), "{table}");
    project.write("pipeline.toml", FIT.replace("params.yaml", "params.ini"));
    project.write("params.ini", "");
    let format = project.hamflow(&["status"]);
    assert!(format.stderr.contains("the format of `params.ini` is not known from its name"), "{format:?}");
    project.write("pipeline.toml", FIT.replace("\"params.yaml\"", "{ seed = 1, train = { lr = 1 } }"));
    let table = project.hamflow(&["status"]);
    assert!(table.stderr.contains("`params_used` has no effect, because `params` is not a file"), "{table:?}");
}

const EACH: &str = r#"
[inputs]
scans = "scans"

[stages.count]
kind = "command"
foreach = "inputs.scans/*.csv"
outputs = { n = { type = "file", path = "n.txt" } }
run = "wc -l < {inputs.each} > {outputs.n}"

[stages.twice]
kind = "command"
inputs = { n = "count" }
outputs = { n = { type = "file", path = "n.txt" } }
run = "cat {inputs.n} {inputs.n} > {outputs.n}"

[stages.all]
kind = "command"
inputs = { n = "twice[*]" }
outputs = { n = { type = "file", path = "n.txt" } }
run = "cat {inputs.n} > {outputs.n}"
"#;

#[test]
fn a_stage_per_file_is_named_by_the_file() {
    let project = Project::builtin(EACH);
    project.write("scans/a.csv", "1\n2\n");
    project.write("scans/b.csv", "1\n");
    project.write("scans/.c.csv", "1\n");
    project.write("scans/notes.txt", "x");
    let names = ["count[each=a.csv]", "count[each=b.csv]", "twice[each=a.csv]", "twice[each=b.csv]", "all"];
    let mut ran = project.run().ran();
    ran.sort();
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(ran, sorted);
    assert_eq!(project.read("out/all/n.txt"), "2\n2\n1\n1\n");
    // Only the stages of a changed or new file run.
    project.write("scans/b.csv", "1\n2\n3\n");
    assert_eq!(project.run().ran(), ["count[each=b.csv]", "twice[each=b.csv]", "all"]);
    project.until_sealed(|| drop(project.run()));
    project.write("scans/notes.txt", "y");
    assert_eq!(project.run().ran(), Vec::<String>::new());
    project.write("scans/d.csv", "");
    assert_eq!(project.run().ran(), ["count[each=d.csv]", "twice[each=d.csv]", "all"]);
    std::fs::remove_file(project.path("scans/a.csv")).unwrap();
    assert_eq!(project.run().ran(), ["all"]);
    assert!(!project.path("out/count[each=a.csv]").exists());
}

#[test]
fn mistakes_in_foreach_name_the_way_out() {
    let project = Project::builtin(EACH);
    let refused = |pattern: &str| {
        project.write("pipeline.toml", EACH.replace("inputs.scans/*.csv", pattern));
        let ran = project.hamflow(&["status"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        ran.stderr
    };
    assert!(refused("inputs.scans/*.csv").contains("cannot list the folder `scans`"));
    project.write("scans/sub/a=b.csv", "");
    assert!(refused("inputs.scans/*.csv").contains("no file in `scans` matches `*.csv`"));
    assert!(refused("inputs.scans/sub/*.csv").contains("the file name `a=b.csv` cannot be part of a stage's name"));
    assert!(refused("inputs.scan/*.csv").contains("did you mean `scans`?"));
    assert!(refused("scans/*.csv").contains("write a declared folder and a pattern, such as `\"inputs.scans/*.csv\"`"));
    assert!(refused("inputs.scans/*/a.csv").contains("cannot have wildcards or `..`"));
    assert!(refused("inputs.scans/[a.csv").contains("`[a.csv` in `foreach` is not a pattern"));
    project.write("pipeline.toml", EACH.replace("foreach =", "inputs = { each = \"inputs.scans\" }\nforeach ="));
    let taken = project.hamflow(&["status"]);
    assert!(taken.stderr.contains("`foreach` makes an input `each`, but the stage has one"), "{taken:?}");
    project.write(
        "pipeline.toml",
        "[stages.eda]\nforeach = \"inputs.x/*\"\ntable = \"inputs.x\"\n[inputs]\nx = \"scans\"\n",
    );
    let kind = project.hamflow(&["status"]);
    assert!(kind.stderr.contains("`foreach` is for stages that declare their inputs, and `eda` does not"), "{kind:?}");
}
