//! Caches of earlier versions stay usable.
//!
//! `fixtures/cache-of-0.1.tar` holds a project with a stage of each kind and its cache, as commit b2a50f7 left them after `hamflow run`,
//! without checkpoints, records and the stat index. It was packed by
//! `tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar -cf cache-of-0.1.tar pipeline.toml pipeline.lock poem.txt cache`.

use crate::harness::Project;

fn earlier() -> Project {
    let project = Project::builtin("");
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cache-of-0.1.tar");
    tar::Archive::new(std::fs::File::open(archive).unwrap()).unpack(project.root()).unwrap();
    project
}

/// The line with the key of a stage in the lock file.
fn locked_key<'a>(lock: &'a str, stage: &str) -> &'a str {
    lock.lines().find(|line| line.starts_with(&format!("{stage}\tkey\t"))).unwrap()
}

#[test]
fn only_what_has_a_new_revision_runs_again() {
    let project = earlier();
    let before = project.read("pipeline.lock");
    let ran = project.run();
    // `words` is a line with a pipe, which now fails if a command in front of the pipe fails.
    let expected = ["clean", "eda", "evaluate", "gradcam", "metadata", "preprocess", "report", "split", "words"];
    let mut stages = ran.ran();
    stages.sort();
    assert_eq!(stages, expected, "{ran:?}");
    let mut causes: Vec<(String, String)> = Vec::new();
    for event in ran.events().iter().filter(|event| event["event"] == "stage_started") {
        let reasons = event["reasons"].as_array().unwrap().iter();
        let named = |reason: &serde_json::Value| reason["reason"].as_str().unwrap().to_owned();
        causes.extend(reasons.map(|reason| (event["stage"].as_str().unwrap().to_owned(), named(reason))));
    }
    assert!(causes.iter().all(|(_, cause)| ["revision", "param", "input", "view"].contains(&&cause[..])), "{causes:?}");
    let params: Vec<_> = causes.iter().filter(|(_, cause)| cause == "param").map(|(stage, _)| stage).collect();
    // `metadata` no longer lists the classes of HAM10000 unless they are declared.
    assert_eq!(params, ["words", "metadata"]);
    // The shards and the split have the same bytes, so the training of the earlier version is used.
    let after = project.read("pipeline.lock");
    for stage in ["synthetic", "train"] {
        assert_eq!(locked_key(&after, stage), locked_key(&before, stage));
    }
    let again = project.run();
    assert_eq!(again.count("fresh"), 11, "{again:?}");
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
fn a_change_is_explained_with_what_an_earlier_version_stored() {
    let project = earlier();
    project.write("pipeline.toml", project.read("pipeline.toml").replace("images = 100", "images = 120"));
    let why = project.hamflow(&["why", "synthetic"]).stdout;
    assert!(why.contains("`images` changed from 100 to 120"), "{why}");
}
