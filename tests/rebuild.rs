//! `hamflow verify --rebuild` checks that stages are reproducible, without modifying anything.

use crate::harness::{CHAIN, Project, chain};

/// The files that `verify` must not change: all except the stat index, the run lock and memos.
fn untouched(project: &Project) -> Vec<(String, Vec<u8>)> {
    let mut files = project.files("");
    files.retain(|(path, _)| path != "cache/index" && path != "cache/run.lock" && !path.starts_with("cache/memo"));
    files
}

#[test]
fn reproducible_stages_are_reported_and_nothing_is_modified() {
    let project = Project::new(&format!("{CHAIN}\n[stages.pieces]\nfolder = \"inputs.texts\"\n"));
    project.write("pipeline.toml", project.read("pipeline.toml").replace("[inputs]", "[inputs]\ntexts = \"texts\""));
    project.write("text.txt", "abc");
    ["a", "b", "c"].iter().for_each(|name| project.write(&format!("texts/{name}"), name));
    project.run();
    let before = untouched(&project);
    let verified = project.hamflow(&["verify", "--rebuild", "dice", "third", "pieces"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    for stage in ["dice", "third", "pieces"] {
        assert!(verified.stdout.contains(&format!("same     {stage}")), "{verified:?}");
    }
    let object = project.hamflow(&["verify", "--rebuild", "pieces", "--json"]).stdout;
    let object: serde_json::Value = serde_json::from_str(object.lines().last().unwrap()).unwrap();
    assert_eq!((&object["same"], &object["files"]), (&true.into(), &4.into()), "{object}");
    assert_eq!(untouched(&project), before);
}

#[test]
fn incomparable_stages_are_rejected_with_a_hint() {
    let project = chain();
    project.write("text.txt", "other");
    let stale = project.hamflow(&["verify", "--rebuild", "second"]);
    assert_eq!(stale.code, 2, "{stale:?}");
    assert!(stale.stderr.contains("its dependency `first` is not up to date"), "{stale:?}");
    assert!(stale.stderr.contains("`hamflow run second`"), "{stale:?}");
    let first = project.hamflow(&["verify", "--rebuild", "first"]);
    assert!(first.code == 2 && first.stderr.contains("has no stored result to compare with"), "{first:?}");
    let unknown = project.hamflow(&["verify", "--rebuild", "secnd"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("did you mean `second`?"), "{unknown:?}");
    assert_eq!(project.hamflow(&["verify"]).code, 2, "the stages are required");
}

#[cfg(feature = "builtin")]
#[test]
fn a_nondeterministic_stage_is_reported_and_both_outputs_are_kept() {
    let pipeline = "[stages.draw]\nkind = \"command\"\nrun = \"od -An -N8 -tx1 /dev/urandom > {outputs.number}; echo same > {outputs.word}\"\noutputs = { number = { type = \"file\", path = \"number.txt\" }, word = { type = \"file\", path = \"word.txt\" } }\n";
    let project = Project::builtin(pipeline);
    project.run();
    let (stored, before) = (project.read("out/draw/number.txt"), untouched(&project));
    let verified = project.hamflow(&["verify", "--rebuild", "draw"]);
    assert_eq!(verified.code, 1, "{verified:?}");
    assert!(verified.stdout.contains("differs  draw") && verified.stdout.contains("1 of 2 files"), "{verified:?}");
    assert!(verified.stdout.contains("number.txt: ") && !verified.stdout.contains("word.txt"), "{verified:?}");
    assert_ne!(project.read("cache/rebuilt/draw/number.txt"), stored);
    let mut after = untouched(&project);
    after.retain(|(path, _)| !path.starts_with("cache/rebuilt"));
    assert_eq!(after, before);
}

#[cfg(feature = "builtin")]
#[test]
fn a_failed_rebuild_is_not_reported_as_a_difference() {
    let elsewhere = tempfile::tempdir().unwrap();
    let spoiled = elsewhere.path().join("spoiled");
    let project = Project::builtin(&format!(
        "[stages.once]\nkind = \"command\"\nrun = \"test ! -e {} && echo abc > {{outputs.copy}}\"\noutputs = {{ copy = {{ type = \"file\", path = \"copy.txt\" }} }}\n",
        spoiled.display()
    ));
    project.run();
    std::fs::write(&spoiled, "").unwrap();
    let verified = project.hamflow(&["verify", "--rebuild", "once"]);
    assert!(verified.code == 1 && verified.stdout.is_empty(), "{verified:?}");
    assert!(verified.stderr.contains("exit code 1") || verified.stderr.contains("status 1"), "{verified:?}");
    assert!(!project.path("cache/rebuild").exists(), "the scratch directory is deleted");
}
