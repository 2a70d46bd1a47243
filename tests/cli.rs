//! Messages and exit codes.

use crate::harness::{CHAIN, Project, chain};

#[test]
fn a_run_prints_a_line_per_executed_stage_and_a_summary() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.stdout, "", "a run prints no data to stdout");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 5, "{ran:?}");
    assert!(lines[..4].iter().all(|line| line.starts_with("ran      ") && line.ends_with("never built")), "{ran:?}");
    assert!(lines[4].starts_with("finished in ") && lines[4].contains(": 4 ran  [run "), "{ran:?}");
    let again = project.hamflow(&["run"]);
    assert!(again.stderr.starts_with("nothing to do: 4 stages are fresh ("), "{again:?}");
    assert_eq!(again.stderr.lines().count(), 1);
}

#[test]
fn the_last_json_event_has_the_counts() {
    let project = chain();
    let ran = project.run();
    let last = ran.stdout.lines().last().unwrap();
    let wanted = "{\"event\":\"run_finished\",\"ran\":0,\"cached\":0,\"fresh\":4,\"failed\":0,\"skipped\":0,\"parts_ran\":0,\"parts_cached\":0,\"wall_ms\":";
    assert!(last.starts_with(wanted), "{last}");
}

#[test]
fn pipeline_errors_show_location_and_hint() {
    let project = Project::new(&CHAIN.replace("suffix = \"!\"", "sufix = \"!\""));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    let wanted = "error: stage `second`: unknown parameter `sufix`\n  --> pipeline.toml:16:1\n";
    assert!(ran.stderr.starts_with(wanted), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: did you mean `suffix`?"), "{}", ran.stderr);
}

#[test]
fn unknown_stages_profiles_and_runs_are_reported() {
    let project = chain();
    for (arguments, wanted) in [
        (&["run", "secnd"][..], "`second`"),
        (&["why", "secnd"], "`second`"),
        (&["run", "--profile", "demo"], "`demo`"),
        (&["log", "nothing"], "`nothing` is neither a recorded run nor a stage"),
        (&["metrics", "nothing"], "no run `nothing` is recorded"),
        (&["compare", "nothing", "last"], "no run `nothing` is recorded"),
        (&["report"], "no stage of this pipeline produces a page"),
    ] {
        let ran = project.hamflow(arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(wanted), "{ran:?}");
    }
}

#[test]
fn without_a_pipeline_init_is_suggested_and_works() {
    let project = chain();
    std::fs::create_dir(project.path("new")).unwrap();
    let mut command = project.command(&["run", "--file", "new/pipeline.toml"]);
    command.current_dir(project.root());
    let ran = Project::finish(command);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("hamflow init"), "{ran:?}");
    assert_eq!(project.hamflow(&["init", "new", "--template", "command"]).code, 0);
    assert!(project.path("new/pipeline.toml").exists() && project.path("new/.gitignore").exists());
    let again = project.hamflow(&["init", "new"]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("already exists"), "{again:?}");
}

#[test]
fn the_log_shows_runs_and_stages() {
    let project = chain();
    let list = project.hamflow(&["log"]).stdout;
    assert!(list.lines().count() == 1 && list.contains("4 ran"), "{list}");
    let last = project.hamflow(&["log", "last"]).stdout;
    assert!(last.contains("ran      second") && last.contains("never built"), "{last}");
    assert_eq!(project.hamflow(&["log", "first"]).stdout, "shouting for first\n");
    assert_eq!(project.hamflow(&["log", "last", "first"]).stdout, "shouting for first\n");
}

#[test]
fn the_pipeline_is_found_from_a_subdirectory() {
    let project = chain();
    std::fs::create_dir_all(project.path("deep/down")).unwrap();
    let mut command = project.command(&["status"]);
    command.current_dir(project.path("deep/down"));
    let ran = Project::finish(command);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 4), "{ran:?}");
}

#[test]
fn kinds_and_schema_are_generated_from_the_kinds() {
    let project = chain();
    let kinds = project.hamflow(&["kinds"]).stdout;
    assert!(kinds.contains("shout        Writes a text in capitals."), "{kinds}");
    let shout = project.hamflow(&["kinds", "shout"]).stdout;
    assert!(shout.contains("from") && shout.contains("suffix"), "{shout}");
    let schema: serde_json::Value = serde_json::from_str(&project.hamflow(&["schema"]).stdout).unwrap();
    assert!(schema["properties"]["stages"].is_object());
    assert!(project.hamflow(&["completions", "bash"]).stdout.contains("_hamflow"));
    assert!(project.hamflow(&["cache", "info", "--json"]).stdout.contains("\"results\":4"));
}

#[test]
fn man_pages_are_written_for_every_command() {
    let project = chain();
    let ran = project.hamflow(&["man", "share/man1"]);
    assert_eq!((ran.code, &ran.stderr[..]), (0, "wrote the man pages to share/man1\n"), "{ran:?}");
    let page = project.read("share/man1/hamflow-run.1");
    assert!(page.contains("hamflow\\-run \\- Run the stages that are not up to date"), "{page}");
    assert!(
        project.path("share/man1/hamflow.1").is_file() && project.path("share/man1/hamflow-cache-push.1").is_file()
    );
}

#[test]
fn a_dry_run_respects_force() {
    let project = chain();
    let ran = project.hamflow(&["run", "--dry-run", "--force", "first"]);
    assert_eq!((ran.code, &ran.stdout[..]), (0, "stale    first  forced\n"));
}

