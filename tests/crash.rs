//! Crashes before and after each rename and each sync: the next run ends as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hamflow::fs::STAGED_PREFIX;
use hamflow::fs::failpoint::POINTS;

use crate::harness::sharing::keygen;
use crate::harness::{CHAIN, Project};

/// A stage that runs as a whole, one that works in parts, and folders as artifacts.
const PIPELINE: &str = r#"
[pipeline]
seed = 1
[inputs]
text = "text.txt"
folder = "folder"
[stages.shout]
from = "inputs.text"
[stages.join]
from = ["shout", "dice"]
[stages.dice]
[stages.pieces]
folder = "inputs.folder"
[stages.again]
kind = "pieces"
folder = "pieces.pieces"
"#;

/// At most this many crashes per point, spread over all times that it is passed.
const MAX_CRASHES_PER_POINT: usize = 6;

/// They mostly wait for the disk.
const THREADS: usize = 4;

/// A command that is made to crash, and the project that it starts from.
struct Scenario {
    name: &'static str,
    project: Project,
    arguments: &'static [&'static str],
    /// The secret key for uploads, for a project with a remote.
    key: Option<String>,
    /// Outputs and lock file after the command without a crash.
    wanted: Vec<(String, Vec<u8>)>,
    /// The points that it passes, in order.
    passed: Vec<String>,
}

fn project(settings: &str) -> Project {
    let project = Project::new(&format!("{PIPELINE}{settings}"));
    project.write("text.txt", "abc");
    for name in ["a1", "a2", "b1", "c1", "d1", "e1"] {
        project.write(&format!("folder/{name}"), name);
    }
    project
}

impl Scenario {
    fn new(name: &'static str, project: Project, arguments: &'static [&'static str], key: Option<String>) -> Self {
        let mut scenario = Self { name, project, arguments, key, wanted: Vec::new(), passed: Vec::new() };
        let copy = scenario.start();
        let log = copy.path("failpoints.log");
        let ran = Project::finish({
            let mut command = scenario.command(&copy, arguments);
            command.env("HAMFLOW_FAILPOINTS_LOG", &log);
            command
        });
        assert_eq!(ran.code, 0, "{name}: {ran:?}");
        scenario.passed = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
        scenario.wanted = results(&copy);
        scenario.check_what_is_shared(&copy, name, true);
        scenario
    }

    /// A copy of the project. A remote is another one for each copy, below the copy's `remote`.
    fn start(&self) -> Project {
        self.project.copy()
    }

    fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(arguments);
        if let Some(key) = &self.key {
            command.env("HAMFLOW_SIGNING_KEY", key).env("HAMFLOW_REMOTE", project.path("remote"));
        }
        command
    }

    /// Crashes when a point is passed for the n-th time, then runs again. Returns whether it crashed.
    fn crash(&self, point: &str, number: usize) -> bool {
        let project = self.start();
        let at = format!("{}: {point}:{number}", self.name);
        let mut crashing = self.command(&project, self.arguments);
        let crashed = crashing.env("HAMFLOW_FAILPOINT", format!("{point}:{number}")).output().unwrap().status;
        assert!(crashed.signal() == Some(9) || crashed.success(), "{at}: {crashed:?}");
        let again = Project::finish(self.command(&project, self.arguments));
        assert_eq!(again.code, 0, "{at}: {again:?}");
        assert_eq!(results(&project), self.wanted, "{at}");
        self.check_what_is_shared(&project, &at, self.key.is_none());
        let verified = project.hamflow(&["cache", "verify"]);
        assert_eq!(verified.code, 0, "{at}: {verified:?}");
        // Another machine may still be writing what is staged in a shared remote.
        let names = project.files("").into_iter().map(|(path, _)| path).filter(|path| !path.starts_with("remote/"));
        let staged: Vec<String> = names.filter(|path| path.contains(STAGED_PREFIX)).collect();
        assert_eq!(staged, Vec::<String>::new(), "{at}");
        crashed.signal() == Some(9)
    }

