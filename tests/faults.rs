//! Failures: nothing is lost or left half-written, and the message says what to do.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use crate::harness::{CHAIN, Project, chain};

fn crash(how: &str) -> Project {
    let project = Project::new(&format!(
        "[inputs]\ntext = \"t\"\n[stages.crash]\nfrom = \"inputs.text\"\nhow = \"{how}\"\n[stages.after]\nkind = \"shout\"\nfrom = \"crash\"\n[stages.beside]\nkind = \"dice\"\n"
    ));
    project.write("t", "x");
    project
}

#[test]
fn flawed_results_are_used_and_reported_by_every_run() {
    let project = crash("flaw");
    let printed = "flaw: stage `crash`: there is a scratch on it\n";
    let first = project.hamflow(&["run"]);
    assert_eq!(first.code, 1, "{first:?}");
    assert!(first.stderr.contains(printed) && first.stderr.contains("3 ran, 1 flawed"), "{}", first.stderr);
    assert_eq!(project.read("out/after/text.txt"), "SCRATCHED");
    for _ in 0..2 {
        let fresh = project.hamflow(&["run"]);
        assert!(
            fresh.stderr.contains(printed) && fresh.stderr.contains("3 stages are fresh, 1 flawed"),
            "{}",
            fresh.stderr
        );
        assert_eq!(fresh.code, 1);
    }
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let restored = project.hamflow(&["run", "--json"]);
    assert_eq!((restored.code, restored.count("ran"), restored.count("flawed")), (1, 0, 1));
    assert_eq!(project.hamflow(&["run", "beside"]).code, 0, "flaws of other stages do not matter");
}

#[test]
fn a_failing_stage_fails_the_run_with_its_error() {
    let project = crash("fail");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("error: stage `crash`: it failed as it was told\nhint: tell it otherwise\n"),
        "{ran:?}"
    );
}

#[test]
fn keep_going_runs_stages_independent_of_the_failure() {
    let project = crash("fail");
    let ran = project.hamflow(&["run", "--json", "--keep-going"]);
    assert_eq!(ran.code, 1);
    assert_eq!((ran.with_outcome("failed"), ran.ran()), (vec!["crash".to_owned()], vec!["beside".to_owned()]));
    assert_eq!(ran.with_outcome("skipped"), ["after"]);
}

#[test]
fn a_panic_is_an_internal_error() {
    let ran = crash("panic").hamflow(&["run"]);
    assert_eq!(ran.code, 70);
    assert!(ran.stderr.contains("internal error") && ran.stderr.contains("as it was told"), "{ran:?}");
}

#[test]
fn a_crashed_worker_fails_only_its_stage() {
    let project = crash("abort");
    let ran = project.hamflow(&["run", "--keep-going"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("its worker died: it was killed by signal 6"), "{ran:?}");
    assert!(project.path("out/beside/text.txt").exists());
}

#[test]
fn a_missing_output_is_reported() {
    let ran = crash("nothing").hamflow(&["run"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("output `text` was not created: no file `text.txt`"), "{ran:?}");
}

#[test]
fn a_stage_that_changes_its_input_is_not_cached() {
    let project = crash("change");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("changed while the stage ran"), "{ran:?}");
    assert!(!project.path("out/crash").exists());
    let results = project.files("cache/ac");
    assert!(results.iter().all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains("\"crash\"")));
}

#[test]
fn a_damaged_blob_is_recreated() {
    let project = chain();
    let blobs = project.files("cache/cas");
    let (path, _) = blobs.iter().find(|(_, bytes)| bytes == b"ABC").unwrap();
    std::fs::remove_file(project.path(path)).unwrap();
    project.write(path, "XYZ");
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    let ran = project.run();
    assert_eq!(ran.ran(), ["first", "second", "third"], "{ran:?}");
    assert_eq!(project.read("out/second/text.txt"), "ABC?");
}

#[test]
fn damaged_metadata_only_causes_reruns() {
    let project = chain();
    let before = project.files("out");
    for (path, _) in project.files("cache/ac") {
        project.write(&path, "nonsense");
    }
    project.write("cache/index", "nonsense");
    project.write("cache/version", "nonsense");
    assert_eq!(project.run().count("ran"), 4);
    assert_eq!(project.files("out"), before);
}

#[test]
fn a_damaged_lock_is_reported_with_its_line() {
    let project = chain();
    let lock = project.read("pipeline.lock");
    project.write("pipeline.lock", format!("{lock}<<<<<<< HEAD\n"));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("`<<<<<<< HEAD` is not a valid line of a lock file"), "{ran:?}");
}

#[test]
fn a_cache_with_a_newer_format_is_rejected() {
    let project = chain();
    project.write("cache/version", "999\n");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("has format 999"), "{ran:?}");
}

