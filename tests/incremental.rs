//! Which stages and parts rerun after a change.

use crate::harness::{CHAIN, Project, chain, folder_with};

#[test]
fn a_second_run_does_nothing_and_leaves_no_record() {
    let project = chain();
    let before = project.files("cache/runs");
    let ran = project.run();
    assert_eq!((ran.count("fresh"), ran.count("ran"), ran.count("cached")), (4, 0, 0));
    assert_eq!(project.files("cache/runs"), before);
}

#[test]
fn a_changed_input_reruns_its_dependents() {
    let project = chain();
    project.write("text.txt", "abcd");
    assert_eq!(project.run().ran(), ["first", "second", "third"]);
    assert_eq!(project.read("out/third/text.txt"), ":ABCD:ABCD!");
}

#[test]
fn a_touched_input_reruns_nothing() {
    let project = chain();
    project.touch("text.txt", 5);
    assert_eq!(project.run().count("fresh"), 4);
}

#[test]
fn an_unchanged_output_stops_the_rebuild() {
    let project = chain();
    project.write("text.txt", "ABC");
    assert_eq!(project.run().ran(), ["first"], "`abc` and `ABC` have the same output");
}

#[test]
fn a_changed_parameter_reruns_its_stage_and_reverting_restores_the_result() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    assert_eq!(project.run().ran(), ["second", "third"]);
    project.write("pipeline.toml", CHAIN);
    let ran = project.run();
    assert_eq!(ran.with_outcome("cached"), ["second", "third"]);
    assert_eq!(ran.ran(), Vec::<String>::new());
    assert_eq!(project.read("out/second/text.txt"), "ABC!");
}

#[test]
fn the_seed_reruns_only_stages_that_use_random_numbers() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("seed = 1", "seed = 2"));
    assert_eq!(project.run().ran(), ["dice"]);
}

#[test]
fn an_explicit_default_changes_nothing() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("from = \"inputs.text\"", "from = \"inputs.text\"\nsuffix = \"\""));
    assert_eq!(project.run().count("fresh"), 4);
}

#[test]
fn a_renamed_stage_does_not_rerun() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("first", "premier"));
    let ran = project.run();
    assert_eq!(ran.ran(), Vec::<String>::new());
    assert_eq!(ran.with_outcome("cached"), ["premier"]);
}

fn folder() -> Project {
    let project = folder_with("");
    assert_eq!(project.run().count("ran"), 3);
    project
}

#[test]
fn a_changed_file_reruns_its_part_but_no_reader_of_names() {
    let project = folder();
    project.write("data/b1", "other");
    let ran = project.run();
    assert_eq!(ran.ran(), ["pieces"]);
    assert_eq!((ran.count("parts_ran"), ran.count("parts_cached")), (1, 2));
    assert_eq!(project.read("out/pieces/pieces/b.txt"), "OTHER");
    assert_eq!(project.read("out/pieces/pieces/list.txt"), "a 2\nb 1\nc 1\n");
}

#[test]
fn the_largest_parts_run_first() {
    let project = folder();
    for (name, size) in [("a1", 20), ("a2", 20), ("b1", 30), ("c1", 100)] {
        project.write(&format!("data/{name}"), "x".repeat(size));
    }
    assert_eq!(project.run_with(&["--jobs", "1"]).count("parts_ran"), 3);
    let log = project.hamflow(&["log", "pieces"]).stdout;
    let order: Vec<&str> = log.lines().filter_map(|line| line.split_once("part ")).map(|(_, name)| name).collect();
    assert_eq!(order, ["c", "a", "b"], "100, 40 and 30 bytes: {log}");
    assert_eq!(project.read("out/pieces/pieces/list.txt"), "a 2\nb 1\nc 1\n", "assembled in the order of the parts");
}

