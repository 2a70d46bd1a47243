//! Verdicts and explanations, without running.

use crate::harness::{CHAIN, Project, chain, folder_with, in_namespace};

/// A project with everything that planning can cache: names, files, a projection and its reader.
fn everything() -> Project {
    folder_with("[stages.shout]\nfrom = \"rows\"\n")
}

#[test]
fn planning_writes_only_the_stat_index() {
    let commands = [
        &["status"][..],
        &["why", "pieces"],
        &["why", "rows"],
        &["dag"],
        &["run", "--dry-run"],
        &["dag", "--format", "json"],
    ];
    // Before the first run, after it, and after a change of a file, of a name and of a projected row.
    let fresh = everything();
    let ran = everything();
    ran.run();
    let changed = everything();
    changed.run();
    changed.write("data/a1", "changed");
    changed.write("data/d1", "new");
    changed.write("rows.txt", "keep 2\ndrop 2\n");
    for project in [&fresh, &ran, &changed] {
        let read = || {
            let mut files = project.files("");
            files.retain(|(name, _)| name != "cache/index");
            files
        };
        let before = read();
        for arguments in commands {
            let ran = project.hamflow(arguments);
            assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        }
        assert_eq!(read(), before);
    }
    // The explanations name files and rows although nothing was written.
    let why = changed.hamflow(&["why", "pieces"]).stdout;
    assert!(why.contains("+ d1") && why.contains("~ a1"), "{why}");
    let why = changed.hamflow(&["why", "rows"]).stdout;
    assert!(why.contains("lines to keep: 1 changed"), "{why}");
    let ran = changed.run();
    assert_eq!((ran.ran().len(), changed.run().count("fresh")), (4, 4), "{ran:?}");
}

#[test]
#[ignore = "needs mount namespaces"]
fn planning_works_on_a_read_only_cache() {
    let project = everything();
    project.run();
    project.write("data/a1", "changed");
    let line = "mount --bind cache /mnt && mount -o remount,bind,ro /mnt && mount --bind /mnt cache && \
        \"$HAMFLOW\" status && \"$HAMFLOW\" why pieces && ! touch cache/x";
    let ran = in_namespace(&project, line);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("stale    pieces") && ran.stdout.contains("a1"), "{ran:?}");
}

#[test]
fn status_shows_stale_and_pending_stages_with_reasons() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    let status = project.hamflow(&["status"]).stdout;
    assert_eq!(
        status,
        "fresh    first\nstale    second  `suffix` changed from \"!\" to \"?\"\npending  third   waits for `second`\nfresh    dice\n"
    );
}

#[test]
fn why_reports_changed_seeds_and_inputs() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("seed = 1", "seed = 2"));
    assert!(project.hamflow(&["why", "dice"]).stdout.contains("seed changed from 1 to 2"));
    project.write("text.txt", "abcd");
    let why = project.hamflow(&["why", "first"]).stdout;
    assert!(why.starts_with("`first` must run:\n  `from` (inputs.text) changed from "), "{why}");
    let why = project.hamflow(&["why", "third"]).stdout;
    assert!(why.starts_with("`third` is pending: it waits for `first`, `second`\n`first` must run:\n"), "{why}");
}

#[test]
fn why_reports_changed_files_and_rows() {
    let project = crate::harness::Project::new(
        "[inputs]\nfolder = \"data\"\nrows = \"rows.txt\"\n[stages.pieces]\nfolder = \"inputs.folder\"\n[stages.rows]\nfrom = \"inputs.rows\"\n",
    );
    for name in ["a1", "a2", "b1"] {
        project.write(&format!("data/{name}"), name);
    }
    project.write("rows.txt", "keep1 a\nkeep2 b\n");
    project.run();
    project.write("data/b1", "changed");
    project.write("data/c1", "new");
    std::fs::remove_file(project.path("data/a1")).unwrap();
    project.write("rows.txt", "keep1 a\nkeep2 c\n");
    let why = project.hamflow(&["why", "pieces"]).stdout;
    assert_eq!(
        why,
        "`pieces` must run:\n  `folder` (inputs.folder) changed: 1 changed, 1 added, 1 removed\n    - a1\n    ~ b1\n    + c1\n"
    );
    let why = project.hamflow(&["why", "rows"]).stdout;
    assert_eq!(why, "`rows` must run:\n  lines to keep: 1 changed (~ keep2: b → c)\n");
    // The record of the following run has the same reason.
    project.run();
    let past = project.hamflow(&["why", "rows", "--run", "last"]).stdout;
    assert!(past.contains("lines to keep: 1 changed (~ keep2: b → c)"), "{past}");
}

#[test]
fn why_distinguishes_a_lost_result_from_a_change() {
    let project = chain();
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    assert!(project.hamflow(&["why", "dice"]).stdout.contains("its result is no longer in the cache"));
    project.write("text.txt", "other");
    let why = project.hamflow(&["why", "first"]).stdout;
    assert!(why.contains("something changed, and the earlier result is no longer in the cache"), "{why}");
    assert!(why.contains("`from` (inputs.text) changed from"), "{why}");
}

#[test]
fn dag_shows_the_same_verdicts() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    for format in ["tree", "dot", "mermaid", "json", "svg"] {
        let drawn = project.hamflow(&["dag", "--format", format]);
        assert_eq!(drawn.code, 0, "{drawn:?}");
        assert!(drawn.stdout.contains("stale") && drawn.stdout.contains("pending"), "{drawn:?}");
        let plain = project.hamflow(&["dag", "--format", format, "--no-status"]);
        assert!(plain.stdout.contains("second") && !plain.stdout.contains("pending"), "{plain:?}");
    }
}
