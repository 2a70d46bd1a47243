//! The software that programs run with, and what isolated programs see.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Project, Ran};

fn executable(project: &Project, path: &str, text: &str) {
    project.write(path, text);
    std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs with programs of the project's folder `bin`, and with another home directory.
fn with_programs(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.command(arguments);
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("HOME", project.path("home"));
    Project::finish(command)
}

#[test]
fn the_version_of_a_tool_is_in_the_key() {
    let project = Project::builtin(
        "[stages.x]\nkind = \"command\"\ntools = [\"tool --version\"]\noutputs = { y = { type = \"file\" } }\n\
         run = \"tool > {outputs.y}\"\n",
    );
    let tool = |version: &str| executable(&project, "bin/tool", &format!("#!/bin/sh\necho tool\necho {version}\n"));
    let run = |arguments: &[&str]| with_programs(&project, arguments);
    tool("1.0");
    assert_eq!(run(&["run", "--json"]).ran(), ["x"]);
    project.until_sealed(|| drop(run(&["run"])));
    assert_eq!(run(&["run", "--json"]).count("fresh"), 1);
    tool("1.1");
    let why = run(&["why", "x"]);
    assert!(why.stdout.contains("`tool --version`: tool 1.0 → tool 1.1"), "{why:?}");
    assert_eq!(run(&["run", "--json"]).ran(), ["x"]);
    // The earlier result is still known.
    tool("1.0");
    assert_eq!(run(&["run", "--json"]).with_outcome("cached"), ["x"]);
    executable(&project, "bin/tool", "#!/bin/sh\necho broken >&2\nexit 4\n");
    let broken = run(&["run"]);
    assert!(broken.stderr.contains("`tools`: `tool --version` failed (exit status: 4): broken"), "{broken:?}");
    std::fs::remove_file(project.path("bin/tool")).unwrap();
    let missing = run(&["status"]);
    assert!(missing.stdout.contains("`tools`: `tool --version` cannot be started"), "{missing:?}");
}

#[test]
fn a_tool_is_asked_once_in_a_run() {
    let project = Project::builtin(
        "[stages.x]\nkind = \"command\"\ntools = [\"tool --version\"]\nparams = { n = 0 }\nmatrix = { n = [1, 2, 3] }\n\
         outputs = { y = { type = \"file\" } }\nrun = \"echo {params.n} > {outputs.y}\"\n",
    );
    executable(&project, "bin/tool", "#!/bin/sh\necho asked >> \"$HOME/asked\"\necho 1.0\n");
    project.write("home/asked", "");
    assert_eq!(with_programs(&project, &["run", "--json"]).count("ran"), 3);
    assert_eq!(project.read("home/asked"), "asked\n");
}

/// Runs with uv on the path.
fn with_uv(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.command(arguments);
    let path = format!("{}:{}", uv().parent().unwrap().display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    Project::finish(command)
}

/// The uv beside the Python for tests.
fn uv() -> std::path::PathBuf {
    Path::new(&crate::harness::python("sys")).with_file_name("uv")
}

fn lock(project: &Project, version: &str) {
    let text = format!(
        "[project]\nname = \"demo\"\nversion = \"0.1.0\"\nrequires-python = \">=3.9\"\ndependencies = [\"six=={version}\"]\n"
    );
    project.write("pyproject.toml", text);
    let locked = std::process::Command::new(uv()).arg("lock").current_dir(project.root()).output().unwrap();
    assert!(locked.status.success(), "{locked:?}");
}

#[test]
#[ignore = "needs uv"]
fn an_environment_of_uv_is_installed_and_in_the_key() {
    let project = Project::builtin(
        "[stages.x]\nkind = \"command\"\nenvironment = \"uv\"\noutputs = { y = { type = \"file\", path = \"y.txt\" } }\n\
         run = [\"python\", \"x.py\", \"{outputs.y}\"]\n",
    );
    project.write("x.py", "import six, sys\nopen(sys.argv[1], 'w').write(six.__version__)\n");
    let missing = with_uv(&project, &["run"]);
    assert!(missing.code == 2 && missing.stderr.contains("`uv lock` writes it"), "{missing:?}");
    lock(&project, "1.16.0");
    assert_eq!(with_uv(&project, &["run", "--json"]).ran(), ["x"]);
    assert_eq!(project.read("out/x/y.txt"), "1.16.0");
    assert_eq!(with_uv(&project, &["run", "--json"]).count("fresh"), 1);
    let lines = project.read("pipeline.lock");
    assert!(!lines.contains("uv.lock") && !lines.contains(".venv"), "{lines}");
    lock(&project, "1.17.0");
    let why = with_uv(&project, &["why", "x"]);
    assert!(why.stdout.contains("`six`: 1.16.0 → 1.17.0"), "{why:?}");
    assert_eq!(with_uv(&project, &["run", "--json"]).ran(), ["x"]);
    assert_eq!(project.read("out/x/y.txt"), "1.17.0");
    // The lock file is older than the project.
    project.write("pyproject.toml", project.read("pyproject.toml").replace("1.17.0", "1.16.0"));
    let stale = with_uv(&project, &["run", "--force", "x"]);
    assert!(stale.stderr.contains("`uv sync --locked` failed") && stale.stderr.contains("run `uv lock`"), "{stale:?}");
}

#[test]
fn an_environment_of_conda_is_on_the_path_and_in_the_key() {
    let project = Project::builtin(
        "[stages.x]\nkind = \"command\"\nenvironment = { conda = \"env\" }\noutputs = { y = { type = \"file\", path = \"y.txt\" } }\n\
         run = \"tool > {outputs.y}; echo $CONDA_PREFIX >> {outputs.y}\"\n",
    );
    let missing = project.hamflow(&["run"]);
    assert!(missing.stderr.contains("there is no environment `env` of conda"), "{missing:?}");
    // As conda lays them out: a file per package, and the metadata of what pip installed.
    project.write("env/conda-meta/python-3.11.9-h955ad1f_0.json", "{}");
    project.write("env/conda-meta/history", "");
    project.write("env/lib/python3.11/site-packages/six-1.16.0.dist-info/METADATA", "");
    executable(&project, "env/bin/tool", "#!/bin/sh\necho tool\n");
    assert_eq!(project.run().ran(), ["x"]);
    assert_eq!(
        project.read("out/x/y.txt"),
        format!("tool\n{}\n", project.root().canonicalize().unwrap().join("env").display())
    );
    assert_eq!(project.run().count("fresh"), 1);
    let meta = project.path("env/conda-meta");
    std::fs::rename(meta.join("python-3.11.9-h955ad1f_0.json"), meta.join("python-3.12.4-h5148396_1.json")).unwrap();
    let why = project.hamflow(&["why", "x"]);
    assert!(why.stdout.contains("`python`: 3.11.9 (h955ad1f_0) → 3.12.4 (h5148396_1)"), "{why:?}");
    // By its name, below a root of conda.
    let root = project.root().display().to_string();
    std::fs::create_dir(project.path("envs")).unwrap();
    std::fs::rename(project.path("env"), project.path("envs/named")).unwrap();
    project.write("pipeline.toml", project.read("pipeline.toml").replace("\"env\"", "\"named\""));
    let mut command = project.command(&["run", "--json"]);
    command.env("MAMBA_ROOT_PREFIX", root);
    assert_eq!(Project::finish(command).ran(), ["x"]);
}

/// A stand-in for Docker that runs programs here and keeps its arguments.
const ENGINE: &str = r#"#!/bin/sh
printf '%s\n' "$@" > "$HOME/arguments"
case "$1" in
  image) [ -f "$HOME/image" ] || { echo "no such image"; exit 1; }; cat "$HOME/image"; exit 0 ;;
  rm) exit 0 ;;
