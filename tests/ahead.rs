//! Stages that hash their inputs while reading them: unhashed files are hashed by the parts that read them, with the same results as
//! hashing them up front.

// `inotify` counts how often files are opened.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify;

use crate::harness::Project;

const PIPELINE: &str = r#"
[inputs]
folder = "folder"

[stages.names]
folder = "inputs.folder"

[stages.once]
folder = "inputs.folder"
suffix = "!"
"#;

/// A project with a folder of old files, given by name.
fn project(pipeline: &str, files: &[(&str, &str)]) -> Project {
    let project = Project::new(pipeline);
    for (name, text) in files {
        project.write(&format!("folder/{name}"), text);
    }
    project.wait_until_settled(&format!("folder/{}", files.last().expect("there are files").0));
    project
}

/// Counts how often each file of the input folder is opened while `run` runs.
fn opened(project: &Project, run: impl FnOnce()) -> BTreeMap<String, usize> {
    opened_in(project, "folder", run)
}

fn opened_in(project: &Project, folder: &str, run: impl FnOnce()) -> BTreeMap<String, usize> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    // inotify merges equal consecutive events, so closing is watched as well.
    let watched = inotify::WatchFlags::OPEN | inotify::WatchFlags::CLOSE;
    inotify::add_watch(&watch, project.path(folder), watched).unwrap();
    run();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 65536];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut opened = BTreeMap::new();
    while let Ok(event) = reader.next() {
        // Events of the directory itself have no name.
        if let Some(name) = event.file_name().filter(|_| event.events().contains(inotify::ReadFlags::OPEN)) {
            *opened.entry(name.to_string_lossy().into_owned()).or_default() += 1;
        }
    }
    opened
}

fn times(names: &[&str], times: usize) -> BTreeMap<String, usize> {
    names.iter().map(|name| ((*name).to_owned(), times)).collect()
}

#[test]
fn an_unhashed_file_is_read_once() {
    let project = project(PIPELINE, &[("a1", "one"), ("a2", "two"), ("b", "three")]);
    let mut first = None;
    assert_eq!(opened(&project, || first = Some(project.run())), times(&["a1", "a2", "b"], 1));
    let first = first.unwrap();
    assert_eq!((first.count("parts_ran"), first.count("part_files_ran"), first.ran().len()), (2, 3, 2), "{first:?}");
    let started = first.events().into_iter().filter(|event| event["event"] == "stage_started");
    let reasons: Vec<_> = started.map(|event| (event["stage"].clone(), event["reasons"].to_string())).collect();
    assert_eq!(reasons.len(), 2, "each stage starts once: {reasons:?}");
    assert!(reasons.iter().all(|(_, reasons)| reasons.contains("never-built")), "{reasons:?}");
    assert_eq!(project.read("out/once/pieces/a.txt"), "ONE!TWO!");
    let mut second = None;
    assert_eq!(opened(&project, || second = Some(project.run())), times(&[], 1), "the digests are cached");
    assert_eq!(second.unwrap().with_outcome("fresh").len(), 2);
}

#[test]
fn keys_and_locks_equal_those_of_files_hashed_up_front() {
    let files = [("a", "one"), ("b", "two"), ("c", "three")];
    let (ahead, behind) = (project(PIPELINE, &files), project(PIPELINE, &files));
    ahead.run();
    // Inputs that are compared with a lock are hashed up front.
    std::fs::copy(ahead.path("pipeline.lock"), behind.path("pipeline.lock")).unwrap();
    let opens = opened(&behind, || drop(behind.run_with(&["--locked"])));
    assert_eq!(opens, times(&["a", "b", "c"], 2), "hashed for its key and read by its part");
    assert_eq!(
        ahead.read("pipeline.lock").matches("inputs.folder").count(),
        2,
        "the lock has an entry for both stages"
    );
    let names = |project: &Project, folder: &str| -> Vec<String> {
        project.files(folder).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&ahead, "cache/ac"), names(&behind, "cache/ac"));
    assert_eq!(names(&ahead, "cache/cas"), names(&behind, "cache/cas"));
    assert!(ahead.files("out") == behind.files("out"));
    // Without the data, its locked listing is used.
    std::fs::remove_dir_all(ahead.path("folder")).unwrap();
    std::fs::remove_dir_all(ahead.path("out")).unwrap();
    let ran = ahead.run_with(&["--allow-missing"]);
    assert_eq!(ran.with_outcome("cached").len(), 2, "{ran:?}");
}

