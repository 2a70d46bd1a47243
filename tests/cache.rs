//! The cache: restoring, exporting and importing results.

use hamflow_stage_api::Digest;
use serde_json::json;

use crate::harness::{CHAIN, Project, chain};

#[test]
fn deleted_outputs_are_restored_without_running() {
    let project = chain();
    let before = project.files("out");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let ran = project.run();
    assert_eq!((ran.count("cached"), ran.count("ran")), (4, 0));
    assert_eq!(project.files("out"), before);
}

#[test]
fn an_edited_output_is_restored_and_never_cached() {
    let project = chain();
    project.write("out/first/text.txt", "forged");
    let ran = project.run();
    assert_eq!(ran.with_outcome("cached"), ["first"]);
    assert!(ran.stdout.contains("edited file"), "{ran:?}");
    assert_eq!(project.read("out/first/text.txt"), "ABC");
    assert_eq!(project.read("out/second/text.txt"), "ABC!");
}

#[test]
fn other_files_beside_outputs_are_kept() {
    let project = chain();
    project.write("out/first/notes.md", "mine");
    assert_eq!(project.run().count("fresh"), 4);
    assert_eq!(project.read("out/first/notes.md"), "mine");
}

#[test]
fn deleting_the_cache_reruns_with_identical_results() {
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
fn inputs_may_be_outside_of_the_project() {
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
fn outputs_outside_of_the_project_are_rejected() {
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
fn missing_inputs_are_replaced_by_the_lock_if_results_are_cached() {
    let project = chain();
    std::fs::remove_file(project.path("text.txt")).unwrap();
    let refused = project.hamflow(&["run"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("`inputs.text`: `text.txt`"), "{refused:?}");
    assert_eq!(project.run_with(&["--allow-missing"]).count("fresh"), 4);
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run_with(&["--allow-missing"]).count("cached"), 4);
    // Only stages that must run fail.
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
fn the_lock_is_deterministic_and_sorted() {
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
fn gc_keeps_locked_results() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    project.run();
    let cleared = project.hamflow(&["cache", "gc", "--keep-runs", "0", "--max-size", "0"]);
    assert!(cleared.stdout.starts_with("deleted 2 results"), "{cleared:?}");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("cached"), 4);
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
fn symlinked_output_directories_are_not_followed() {
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
fn a_locked_run_detects_removed_stages() {
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("[stages.dice]", ""));
    let ran = project.hamflow(&["run", "--locked"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("the lock file has a stage `dice`, which the pipeline does not have"), "{ran:?}");
}

#[test]
fn results_of_overrides_can_be_deleted() {
    let project = chain();
    project.run_with(&["--set", "stages.second.suffix=\"?\""]);
    let locks = || project.files("cache/locks").len();
    assert_eq!(locks(), 1);
    assert_eq!(project.hamflow(&["cache", "gc", "--max-size", "0"]).code, 0);
    assert_eq!(locks(), 1, "a recent lock of overrides is kept");
    let cleared = project.hamflow(&["cache", "gc", "--keep-runs", "0", "--max-size", "0"]).stdout;
    assert!(locks() == 0 && !cleared.starts_with("deleted 0 results"), "{cleared}");
    assert_eq!(project.run().count("ran"), 0, "locked results are kept");
}

/// A checkout of the same pipeline and inputs on another machine, without results.
fn fresh_checkout() -> Project {
    let checkout = Project::new(CHAIN);
    checkout.write("text.txt", "abc");
    checkout.touch("text.txt", 5);
    checkout
}

#[test]
fn a_fresh_checkout_with_an_imported_cache_runs_nothing_even_without_inputs() {
    let project = chain();
    let exported = project.hamflow(&["cache", "export", "kept/cache.tar"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(exported.stdout.starts_with("exported 4 results and "), "{exported:?}");
    let file = project.path("kept/cache.tar").to_string_lossy().into_owned();

    let checkout = fresh_checkout();
    let imported = checkout.hamflow(&["cache", "import", &file]);
    assert_eq!((imported.code, &imported.stderr[..]), (0, ""));
    assert!(imported.stdout.starts_with("imported 4 results and "), "{imported:?}");
    let ran = checkout.run();
    assert_eq!((ran.count("ran"), ran.count("cached")), (0, 4));
    assert_eq!(checkout.files("out"), project.files("out"));

    let without = Project::new(CHAIN);
    without.write("pipeline.lock", project.read("pipeline.lock"));
    assert_eq!(without.hamflow(&["cache", "import", &file]).code, 0);
    let ran = without.run_with(&["--allow-missing"]);
    assert_eq!((ran.count("ran"), ran.count("cached")), (0, 4));
}

#[test]
fn exports_are_reproducible_and_the_cache_key_follows_the_lock() {
    let project = chain();
    let key = || project.hamflow(&["cache", "key"]).stdout;
    let before = key();
    assert!(before.starts_with("hamflow-cache-1-") && before.trim().len() > 40, "{before}");
    for file in ["a.tar", "b.tar"] {
        assert_eq!(project.hamflow(&["cache", "export", file]).code, 0);
    }
    assert!(std::fs::read(project.path("a.tar")).unwrap() == std::fs::read(project.path("b.tar")).unwrap());
    assert_eq!(key(), before);
    project.write("text.txt", "abcd");
    project.run();
    assert_ne!(key(), before);
}

#[test]
fn an_export_budget_keeps_the_most_expensive_results_and_reports_the_rest() {
    let project = Project::new(
        "[inputs]\nlarge = \"large\"\ntext = \"text\"\n[stages.large]\nkind = \"shout\"\nfrom = \"inputs.large\"\n[stages.small]\nkind = \"shout\"\nfrom = \"inputs.text\"\n",
    );
    project.write("large", "x".repeat(100_000));
    project.write("text", "abc");
    project.run();
    let exported = project.hamflow(&["cache", "export", "--budget", "60kB", "cache.tar"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(exported.stderr.contains("warning: skipped `large`: its 10"), "{exported:?}");
    assert!(exported.stdout.starts_with("exported 1 result and "), "{exported:?}");
    assert!(std::fs::metadata(project.path("cache.tar")).unwrap().len() <= 60_000);
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.hamflow(&["cache", "import", "cache.tar"]).code, 0);
    let ran = project.run();
    assert_eq!((ran.ran(), ran.with_outcome("cached")), (vec!["large".to_owned()], vec!["small".to_owned()]));
    let wrong = project.hamflow(&["cache", "export", "--budget", "eight", "cache.tar"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("write it as `8GB` or `512MiB`"), "{wrong:?}");
}

#[test]
fn only_complete_results_are_imported_from_a_damaged_export() {
    let project = chain();
    assert_eq!(project.hamflow(&["cache", "export", "cache.tar"]).code, 0);
    let whole = std::fs::read(project.path("cache.tar")).unwrap();
    let text = b"ABC!";
    let place = whole.windows(text.len()).position(|bytes| bytes == text).unwrap();
    let mut flipped = whole.clone();
    flipped[place] ^= 1;
    for (bytes, printed) in [(flipped, "its content does not match its name"), (whole[..place].to_vec(), "")] {
        let checkout = fresh_checkout();
        std::fs::write(checkout.path("cache.tar"), bytes).unwrap();
        let imported = checkout.hamflow(&["cache", "import", "cache.tar"]);
        assert_eq!(imported.code, 0, "{imported:?}");
        assert!(imported.stderr.contains("warning: skipped ") && imported.stderr.contains(printed), "{imported:?}");
        let ran = checkout.run();
        assert!(ran.count("ran") >= 1 && ran.count("ran") + ran.count("cached") == 4, "{ran:?}");
        assert_eq!(checkout.files("out"), project.files("out"));
        assert_eq!(checkout.hamflow(&["cache", "verify"]).code, 0);
    }
}

#[test]
fn imports_reject_foreign_files_and_write_nothing_outside_of_the_cache() {
    let project = chain();
    project.write("foreign", "not a tar file");
    let refused = project.hamflow(&["cache", "import", "foreign"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("`foreign` was not written by `hamflow cache export`"), "{refused:?}");
    assert_eq!(project.hamflow(&["cache", "import", "--if-present", "absent"]).code, 0);
    let absent = project.hamflow(&["cache", "import", "absent"]);
    assert!(absent.code == 2 && absent.stderr.contains("`absent`"), "{absent:?}");

    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        // Written by hand, since the library refuses to write such a name.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    };
    add("hamflow-cache", b"1\n");
    for name in ["../escaped", "/tmp/escaped", "locks/../escaped.lock", "cas/../../escaped"] {
        add(name, b"gotcha");
    }
    // A well-formed result whose output is outside of its directory.
    let (key, blob) = ("ab".repeat(32), Digest::of(b"gotcha"));
    let output =
        json!({"name": "text", "type": "file", "path": "../../escaped", "digest": blob.to_string(), "folder": false});
    let body = json!({"key": key, "fingerprint": null, "outputs": [output], "cost_ms": 1}).to_string();
    add(&format!("cas/{}/{}", &blob.hex()[..2], blob.hex()), b"gotcha");
    add(&format!("ac/ab/{key}"), format!("{}\n{body}\n", Digest::of(body.as_bytes())).as_bytes());
    std::fs::write(project.path("evil.tar"), archive.into_inner().unwrap()).unwrap();
    let imported = project.hamflow(&["cache", "import", "evil.tar"]);
    assert_eq!(imported.stderr.matches("not part of a cache export").count(), 4, "{imported:?}");
    assert!(imported.stderr.contains(&format!("`ac/ab/{key}`: not a valid result")), "{imported:?}");
    assert!(!project.path("escaped").exists() && !project.path("cache/escaped.lock").exists());
}
