//! Files that hamflow did not create are never modified or deleted, and unusual behaviour of programs and users is handled.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use crate::harness::Project;

/// A stage `a` of the kind `command` with the output `y`.
fn command(output: &str, run: &str, more: &str) -> String {
    format!("[stages.a]\nkind = \"command\"\noutputs = {{ y = {output} }}\nrun = {run:?}\n{more}")
}

const FILE: &str = "{ type = \"file\" }";
const FOLDER: &str = "{ type = \"folder\", path = \"y\" }";

fn remove(project: &Project, path: &str) {
    std::fs::remove_file(project.path(path)).unwrap();
}

#[test]
fn a_directory_with_other_files_is_rejected_as_a_cache() {
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", "[cache]\ndir = \"shared\"\n"));
    for files in [
        &["shared/tmp/thesis.txt", "shared/rebuild/notes.txt", "shared/cas/img.raw"][..],
        &["shared/checkpoints/epoch_1.pt", "shared/runs/one"],
        &["shared/locks/mine+set-1.lock"],
    ] {
        std::fs::create_dir_all(project.path("shared/cas")).unwrap();
        files.iter().for_each(|file| project.write(file, "precious"));
        let before = project.files("shared");
        for command in [&["run"][..], &["cache", "gc", "--max-size", "0"]] {
            let ran = project.hamflow(command);
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(
                ran.stderr.contains("is not a cache directory: it contains")
                    && ran.stderr.contains("\nhint: name a directory that only the cache uses under `[cache] dir`"),
                "{ran:?}"
            );
        }
        let ours = |(name, _): &(String, Vec<u8>)| !name.ends_with("run.lock");
        assert_eq!(project.files("shared").into_iter().filter(ours).collect::<Vec<_>>(), before);
        std::fs::remove_dir_all(project.path("shared")).unwrap();
    }
}

#[test]
fn a_new_cache_is_ignored_by_git() {
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", ""));
    project.run();
    assert_eq!(project.read("cache/.gitignore"), "*\n");
}

#[test]
fn files_named_like_temporary_files_are_never_deleted() {
    let project = Project::builtin(&command(FILE, "echo {params.p} > {outputs.y}", "params = { p = 1 }"));
    project.run();
    let own = [".tmp-notes.txt", "out/.tmp-mine/thesis", "out/a/mine/.tmp-thesis"];
    for file in own {
        project.write(file, "precious");
    }
    project.run_with(&["--set", "stages.a.params.p=2"]);
    project.write("pipeline.toml", command(FILE, "echo {params.p} > {outputs.y}", "params = { p = 3 }"));
    project.run();
    for file in own {
        assert_eq!(project.read(file), "precious");
    }
}

#[test]
fn an_output_hard_linked_to_an_input_is_copied() {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = \"in.txt\"\n";
    let project = Project::builtin(&command(FILE, "ln {inputs.d} {outputs.y}", inputs));
    project.write("in.txt", "data");
    std::fs::set_permissions(project.path("in.txt"), std::fs::Permissions::from_mode(0o664)).unwrap();
    project.run();
    let metadata = std::fs::metadata(project.path("in.txt")).unwrap();
    assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (1, 0o664));
    project.write("in.txt", "DATA");
    assert_eq!(project.hamflow(&["cache", "verify"]).code, 0);
    assert_eq!(project.read("out/a/y"), "data");
}

#[test]
fn files_behind_symlinks_are_not_moved_into_the_cache() {
    let project = Project::builtin("");
    let run =
        format!("rmdir $(dirname {{outputs.y}}); ln -s {}/pre $(dirname {{outputs.y}})", project.root().display());
    project.write("pipeline.toml", command("{ type = \"file\", path = \"sub/y.txt\" }", &run, ""));
    project.write("pre/y.txt", "precious");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("output `y` is behind the symlink"), "{ran:?}");
    assert_eq!(project.read("pre/y.txt"), "precious");
}

#[test]
fn files_in_parameters_and_quoted_or_absolute_arguments_are_inputs() {
    let project = Project::builtin("");
    let absolute = project.path("three.txt").display().to_string();
    let stage =
        |name: &str, run: String| format!("[stages.{name}]\nkind = \"command\"\noutputs = {{ y = {FILE} }}\n{run}\n");
    let stages = [
        stage("param", "run = [\"cp\", \"{params.f}\", \"{outputs.y}\"]\nparams = { f = \"one.txt\" }".into()),
        stage("quoted", "run = \"cat 'the second.txt' > {outputs.y}\"".into()),
        stage("absolute", format!("run = [\"cp\", \"{absolute}\", \"{{outputs.y}}\"]")),
    ];
    project.write("pipeline.toml", stages.concat());
    let files = [("one.txt", "param"), ("the second.txt", "quoted"), ("three.txt", "absolute")];
    for (file, _) in files {
        project.write(file, "1");
    }
    project.run();
    for (file, stage) in files {
        project.write(file, "changed");
        assert_eq!(project.run().ran(), [stage]);
        assert_eq!(project.read(&format!("out/{stage}/y")), "changed");
    }
}

