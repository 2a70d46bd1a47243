//! Files that programs use without a declaration.

// Other systems do not observe programs.
#![cfg(all(target_os = "linux", not(hamflow_portable)))]

use std::path::Path;

use crate::harness::{Project, Ran};

/// A pipeline of programs by name, each a line of the shell with the output `y`, and of a bystander.
fn programs(stages: &[(&str, &str)]) -> Project {
    let stage = |(name, line): &(&str, &str)| {
        format!(
            "[stages.{name}]\nkind = \"command\"\noutputs = {{ y = {{ type = \"file\", path = \"y.txt\" }} }}\n\
             run = '''{line}'''\n"
        )
    };
    let all: String = [("bystander", "echo b > {outputs.y}")].iter().chain(stages).map(stage).collect();
    Project::builtin(&all)
}

/// Runs with another home directory.
fn run_at_home(project: &Project, home: &Path, arguments: &[&str]) -> Ran {
    let mut command = project.command(arguments);
    command.env("HOME", home);
    Project::finish(command)
}

/// After `change`, exactly the stage `reader` runs again, and `why` says `reason`; then nothing does.
fn assert_reruns(project: &Project, reason: &str, change: impl Fn()) {
    assert_eq!(project.run().ran(), Vec::<String>::new(), "nothing to do before");
    change();
    let why = project.hamflow(&["why", "reader"]);
    assert!(why.stdout.contains(reason), "{reason}: {why:?}");
    assert_eq!(project.run().ran(), ["reader"], "{reason}");
    assert_eq!(project.run().ran(), Vec::<String>::new(), "{reason}: nothing to do after");
}

#[test]
fn a_second_input_that_nobody_declared_reruns_the_stage_that_read_it() {
    let project = programs(&[("reader", "cat hidden.txt > {outputs.y}")]);
    project.write("hidden.txt", "one");
    let ran = project.hamflow(&["run"]);
    // The command names the file, so there is nothing to say.
    assert!(!ran.stderr.contains("not declared"), "{ran:?}");
    assert_reruns(&project, "`hidden.txt`, which is read, changed", || project.write("hidden.txt", "two"));
    assert_eq!(project.read("out/reader/y.txt"), "two");
    // The earlier result is still known.
    project.write("hidden.txt", "one");
    assert_eq!(project.run().with_outcome("cached"), ["reader"]);
    assert_reruns(&project, "`hidden.txt`, which is read, changed", || project.write("hidden.txt", "three"));
}

#[test]
fn the_run_says_once_how_to_declare_a_file() {
    let project = programs(&[("reader", "sh script.sh > {outputs.y}")]);
    project.write("script.sh", "cat config/a.txt config/b.txt");
    project.write("config/a.txt", "a");
    project.write("config/b.txt", "b");
    let ran = project.hamflow(&["run"]);
    let note = "the program reads `config/a.txt`, `config/b.txt`, which are not declared and count as inputs from now on; to declare \
                the first, write `x = \"config/a.txt\"` under `[inputs]` and `inputs = { x = \"inputs.x\" }` in the stage";
    assert!(ran.stderr.contains(note), "{ran:?}");
    project.write("config/a.txt", "more");
    let ran = project.hamflow(&["run"]);
    assert!(ran.stderr.contains("1 ran") && !ran.stderr.contains("not declared"), "{ran:?}");
    // A warning comes each time.
    let warn = ["run", "--set", "stages.reader.undeclared=warn", "--force", "reader"];
    let ran = project.hamflow(&warn);
    assert!(ran.stderr.contains("warning: stage `reader`: the program reads `config/a.txt`"), "{ran:?}");
    let ran = project.hamflow(&["run", "--set", "stages.reader.undeclared=error", "--force", "reader"]);
    let error = "the program reads `config/a.txt`, `config/b.txt`, `script.sh`, but no input declares it";
    assert!(ran.code == 2 && ran.stderr.contains(error), "{ran:?}");
    // How undeclared files are treated is not part of the key.
    assert_eq!(project.run_with(&["--set", "stages.reader.undeclared=warn"]).count("fresh"), 2);
}

