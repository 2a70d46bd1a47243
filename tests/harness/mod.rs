//! Temporary projects, and running hamflow in them.

#[cfg(feature = "cloud")]
pub mod clouds;
pub mod server;
pub mod services;
pub mod sharing;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// A project in a temporary directory.
pub struct Project {
    folder: tempfile::TempDir,
    program: PathBuf,
}

/// The outcome of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The events of `run --json`.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The stages with this outcome, in the order in which they finished.
    pub fn with_outcome(&self, outcome: &str) -> Vec<String> {
        let events = self.events();
        let finished = events.iter().filter(|event| event["event"] == "stage_finished" && event["outcome"] == outcome);
        finished.map(|event| event["stage"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The stages that were executed.
    pub fn ran(&self) -> Vec<String> {
        self.with_outcome("ran")
    }

    /// A count in the last event.
    pub fn count(&self, name: &str) -> u64 {
        let events = self.events();
        let last = events.last().unwrap_or_else(|| panic!("no events: {self:?}"));
        assert_eq!(last["event"], "run_finished", "{self:?}");
        last[name].as_u64().unwrap_or_else(|| panic!("no number `{name}` in {last}"))
    }
}

/// The Python named by `$HAMFLOW_PYTHON`, which `tests/check.sh` sets up; panics if it cannot import these packages.
#[cfg(any(feature = "builtin", feature = "cloud"))]
pub fn python(packages: &str) -> String {
    let python = std::env::var("HAMFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", &format!("import {packages}")]).output();
    let can_import = probe.is_ok_and(|output| output.status.success());
    assert!(can_import, "`{python}` cannot import {packages}; $HAMFLOW_PYTHON names one that can");
    python
}

fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/release/deps/promises-… is next to target/release/examples/toy
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

impl Project {
    /// Creates a project that uses the toy kinds.
    pub fn new(pipeline: &str) -> Self {
        Self::with_program(pipeline, built("toy"))
    }

    /// Creates a project that uses the built-in kinds.
    #[cfg(feature = "builtin")]
    pub fn builtin(pipeline: &str) -> Self {
        Self::with_program(pipeline, PathBuf::from(env!("CARGO_BIN_EXE_hamflow")))
    }

    fn with_program(pipeline: &str, program: PathBuf) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap(), program };
        project.write("pipeline.toml", pipeline);
        project
    }

    /// Another project with the same files, symlinks and timestamps.
    pub fn copy(&self) -> Self {
        let copy = Self { folder: tempfile::tempdir().unwrap(), program: self.program.clone() };
        let copied = Command::new("cp").arg("-a").arg(self.path(".")).arg(copy.root()).status().unwrap();
        assert!(copied.success());
        copy
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Sets the modification time of a file to some seconds ago, without changing its content.
    pub fn touch(&self, path: &str, seconds_ago: u64) {
        let file = std::fs::File::options().write(true).open(self.path(path)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds_ago)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.root()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    pub fn hamflow(&self, arguments: &[&str]) -> Ran {
        Self::finish(self.command(arguments))
    }

    /// Waits for a command, which is terminated if it takes ten minutes, so that a hanging one fails its test only.
    pub fn finish(mut command: Command) -> Ran {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let process = child.id().to_string();
        let (ended, end) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if end.recv_timeout(Duration::from_secs(600)) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("process {process} is terminated after ten minutes");
                _ = Command::new("kill").arg(process).status();
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        watch.join().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `run --json` with further arguments; panics if it fails.
    pub fn run_with(&self, arguments: &[&str]) -> Ran {
        let ran = self.hamflow(&[&["run", "--json"], arguments].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran
    }

    pub fn run(&self) -> Ran {
        self.run_with(&[])
    }

    /// Starts a command without waiting for it.
    pub fn start(&self, arguments: &[&str]) -> Child {
        Self::spawn(self.command(arguments))
    }

    pub fn spawn(mut command: Command) -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until a file exists.
    pub fn wait_for(&self, path: &str) {
        let deadline = SystemTime::now() + Duration::from_secs(60);
        while !self.path(path).exists() {
            assert!(SystemTime::now() < deadline, "`{path}` was not created");
            std::thread::yield_now();
        }
    }

    /// Waits until the timestamps of a file are older than a tick of the kernel's clock, so that its digest can be cached.
    pub fn wait_until_settled(&self, path: &str) {
        let written = std::fs::metadata(self.path(path)).unwrap().modified().unwrap();
        while written.elapsed().is_ok_and(|age| age < Duration::from_millis(40)) {
            std::thread::yield_now();
        }
    }

    /// Runs until there is a seal. Recently modified files cannot be sealed.
    pub fn until_sealed(&self, run: impl Fn()) {
        let deadline = SystemTime::now() + Duration::from_secs(60);
        while !self.path("cache/seal").exists() {
            assert!(SystemTime::now() < deadline, "a run with nothing to do writes a seal");
            run();
        }
    }

    /// All files below a directory with their content, sorted.
    pub fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut todo = vec![self.path(folder)];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    let name = path.strip_prefix(self.root()).unwrap().to_string_lossy().into_owned();
                    match std::fs::read(&path) {
                        Ok(bytes) => found.push((name, bytes)),
                        // Renamed by a concurrent run.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => panic!("{name}: {error}"),
                    }
                }
            }
        }
        found.sort();
        found
    }
}

/// Runs a shell command line in the project, in a private mount namespace; panics if the system does not allow that.
pub fn in_namespace(project: &Project, line: &str) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    let able = command.arg("mount -t tmpfs tmpfs /mnt").output().is_ok_and(|output| output.status.success());
    assert!(able, "`unshare --map-root-user --mount` does not work here");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", line]);
    command.current_dir(project.root()).env("HAMFLOW", project.program()).env("NO_COLOR", "1");
    Project::finish(command)
}

/// Three stages in a row and an independent one.
pub const CHAIN: &str = r#"
[pipeline]
name = "chain"
seed = 1

[inputs]
text = "text.txt"

[stages.first]
kind = "shout"
from = "inputs.text"

[stages.second]
kind = "shout"
from = "first"
suffix = "!"

[stages.third]
kind = "join"
from = ["first", "second"]

[stages.dice]
"#;

/// A folder of which one stage reads the names and one the files, in parts; and a file of which a stage reads a projection.
pub const FOLDER: &str = r#"
[inputs]
folder = "data"
rows = "rows.txt"
[stages.names]
folder = "inputs.folder"
[stages.pieces]
folder = "inputs.folder"
[stages.rows]
from = "inputs.rows"
"#;

/// A project with the stages of [`FOLDER`] and perhaps more, before its first run.
pub fn folder_with(more: &str) -> Project {
    let project = Project::new(&format!("{FOLDER}{more}"));
    for name in ["a1", "a2", "b1", "c1"] {
        project.write(&format!("data/{name}"), name);
    }
    project.write("rows.txt", "keep 1\ndrop 2\nkeep 3\n");
    project
}

/// A project with [`CHAIN`] after its first run.
pub fn chain() -> Project {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    let ran = project.run();
    assert_eq!(ran.count("ran"), 4, "{ran:?}");
    project
}