#[test]
fn an_unwritable_cache_is_a_disk_error() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    project.write("cache", "a file where a folder should be");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("cache"), "{ran:?}");
}

fn waiting() -> Project {
    Project::new("[stages.dice]\n[stages.wait]\nstarted = \"started\"\n")
}

#[test]
fn a_flaw_of_a_part_is_a_flaw_of_the_stage() {
    let project = Project::new("[inputs]\ntexts = \"texts\"\n[stages.pieces]\nfolder = \"inputs.texts\"\n");
    project.write("texts/a", "scratch");
    project.write("texts/b", "smooth");
    let printed = "flaw: stage `pieces`: there is a scratch on `a`";
    let run = || project.hamflow(&["run"]);
    assert!(run().stderr.contains(printed));
    // Another part runs, and the flawed one comes from the cache.
    project.write("texts/b", "smoother");
    let again = run();
    assert!(again.code == 1 && again.stderr.contains("1 of 2 parts") && again.stderr.contains(printed), "{again:?}");
    project.write("texts/a", "mended");
    assert_eq!(run().code, 0);
}

#[test]
fn a_second_run_reports_who_holds_the_cache() {
    let project = waiting();
    let mut first = project.start(&["run"]);
    project.wait_for("started");
    let second = project.hamflow(&["run", "--no-wait"]);
    assert_eq!(second.code, 2);
    assert!(second.stderr.contains(&format!("another run holds the cache: process {}", first.id())), "{second:?}");
    let status = project.hamflow(&["status"]);
    assert_eq!(status.code, 0, "reading commands never lock: {status:?}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn ctrl_c_keeps_finished_results_and_leaves_no_process() {
    let project = waiting();
    let first = project.start(&["run", "--jobs", "1"]);
    project.wait_for("started");
    let pid = rustix::process::Pid::from_raw(i32::try_from(first.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted after"));
    assert!(project.hamflow(&["log"]).stdout.lines().next().unwrap().contains("interrupted"));
    let status = project.hamflow(&["status"]).stdout;
    assert!(status.contains("fresh    dice") && status.contains("stale    wait"), "{status}");
}

#[test]
fn an_interrupted_run_stores_finished_parts_and_starts_nothing() {
    let project = Project::new(
        "[inputs]\none = \"one\"\nother = \"other\"\n[stages.pieces]\nfolder = \"inputs.one\"\n[stages.slow]\nkind = \"pieces\"\nfolder = \"inputs.other\"\n",
    );
    project.write("one/a", "one");
    project.write("other/b", "never ends");
    let run = project.start(&["run", "--jobs", "2", "--json"]);
    project.wait_for("started");
    // The part of `pieces` is finished and waits to be stored, since a part of `slow` is still running.
    let deadline = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    while !project.files("cache/tmp").iter().any(|(path, _)| path.ends_with("/tree"))
        && project.files("cache/ac").is_empty()
    {
        assert!(std::time::SystemTime::now() < deadline, "no part finished");
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(!printed.contains("\"outcome\":\"ran\""), "the parts are not merged: {printed}");
    project.write("other/b", "ends");
    let again = project.run();
    assert_eq!((again.count("parts_cached"), again.count("parts_ran")), (1, 1), "the part was kept: {again:?}");
}

#[test]
fn a_log_is_followed_until_its_stage_ends() {
    let project = waiting();
    let mut run = project.start(&["run"]);
    project.wait_for("started");
    let mut follower = project.start(&["log", "-f", "wait"]);
    let mut printed = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(printed.next().unwrap(), "it waits");
    // Write more only now.
    project.write("started-go-on", "");
    assert_eq!(printed.next().unwrap(), "it was told to go on", "printed while the stage runs");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0), "follow ends with the run");
    let wrong = project.hamflow(&["log", "-f", "wiat"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("`wiat` is neither a recorded run nor a stage"), "{}", wrong.stderr);
}

#[test]
fn killing_the_engine_kills_its_workers_and_the_next_run_is_clean() {
    let project = waiting();
    let mut first = project.start(&["run", "--jobs", "1"]);
    project.wait_for("started");
    first.kill().unwrap();
    assert_eq!(first.wait().unwrap().signal(), Some(9));
    project.write("pipeline.toml", "[stages.dice]\n");
    assert_eq!(project.run().count("failed"), 0);
    assert_eq!(project.files("cache/tmp"), []);
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
}

/// A short version of `bench/kill.sh`: kills from outside, wherever a run is once it has renamed and synced some files. `tests/crash.rs`
/// crashes at exact points.
#[test]
fn after_a_kill_during_commits_the_next_run_has_identical_results() {
    let passed = |project: &Project| {
        std::fs::read(project.path("points")).map_or(0, |log| log.split(|b| *b == b'\n').count() - 1)
    };
    let start = |project: &Project| {
        project.write("text.txt", "abc");
        let mut command = project.command(&["run"]);
        command.env("HAMFLOW_FAILPOINTS_LOG", project.path("points")).stderr(Stdio::null()).spawn().unwrap()
    };
    let whole = Project::new(CHAIN);
    assert!(start(&whole).wait().unwrap().success());
    let (wanted, total) = (whole.files("out"), passed(&whole));
    let mut during_commits = 0;
    let rounds = 12;
    for round in 0..rounds {
        let project = Project::new(CHAIN);
        let mut child = start(&project);
        while passed(&project) <= total * round / rounds && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        let was_killed = child.wait().unwrap().signal() == Some(9);
        during_commits += usize::from(was_killed && (1..total).contains(&passed(&project)));
        assert_eq!(project.run().count("failed"), 0);
        assert_eq!(project.files("out"), wanted, "round {round}");
        assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
    }
    assert!(
        during_commits >= rounds / 2,
        "{during_commits} of {rounds} kills landed between the first rename and the last"
    );
}

#[test]
fn a_damaged_blob_with_two_readers_is_recreated() {
    let project = Project::new(
        "[inputs]\ntext = \"t\"\n[stages.first]\nkind = \"shout\"\nfrom = \"inputs.text\"\n[stages.a]\nkind = \"shout\"\nfrom = \"first\"\nsuffix = \"a\"\n[stages.b]\nkind = \"rows\"\nfrom = \"first\"\n",
    );
    project.write("t", "keep");
    project.run();
    for (path, _) in project.files("cache/cas").iter().filter(|(_, bytes)| bytes == b"KEEP") {
        std::fs::remove_file(project.path(path)).unwrap();
        project.write(path, "XXXX");
    }
    // Neither view nor result is remembered, so both stages read the damaged blob.
    std::fs::remove_dir_all(project.path("cache/memo")).unwrap();
    let changed = project.read("pipeline.toml").replace("suffix = \"a\"", "suffix = \"b\"");
    project.write("pipeline.toml", changed);
    let ran = project.run();
    assert!(ran.ran().contains(&"first".to_owned()) && ran.ran().contains(&"a".to_owned()), "{ran:?}");
    assert_eq!((ran.count("failed"), ran.count("ran") + ran.count("cached") + ran.count("fresh")), (0, 3), "{ran:?}");
    assert_eq!(project.read("out/a/text.txt"), "KEEPb");
}

#[test]
fn a_damaged_side_file_of_a_part_is_recreated_before_the_merge() {
    let project = Project::new("[inputs]\nfolder = \"data\"\n[stages.pieces]\nfolder = \"inputs.folder\"\n");
    for name in ["a1", "a2", "b1"] {
        project.write(&format!("data/{name}"), name);
    }
    project.run();
    // The side file of part `a` contains `2`.
    for (path, _) in project.files("cache/cas").iter().filter(|(_, bytes)| bytes == b"2") {
        std::fs::remove_file(project.path(path)).unwrap();
        project.write(path, "7");
    }
    project.write("data/b1", "changed");
    assert_eq!(project.run().count("parts_ran"), 2);
    assert_eq!(project.read("out/pieces/pieces/list.txt"), "a 2\nb 1\n");
}

#[test]
fn a_damaged_blob_is_replaced_by_a_forced_run() {
    let project = chain();
    for (path, _) in project.files("cache/cas").iter().filter(|(_, bytes)| bytes == b"ABC!") {
        std::fs::remove_file(project.path(path)).unwrap();
        project.write(path, "XXXX");
    }
    project.run_with(&["second", "--force"]);
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
    assert_eq!(project.read("out/second/text.txt"), "ABC!");
}

#[test]
fn a_run_continues_if_its_stdout_is_closed() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    let mut child = project.start(&["run", "--json"]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(project.run().count("fresh"), 4);
}

#[test]
fn a_waiting_run_keeps_lock_entries_of_the_other_run() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    let first = project.start(&["run"]);
    let second = project.start(&["run", "dice"]);
    assert!(first.wait_with_output().unwrap().status.success());
    assert!(second.wait_with_output().unwrap().status.success());
    for stage in ["first", "second", "third", "dice"] {
        assert!(project.read("pipeline.lock").contains(&format!("{stage}\tkey\t")), "{stage}");
    }
}

#[test]
fn a_store_with_only_damaged_blobs_is_repaired_in_one_run() {
    let project = chain();
    let before = project.files("out");
    for (path, bytes) in project.files("cache/cas") {
        std::fs::remove_file(project.path(&path)).unwrap();
        project.write(&path, vec![b'X'; bytes.len()]);
    }
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("failed"), 0);
    assert_eq!(project.files("out"), before);
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
    assert_eq!(project.run().count("fresh"), 4);
}