#[test]
fn a_temporary_change_of_an_input_during_the_run_is_reported() {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = \"in.txt\"\n";
    let edit = "cp {inputs.d} keep; echo other > {inputs.d}; cat {inputs.d} > {outputs.y}; cp keep {inputs.d}";
    let project = Project::builtin(&command(FILE, edit, inputs));
    project.write("in.txt", "data");
    project.touch("in.txt", 100);
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("in.txt` changed"), "{ran:?}");
    assert_eq!(project.read("in.txt"), "data");
}

#[test]
fn unreadable_outputs_are_cached() {
    let run = "mkdir -p {outputs.y}/closed && echo 1 > {outputs.y}/closed/f && chmod 000 {outputs.y}/closed/f && chmod 000 {outputs.y}/closed";
    let project = Project::builtin(&command(FOLDER, run, ""));
    project.run();
    assert_eq!(project.read("out/a/y/closed/f"), "1\n");
}

#[test]
fn an_invalid_output_name_is_an_error_of_the_program() {
    let project = Project::builtin(&command(FOLDER, "mkdir {outputs.y} && touch {outputs.y}/\"a\nb\"", ""));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("is not a single line of UTF-8"), "{ran:?}");
}

#[test]
fn names_with_carriage_returns_and_tabs_round_trip() {
    let run = "mkdir {outputs.y} && cd {outputs.y} && echo 1 > a && echo 2 > \"a\r\"";
    let project = Project::builtin(&command(
        FOLDER,
        run,
        "[stages.b]\nkind = \"command\"\noutputs = { z = { type = \"file\" } }\nrun = [\"cp\", \"a\\tb.sh\", \"{outputs.z}\"]\n",
    ));
    project.write("a\tb.sh", "3");
    project.run();
    assert_eq!((&project.read("out/a/y/a")[..], &project.read("out/a/y/a\r")[..]), ("1\n", "2\n"));
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("cached"), 2);
    project.write("a\tb.sh", "4");
    assert_eq!(project.run().ran(), ["b"]);
}

#[test]
fn renamed_outputs_are_removed_from_out() {
    let project = Project::builtin(&command("{ type = \"file\", path = \"a.txt\" }", "echo 1 > {outputs.y}", ""));
    project.run();
    project.write("out/a/own.txt", "somebody's");
    let renamed = command("{ type = \"file\", path = \"sub/b.txt\" }", "echo 1 > {outputs.y}", "");
    project.write("pipeline.toml", &renamed);
    project.run();
    let names = |files: Vec<(String, Vec<u8>)>| files.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(project.files("out")), ["out/a/own.txt", "out/a/sub/b.txt"]);
    project.write("pipeline.toml", renamed.replace("stages.a", "stages.other"));
    project.run();
    assert_eq!(names(project.files("out")), ["out/a/own.txt", "out/other/sub/b.txt"]);
    project.write("out/other/sub/b.txt", "edited");
    project.write("pipeline.toml", renamed.replace("stages.a", "stages.third"));
    project.run();
    assert_eq!(project.read("out/other/sub/b.txt"), "edited", "user modifications are kept");
}

#[test]
fn special_files_in_out_are_ignored() {
    let project = Project::builtin(&command(FOLDER, "mkdir {outputs.y} && echo 1 > {outputs.y}/f", ""));
    project.run();
    symlink("nowhere", project.path("out/a/y/.#f")).unwrap();
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    std::fs::write(project.path("out/a").join(bytes), "x").unwrap();
    project.write("out/a/x\ny", "x");
    assert_eq!(project.hamflow(&["status"]).code, 0);
    assert_eq!(project.run().count("fresh"), 1);
    std::fs::remove_dir_all(project.path("out")).unwrap();
    symlink("nowhere", project.path("out")).unwrap();
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("out` leads out of the project, to `nowhere`"), "{ran:?}");
    remove(&project, "out");
    project.write("out", "");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("but that is not a folder\nhint: move it out of the way"), "{ran:?}");
}

