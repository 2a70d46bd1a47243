//! Programs that end, hang and leave others behind.

use std::path::Path;

use super::*;

/// Runs a shell line with a marker of its own; returns how it ended and its output.
fn shell(folder: &Path, line: &str, timeout: Option<Duration>) -> (Ended, String) {
    let value = folder.display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("TMPDIR", &value);
    let mut output = Vec::new();
    let ended = run(command, Running { marker: ("TMPDIR", &value), timeout, watch: None, isolation: None }, |piece| {
        output.extend_from_slice(piece)
    })
    .unwrap();
    (ended, String::from_utf8(output).unwrap())
}

#[test]
fn both_streams_arrive_in_order_and_standard_input_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let line = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; cat; exit 3";
    let (ended, output) = shell(folder.path(), line, None);
    let expected: String = (1..=5).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!((output, ended.status.code()), (expected, Some(3)));
    assert!(!ended.timed_out && ended.left_behind.is_empty() && !ended.is_output_open);
}

#[test]
fn all_output_of_a_program_that_writes_much_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (_, output) = shell(folder.path(), "i=0; while [ $i -lt 200000 ]; do echo $i; i=$((i+1)); done", None);
    assert_eq!(output.lines().count(), 200_000);
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
#[test]
fn what_a_program_leaves_behind_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    // One in the background, one in a session of its own, and one that does not want to end.
    let line = "sleep 60 & setsid sleep 61 & (trap '' TERM; sleep 62; sleep 63) & sleep 0.3; echo done";
    let (ended, output) = shell(folder.path(), line, None);
    assert_eq!((&output[..], ended.status.code(), ended.is_output_open), ("done\n", Some(0), false));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let mut left = ended.left_behind;
    left.sort();
    left.dedup();
    assert_eq!(left, ["sh", "sleep"]);
    let own = folder.path().display().to_string();
    let remaining = Command::new("sh").args(["-c", &format!("grep -slz 'TMPDIR={own}' /proc/[0-9]*/environ")]).output();
    assert_eq!(String::from_utf8_lossy(&remaining.unwrap().stdout), "");
}

#[test]
fn a_program_whose_time_is_over_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (ended, output) = shell(folder.path(), "echo begun; sleep 60; echo over", Some(Duration::from_millis(300)));
    assert!(ended.timed_out && !ended.status.success() && output == "begun\n", "{ended:?} {output}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    let error = run(
        Command::new("no-such-program"),
        Running { marker: ("A", "b"), timeout: None, watch: None, isolation: None },
        |_| {},
    )
    .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
mod observed {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Runs a shell line in a project and returns what was observed below it.
    struct Project {
        folder: tempfile::TempDir,
        root: PathBuf,
    }

    impl Project {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            for (name, text) in files {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self { folder, root }
        }