#[test]
fn few_parts_share_all_threads() {
    let stage = |kind: &str| format!("[inputs]\nfolder = \"data\"\n[stages.{kind}]\nfolder = \"inputs.folder\"\n");
    let project = Project::new(&stage("once"));
    let threads = |kind: &str, jobs: &str| {
        assert_eq!(project.run_with(&["--jobs", jobs]).code, 0);
        let log = project.hamflow(&["log", kind]).stdout;
        let mut parts: Vec<String> =
            log.lines().filter(|line| line.contains(" threads, ")).map(str::to_owned).collect();
        parts.sort();
        parts
    };
    for (name, size) in [("a1", 10), ("b1", 20), ("c1", 30)] {
        project.write(&format!("data/{name}"), "x".repeat(size));
    }
    let three = ["a has 3 threads, libraries 1", "b has 3 threads, libraries 1", "c has 2 threads, libraries 1"];
    assert_eq!(threads("once", "8"), three);
    project.write("data/b1", "another");
    assert_eq!(threads("once", "8"), ["b has 8 threads, libraries 1"]);
    project.write("data/b1", "again another");
    assert_eq!(threads("once", "1"), ["b has 1 threads, libraries 1"]);
    project.write("pipeline.toml", stage("pieces"));
    let one = ["a", "b", "c"].map(|part| format!("{part} has 1 threads, libraries 1"));
    assert_eq!(threads("pieces", "8"), one, "the kind uses one");
}

#[test]
fn a_deleted_file_removes_its_part() {
    let project = folder();
    std::fs::remove_file(project.path("data/c1")).unwrap();
    let ran = project.run();
    assert_eq!(ran.ran(), ["names"]);
    assert_eq!(ran.with_outcome("cached"), ["pieces"], "all its parts were cached");
    assert_eq!(ran.count("parts_ran"), 0);
    assert!(!project.path("out/pieces/pieces/c.txt").exists());
}

#[test]
fn only_rows_in_the_view_cause_reruns() {
    let project = folder();
    project.write("rows.txt", "keep 1\ndrop 7\nkeep 3\n");
    assert_eq!(project.run().count("fresh"), 3);
    project.write("rows.txt", "keep 1\ndrop 7\nkeep 4\n");
    assert_eq!(project.run().ran(), ["rows"]);
}

#[test]
fn a_matrix_runs_and_gathers_its_combinations() {
    let project = Project::new(
        r#"
[inputs]
text = "text.txt"
[stages.say]
kind = "shout"
from = "inputs.text"
[stages.say.matrix]
suffix = ["!", "?"]
[stages.again]
kind = "shout"
from = "say"
[stages.all]
kind = "join"
from = "again[*]"
"#,
    );
    project.write("text.txt", "a");
    assert_eq!(project.run().count("ran"), 5);
    assert_eq!(project.read("out/all/text.txt"), "suffix=!:A!suffix=?:A?");
    assert_eq!(project.read("out/again[suffix=!]/text.txt"), "A!");
    assert_eq!(project.run().count("fresh"), 5);
}

#[test]
fn equal_stages_run_once() {
    let project = Project::new(
        "[inputs]\ntext = \"t\"\n[stages.a]\nkind = \"shout\"\nfrom = \"inputs.text\"\n[stages.b]\nkind = \"shout\"\nfrom = \"inputs.text\"\n",
    );
    project.write("t", "x");
    let ran = project.run();
    assert_eq!((ran.count("ran"), ran.count("cached")), (1, 1), "{ran:?}");
}

#[test]
fn a_selected_stage_runs_with_its_dependencies_only() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    assert_eq!(project.run_with(&["second"]).ran(), ["first", "second"]);
    assert_eq!(project.run_with(&["first+", "--force"]).ran(), ["first", "second", "third"]);
}

#[test]
fn overrides_have_their_own_lock() {
    let project = chain();
    let lock = project.read("pipeline.lock");
    assert_eq!(project.run_with(&["--set", "stages.second.suffix=?"]).ran(), ["second", "third"]);
    assert_eq!(project.read("pipeline.lock"), lock);
    assert_eq!(project.run().with_outcome("cached"), ["second", "third"]);
}

#[test]
fn equal_keys_execute_once_even_with_force() {
    let twins =
        CHAIN.replace("[stages.third]", "[stages.same]\nkind = \"shout\"\nfrom = \"inputs.text\"\n[stages.third]");
    let project = Project::new(&twins);
    project.write("text.txt", "abc");
    project.run();
    let ran = project.run_with(&["--force", "first", "same"]);
    assert_eq!((ran.count("ran"), ran.count("fresh")), (1, 1), "{ran:?}");
}