#[test]
fn asking_for_the_version_of_a_package_is_no_listing() {
    let project = programs(&[("reader", "python3 scripts/main.py > {outputs.y}")]);
    let script = "import helper, importlib.metadata as m\n\
                  try:\n    m.version('no-such-package')\nexcept m.PackageNotFoundError:\n    print(helper.X)\n";
    project.write("scripts/main.py", script);
    project.write("scripts/helper.py", "X = 1");
    let ran = project.hamflow(&["run"]);
    assert!(!ran.stderr.contains("the program reads `scripts`"), "{ran:?}");
    project.write("scripts/notes.txt", "no module");
    assert_eq!(project.run().ran(), Vec::<String>::new());
    // A listing by the program itself counts.
    let own = "import helper, os\nif os.path.isdir('scripts'):\n    print(helper.X, os.listdir('scripts'))\n";
    project.write("scripts/main.py", own);
    project.run();
    assert_reruns(&project, "the entries of `scripts` changed", || project.write("scripts/more.txt", "x"));
}

#[test]
fn declared_inputs_do_not_count_twice() {
    let text = "[inputs]\nx = \"data/x.txt\"\nall = \"data\"\n[stages.reader]\nkind = \"command\"\n\
                inputs = { x = \"inputs.x\", all = \"inputs.all\" }\noutputs = { y = { type = \"file\" } }\n\
                undeclared = \"error\"\nrun = \"cat {inputs.x} data/other.txt > {outputs.y}; ls {inputs.all} >> {outputs.y}\"\n";
    let project = Project::builtin(text);
    project.write("data/x.txt", "x");
    project.write("data/other.txt", "o");
    project.run();
    let lock = project.read("pipeline.lock");
    assert!(!lock.contains("\tread\t") && lock.contains("reader\treads\t0\n"), "{lock}");
}

#[test]
fn a_helper_module_and_a_new_module_count_and_other_new_files_do_not() {
    let project = programs(&[("reader", "python3 -B scripts/main.py > {outputs.y}")]);
    project.write("scripts/main.py", "import json, helper\nprint(helper.VALUE)\n");
    project.write("scripts/helper.py", "VALUE = 1\n");
    project.run();
    assert_reruns(&project, "`scripts/helper.py`, which is read, changed", || {
        project.write("scripts/helper.py", "VALUE = 22\n")
    });
    project.write("scripts/notes.txt", "no module");
    assert_eq!(project.run().ran(), Vec::<String>::new());
    assert_reruns(&project, "the entries of `scripts` changed: 1 added (+ json.py)", || {
        project.write("scripts/json.py", "")
    });
}