#[test]
fn a_locked_run_requires_a_lock() {
    let project = chain();
    std::fs::remove_file(project.path("pipeline.lock")).unwrap();
    let ran = project.hamflow(&["run", "--locked"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("pipeline.lock`, which does not exist"), "{ran:?}");
}

#[test]
fn all_missing_inputs_are_reported_with_their_lines() {
    let project = Project::new(
        "[inputs]\ntext = \"text.txt\"\nfolder = \"data\"\n\n[stages.shout]\nfrom = \"inputs.text\"\n\n[stages.pieces]\nfolder = \"inputs.folder\"\n",
    );
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    for wanted in ["`inputs.text`: `text.txt` (line 2)", "`inputs.folder`: `data` (line 3)", "--> pipeline.toml:2:"] {
        assert!(ran.stderr.contains(wanted), "{wanted}: {ran:?}");
    }
}

#[test]
fn counts_of_one_are_singular() {
    let project = Project::new("[stages.dice]\n");
    project.run();
    let again = project.hamflow(&["run"]);
    assert!(again.stderr.starts_with("nothing to do: 1 stage is fresh ("), "{again:?}");
}

#[test]
fn why_follows_pending_stages_to_the_root_cause() {
    let project = chain();
    project.write("text.txt", "changed");
    let printed = project.hamflow(&["why", "third"]).stdout;
    assert!(
        printed.contains("`third` is pending") && printed.contains("`first` must run:\n  `from` (inputs.text) changed"),
        "{printed}"
    );
    std::fs::remove_file(project.path("text.txt")).unwrap();
    let printed = project.hamflow(&["why", "third"]).stdout;
    assert!(printed.contains("`first` cannot be checked: ") && printed.contains("text.txt"), "{printed}");
}

#[test]
fn overriding_a_profile_suggests_what_to_set_instead() {
    let project = chain();
    let refused = project.hamflow(&["run", "--set", "profiles.fast.stages.second.suffix=x"]);
    assert!(refused.code == 2 && refused.stderr.contains("hint: set `stages.second.suffix`"), "{refused:?}");
}

/// A project with a stage `pieces` that makes a folder, after its first run.
#[test]
fn entries_of_a_folder_that_cannot_be_data_are_skipped_with_one_note() {
    let project = pieces();
    std::os::unix::fs::symlink("/nonexistent/annex", project.path("data/gone")).unwrap();
    std::os::unix::fs::symlink("..", project.path("data/up")).unwrap();
    project.write("data/two\nlines", "");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let expected = "note: inputs.folder: skipped 3 entries: `two\\nlines` (name is not one line of UTF-8), `gone` (broken symlink), `up` (symlink to a parent folder)\n";
    assert!(ran.stderr.contains(expected), "{ran:?}");
    assert!(ran.stderr.contains("nothing to do"), "{ran:?}");
}

fn pieces() -> Project {
    let project = Project::new("[inputs]\nfolder = \"data\"\n[stages.pieces]\nfolder = \"inputs.folder\"\n");
    project.write("data/a1", "one");
    project.write("data/b1", "two");
    project.run();
    project
}

#[test]
fn a_command_of_the_stages_package_reads_an_up_to_date_artifact() {
    let project = pieces();
    let made = project.files("out/pieces/pieces").swap_remove(0);
    project.write("own/mine.txt", &made.1);
    project.write("own/other.txt", "other");
    let ran = project.hamflow(&["contains", "pieces", "own/mine.txt", "--copies", "new/copies", "--json"]);
    assert_eq!((ran.code, &ran.stderr[..]), (0, ""), "{ran:?}");
    let line: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let name = std::path::Path::new(&made.0).file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(line, serde_json::json!({"file": "own/mine.txt", "found": name}));
    assert!(std::fs::read(project.path("new/copies/mine.txt")).unwrap() == made.1);
    // A directory serves as well as the stage that made it, and a partial failure is told by the exit code.
    let ran = project.hamflow(&["contains", "out/pieces/pieces", "own"]);
    assert_eq!((ran.code, &ran.stdout[..]), (1, &format!("{name}\n")[..]), "{ran:?}");
    assert_eq!(ran.stderr, "error: `own/other.txt` is not in `out/pieces/pieces`\n");
}

#[test]
fn a_command_of_the_stages_package_explains_why_there_is_no_artifact() {
    let project = pieces();
    for (named, code, wanted) in [
        (
            &["piece", "data"][..],
            2,
            "error: `piece` is neither a directory nor a stage that produces a folder\nhint: stages with a folder: `pieces`\n",
        ),
        (&["pieces", "data", "--set", "stages.pieces.sufix=x"], 2, "unknown parameter `sufix`"),
        (
            &["pieces", "data", "--set", "stages.pieces.suffix=x"],
            2,
            "error: the folder of `pieces` is not up to date\nhint: make it with `hamflow run pieces` and the same options; \
             `hamflow why pieces` shows what changed\n",
        ),
        (&["pieces"], 2, "the following required arguments were not provided:\n  <FILES>..."),
        (&["pieces", "data", "--profile", "nothing"], 2, "nothing"),
    ] {
        let ran = project.hamflow(&[&["contains"], named].concat());
        assert_eq!((ran.code, &ran.stdout[..]), (code, ""), "{ran:?}");
        assert!(ran.stderr.contains(wanted), "{ran:?}");
    }
    std::fs::remove_file(project.path("pipeline.toml")).unwrap();
    let ran = project.hamflow(&["contains", "pieces", "data"]);
    assert_eq!(
        (ran.code, &ran.stderr[..]),
        (2, "error: `pieces` is neither a directory nor a stage that produces a folder\n")
    );
}