#[test]
fn an_input_without_stable_content_is_rejected() {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = \"in\"\n";
    let project = Project::builtin(&command(FILE, "cat {inputs.d} > {outputs.y}", inputs));
    assert!(Command::new("mkfifo").arg(project.path("in")).status().unwrap().success());
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is neither a file nor a folder"), "{ran:?}");
    remove(&project, "in");
    symlink("in", project.path("in")).unwrap();
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`inputs.d`") && ran.stderr.contains("leads to itself"), "{ran:?}");
}

#[test]
fn a_damaged_input_blob_is_recreated_in_the_same_run() {
    let next = "[stages.b]\nkind = \"command\"\ninputs = { y = \"a\" }\nparams = { p = 1 }\noutputs = { z = { type = \"file\" } }\nrun = \"cat {inputs.y} > {outputs.z}; echo {params.p} >> {outputs.z}\"\n";
    let project = Project::builtin(&command(FILE, "echo good > {outputs.y}", next));
    project.run();
    let blob = project.files("cache/cas").into_iter().find(|(_, bytes)| bytes == b"good\n").unwrap().0;
    remove(&project, &blob);
    project.write(&blob, "evil\n");
    let ran = project.run_with(&["--set", "stages.b.params.p=2"]);
    assert_eq!((ran.ran(), ran.count("skipped")), (vec!["a".to_owned(), "b".to_owned()], 0), "{ran:?}");
    assert_eq!(project.read("out/b/z"), "good\n2\n");
}

#[test]
fn a_damaged_listing_is_recreated() {
    let project = Project::builtin(&command(
        FOLDER,
        "mkdir {outputs.y} && echo 1 > {outputs.y}/f # {params.p}",
        "params = { p = 1 }",
    ));
    project.run();
    let tree = project.files("cache/cas").into_iter().find(|(_, bytes)| bytes.ends_with(b"\tf\n")).unwrap();
    remove(&project, &tree.0);
    project.write(&tree.0, [&tree.1[..tree.1.len() - 2], b"g\n"].concat());
    project.run_with(&["--set", "stages.a.params.p=2"]);
    assert_eq!(project.read("out/a/y/f"), "1\n");
}

#[test]
fn a_missing_input_with_conflicting_locked_digests_is_not_replaced() {
    let inputs = "inputs = { d = \"inputs.d\" }\n";
    let a = command(FILE, "cat {inputs.d} > {outputs.y}", inputs);
    let project = Project::builtin(&format!("{a}{}[inputs]\nd = \"in.txt\"\n", a.replace("stages.a", "stages.b")));
    project.write("in.txt", "old");
    project.run();
    project.write("in.txt", "new");
    project.run_with(&["b"]);
    remove(&project, "in.txt");
    let ran = project.hamflow(&["run", "--allow-missing", "b"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(project.read("out/b/y"), "new");
}

#[test]
fn metrics_of_another_profile_are_not_shown() {
    let run = "echo '{{\"loss\": 1}}' > {outputs.y} # {params.p}";
    let more = "params = { p = 0 }\n[profiles.demo]\nstages.a.params.p = 1\n";
    let metrics = command("{ type = \"metrics\" }", run, more);
    let project = Project::builtin(&metrics);
    project.run();
    assert!(project.hamflow(&["metrics"]).stdout.contains("loss"));
    assert!(!project.hamflow(&["metrics", "--profile", "demo"]).stdout.contains("loss"));
}

#[test]
fn every_pipeline_file_has_its_own_lock() {
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", ""));
    project.write("other.toml", command(FILE, "echo 2 > {outputs.y}", "").replace("stages.a", "stages.b"));
    project.run();
    project.run_with(&["--file", "other.toml"]);
    assert!(project.read("pipeline.lock").contains("a\tkey") && project.read("other.lock").contains("b\tkey"));
    assert_eq!(project.read("out/a/y"), "1\n");
    // Garbage collection for one pipeline keeps the results of the other.
    project.write("Cargo.lock", "version = 4\n");
    let blobs = project.files("cache/cas");
    assert_eq!(
        project.hamflow(&["cache", "gc", "--max-size", "0", "--keep-runs", "0", "--file", "other.toml"]).code,
        0
    );
    assert_eq!(project.files("cache/cas"), blobs);
}

#[test]
fn a_profile_name_is_a_valid_file_name() {
    let profile = "[profiles.\"../../pipeline\"]\npipeline.seed = 2\n";
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", profile));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("profile `../../pipeline`: a profile's name has only letters"), "{ran:?}");
}

#[test]
fn a_damaged_lock_in_a_bundle_is_reported_and_skipped() {
    let profile = "params = { p = 1 }\n[profiles.x]\nstages.a.params.p = 2\n";
    let project = Project::builtin(&command(FILE, "echo {params.p} > {outputs.y}", profile));
    project.run_with(&["--profile", "x"]);
    assert_eq!(project.hamflow(&["cache", "export", "--profile", "x", "e.tar"]).code, 0);
    let bytes = std::fs::read(project.path("e.tar")).unwrap();
    let at = bytes.windows(6).position(|bytes| bytes == b"a\tkey\t").unwrap();
    project.write("e.tar", [&bytes[..at], b"a\tkfy\t", &bytes[at + 6..]].concat());
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let taken = project.hamflow(&["cache", "import", "e.tar"]);
    assert!(taken.stderr.contains("`locks/x.lock`: not a valid lock file"), "{taken:?}");
    project.run_with(&["--profile", "x"]);
}

#[test]
fn a_run_under_nohup_survives_a_hangup() {
    let project = Project::builtin(&command(
        FILE,
        "touch $PWD/begun; while [ ! -e $PWD/go ]; do sleep 0.01; done; echo 1 > {outputs.y}",
        // The file appears while the program looks for it.
        "undeclared = \"off\"\n",
    ));
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" run"]).arg(project.program()).current_dir(project.root());
    let mut run = shell.stderr(std::process::Stdio::null()).spawn().unwrap();
    project.wait_for("begun");
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    project.write("go", "");
    assert!(run.wait().unwrap().success());
    assert_eq!(project.read("out/a/y"), "1\n");
}