#[test]
fn a_configuration_in_the_home_directory_counts() {
    let project =
        programs(&[("reader", "cat ~/.config/tool.toml > {outputs.y} 2> /dev/null || echo none > {outputs.y}")]);
    let home = tempfile::tempdir().unwrap();
    let run = || run_at_home(&project, home.path(), &["run", "--json"]).ran();
    assert_eq!(run().len(), 2);
    assert_eq!(run(), Vec::<String>::new());
    std::fs::create_dir(home.path().join(".config")).unwrap();
    std::fs::write(home.path().join(".config/tool.toml"), "a = 1").unwrap();
    let why = run_at_home(&project, home.path(), &["why", "reader"]);
    assert!(why.stdout.contains("`~/.config/tool.toml` was not there when it was looked for"), "{why:?}");
    assert_eq!(run(), ["reader"]);
    assert_eq!(run(), Vec::<String>::new());
    std::fs::write(home.path().join(".config/tool.toml"), "a = 22").unwrap();
    assert_eq!(run(), ["reader"]);
    // Another home with the same file is the same.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join(".config")).unwrap();
    std::fs::write(other.path().join(".config/tool.toml"), "a = 22").unwrap();
    assert_eq!(run_at_home(&project, other.path(), &["run", "--json"]).ran(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_found_by_listing_a_folder_counts() {
    let project = programs(&[("reader", "cat data/*.csv > {outputs.y}")]);
    project.write("data/a.csv", "a");
    project.run();
    assert_reruns(&project, "the entries of `data` changed: 1 added (+ b.csv)", || project.write("data/b.csv", "b"));
    assert_reruns(&project, "the entries of `data` changed: 1 removed (- a.csv)", || {
        std::fs::remove_file(project.path("data/a.csv")).unwrap();
    });
}

#[test]
fn a_file_that_appears_while_the_program_runs_reruns_it_once() {
    // The program itself does not make the file: another process does.
    let line = "[ -e extra.txt ] && echo y > {outputs.y} || { echo n > {outputs.y}; touch go; \
                while [ ! -e made ]; do sleep 0.01; done; }";
    let project = programs(&[("reader", &line.replace("{ echo", "{{ echo").replace("; }", "; }}"))]);
    let running = project.start(&["run", "reader"]);
    project.wait_for("go");
    project.write("extra.txt", "x");
    project.write("made", "");
    assert!(running.wait_with_output().unwrap().status.success());
    assert_eq!(project.read("out/reader/y.txt"), "n\n");
    let why = project.hamflow(&["why", "reader"]);
    assert!(why.stdout.contains("`extra.txt` was not there when it was looked for"), "{why:?}");
    assert_eq!(project.run_with(&["reader"]).ran(), ["reader"]);
    assert_eq!((project.read("out/reader/y.txt"), project.run_with(&["reader"]).count("fresh")), ("y\n".to_owned(), 1));
}

#[test]
fn a_file_that_appears_later_or_goes_away_counts() {
    let project =
        programs(&[("reader", "if [ -e extra.txt ]; then echo y > {outputs.y}; else echo n > {outputs.y}; fi")]);
    project.run();
    assert_reruns(&project, "`extra.txt` was not there when it was looked for", || project.write("extra.txt", "x"));
    project.write("extra.txt", "only its presence matters");
    assert_eq!(project.run().ran(), Vec::<String>::new());
    let remove = || std::fs::remove_file(project.path("extra.txt")).unwrap();
    remove();
    assert_eq!(project.run().with_outcome("cached"), ["reader"], "the first result is still known");
}

#[test]
fn what_a_program_makes_itself_is_no_input() {
    let line =
        "cat made.txt 2> /dev/null || true; echo x > made.txt; cat made.txt > {outputs.y}; echo log >> history.txt";
    let project = programs(&[("reader", line)]);
    project.run();
    assert_eq!(project.run().ran(), Vec::<String>::new());
    std::fs::remove_file(project.path("made.txt")).unwrap();
    assert_eq!(project.run().ran(), Vec::<String>::new());
}

#[test]
fn an_output_of_another_stage_must_be_declared() {
    let project = programs(&[("reader", "sleep 0.3; cat out/bystander/y.txt > {outputs.y}")]);
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let error = "the program reads `out/bystander/y.txt`, an output of stage `bystander`, without a declaration";
    assert!(ran.stderr.contains(error) && ran.stderr.contains("inputs = { x = \"bystander\" }"), "{ran:?}");
}

#[test]
fn a_file_that_changes_while_the_program_runs_is_an_error() {
    let project =
        programs(&[("reader", "cat hidden.txt > {outputs.y}; touch ready; while [ -e ready ]; do sleep 0.01; done")]);
    project.write("hidden.txt", "one");
    let run = project.start(&["run"]);
    project.wait_for("ready");
    project.write("hidden.txt", "other");
    std::fs::remove_file(project.path("ready")).unwrap();
    let ran = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && text.contains("hidden.txt"), "{text}");
}

#[test]
fn the_lock_file_knows_what_was_read() {
    let project = programs(&[("reader", "sh script.sh > {outputs.y}")]);
    project.write("script.sh", "cat hidden.txt; test -e none || true");
    project.write("hidden.txt", "one");
    project.run();
    let lock = project.read("pipeline.lock");
    assert!(lock.contains("version\t2\n") && lock.contains("reader\tread\tcontent\thidden.txt\t"), "{lock}");
    assert!(lock.contains("reader\tread\tpresence\tnone\tabsent\n"), "{lock}");
    // Without the memos, as after a fetch from a remote, the lock leads to the result.
    std::fs::remove_dir_all(project.path("cache/memo")).unwrap();
    std::fs::remove_dir_all(project.path("out")).unwrap();
    assert_eq!(project.run().with_outcome("cached").len(), 2);
    let locked = project.hamflow(&["run", "--locked"]);
    assert_eq!(locked.code, 0, "{locked:?}");
    project.write("hidden.txt", "two");
    let locked = project.hamflow(&["run", "--locked"]);
    assert!(locked.code != 0 && locked.stderr.contains("`hidden.txt`, which is read, changed"), "{locked:?}");
}

#[test]
fn observation_can_be_switched_off() {
    let project = programs(&[("reader", "cat hidden.txt > {outputs.y}")]);
    project.write("hidden.txt", "one");
    let off = ["--set", "stages.reader.undeclared=off"];
    project.run_with(&off);
    project.write("hidden.txt", "two");
    assert_eq!(project.run_with(&off).ran(), Vec::<String>::new());
}

#[test]
fn a_file_of_a_command_is_an_input() {
    let project = programs(&[("reader", "sh {file:script.sh} > {outputs.y}")]);
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 2 && ran.stderr.contains("there is no file `script.sh`"), "{ran:?}");
    project.write("script.sh", "echo 1");
    project.run();
    assert_reruns(&project, "`file:script.sh`", || project.write("script.sh", "echo 22"));
    assert!(project.hamflow(&["run", "--set", "stages.reader.undeclared=error", "--force", "reader"]).code == 0);
}

#[test]
fn further_folders_can_be_tracked() {
    let models = tempfile::tempdir().unwrap();
    let file = models.path().canonicalize().unwrap().join("model.bin");
    std::fs::write(&file, "one").unwrap();
    let project = programs(&[("reader", &format!("cat {} > {{outputs.y}}", file.display()))]);
    project.run();
    std::fs::write(&file, "three").unwrap();
    assert_eq!(project.run().ran(), Vec::<String>::new());
    let track = ["--set", &format!("stages.reader.track=[\"{}\"]", models.path().display()), "--force", "reader"];
    project.run_with(&track);
    std::fs::write(&file, "four!").unwrap();
    assert_eq!(project.run_with(&track[..2]).ran(), ["reader"]);
}

#[test]
fn the_log_lists_what_a_program_used() {
    let project = programs(&[("reader", "cat hidden.txt data/*.csv > {outputs.y}; test -e none || true")]);
    project.write("hidden.txt", "one");
    project.write("data/a.csv", "a");
    project.run();
    let ran = project.hamflow(&["log", "--reads", "reader"]);
    let expected = "files that count as inputs, although they are not declared\n  listed                  data\n  read                    \
                    data/a.csv\n  read                    hidden.txt\n  looked for              none\nprograms\n";
    assert!(ran.stdout.starts_with(expected) && ran.stdout.contains("/cat\n"), "{ran:?}");
    let json: serde_json::Value =
        serde_json::from_str(&project.hamflow(&["log", "--reads", "last", "reader", "--json"]).stdout).unwrap();
    assert_eq!(json["tracked"]["none"], "presence");
    let ran = project.hamflow(&["log", "--reads", "nothing"]);
    assert!(ran.code == 2 && ran.stderr.contains("`nothing` is neither a recorded run nor a stage"), "{ran:?}");
}