#[test]
fn inputs_of_possibly_cached_stages_are_hashed_up_front() {
    let project = project(PIPELINE, &[("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")]);
    project.run();
    // Like a fresh checkout with the cache of another machine.
    std::fs::remove_file(project.path("cache/index")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let ran = project.run();
    assert_eq!((ran.count("parts_ran"), ran.with_outcome("cached").len()), (0, 2), "{ran:?}");
}

#[test]
fn a_second_reader_waits_for_the_hashes_and_verifies_them() {
    let pipeline = format!(
        "{PIPELINE}\n[stages.twice]\nkind = \"once\"\nfolder = \"inputs.folder\"\nsuffix = \"?\"\n[stages.same]\nkind = \"once\"\nfolder = \"inputs.folder\"\nsuffix = \"!\"\n[stages.pieces]\nfolder = \"inputs.folder\"\n"
    );
    let project = project(&pipeline, &[("a", "one"), ("b", "two")]);
    let mut ran = None;
    let opens = opened(&project, || ran = Some(project.run()));
    let ran = ran.unwrap();
    assert_eq!(opens, times(&["a", "b"], 3), "read by `once`, `twice` and `pieces`, and never just to be hashed");
    assert_eq!(ran.with_outcome("cached"), ["same"], "equal keys execute once");
    assert_eq!(ran.count("parts_ran"), 6, "{ran:?}");
    assert_eq!(
        (&project.read("out/once/pieces/a.txt")[..], &project.read("out/twice/pieces/b.txt")[..]),
        ("ONE!", "TWO?")
    );
}

#[test]
fn a_file_changed_after_it_was_read_is_read_again() {
    let project = project(PIPELINE, &[("a", "one"), ("b", "changes once it is read")]);
    let ran = project.run();
    assert_eq!(ran.count("parts_ran"), 3, "the part of `b` twice: {ran:?}");
    assert_eq!(project.read("out/once/pieces/b.txt"), "CHANGED!");
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
    assert_eq!(project.run().with_outcome("fresh").len(), 2);
}

#[test]
fn a_failure_loses_no_parts_and_locks_no_unknown_digests() {
    let project = project(PIPELINE, &[("a", "a longer text goes first"), ("b", "fails"), ("c", "one")]);
    let ran = project.hamflow(&["run", "--json", "--jobs", "1"]);
    assert_eq!((ran.code, ran.with_outcome("failed")), (2, vec!["once".to_owned()]), "{ran:?}");
    assert!(!project.read("pipeline.lock").contains("inputs.folder"));
    project.write("folder/b", "works");
    let ran = project.run();
    assert_eq!((ran.count("parts_cached"), ran.count("parts_ran")), (1, 2), "{ran:?}");
    assert_eq!(project.read("out/once/pieces/b.txt"), "WORKS!");
    assert_eq!(project.read("pipeline.lock").matches("inputs.folder").count(), 2);
}

#[test]
fn a_part_that_finishes_after_a_failure_is_stored() {
    let project = project(PIPELINE, &[("a", "fails once the other has begun"), ("b", "waits for the failure")]);
    let ran = project.hamflow(&["run", "--json", "--jobs", "2", "--keep-going"]);
    assert_eq!((ran.code, ran.with_outcome("failed")), (2, vec!["once".to_owned()]), "{ran:?}");
    project.write("folder/a", "works");
    let ran = project.run();
    assert_eq!((ran.count("parts_cached"), ran.count("parts_ran")), (1, 1), "{ran:?}");
}

#[test]
fn a_change_after_its_part_is_reported_if_the_digest_was_known() {
    let project = project(PIPELINE, &[("a", "one"), ("b", "two")]);
    project.run();
    // The cache has parts of this kind, so the input is hashed up front.
    project.write("folder/b", "changes once it is read");
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 1 && ran.stderr.contains("folder` changed while the stage ran"), "{ran:?}");
    assert_eq!(project.read("out/once/pieces/b.txt"), "TWO!", "it has no outputs");
    assert_eq!(project.run().ran(), ["once"]);
    assert_eq!(project.read("out/once/pieces/b.txt"), "CHANGED!");
}