#[test]
fn a_running_stage_is_reported_as_interrupted() {
    let project = Project::builtin(&command(FILE, "touch $PWD/begun; sleep 600", ""));
    let run = project.start(&["run"]);
    project.wait_for("begun");
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(printed.contains("interrupted a  after ") && printed.contains(": 1 interrupted"), "{printed}");
    let log = project.hamflow(&["log", "last"]).stdout;
    assert!(log.lines().any(|line| line.starts_with("interrupted a ")), "{log}");
}

#[test]
fn many_stages_need_few_open_log_files() {
    let stage = |number: usize| {
        command(FILE, "echo printed; echo 1 > {outputs.y}", "").replace("stages.a", &format!("stages.s{number}"))
    };
    let project = Project::builtin(&(0..80).map(stage).collect::<String>());
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 60; exec \"$0\" run"]).arg(project.program()).current_dir(project.root());
    let ran = Project::finish(shell);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn the_output_of_a_failing_program_is_logged_once() {
    let project = Project::builtin(&command(FILE, "echo the reason >&2; exit 3", ""));
    let ran = project.hamflow(&["run"]);
    assert!(ran.stderr.contains("  | the reason"), "{ran:?}");
    let log = project.hamflow(&["log", "a"]).stdout;
    assert_eq!(log.matches("the reason").count(), 1, "{log}");
    assert!(log.contains("error: `sh` ended with exit status 3"), "{log}");
}

#[test]
fn past_runs_are_shown_with_a_broken_pipeline() {
    let right = command(FILE, "echo printed; echo 1 > {outputs.y}", "");
    let project = Project::builtin(&right);
    project.run();
    for wrong in [right.replace("run =", "rum ="), "[stages".to_owned()] {
        project.write("pipeline.toml", wrong);
        assert!(project.hamflow(&["log"]).stdout.contains("1 ran"));
        assert!(project.hamflow(&["log", "last"]).stdout.contains("ran      a"));
        assert_eq!(project.hamflow(&["log", "a"]).stdout, "printed\n");
        assert_eq!(project.hamflow(&["run"]).code, 2);
    }
    remove(&project, "pipeline.toml");
    let ran = project.hamflow(&["log"]);
    assert!(ran.code == 2 && ran.stderr.contains("hamflow init"), "{ran:?}");
}

#[test]
fn an_ambiguous_log_lists_the_stages_of_the_matrix() {
    let shout = "[inputs]\nt = \"t.txt\"\n[stages.a]\nkind = \"shout\"\nfrom = \"inputs.t\"\n[stages.a.matrix]\nsuffix = [\"x\", \"y\"]\n";
    let project = Project::new(shout);
    project.write("t.txt", "text");
    assert_eq!(project.run().count("ran"), 2);
    let printed = project.hamflow(&["log", "a"]).stderr;
    assert!(
        printed.contains("`a` is a matrix of stages, each with its own log") && printed.contains("`a["),
        "{printed}"
    );
    let printed = project.hamflow(&["log", "last", "nobody"]).stderr;
    assert!(printed.contains("`nobody` is neither a recorded run nor a stage"), "{printed}");
}

