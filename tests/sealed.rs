//! Seals: a run with nothing to do only checks the seal, and every relevant change breaks it.

use std::path::PathBuf;

use crate::harness::{Project, Ran};

const PIPELINE: &str = r#"
[inputs]
folder = "data"
text = "text.txt"

[stages.pieces]
folder = "inputs.folder"

[stages.loud]
kind = "shout"
from = "inputs.text"
env = ["VOLUME"]
"#;

fn run(project: &Project, volume: &str, arguments: &[&str]) -> Ran {
    let mut command = project.command(&[&["run", "--json"], arguments].concat());
    let ran = Project::finish({
        command.env("VOLUME", volume);
        command
    });
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

/// Whether a run does the full check. A sealed run does not read the stat index, so it does not notice that it is missing.
fn looks_at_everything(project: &Project, arguments: &[&str]) -> bool {
    let index = project.path("cache/index");
    std::fs::remove_file(&index).unwrap();
    let ran = run(project, "11", arguments);
    assert_eq!(ran.count("fresh"), 2, "{ran:?}");
    let looked = index.exists();
    if !looked {
        // Restore it for the next call.
        std::fs::write(&index, "").unwrap();
    }
    looked
}

fn sealed() -> Project {
    let project = Project::new(PIPELINE);
    for name in ["a1", "a2", "b1"] {
        project.write(&format!("data/{name}"), name);
    }
    project.write("text.txt", "abc");
    assert_eq!(run(&project, "11", &[]).count("ran"), 2);
    project.until_sealed(|| {
        run(&project, "11", &[]);
    });
    project
}

#[test]
fn a_sealed_run_prints_the_same_as_a_full_one() {
    let project = sealed();
    let seal = std::fs::read(project.path("cache/seal")).unwrap();
    std::fs::remove_file(project.path("cache/seal")).unwrap();
    let full = run(&project, "11", &[]);
    std::fs::write(project.path("cache/seal"), seal).unwrap();
    assert!(!looks_at_everything(&project, &[]));
    let quick = run(&project, "11", &[]);
    let plain = |ran: &Ran| {
        let mut events = ran.events();
        for event in &mut events {
            let event = event.as_object_mut().unwrap();
            for varies in ["run", "wall_ms"] {
                event.remove(varies);
            }
        }
        events
    };
    assert_eq!(plain(&full), plain(&quick));
    assert_eq!(full.with_outcome("fresh").len(), 2);
}

#[test]
fn another_invocation_or_a_damaged_seal_causes_a_full_check() {
    let project = sealed();
    assert!(!looks_at_everything(&project, &[]));
    assert!(looks_at_everything(&project, &["loud", "pieces"]), "other targets");
    assert!(!looks_at_everything(&project, &["loud", "pieces"]));
    assert!(looks_at_everything(&project, &[]), "the seal is now for another invocation");
    let mut seal = std::fs::read(project.path("cache/seal")).unwrap();
    *seal.last_mut().unwrap() ^= 1;
    std::fs::write(project.path("cache/seal"), &seal).unwrap();
    assert!(looks_at_everything(&project, &[]), "a flipped bit");
    std::fs::write(project.path("cache/seal"), &seal[..seal.len() / 2]).unwrap();
    assert!(looks_at_everything(&project, &[]), "truncated");
    let forced = run(&project, "11", &["--force"]);
    assert_eq!(forced.count("ran"), 2);
}

/// The path of the blob with this content.
fn blob(project: &Project, bytes: &[u8]) -> PathBuf {
    let found = project.files("cache/cas").into_iter().find(|(_, found)| found == bytes);
    project.path(&found.expect("the store has it").0)
}

/// A change, the stages that the next run must handle, and their outcome.
type Case = (&'static str, fn(&Project), &'static [(&'static str, &'static str)]);

const CHANGES: &[Case] = &[
    ("nothing", |_| {}, &[]),
    (
        "other bytes of the same size and time",
        |project| {
            let path = project.path("text.txt");
            let before = std::fs::metadata(&path).unwrap().modified().unwrap();
            std::fs::write(&path, "xyz").unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        },
        &[("loud", "ran")],
    ),
    ("a new input file", |project| project.write("data/c1", "c"), &[("pieces", "ran")]),
    ("an input file gone", |project| std::fs::remove_file(project.path("data/a2")).unwrap(), &[("pieces", "ran")]),
    (
        "a parameter",
        |project| project.write("pipeline.toml", format!("{PIPELINE}suffix = \"!\"\n")),
        &[("loud", "ran")],
    ),
    ("an edited output", |project| project.write("out/loud/text.txt", "abc"), &[("loud", "cached")]),
    (
        "an output gone",
        |project| std::fs::remove_file(project.path("out/loud/text.txt")).unwrap(),
        &[("loud", "cached")],
    ),
    (
        "a file that belongs to no output",
        |project| project.write("out/pieces/pieces/z.txt", "z"),
        &[("pieces", "cached")],
    ),
    (
        "all outputs gone",
        |project| std::fs::remove_dir_all(project.path("out")).unwrap(),
        &[("loud", "cached"), ("pieces", "cached")],
    ),
    (
        "the cache gone",
        |project| std::fs::remove_dir_all(project.path("cache")).unwrap(),
        &[("loud", "ran"), ("pieces", "ran")],
    ),
    (
        "the results gone",
        |project| std::fs::remove_dir_all(project.path("cache/ac")).unwrap(),
        &[("loud", "ran"), ("pieces", "ran")],
    ),
    (
        "the blobs gone",
        |project| std::fs::remove_dir_all(project.path("cache/cas")).unwrap(),
        &[("loud", "ran"), ("pieces", "ran")],
    ),
    (
        "a file in place of an input folder",
        |project| {
            std::fs::remove_dir_all(project.path("data")).unwrap();
            project.write("data", "a file");
        },
        &[("pieces", "ran")],
    ),
    (
        "a blob cut short",
        |project| {
            let blob = blob(project, b"ABC");
            std::fs::remove_file(&blob).unwrap();
            std::fs::write(&blob, "AB").unwrap();
        },
        &[("loud", "ran")],
    ),
    ("the lock gone", |project| std::fs::remove_file(project.path("pipeline.lock")).unwrap(), &[]),
];

#[test]
fn every_change_breaks_the_seal() {
    for (change, apply, expected) in CHANGES {
        let project = sealed();
        apply(&project);
        let ran = run(&project, "11", &[]);
        let mut did: Vec<(String, String)> = Vec::new();
        for outcome in ["ran", "cached"] {
            did.extend(ran.with_outcome(outcome).into_iter().map(|stage| (stage, outcome.to_owned())));
        }
        did.sort();
        let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        assert_eq!(did, expected, "{change}");
        assert!(project.path("pipeline.lock").exists(), "{change}");
        assert_eq!(run(&project, "11", &[]).count("fresh"), 2, "{change}");
    }
}

#[test]
fn another_lock_breaks_the_seal() {
    let project = sealed();
    let lock = project.read("pipeline.lock");
    run(&project, "12", &[]);
    let other = project.read("pipeline.lock");
    assert!(other != lock);
    run(&project, "11", &[]);
    std::fs::remove_file(project.path("cache/seal")).unwrap();
    project.until_sealed(|| {
        run(&project, "11", &[]);
    });
    project.write("pipeline.lock", other);
    assert_eq!(run(&project, "11", &[]).count("fresh"), 2);
    assert_eq!(project.read("pipeline.lock"), lock, "the entry is restored");
}

#[test]
fn a_missing_listing_of_an_input_is_recreated() {
    let project = sealed();
    let listings = project.files("cache/cas").into_iter().filter(|(_, bytes)| bytes.windows(2).any(|two| two == b"b1"));
    let listings: Vec<String> = listings.map(|(path, _)| path).collect();
    assert!(!listings.is_empty());
    for path in &listings {
        std::fs::remove_file(project.path(path)).unwrap();
    }
    run(&project, "11", &[]);
    assert!(listings.iter().all(|path| project.path(path).exists()), "runs without the data require it");
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    let project = sealed();
    project.write("cache/tmp/job-0/output/half", "half");
    project.write("out/.tmp-1-0-00000000/0-0/half", "half");
    assert!(!looks_at_everything(&project, &[]));
    assert!(!project.path("cache/tmp").exists() && !project.path("out/.tmp-1-0-00000000").exists());
}

#[test]
fn a_seal_is_valid_only_for_its_options() {
    let project = sealed();
    let set = ["--set", "stages.loud.suffix=?"];
    assert_eq!(run(&project, "11", &set).ran(), ["loud"]);
    assert_eq!(run(&project, "11", &[]).with_outcome("cached"), ["loud"]);
    let profile = format!("{PIPELINE}\n[profiles.quiet.stages.loud]\nsuffix = \".\"\n");
    project.write("pipeline.toml", profile);
    project.until_sealed(|| {
        run(&project, "11", &[]);
    });
    assert_eq!(run(&project, "11", &["--profile", "quiet"]).ran(), ["loud"]);
    let mut planned = project.command(&["run", "--dry-run"]);
    planned.env("VOLUME", "11");
    let planned = Project::finish(planned);
    assert!(planned.stdout.contains("cached") && !planned.stderr.contains("nothing to do"), "{planned:?}");
}

/// A change that makes every run fail, with its name and the expected message.
type Refused = (&'static str, fn(&Project), &'static str);

#[test]
fn a_seal_hides_no_errors() {
    let cases: &[Refused] = &[
        (
            "outputs elsewhere",
            |project| {
                let elsewhere = project.root().with_extension("elsewhere");
                std::fs::rename(project.path("out"), &elsewhere).unwrap();
                std::os::unix::fs::symlink(&elsewhere, project.path("out")).unwrap();
            },
            "leads out of the project",
        ),
        ("a cache of a later version", |project| project.write("cache/version", "99\n"), "has format 99"),
        ("half a pipeline", |project| project.write("pipeline.toml", &PIPELINE[..PIPELINE.len() / 2]), "error"),
    ];
    for (change, apply, message) in cases {
        let project = sealed();
        apply(&project);
        let mut command = project.command(&["run"]);
        command.env("VOLUME", "11");
        let ran = Project::finish(command);
        assert_eq!(ran.code, 2, "{change}: {ran:?}");
        assert!(ran.stderr.contains(message), "{change}: {ran:?}");
        let _ = std::fs::remove_dir_all(project.root().with_extension("elsewhere"));
    }
}

#[test]
fn unchecked_inputs_are_not_sealed() {
    let project = sealed();
    std::fs::remove_file(project.path("cache/seal")).unwrap();
    project.write("data/a1", "changed");
    project.wait_until_settled("data/a1");
    let status = project.hamflow(&["status", "pieces"]);
    assert!(status.stdout.contains("stale"), "{status:?}");
    std::fs::rename(project.path("data"), project.path("elsewhere")).unwrap();
    for _ in 0..3 {
        assert_eq!(run(&project, "11", &["--allow-missing"]).count("fresh"), 2, "as the lock says");
    }
    assert!(!project.path("cache/seal").exists());
    std::fs::rename(project.path("elsewhere"), project.path("data")).unwrap();
    assert_eq!(run(&project, "11", &[]).ran(), ["pieces"]);
}

#[test]
fn another_device_breaks_the_seal() {
    let project = Project::new("[stages.on_device]\n");
    let run = |device: &str| {
        let mut command = project.command(&["run", "--json"]);
        command.env("TOY_DEVICE", device);
        Project::finish(command)
    };
    assert_eq!(run("cpu").ran(), ["on_device"]);
    project.until_sealed(|| {
        run("cpu");
    });
    assert_eq!(run("cpu").count("fresh"), 1);
    assert_eq!(run("gpu").ran(), ["on_device"]);
    assert_eq!(project.read("out/on_device/text.txt"), "gpu");
}

#[test]
fn an_environment_variable_breaks_the_seal() {
    let project = sealed();
    assert_eq!(run(&project, "12", &[]).ran(), ["loud"]);
    assert_eq!(run(&project, "11", &[]).with_outcome("cached"), Vec::<String>::new(), "`out/` holds the same bytes");
}

#[cfg(feature = "builtin")]
#[test]
fn a_new_file_named_by_an_argument_breaks_the_seal() {
    let pipeline = "[stages.say]\nkind = \"command\"\noutputs = { to = { type = \"file\", path = \"to\" } }\nrun = \"if test -f $PROJECT/words.txt; then cat $PROJECT/words.txt; else echo none; fi > {outputs.to} # words.txt\"\nenv = [\"PROJECT\"]\n";
    let project = Project::builtin(pipeline);
    let run = || {
        let mut command = project.command(&["run", "--json"]);
        command.env("PROJECT", project.root());
        let ran = Project::finish(command);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran
    };
    assert_eq!(run().ran(), ["say"]);
    project.until_sealed(|| {
        run();
    });
    assert_eq!(run().count("fresh"), 1);
    project.write("words.txt", "good morning\n");
    assert_eq!(run().ran(), ["say"], "the argument now refers to an input");
    assert_eq!(project.read("out/say/to"), "good morning\n");
}