#[test]
fn a_file_added_during_the_run_is_not_in_the_lock() {
    let project = project(PIPELINE, &[("a", "one"), ("b", "a file comes")]);
    let ran = project.run();
    assert_eq!(project.read("out/once/pieces/c.txt"), "CAME!", "{ran:?}");
    let lock = project.read("pipeline.lock");
    assert!(!lock.contains("names\tinput"), "the inputs of `names` were never hashed: {lock}");
    assert_eq!(project.run().ran(), ["names"], "the directory has another file");
    assert_eq!(project.read("pipeline.lock").matches("inputs.folder").count(), 2);
}

#[test]
fn stages_with_equal_keys_run_once() {
    let pipeline = "[inputs]\nfolder = \"folder\"\nother = \"other\"\n[stages.once]\nfolder = \"inputs.folder\"\n[stages.again]\nkind = \"once\"\nfolder = \"inputs.other\"\n";
    let project = project(pipeline, &[("a", "one"), ("b", "two")]);
    project.write("other/a", "one");
    project.write("other/b", "two");
    let ran = project.run();
    assert_eq!((ran.count("parts_ran"), ran.with_outcome("cached").len()), (2, 1), "{ran:?}");
}

#[test]
fn an_interrupted_run_skips_hashing_and_loses_no_parts() {
    let project = project(PIPELINE, &[("a", "a longer text goes first"), ("b", "never ends")]);
    let run = project.start(&["run", "--jobs", "1", "--json"]);
    project.wait_for("started");
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let lock = project.read("pipeline.lock");
    assert!(!lock.contains("inputs.folder"), "its inputs are not hashed yet: {lock}");
    assert_eq!(project.files("cache/ac").len(), 2, "the result of `names` and the part of `a` are stored");
    project.write("folder/b", "ends");
    let again = project.run();
    assert_eq!((again.count("parts_cached"), again.count("parts_ran")), (1, 1), "{again:?}");
    assert_eq!(again.with_outcome("fresh"), ["names"], "{again:?}");
    assert!(project.read("pipeline.lock").contains("names\tinput\tfolder\tinputs.folder\t"));
}