#[test]
fn init_lists_what_a_repository_should_ignore() {
    let project = Project::builtin("");
    project.write("new/.gitignore", "*.pyc\n/out/\n");
    let printed = project.hamflow(&["init", "new"]).stderr;
    assert!(printed.contains("new/.gitignore; add `/cache/`, `/data/` to it"), "{printed}");
    assert_eq!(project.read("new/.gitignore"), "*.pyc\n/out/\n");
    let printed = project.hamflow(&["init", "other"]).stderr;
    assert!(printed.contains("created other/.gitignore"), "{printed}");
}

#[test]
fn a_cache_without_a_version_file_is_recognized() {
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", ""));
    project.run();
    remove(&project, "cache/version");
    project.write("cache/.DS_Store", "x");
    assert_eq!(project.run().count("fresh"), 1);
    for gone in ["memo", "runs", "tmp", "index", "tidied", "seal", "version", "run.lock", ".gitignore"] {
        let path = project.path("cache").join(gone);
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().count("cached"), 1);
    assert_eq!(project.hamflow(&["cache", "gc"]).code, 0);
}

#[test]
fn a_cache_deleted_while_a_run_waits_is_recreated() {
    let run = "[ -e begun ] || touch $PWD/begun; while [ ! -e $PWD/go ]; do sleep 0.01; done; echo 1 > {outputs.y}";
    // The file appears while the program looks for it.
    let project = Project::builtin(&command(FILE, run, "undeclared = \"off\"\n"));
    let first = project.start(&["run"]);
    project.wait_for("begun");
    let second = project.start(&["run"]);
    let waits = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default().contains("lock");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !waits(second.id()) && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    project.write("go", "");
    let (first, second) = (first.wait_with_output().unwrap(), second.wait_with_output().unwrap());
    let printed = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.success(), "{printed} (the first: {first:?})");
    assert_eq!(project.read("out/a/y"), "1\n");
    assert_eq!(project.run().count("failed"), 0, "the cache is valid again");
}

#[test]
fn two_pipelines_in_a_directory_keep_each_others_outputs() {
    let profile = "[profiles.demo]\nstages.NAME.params.p = 2\n";
    let of = |name: &str| {
        let text = command(FILE, "echo {params.p} > {outputs.y}", "params = { p = 1 }\n");
        text.replace("stages.a", &format!("stages.{name}")) + &profile.replace("NAME", name)
    };
    let project = Project::builtin(&of("a"));
    project.write("other.toml", of("b"));
    for _ in 0..2 {
        for options in [&["--profile", "demo"][..], &[]] {
            project.run_with(options);
            project.run_with(&[options, &["--file", "other.toml"]].concat());
        }
    }
    assert_eq!((&project.read("out/a/y")[..], &project.read("out/b/y")[..]), ("1\n", "1\n"));
    let both = |extra: &str| of("a") + &extra.replace("stages.a", "stages.common");
    let common = command(FILE, "echo 3 > {outputs.y}", "");
    project.write("pipeline.toml", both(&common));
    project.write("other.toml", of("b") + &common.replace("stages.a", "stages.common"));
    project.run();
    project.run_with(&["--file", "other.toml"]);
    project.write("pipeline.toml", of("a"));
    project.run();
    assert_eq!(project.read("out/common/y"), "3\n", "the other pipeline still has that stage");
}

#[test]
fn restoring_a_result_removes_outputs_that_it_does_not_have() {
    let with =
        |outputs: &str, run: &str| format!("[stages.s]\nkind = \"command\"\noutputs = {outputs}\nrun = {run:?}\n");
    let one = with("{ a = { type = \"file\" } }", "echo 1 > {outputs.a}");
    let two =
        with("{ a = { type = \"file\" }, b = { type = \"file\" } }", "echo 1 > {outputs.a}; echo 2 > {outputs.b}");
    let project = Project::builtin(&two);
    project.run();
    for _ in 0..2 {
        project.write("pipeline.toml", &one);
        project.run();
        assert!(!project.path("out/s/b").exists());
        assert_eq!(project.run().count("fresh"), 1);
        project.write("pipeline.toml", &two);
        project.run();
        assert_eq!(project.read("out/s/b"), "2\n");
    }
}