        fn run(&self, program: &str, arguments: &[&str]) -> Observed {
            let value = self.root.display().to_string();
            let mut command = Command::new(program);
            command.args(arguments).current_dir(&self.root).env("TMPDIR", &value);
            let watch = Some(Watch { roots: vec![self.root.clone()], except: vec![self.root.join("unwatched")] });
            let mut output = Vec::new();
            let running = Running { marker: ("TMPDIR", &value), timeout: None, watch, isolation: None };
            let ended = run(command, running, |piece| output.extend_from_slice(piece)).unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&output));
            let observed = ended.observed.unwrap();
            assert_eq!(observed.problem, None);
            observed
        }

        /// What was observed, as one line per path: `r` opened, `l` listed, `m` searched for modules, `w` written, `W` written first, and what
        /// was there before.
        fn uses(&self, observed: &Observed) -> Vec<String> {
            let line = |(path, used): (&PathBuf, &Use)| {
                let path = path.strip_prefix(&self.root).unwrap().display();
                let before = match used.before {
                    State::Absent => "absent",
                    State::File(_) => "file",
                    State::Folder => "folder",
                    State::Other => "other",
                };
                let listed = match used.listed {
                    None => "",
                    Some(Listed::Modules) => "m",
                    Some(Listed::All) => "l",
                };
                let written = if used.is_written_first {
                    "W"
                } else if used.is_written {
                    "w"
                } else {
                    ""
                };
                format!("{path} {before} {}{listed}{written}", if used.is_opened { "r" } else { "" })
            };
            observed.uses.iter().map(line).collect()
        }

        fn shell(&self, line: &str) -> Vec<String> {
            self.uses(&self.run("sh", &["-c", line]))
        }
    }

    #[test]
    fn files_that_are_read_listed_looked_for_and_written_are_told_apart() {
        let project =
            Project::new(&[("a.txt", "a"), ("data/b.txt", "b"), ("unwatched/c.txt", "c"), (".git/config", "")]);
        assert_eq!(project.shell("cat a.txt"), ["a.txt file r"]);
        assert_eq!(project.shell("ls data"), ["data folder l"]);
        assert_eq!(project.shell("test -e none || test -f a.txt"), ["a.txt file ", "none absent "]);
        assert_eq!(project.shell("cat none 2> /dev/null || true"), ["none absent r"]);
        assert_eq!(project.shell("echo x > made; cat made; rm made"), ["made absent rW"]);
        assert_eq!(project.shell("cat a.txt; echo more >> a.txt"), ["a.txt file rw"]);
        assert_eq!(project.shell("echo more >> a.txt"), ["a.txt file W"]);
        assert_eq!(
            project.shell("cp a.txt copy; mv copy moved; rm moved"),
            ["a.txt file r", "copy absent w", "moved absent W"]
        );
        assert_eq!(project.shell("cat unwatched/c.txt .git/config"), [""; 0]);
        assert_eq!(project.shell("for f in data/*.txt; do cat $f; done"), ["data folder l", "data/b.txt file r"]);
    }

    #[test]
    fn paths_are_without_symlinks_and_relative_to_the_folder_of_the_program() {
        let project = Project::new(&[("sub/deep/a.txt", "a"), ("b.txt", "b")]);
        std::os::unix::fs::symlink("sub/deep", project.root.join("link")).unwrap();
        let expected = ["b.txt file r", "sub/deep/a.txt file r"];
        let found = |line: &str| -> Vec<String> {
            project.shell(line).into_iter().filter(|line| line.ends_with('r')).collect()
        };
        assert_eq!(found("cd sub/deep; cat a.txt ../../b.txt"), expected);
        assert_eq!(found("cat link/a.txt link/../../b.txt"), expected);
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("link");
        std::os::unix::fs::symlink(&project.root, &link).unwrap();
        assert_eq!(found(&format!("cat {0}/b.txt {0}/sub/deep/a.txt", link.display())), expected);
    }

    #[test]
    fn programs_and_files_elsewhere_are_observed() {
        let project = Project::new(&[("run.sh", "#!/bin/sh\ncat a.txt\n"), ("a.txt", "a")]);
        fs::set_permissions(project.root.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();
        let observed = project.run("sh", &["-c", &format!("./run.sh; cat {}", other.path().display())]);
        assert_eq!(project.uses(&observed), ["a.txt file r", "run.sh file r"]);
        assert!(observed.others.contains(&other.path().canonicalize().unwrap()), "{:?}", observed.others);
        assert!(observed.programs.contains(&project.root.join("run.sh")), "{:?}", observed.programs);
        assert!(observed.programs.iter().any(|program| program.ends_with("cat")));
    }

    /// Compiles a C program; `None` without a compiler.
    fn compiled(folder: &Path, text: &str, options: &[&str]) -> Option<PathBuf> {
        let (source, program) = (folder.join("program.c"), folder.join("program"));
        fs::write(&source, text).unwrap();
        let status = Command::new("cc").arg(&source).arg("-o").arg(&program).args(options).status().ok()?;
        status.success().then_some(program)
    }

    #[test]
    fn static_binaries_threads_and_children_are_observed() {
        let elsewhere = tempfile::tempdir().unwrap();
        let text = "#include <pthread.h>\n#include <stdio.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
            static void *work(void *name) { FILE *file = fopen(name, \"r\"); return file ? file : name; }\n\
            int main() { pthread_t thread; pthread_create(&thread, 0, work, \"a.txt\"); pthread_join(thread, 0);\n\
            if (fork() == 0) { work(\"b.txt\"); _exit(0); } wait(0); work(\"c.txt\"); return 0; }\n";
        let Some(program) = compiled(elsewhere.path(), text, &["-static", "-pthread"]) else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must have a C compiler");
            return eprintln!("not checked without a C compiler");
        };
        let project = Project::new(&[("a.txt", "a"), ("b.txt", "b")]);
        let observed = project.run(&program.display().to_string(), &[]);
        assert_eq!(project.uses(&observed), ["a.txt file r", "b.txt file r", "c.txt absent r"]);
    }

    #[test]
    fn the_import_system_of_python_is_not_a_listing() {
        let files = [
            ("main.py", "import json, helper, package.part\n"),
            ("helper.py", ""),
            ("package/__init__.py", ""),
            ("package/part.py", ""),
            ("lists.py", "import pathlib\nprint(list(pathlib.Path('.').glob('*.csv')))\n"),
            ("both.py", "import json, pathlib\nprint(list(pathlib.Path('.').glob('*.csv')))\n"),
            ("elsewhere.py", "import json, pathlib\nprint(list(pathlib.Path('data').glob('*.csv')))\n"),
            ("data/x.csv", ""),
        ];
        let project = Project::new(&files);
        // Which other suffixes Python looks for depends on its version.
        let present = |observed: Observed| -> Vec<String> {
            project.uses(&observed).into_iter().filter(|line| !line.contains(" absent ")).collect()
        };
        let run = |script: &str| present(project.run("python3", &["-B", script]));
        let expected = [
            " folder m",
            "helper.py file r",
            "main.py file r",
            "package folder m",
            "package/__init__.py file r",
            "package/part.py file r",
        ];
        assert_eq!(run("main.py"), expected);
        assert_eq!(run("lists.py"), [" folder l", "lists.py file r"]);
        assert_eq!(run("both.py"), [" folder l", "both.py file r"]);
        assert_eq!(run("elsewhere.py"), [" folder m", "data folder l", "elsewhere.py file r"]);
        let inline = project.run("python3", &["-B", "-c", "import json, helper"]);
        assert_eq!(present(inline), [" folder m", "helper.py file r"]);
    }

    #[test]
    fn installed_software_in_the_project_is_not_recorded_file_by_file() {
        let files = [("env/pyvenv.cfg", ""), ("env/lib/x.py", "x"), ("node_modules/y.js", "y"), ("a.txt", "")];
        let project = Project::new(&files);
        let observed = project.run("cat", &["env/lib/x.py", "node_modules/y.js", "a.txt"]);
        assert_eq!(project.uses(&observed), ["a.txt file r"]);
        assert!(observed.others.contains(&project.root.join("env/lib/x.py")), "{:?}", observed.others);
        drop(project.folder);
    }
}