#[test]
fn outputs_of_parts_are_copied_to_out_while_other_parts_run() {
    let project = project(PIPELINE, &[("a", "a longer text goes first"), ("b", "never ends")]);
    let copies = || project.files("out").into_iter().filter(|(path, _)| path.ends_with("pieces/a.txt"));
    // Two concurrent parts. The finished one is not stored before the other, unless the run ends.
    let mut run = project.start(&["run", "--jobs", "2"]);
    project.wait_for("started");
    let deadline = SystemTime::now() + Duration::from_secs(60);
    while copies().count() == 0 {
        assert!(SystemTime::now() < deadline, "no copy was made");
    }
    let (path, _) = copies().next().unwrap();
    assert!(path.starts_with("out/.tmp-"), "{path}");
    run.kill().unwrap();
    run.wait().unwrap();
    project.write("folder/b", "ends");
    project.run();
    assert_eq!(project.read("out/once/pieces/a.txt"), "A LONGER TEXT GOES FIRST!");
    let folders = |project: &Project| -> Vec<String> {
        let entries = std::fs::read_dir(project.path("out")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(folders(&project), ["names", "once"], "leftovers of the killed run are removed");
    // The same with an existing `out/once`.
    project.write("pipeline.toml", PIPELINE.replace("\"!\"", "\"?\""));
    assert_eq!(project.run().count("parts_ran"), 2);
    assert_eq!(project.read("out/once/pieces/b.txt"), "ENDS?");
    assert_eq!(folders(&project), ["names", "once"]);
    assert_eq!(project.run().with_outcome("fresh").len(), 2);
}

#[test]
fn copied_outputs_are_restored_without_reading_them_again() {
    let project = project(PIPELINE, &[("a", "a longer text goes first"), ("b", "waits for a copy")]);
    let run = project.start(&["run", "--jobs", "2"]);
    let inode = |path: &str| std::fs::metadata(project.path(path)).unwrap().ino();
    let deadline = SystemTime::now() + Duration::from_secs(60);
    let copy = loop {
        assert!(SystemTime::now() < deadline, "no copy was made");
        let copies = project.files("out").into_iter();
        if let Some((path, _)) =
            copies.into_iter().find(|(path, bytes)| path.ends_with("pieces/a.txt") && !bytes.is_empty())
        {
            break path;
        }
    };
    let copied = inode(&copy);
    project.wait_until_settled(&copy);
    project.write("copied", "");
    assert!(run.wait_with_output().unwrap().status.success());
    assert_eq!(inode("out/once/pieces/a.txt"), copied, "it was not copied a second time");
    let again = opened_in(&project, "out/once/pieces", || drop(project.run()));
    assert!(!again.contains_key("a.txt"), "{again:?}");
}

/// `tests/check.sh` sets up a file system with reflinks at `$TMPDIR`.
#[test]
#[ignore = "needs reflinks"]
fn restored_outputs_share_blocks_with_the_store() {
    // Btrfs stores files of a few bytes inline in the metadata.
    let text = "long ".repeat(5000);
    let project = project(PIPELINE, &[("a", &text), ("b", &text.replace('l', "k"))]);
    let does = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).current_dir(project.root()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let can_share = does("cp", &["--reflink=always", "pipeline.toml", "shared"]).0;
    assert!(can_share, "the file system of {} does not share blocks", project.root().display());
    let after = |what: &str| {
        project.run();
        for path in ["out/once/pieces/a.txt", "out/once/pieces/b.txt"] {
            // Blocks are allocated only when a file is written back (`-s`).
            let (whole, extents) = does("filefrag", &["-s", "-v", path]);
            assert!(whole && extents.contains("shared"), "{what}: {path}: {extents}");
        }
    };
    after("made");
    std::fs::remove_dir_all(project.path("out")).unwrap();
    after("restored");
    project.write("out/once/pieces/a.txt", "somebody else's");
    after("put right");
    project.write("folder/a", text.replace('o', "a"));
    after("changed");
}

// Only Linux with glibc returns free memory on demand.
#[cfg(not(hamflow_portable))]
#[test]
fn a_worker_keeps_no_memory_between_jobs() {
    let project = project(PIPELINE, &[("a", "hoards and is longer, so it goes first"), ("b", "says its memory")]);
    project.run_with(&["--jobs", "1"]);
    let printed = project.read("out/once/pieces/b.txt");
    let kilobytes: u64 = printed.split_whitespace().next().unwrap().parse().unwrap();
    assert!((1..64 * 1024).contains(&kilobytes), "{printed}");
}

#[test]
fn a_part_that_does_not_report_its_reads_is_an_error_of_its_kind() {
    let project = project(PIPELINE, &[("a", "says nothing")]);
    let ran = project.hamflow(&["run"]);
    assert!(ran.code != 0 && ran.stderr.contains("part `a` did not report what it read at `folder`"), "{ran:?}");
}