#[test]
fn a_file_named_through_a_symlink_to_the_project_is_an_input() {
    let outside = tempfile::tempdir().unwrap();
    let project = Project::builtin("");
    symlink(project.root(), outside.path().join("link")).unwrap();
    let named = outside.path().join("link/in.txt").display().to_string();
    project.write(
        "pipeline.toml",
        format!(
            "[stages.a]\nkind = \"command\"\noutputs = {{ y = {FILE} }}\nrun = [\"cp\", {named:?}, \"{{outputs.y}}\"]\n"
        ),
    );
    project.write("in.txt", "1");
    project.run();
    project.write("in.txt", "2");
    assert_eq!(project.run().ran(), ["a"]);
    assert_eq!(project.read("out/a/y"), "2");
}

#[test]
fn a_named_pipe_is_rejected_as_an_output() {
    let project = Project::builtin(&command("{ type = \"csv\" }", "mkfifo {outputs.y}", ""));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("it is neither a file nor a folder"), "{ran:?}");
}

/// A directory output `y`, copied from the directory input `data`.
fn copied() -> Project {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = \"data\"\n";
    let project =
        Project::builtin(&command(FOLDER, "mkdir -p {outputs.y}/sub; cat {inputs.d}/* > {outputs.y}/sub/g", inputs));
    project.write("data/x", "precious");
    project
}

#[test]
fn symlinks_in_out_are_never_followed() {
    let project = copied();
    project.run();
    std::fs::remove_dir_all(project.path("out/a/y/sub")).unwrap();
    symlink("../../../data", project.path("out/a/y/sub")).unwrap();
    symlink(".", project.path("out/a/y/latest")).unwrap();
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("out/a/y/sub` leads elsewhere in the project"), "{ran:?}");
    assert!(project.read("data/x") == "precious" && !project.path("data/g").exists());
    remove(&project, "out/a/y/sub");
    assert_eq!(project.run().count("cached"), 1);
    assert_eq!(project.run().count("fresh"), 1, "an unrelated symlink changes nothing");
    for (link, to) in [("out/a", "../data"), ("out", "data")] {
        let project = copied();
        project.write("out/keep", "");
        if link == "out" {
            std::fs::remove_dir_all(project.path("out")).unwrap();
        }
        symlink(to, project.path(link)).unwrap();
        let ran = project.hamflow(&["run"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("leads elsewhere in the project"), "{ran:?}");
        assert_eq!(std::fs::read_dir(project.path("data")).unwrap().count(), 1);
    }
}

#[test]
fn obstacles_in_out_are_removed_only_if_hamflow_created_them() {
    let file = command("{ type = \"file\", path = \"model\" }", "echo 1 > {outputs.y}", "");
    let folder = command("{ type = \"folder\", path = \"model\" }", "mkdir {outputs.y}; echo 2 > {outputs.y}/f", "");
    let project = Project::builtin(&file);
    project.run();
    for _ in 0..2 {
        project.write("pipeline.toml", &folder);
        project.run();
        assert_eq!(project.read("out/a/model/f"), "2\n");
        project.write("pipeline.toml", &file);
        project.run();
        assert_eq!(project.read("out/a/model"), "1\n");
    }
    project.write("out/a/notes/thesis.txt", "precious");
    project.write("pipeline.toml", file.replace("model", "notes"));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("out/a/notes` is in the way of an output, and the cache does not have it"), "{ran:?}");
    assert_eq!(project.read("out/a/notes/thesis.txt"), "precious");
}

#[test]
fn leaving_a_profile_removes_its_outputs() {
    let profile = "[profiles.demo]\nstages.a.outputs.y.path = \"demo.txt\"\n";
    let project =
        Project::builtin(&command("{ type = \"file\", path = \"plain.txt\" }", "echo 1 > {outputs.y}", profile));
    for _ in 0..2 {
        project.run();
        assert!(project.path("out/a/plain.txt").exists() && !project.path("out/a/demo.txt").exists());
        project.run_with(&["--profile", "demo"]);
        assert!(!project.path("out/a/plain.txt").exists() && project.path("out/a/demo.txt").exists());
    }
}