esac
while [ "$1" != local/image:1 ]; do
  case "$1" in --workdir) cd "$2"; shift ;; --env) export "$2"; shift ;; esac
  shift
done
shift
exec "$@"
"#;

#[test]
fn a_container_runs_with_the_digest_of_its_image_in_the_key() {
    let project = Project::builtin(
        "[stages.x]\nkind = \"command\"\nenvironment = { container = \"local/image:1\" }\nparams = { n = 3 }\n\
         outputs = { y = { type = \"file\", path = \"y.txt\" } }\n\
         run = [\"sh\", \"-c\", \"pwd > {outputs.y}; cat $HAMFLOW_PARAMS >> {outputs.y}\"]\n",
    );
    executable(&project, "bin/docker", ENGINE);
    project.write("home/.keep", "");
    let missing = with_programs(&project, &["run"]);
    assert!(missing.stderr.contains("get the image first: `docker pull local/image:1`"), "{missing:?}");
    project.write("home/image", "sha256:1111");
    assert_eq!(with_programs(&project, &["run", "--json"]).ran(), ["x"]);
    let root = project.root().canonicalize().unwrap();
    assert_eq!(project.read("out/x/y.txt"), format!("{}\n{{\"n\":3}}", root.display()));
    let arguments = project.read("home/arguments");
    assert!(arguments.starts_with("rm\n--force\nhamflow-"), "{arguments}");
    assert_eq!(with_programs(&project, &["run", "--json"]).count("fresh"), 1);
    project.write("home/image", "sha256:2222");
    let why = with_programs(&project, &["why", "x"]);
    assert!(why.stdout.contains("`image`: sha256:1111 → sha256:2222"), "{why:?}");
    // Isolated, its project is the working folder of the job.
    let isolated = ["run", "--json", "--set", "stages.x.isolate=true"];
    assert_eq!(with_programs(&project, &isolated).ran(), ["x"]);
    assert!(project.read("out/x/y.txt").contains("/hamflow-isolated-"));
}

