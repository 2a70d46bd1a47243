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

#[test]
fn nothing_of_an_earlier_version_runs_again() {
    let project = earlier();
    let lock = project.read("pipeline.lock");
    let ran = project.run();
    assert_eq!((ran.count("ran"), ran.count("parts_ran"), ran.count("cached")), (0, 0, 11), "{ran:?}");
    assert_eq!(project.read("pipeline.lock"), lock, "keys and digests are the same");
    let again = project.run();
    assert_eq!(again.count("fresh"), 11, "{again:?}");
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
fn a_change_is_explained_with_what_an_earlier_version_stored() {
    let project = earlier();
    project.write("pipeline.toml", project.read("pipeline.toml").replace("epochs = 2", "epochs = 3"));
    let why = project.hamflow(&["why", "train"]).stdout;
    assert!(why.contains("`epochs` changed from 2 to 3"), "{why}");
}