#[test]
fn a_locked_digest_is_not_used_for_another_path() {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = \"a.txt\"\n[profiles.full]\ninputs.d = \"full.txt\"\n[profiles.same]\npipeline.seed = 2\n";
    let project = Project::builtin(&command(FILE, "cp {inputs.d} {outputs.y}", inputs));
    project.write("a.txt", "AAA");
    project.run();
    for options in [&["--profile", "full"][..], &["--set", "inputs.d='nowhere.txt'"]] {
        let ran = project.hamflow(&[&["run", "--allow-missing"], options].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    remove(&project, "a.txt");
    assert_eq!(project.run_with(&["--allow-missing", "--profile", "same"]).count("fresh"), 1);
}

#[test]
fn only_the_missing_directories_of_a_list_are_taken_from_the_lock() {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = [\"one\", \"two\"]\n";
    let project = Project::new(&command(FILE, "true", inputs));
    project
        .write("pipeline.toml", "[inputs]\nfolder = [\"one\", \"two\"]\n[stages.names]\nfolder = \"inputs.folder\"\n");
    project.write("one/a", "1");
    project.write("two/b", "2");
    project.run();
    std::fs::rename(project.path("two"), project.path("away")).unwrap();
    assert_eq!(project.run_with(&["--allow-missing"]).count("fresh"), 1);
    project.write("one/c", "3");
    assert_eq!(project.run_with(&["--allow-missing"]).ran(), ["names"]);
    assert_eq!(project.read("out/names/text.txt"), "a\nc\nb");
}

#[test]
fn a_script_in_a_shell_argument_is_an_input() {
    let run = "run = [\"sh\", \"-c\", \"sh train.sh > {outputs.y}\"]\n";
    let project = Project::builtin(&format!("[stages.a]\nkind = \"command\"\noutputs = {{ y = {FILE} }}\n{run}"));
    project.write("train.sh", "echo 1");
    project.run();
    project.write("train.sh", "echo 2");
    assert_eq!(project.run().ran(), ["a"]);
    assert_eq!(project.read("out/a/y"), "2\n");
}

#[test]
fn a_file_that_a_command_both_names_and_creates_is_no_input() {
    let project = Project::builtin(&command(FILE, "echo hello | tee a.log > {outputs.y}", ""));
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 0 && !ran.stderr.contains("warning"), "{ran:?}");
    assert_eq!(project.run().count("fresh"), 1);
    remove(&project, "a.log");
    assert_eq!(project.run().count("fresh"), 1);
}

#[test]
fn a_program_may_make_its_output_directory_inaccessible() {
    let run = "cd $(dirname {outputs.y}); echo 1 > y; chmod a-w .";
    let project = Project::builtin(&command(FILE, run, ""));
    project.run();
    assert_eq!(project.read("out/a/y"), "1\n");
}

#[test]
fn only_shell_command_lines_are_parsed_as_such() {
    let stages =
        "[stages.b]\nkind = \"command\"\noutputs = { y = { type = \"file\" } }\nrun = \"echo b > {outputs.y}\"\n";
    let message = "run = [\"cp\", \"in.txt\", \"{outputs.y}\", \"--suffix=see out/b/y > x\"]\n";
    let project =
        Project::builtin(&format!("{stages}[stages.a]\nkind = \"command\"\noutputs = {{ y = {FILE} }}\n{message}"));
    project.write("in.txt", "1");
    assert_eq!(project.run().count("ran"), 2);
}

#[test]
fn overrides_fall_back_to_the_lock_of_the_profile() {
    let inputs = "inputs = { d = \"inputs.d\" }\n[inputs]\nd = \"a.txt\"\n[profiles.full]\ninputs.d = \"full.txt\"\n";
    let project = Project::builtin(&command(FILE, "cp {inputs.d} {outputs.y}", inputs));
    project.write("full.txt", "FULL");
    project.run_with(&["--profile", "full"]);
    remove(&project, "full.txt");
    let same = ["--profile", "full", "--set", "pipeline.seed=7", "--allow-missing"];
    assert_eq!(project.run_with(&same).count("fresh"), 1);
    let other = ["run", "--profile", "full", "--set", "inputs.d='b.txt'", "--allow-missing"];
    assert_eq!(project.hamflow(&other).code, 2);
}

#[test]
fn gc_respects_locks_with_a_changed_comment() {
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", ""));
    project.run();
    let lock = project.read("pipeline.lock");
    project.write("pipeline.lock", lock.split_once('\n').unwrap().1);
    let blobs = project.files("cache/cas");
    assert_eq!(project.hamflow(&["cache", "gc", "--max-size", "0", "--keep-runs", "0"]).code, 0);
    assert_eq!(project.files("cache/cas"), blobs);
}

#[test]
fn a_removed_stage_behind_a_symlink_does_not_fail_the_run() {
    let b = command(FILE, "echo 2 > {outputs.y}", "").replace("stages.a", "stages.b");
    let a = command(FILE, "echo 1 > {outputs.y}", "");
    let project = Project::builtin(&(a.clone() + &b));
    project.run();
    std::fs::rename(project.path("out/b"), project.path("moved")).unwrap();
    symlink("../moved", project.path("out/b")).unwrap();
    project.write("pipeline.toml", &a);
    assert_eq!(project.run().count("fresh"), 1);
    assert_eq!(project.read("moved/y"), "2\n");
}

#[test]
fn outputs_of_a_removed_stage_are_deleted_despite_an_intermediate_override() {
    let b = command(FILE, "echo 2 > {outputs.y}", "").replace("stages.a", "stages.b");
    let a = command(FILE, "echo {params.p} > {outputs.y}", "params = { p = 1 }\n");
    let project = Project::builtin(&(a.clone() + &b));
    project.run();
    project.run_with(&["--set", "stages.a.params.p=5"]);
    project.write("pipeline.toml", &a);
    project.run();
    assert!(!project.path("out/b").exists());
}

#[test]
fn files_in_out_are_rejected_as_inputs() {
    for path in ["./out/a/y", "out/a", "x/../out/a/y"] {
        let inputs = format!("inputs = {{ d = \"inputs.d\" }}\n[inputs]\nd = {path:?}\n");
        let project = Project::builtin(&command(FILE, "head -c3 {inputs.d} > {outputs.y}", &inputs));
        project.write("out/a/y", "precious");
        project.write("x/keep", "");
        let ran = project.hamflow(&["run"]);
        assert_eq!(ran.code, 2, "{path}: {ran:?}");
        assert!(ran.stderr.contains("an output of stage `a`"), "{path}: {ran:?}");
        assert_eq!(project.read("out/a/y"), "precious");
    }
}

#[test]
fn overwritten_files_are_reported() {
    let project = Project::builtin(&command(FOLDER, "mkdir {outputs.y}; echo 1 > {outputs.y}/f", ""));
    project.write("out/a/y/sub/own", "mine");
    let ran = project.hamflow(&["run"]);
    assert!(ran.stderr.contains("overwrote 1 file in `out/a` that is not in the cache: `y/sub/own`"), "{ran:?}");
    project.write("pipeline.toml", command(FOLDER, "mkdir {outputs.y}; echo 2 > {outputs.y}/g", ""));
    let ran = project.hamflow(&["run"]);
    assert!(!ran.stderr.contains("overwrote"), "outputs in the cache are replaced silently: {ran:?}");
}

#[test]
fn a_directory_with_file_names_of_a_cache_is_not_a_cache() {
    for name in ["index", "laid", "tidied", "run.lock"] {
        let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", "[cache]\ndir = \"shared\"\n"));
        project.write(&format!("shared/{name}"), "my books");
        assert_eq!(project.hamflow(&["run"]).code, 2, "{name}");
        assert_eq!(project.read(&format!("shared/{name}")), "my books");
    }
    let project = Project::builtin(&command(FILE, "echo 1 > {outputs.y}", "[cache]\ndir = \"./out/cache\"\n"));
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 2 && ran.stderr.contains("cache: `dir` cannot be `./out/cache`"), "{ran:?}");
}