/// A stand-in for Apptainer that runs programs here and keeps its arguments.
const APPTAINER: &str = r#"#!/bin/sh
printf '%s\n' "$@" > "$HOME/arguments"
while [ "${1%.sif}" = "$1" ]; do
  case "$1" in --pwd) cd "$2"; shift ;; --env) export "$2"; shift ;; esac
  shift
done
shift
exec "$@"
"#;

#[test]
fn a_container_in_a_file_is_an_input() {
    let project = Project::builtin(
        "[stages.x]\nkind = \"command\"\nenvironment = { container = \"image.sif\" }\n\
         outputs = { y = { type = \"file\", path = \"y.txt\" } }\nrun = [\"sh\", \"-c\", \"pwd > {outputs.y}\"]\n",
    );
    executable(&project, "bin/apptainer", APPTAINER);
    project.write("home/.keep", "");
    project.write("image.sif", "one");
    assert_eq!(with_programs(&project, &["run", "--json"]).ran(), ["x"]);
    let root = project.root().canonicalize().unwrap().display().to_string();
    assert_eq!(project.read("out/x/y.txt"), format!("{root}\n"));
    assert!(
        project
            .read("home/arguments")
            .starts_with(&format!("exec\n--cleanenv\n--pwd\n{root}\n--bind\n{root}:{root}\n"))
    );
    assert_eq!(with_programs(&project, &["run", "--json"]).count("fresh"), 1);
    project.write("image.sif", "two");
    assert_eq!(with_programs(&project, &["run", "--json"]).ran(), ["x"]);
}

#[test]
fn mistakes_in_environments_name_the_way_out() {
    let stage = "[stages.x]\nkind = \"command\"\noutputs = { y = { type = \"file\" } }\nrun = \"true\"\n";
    for (line, expected) in [
        ("environment = \"venv\"", "expected `\"uv\"`, or a table with `uv`, `conda` or `container`"),
        ("environment = {}", "`environment` must name one environment"),
        ("environment = { uv = \".\", conda = \"x\" }", "`environment` must name one environment"),
        ("environment = { container = \"x.sif\" }", "there is no file `x.sif`"),
    ] {
        let project = Project::builtin(&format!("{stage}{line}\n"));
        let ran = project.hamflow(&["run"]);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{line}: {ran:?}");
    }
}

/// Runs with another home directory.
#[cfg(all(target_os = "linux", not(hamflow_portable)))]
fn at_home(project: &Project, home: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.command(arguments);
    command.env("HOME", home.root());
    Project::finish(command)
}