    /// A machine with an empty cache can use what the project exported or uploaded: all that it needs, if that is complete.
    fn check_what_is_shared(&self, project: &Project, at: &str, complete: bool) {
        let bundle = project.path("bundle.tar");
        if !bundle.exists() && self.key.is_none() {
            return;
        }
        let other = project.copy();
        for folder in ["cache", "out"] {
            std::fs::remove_dir_all(other.path(folder)).unwrap();
        }
        let mut run = other.command(&["run"]);
        if self.key.is_some() {
            // A reader. What the crashed run did not upload is made again.
            run.env("HAMFLOW_REMOTE", project.path("remote"));
        } else {
            let imported = other.hamflow(&["cache", "import", "bundle.tar"]);
            assert_eq!((imported.code, &imported.stderr[..]), (0, ""), "{at}: {imported:?}");
        }
        let ran = Project::finish(run);
        assert!(ran.code == 0 && !ran.stderr.contains("warning"), "{at}: {ran:?}");
        assert!(!complete || !ran.stderr.contains(" ran"), "{at}: {ran:?}");
        assert_eq!(results(&other), self.wanted, "{at}");
    }
}

fn results(project: &Project) -> Vec<(String, Vec<u8>)> {
    let mut files = project.files("out");
    files.push(("pipeline.lock".to_owned(), project.read("pipeline.lock").into_bytes()));
    files
}

fn scenarios() -> Vec<Scenario> {
    let run: &[&str] = &["run", "--jobs", "1"];
    let changed = project("");
    changed.run();
    changed.write("text.txt", "changed");
    changed.write("folder/a2", "changed");
    changed.write("folder/f1", "new");
    std::fs::remove_file(changed.path("folder/d1")).unwrap();
    let exported = project("");
    exported.run();
    let keys = keygen(&Project::new(CHAIN));
    let remote = format!("[cache.remote]\nurl = \"/nowhere\"\n[cache.remote.keys]\nmain = [\"{}\"]\n", keys[1]);
    let [key, _] = keys;
    let uploading = project(&remote);
    std::fs::create_dir(uploading.path("remote")).unwrap();
    vec![
        Scenario::new("first run", project(""), run, None),
        Scenario::new("changed inputs", changed, run, None),
        Scenario::new("hard links", project("[cache]\nlink = \"hard\"\n"), run, None),
        Scenario::new("upload", uploading, run, Some(key)),
        Scenario::new("export", exported, &["cache", "export", "bundle.tar"], None),
    ]
}

/// Up to `most` indices below `count`, evenly spread, the first and the last among them.
fn spread(count: usize, most: usize) -> BTreeSet<usize> {
    (0..most).map(|index| index * (count - 1) / (most - 1)).collect()
}

#[test]
fn after_a_crash_at_any_rename_or_sync_the_next_run_has_identical_results() {
    let scenarios = scenarios();
    let mut passages: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for point in &scenario.passed {
            let count = counts.entry(point).or_default();
            *count += 1;
            passages.entry(point).or_default().push((index, *count));
        }
    }
    let listed: BTreeSet<String> =
        POINTS.iter().flat_map(|(_, name)| ["before", "after"].map(|side| format!("{name}.{side}"))).collect();
    let passed: BTreeSet<String> = passages.keys().map(|point| (*point).to_owned()).collect();
    assert_eq!(passed, listed, "the scenarios pass every point");

    let mut crashes = Vec::new();
    for (point, passages) in &passages {
        let chosen = spread(passages.len(), MAX_CRASHES_PER_POINT);
        crashes.extend(chosen.into_iter().map(|index| (*point, passages[index])));
    }
    let (next, crashed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(&(point, (scenario, number))) = crashes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if scenarios[scenario].crash(point, number) {
                        crashed.lock().unwrap().push(point);
                    }
                }
            });
        }
    });
    let crashed = crashed.into_inner().unwrap();
    let points: BTreeSet<String> = crashed.iter().map(|point| (*point).to_owned()).collect();
    assert_eq!(points, listed, "there was a crash at every point");
    // How parts are stored together depends on their timing, and with it how often some points are passed.
    assert!(crashed.len() * 10 >= crashes.len() * 9, "{} of {} crashes", crashed.len(), crashes.len());
}
