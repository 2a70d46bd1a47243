//! Garbage collection: referenced results are always kept, recently used ones as long as they are within the limits.

use std::io::{BufRead, BufReader};

use crate::harness::{CHAIN, Project, chain};

/// Writes the pipeline with another suffix and optional cache settings.
fn variant(project: &Project, suffix: &str, cache: &str) {
    project.write("pipeline.toml", CHAIN.replace("\"!\"", &format!("\"{suffix}\"")) + cache);
}

#[test]
fn gc_keeps_recently_used_results_within_the_limits() {
    let project = chain();
    variant(&project, "?", "");
    project.run();
    let results = || project.files("cache/ac").len();
    assert_eq!(results(), 6);
    let kept = project.hamflow(&["cache", "gc", "--keep-runs", "0"]);
    assert!(kept.stdout.starts_with("deleted 0 results"), "30 days and 20 GB are far away: {kept:?}");
    let planned = project.hamflow(&["cache", "gc", "--keep-runs", "0", "--max-size", "0", "-n"]);
    assert!(planned.stdout.starts_with("would delete 2 results") && results() == 6, "{planned:?}");
    let recent = project.hamflow(&["cache", "gc", "--max-size", "0"]);
    assert!(recent.stdout.starts_with("deleted 0 results"), "recent runs refer to them: {recent:?}");
    assert!(recent.stderr.contains("exceed the size limit"), "{recent:?}");
    let cleared = project.hamflow(&["cache", "gc", "--keep-runs", "0", "--max-age", "0d"]);
    assert!(cleared.stdout.starts_with("deleted 2 results") && results() == 4, "{cleared:?}");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("cached"), 4);
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
fn a_run_evicts_results_but_none_that_it_used() {
    let project = chain();
    let budget = "\n[cache]\nmax_size = \"1\"\n";
    // More runs than those whose results are kept regardless of the limits.
    for number in 0..22 {
        variant(&project, &number.to_string(), budget);
        assert_eq!(project.run().count("ran"), 2);
    }
    assert_eq!(project.files("cache/ac").len(), 4 + 22 * 2, "the last garbage collection was less than an hour ago");
    // Pretend that this was yesterday: results of kept runs stay, and all these runs were within the same second.
    project.files("cache/ac").iter().for_each(|(path, _)| project.touch(path, 24 * 60 * 60));
    std::fs::remove_file(project.path("cache/tidied")).unwrap();
    variant(&project, "last", budget);
    let ran = project.run();
    let tidied = ran.events().into_iter().find(|event| event["event"] == "tidied").expect("the budget is exceeded");
    assert_eq!(tidied["results"], 2 * 4, "those of the chain and of the first three runs: {tidied}");
    assert!(tidied["over_bytes"].as_u64().unwrap() > 0, "{tidied}");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("cached"), 4, "results used by the run are kept");
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

#[test]
fn the_first_run_in_a_cache_skips_gc() {
    let project = Project::new(&format!("{CHAIN}\n[cache]\nmax_size = \"1\"\n"));
    project.write("text.txt", "abc");
    let first = project.run();
    assert_eq!(first.count("ran"), 4);
    assert!(first.events().iter().all(|event| event["event"] != "tidied"), "{first:?}");
    // Without the timestamp, the next run finds the limit exceeded.
    std::fs::remove_file(project.path("cache/tidied")).unwrap();
    variant(&project, "?", "\n[cache]\nmax_size = \"1\"\n");
    assert!(project.run().events().iter().any(|event| event["event"] == "tidied"));
}

#[test]
fn unlimited_caches_keep_everything() {
    let project = chain();
    variant(&project, "?", "\n[cache]\nmax_size = \"none\"\nmax_age = \"none\"\n");
    project.run();
    let kept = project.hamflow(&["cache", "gc", "--keep-runs", "0"]);
    assert!(kept.stdout.starts_with("deleted 0 results"), "{kept:?}");
    variant(&project, "?", "\n[cache]\nmax_size = \"huge\"\nmax_age = 3\n");
    let refused = project.hamflow(&["run"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("`max_size` cannot be `huge`"), "{refused:?}");
    assert!(refused.stderr.contains("`max_age` takes a string, not a number"), "{refused:?}");
    assert!(refused.stderr.contains("write it as `\"30d\"` or `\"12h\"`, or `\"none\"`"), "{refused:?}");
}

#[test]
fn gc_waits_for_a_run_in_progress() {
    let project = Project::new("[stages.dice]\n[stages.wait]\nstarted = \"started\"\n");
    let mut run = project.start(&["run"]);
    project.wait_for("started");
    let mut clear = project.start(&["cache", "gc", "--max-size", "0"]);
    // The message is printed before it starts to wait.
    let mut printed = String::new();
    BufReader::new(clear.stderr.as_mut().unwrap()).read_line(&mut printed).unwrap();
    assert!(printed.contains("waiting for another run"), "{printed}");
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(clear.wait().unwrap().success());
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}