/// A pipeline of isolated programs by name, each a line of the shell with the input `data` and the output `y`.
#[cfg(all(target_os = "linux", not(hamflow_portable)))]
fn isolated(stages: &[(&str, &str)]) -> (Project, Project) {
    let stage = |(name, line): &(&str, &str)| {
        format!(
            "[stages.{name}]\nkind = \"command\"\nisolate = true\ninputs = {{ data = \"inputs.data\", script = \"inputs.script\" }}\n\
             outputs = {{ y = {{ type = \"file\", path = \"y.txt\" }} }}\nrun = '''{line}'''\n"
        )
    };
    let stages: String = stages.iter().map(stage).collect();
    let project = Project::builtin(&format!("[inputs]\ndata = \"data\"\nscript = \"src/run.sh\"\n{stages}"));
    project.write("data/a.txt", "a");
    project.write("src/run.sh", "cat data/a.txt; cat $(dirname $0)/helper.txt");
    project.write("src/helper.txt", "h");
    project.write("config.txt", "c");
    let home = Project::builtin("");
    home.write("settings.txt", "s");
    (project, home)
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
#[test]
#[ignore = "needs Landlock"]
fn an_isolated_program_sees_only_its_declared_inputs() {
    let (project, home) = isolated(&[
        ("writes", "[ -e config.txt ] || echo own > config.txt; cat config.txt > {outputs.y}"),
        ("declared", "cat {inputs.data}/a.txt data/a.txt > {outputs.y}; echo t > t.txt; cat t.txt >> {outputs.y}"),
        ("relative", "cat config.txt > {outputs.y}"),
        ("absolute", "cat \"$TMPDIR/../../../../config.txt\" > {outputs.y}"),
        ("at_home", "cat ~/settings.txt > {outputs.y} || echo none > {outputs.y}"),
        ("beside", "sh {inputs.script} > {outputs.y}"),
        ("upwards", "[ -e ../pipeline.toml ] || [ -e ../../pipeline.toml ] || echo none > {outputs.y}"),
        ("listing", "ls \"$TMPDIR/../../../..\" > {outputs.y} || echo none > {outputs.y}"),
    ]);
    let run = |arguments: &[&str]| at_home(&project, &home, arguments);
    let ran = run(&["run", "--json", "--keep-going"]);
    let mut done = ran.ran();
    done.sort();
    assert_eq!(done, ["declared", "listing", "upwards", "writes"], "{ran:?}");
    assert_eq!(project.read("out/listing/y.txt"), "none\n");
    assert_eq!(project.read("out/declared/y.txt"), "aat\n");
    let error = |stage: &str, what: &str| {
        let ran = run(&["run", stage]);
        let expected = format!("the program reads `{what}`, but no input declares it, so `isolate` hides it");
        assert!(ran.code != 0 && ran.stderr.contains(&expected), "{stage}: {ran:?}");
    };
    error("relative", "config.txt");
    error("absolute", "config.txt");
    error("at_home", "~/settings.txt");
    error("beside", "src/helper.txt");
    assert!(!project.path("t.txt").exists());
    // Nothing is in the key but what is declared.
    let lock = project.read("pipeline.lock");
    assert!(lock.contains("declared\treads\t0\n"), "{lock}");
    assert!(lock.contains("upwards\treads\t0\n") && !lock.contains("job-"), "{lock}");
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
#[test]
#[ignore = "needs Landlock"]
fn an_isolated_program_cannot_write_to_the_project() {
    let (project, home) = isolated(&[("x", "echo y > {outputs.y}; echo new > {inputs.data}/a.txt")]);
    let ran = at_home(&project, &home, &["run"]);
    assert!(ran.code == 1 && ran.stderr.contains("Permission denied"), "{ran:?}");
    assert_eq!(project.read("data/a.txt"), "a");
    // Each attempt begins with the declared inputs only.
    let line = "[ ! -e left.txt ] && echo y > {outputs.y}; touch left.txt; [ -e $TMPDIR/../../../tried ] || exit 1";
    let (project, home) = isolated(&[("x", line)]);
    let ran = at_home(&project, &home, &["run", "--set", "stages.x.retries=2"]);
    assert!(ran.stderr.contains("attempt 2 of 3"), "{ran:?}");
}