#[test]
fn scripts_are_found_behind_shell_options_and_symlinks() {
    let runs = [
        "run = [\"bash\", \"-ce\", \"sh s.sh > {outputs.y}\"]",
        "run = [\"env\", \"sh\", \"-c\", \"-e\", \"sh s.sh > {outputs.y}\"]",
        "run = \"sh link/../s.sh > {outputs.y}\"",
        "run = \"sh 's{{1}}.sh' > {outputs.y}\"",
    ];
    for run in runs {
        let project = Project::builtin(&format!("[stages.a]\nkind = \"command\"\noutputs = {{ y = {FILE} }}\n{run}\n"));
        std::fs::create_dir_all(project.path("real/sub")).unwrap();
        symlink("real/sub", project.path("link")).unwrap();
        for number in ["1", "2"] {
            for script in ["s.sh", "real/s.sh", "s{1}.sh"] {
                project.write(script, format!("echo {number}"));
            }
            assert_eq!(project.run().ran(), ["a"], "{run}");
            assert_eq!(project.read("out/a/y"), format!("{number}\n"), "{run}");
        }
    }
}

#[test]
fn environment_variables_must_be_utf8() {
    let project = Project::builtin(&command(FILE, "printf %s $FOO > {outputs.y}", "env = [\"FOO\"]\n"));
    project.run();
    let mut odd = project.command(&["run"]);
    let value: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    odd.env("FOO", value);
    let ran = Project::finish(odd);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("the environment variable `FOO` is not UTF-8"), "{ran:?}");
}
