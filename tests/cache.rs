//! The promises of the cache; the name is the promise.

use crate::harness::{CHAIN, Project, chain};

#[test]
fn deleting_the_outputs_restores_them_without_running() {
    let project = chain();
    let before = project.files("out");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let ran = project.run();
    assert_eq!((ran.count("cached"), ran.count("ran")), (4, 0));
    assert_eq!(project.files("out"), before);
}

#[test]
fn an_edited_output_is_noticed_restored_and_never_cached() {
    let project = chain();
    project.write("out/first/text.txt", "forged");
    let ran = project.run();
    assert_eq!(ran.with_outcome("cached"), ["first"]);
    assert!(ran.stdout.contains("edited file"), "{ran:?}");
    assert_eq!(project.read("out/first/text.txt"), "ABC");
    assert_eq!(project.read("out/second/text.txt"), "ABC!");
}

#[test]
fn a_file_that_somebody_put_beside_the_outputs_is_left_alone() {
    let project = chain();
    project.write("out/first/notes.md", "mine");
    assert_eq!(project.run().count("fresh"), 4);
    assert_eq!(project.read("out/first/notes.md"), "mine");
}

#[test]
fn deleting_the_cache_costs_time_and_gives_the_same_bytes() {
    let project = chain();
    let before = project.files("out");
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    assert_eq!(project.run().count("ran"), 4);
    assert_eq!(project.files("out"), before);
}

#[test]
fn moving_the_checkout_and_the_data_does_not_rerun() {
    let project = chain();
    let moved = Project::new(&CHAIN.replace("text.txt", "elsewhere/ä b.txt"));
    moved.write("elsewhere/ä b.txt", "abc");
    let status = std::process::Command::new("cp").arg("-r").arg(project.path("cache")).arg(moved.root()).status();
    assert!(status.unwrap().success());
    let ran = moved.run();
    assert_eq!((ran.count("cached"), ran.count("ran")), (4, 0), "{ran:?}");
}

#[test]
fn inputs_may_lie_outside_behind_dots_and_symlinks() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("t.txt"), "abc").unwrap();
    let project = Project::new(&CHAIN.replace("text.txt", "link/../link/t.txt"));
    std::os::unix::fs::symlink(outside.path(), project.path("link")).unwrap();
    std::fs::create_dir_all(outside.path().join("link")).unwrap();
    std::fs::rename(outside.path().join("t.txt"), outside.path().join("link/t.txt")).unwrap();
    let absolute = CHAIN.replace("text.txt", outside.path().join("link/t.txt").to_str().unwrap());
    project.write("pipeline.toml", &absolute);
    assert_eq!(project.run().count("ran"), 4);
}

#[test]
fn outputs_that_would_leave_the_project_are_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    std::os::unix::fs::symlink(elsewhere.path(), project.path("out")).unwrap();
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("leads out of the project"), "{ran:?}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn the_lock_replaces_absent_inputs_where_the_cache_has_the_results() {
    let project = chain();
    std::fs::remove_file(project.path("text.txt")).unwrap();
    let refused = project.hamflow(&["run"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("`inputs.text`: `text.txt`"), "{refused:?}");
    assert_eq!(project.run_with(&["--allow-missing"]).count("fresh"), 4);
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run_with(&["--allow-missing"]).count("cached"), 4);
    // Only a stage that must run fails.
    project.write("pipeline.toml", CHAIN.replace("from = \"inputs.text\"", "from = \"inputs.text\"\nsuffix = \".\""));
    let ran = project.hamflow(&["run", "--json", "--allow-missing", "--keep-going"]);
    assert_eq!(ran.with_outcome("failed"), ["first"], "{ran:?}");
    assert_eq!(ran.with_outcome("fresh"), ["dice"]);
}

#[test]
fn a_locked_run_fails_on_any_difference() {
    let project = chain();
    let lock = project.read("pipeline.lock");
    assert_eq!(project.run_with(&["--locked"]).count("fresh"), 4);
    project.write("text.txt", "other");
    let ran = project.hamflow(&["run", "--locked"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("differs from `pipeline.lock`"), "{ran:?}");
    assert_eq!(project.read("pipeline.lock"), lock);
}

#[test]
fn the_lock_is_the_same_text_for_the_same_state() {
    let project = chain();
    let lock = project.read("pipeline.lock");
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    std::fs::remove_file(project.path("pipeline.lock")).unwrap();
    project.run();
    assert_eq!(project.read("pipeline.lock"), lock);
    let lines: Vec<&str> = lock.lines().skip(2).collect();
    assert!(lines.is_sorted(), "{lock}");
}

#[test]
fn clearing_keeps_what_the_lock_needs() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    project.run();
    let cleared = project.hamflow(&["cache", "gc", "--keep-runs", "0"]);
    assert!(cleared.stdout.starts_with("deleted 2 results"), "{cleared:?}");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("cached"), 4);
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
fn a_symlinked_folder_among_the_outputs_is_not_followed_out_of_the_project() {
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("precious.txt"), "mine").unwrap();
    let project = Project::new("[inputs]\nfolder = \"data\"\n[stages.pieces]\nfolder = \"inputs.folder\"\n");
    project.write("data/a1", "a1");
    project.run();
    std::fs::remove_dir_all(project.path("out/pieces/pieces")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), project.path("out/pieces/pieces")).unwrap();
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("leads out of the project"), "{ran:?}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn a_locked_run_also_compares_which_stages_there_are() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("[stages.dice]", ""));
    let ran = project.hamflow(&["run", "--locked"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("the lock has a stage `dice`"), "{ran:?}");
}
