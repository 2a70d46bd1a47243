//! Stages on a cluster: a real Slurm, which `tests/check.sh` starts.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Project, Ran};

pub const EXECUTOR: &str = "[executors.cluster]\nkind = \"slurm\"\nrecord_wait = \"1s\"\nmax_jobs = 3\n";

/// A pipeline of one program on the cluster, a line of the shell with the output `y`.
pub fn program(line: &str) -> Project {
    Project::builtin(&format!(
        "{EXECUTOR}[stages.x]\nkind = \"command\"\nexecutor = \"cluster\"\nresources = {{ memory = \"100MB\", time = \"5m\" }}\n\
         outputs = {{ y = {{ type = \"file\", path = \"y.txt\" }} }}\nrun = '''{line}'''\n"
    ))
}

/// What a command of Slurm prints.
pub fn slurm(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The number of the array of the stage `x` of a run that has been started.
pub fn array_of(process: u32) -> String {
    array_of_stage(process, "x")
}

fn array_of_stage(process: u32, stage: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let jobs = slurm("squeue", &["--noheader", "--format=%F|%j"]);
        let of_run = |line: &str| {
            let (number, name) = line.split_once('|')?;
            let is_own = name.starts_with(&format!("hamflow-{process}-")) && name.contains(&format!("-{stage}-"));
            is_own.then(|| number.trim().to_owned())
        };
        if let Some(number) = jobs.lines().find_map(of_run) {
            return number;
        }
        assert!(Instant::now() < deadline, "no job of process {process}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "needs Slurm"]
fn parts_and_programs_make_the_same_bytes_on_a_cluster() {
    let pipeline = "[stages.synthetic]\nimages = 180\n[stages.metadata]\ncsv = \"synthetic.metadata\"\nimages = \"synthetic.images\"\n\
                    [stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\npart_size = 16\n";
    let local = Project::builtin(pipeline);
    local.run();
    let on_cluster = pipeline.replace("part_size", "executor = \"cluster\"\nresources = { cpus = 1 }\npart_size");
    let cluster = Project::builtin(&format!("{EXECUTOR}{on_cluster}"));
    let ran = cluster.run();
    assert!(ran.count("parts_ran") > 3, "{ran:?}");
    assert!(cluster.files("out/preprocess") == local.files("out/preprocess"), "the same bytes");
    let log = cluster.hamflow(&["log", "preprocess"]).stdout;
    assert!(log.contains(" was submitted to `cluster` with "), "{log}");
    // Where a stage runs is not part of its key.
    assert_eq!(cluster.run_with(&["--executor", "local"]).count("fresh"), 3);
    let forced = cluster.run_with(&["--executor", "local", "--force", "preprocess"]);
    assert_eq!(forced.ran(), ["preprocess"]);
    assert!(!cluster.path("cache/tmp").exists());
}

#[test]
#[ignore = "needs Slurm"]
fn a_task_that_was_cancelled_or_killed_is_submitted_again() {
    // The worker is the parent of the shell.
    let project = program("if [ ! -e killed ]; then touch killed; kill -9 $PPID; fi; echo y > {outputs.y}");
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 0 && ran.stderr.contains("_0 was lost: "), "{ran:?}");
    assert_eq!(project.read("out/x/y.txt"), "y\n");

    // What the first attempt leaves is not in the way of the second.
    let folder = "mkdir -p {outputs.y}; mkdir {outputs.y}/a; if [ ! -e killed ]; then touch killed; kill -9 $PPID; fi; echo y > {outputs.y}/a/y";
    let project = program(folder);
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", text.replace("{ type = \"file\", path = \"y.txt\" }", "{ type = \"folder\" }"));
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 0 && ran.stderr.contains("_0 was lost: "), "{ran:?}");
    assert_eq!(project.read("out/x/y/a/y"), "y\n");

    let project = program("touch started; if [ ! -e go ]; then sleep 300; fi; echo y > {outputs.y}");
    let running = project.start(&["run"]);
    project.wait_for("started");
    let array = array_of(running.id());
    project.write("go", "");
    slurm("scancel", &[&array]);
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("it was ended (CANCELLED); it is submitted again as"), "{said}");
    assert_eq!(project.read("out/x/y.txt"), "y\n");
}

#[test]
#[ignore = "needs Slurm"]
fn an_interrupted_run_cancels_its_jobs() {
    let project = program("touch started; sleep 300; echo y > {outputs.y}");
    let running = project.start(&["run"]);
    project.wait_for("started");
    let array = array_of(running.id());
    let interrupted = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(running.wait_with_output().unwrap().status.code(), Some(130));
    wait_until_gone(&array);
    assert!(!project.path("cache/tmp").exists());
}

/// A program that waits for the file `go`.
const WAITS: &str = "touch started; while [ ! -e go ]; do sleep 0.2; done; echo y > {outputs.y}";

/// Waits until Slurm no longer has a task of an array.
pub fn wait_until_gone(array: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while slurm("squeue", &["--noheader", "--format=%F"]).lines().any(|line| line.trim() == array) {
        assert!(Instant::now() < deadline, "job {array} is still there");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts a run of [`WAITS`] and kills it while its job runs. Returns the array.
fn killed_run(project: &Project) -> String {
    let running = project.start(&["run"]);
    project.wait_for("started");
    let array = array_of(running.id());
    assert!(Command::new("kill").args(["-KILL", &running.id().to_string()]).status().unwrap().success());
    running.wait_with_output().unwrap();
    array
}

#[test]
#[ignore = "needs Slurm"]
fn a_run_goes_on_with_the_jobs_of_one_that_was_killed() {
    let project = program(WAITS);
    let array = killed_run(&project);
    let next = project.start(&["run"]);
    std::thread::sleep(Duration::from_secs(1));
    project.write("go", "");
    assert!(next.wait_with_output().unwrap().status.success());
    assert_eq!(project.read("out/x/y.txt"), "y\n");
    let log = project.hamflow(&["log", "x"]).stdout;
    assert!(log.contains(&format!("goes on as task {array}_0, which an earlier run submitted")), "{log}");
    let folder = std::fs::read_dir(project.path("cache/executors/cluster")).unwrap();
    let left: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).filter(|name| name != "probed").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "needs Slurm"]
fn jobs_that_nobody_needs_any_more_are_cancelled() {
    let project = program(WAITS);
    let array = killed_run(&project);
    // Another program: what is in the queue makes a result that nobody asks for.
    let text = project.read("pipeline.toml");
    project.write(
        "pipeline.toml",
        text.replace("touch started; while", "echo other; exit 0; while")
            .replace("exit 0; while", "echo y > {outputs.y}; exit 0; while"),
    );
    assert_eq!(project.run().ran(), ["x"]);
    wait_until_gone(&array);
}

#[test]
#[ignore = "needs Slurm"]
fn a_detached_run_leaves_its_jobs_and_the_next_one_goes_on_with_them() {
    let project = program(WAITS);
    let ran = project.hamflow(&["run", "--detach"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("detached after") && ran.stderr.contains("1 job left in the queue"),
        "{ran:?}"
    );
    project.wait_for("started");
    let status = project.hamflow(&["status"]).stdout;
    let task = status.lines().find(|line| line.contains("task ")).unwrap_or_else(|| panic!("{status}"));
    assert!(task.contains("_0: RUNNING on ") && task.contains("1 job, for "), "{status}");
    assert!(project.hamflow(&["log", "last"]).stdout.contains("queued   x"));
    // Still nothing to do but to wait.
    let ran = project.hamflow(&["run", "--detach"]);
    assert!(ran.code == 0 && ran.stderr.contains("1 job left in the queue"), "{ran:?}");
    // A run of another stage leaves it alone, and it is not started again.
    project.write("go", "");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !project.hamflow(&["status"]).stdout.contains(": ended on ") {
        assert!(Instant::now() < deadline, "{}", project.hamflow(&["status"]).stdout);
    }
    std::fs::remove_file(project.path("started")).unwrap();
    let ran = project.hamflow(&["run", "--detach"]);
    assert!(ran.code == 0 && ran.stderr.contains("ran      x"), "{ran:?}");
    assert!(!project.path("started").exists(), "the program ran once");
    assert_eq!(project.read("out/x/y.txt"), "y\n");
}

#[test]
#[ignore = "needs Slurm"]
fn an_interrupted_run_can_leave_its_jobs() {
    let project = program(WAITS);
    let running = project.start(&["run", "--on-interrupt", "leave"]);
    project.wait_for("started");
    let array = array_of(running.id());
    assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(130) && said.contains("1 job left in the queue"), "{said}");
    project.write("go", "");
    assert_eq!(project.run().ran(), ["x"]);
    let log = project.hamflow(&["log", "x"]).stdout;
    assert!(log.contains(&format!("goes on as task {array}_0")), "{log}");
}

#[test]
#[ignore = "needs Slurm"]
fn parts_of_a_killed_run_are_not_made_again() {
    let pipeline = "[stages.synthetic]\nimages = 180\n[stages.metadata]\ncsv = \"synthetic.metadata\"\n\
                    images = \"synthetic.images\"\n[stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\n\
                    part_size = 16\nexecutor = \"cluster\"\n";
    let project = Project::builtin(&format!("{EXECUTOR}{pipeline}"));
    // The tasks are held, so the run waits when it is killed.
    let options = "kind = \"slurm\"\narguments = [\"--hold\"]";
    project.write("pipeline.toml", project.read("pipeline.toml").replace("kind = \"slurm\"", options));
    assert_eq!(project.hamflow(&["run", "metadata"]).code, 0);
    // No probe could run either.
    let probed = Project::builtin(&format!("{EXECUTOR}{pipeline}"));
    probed.run();
    project.write("cache/executors/cluster/probed", probed.read("cache/executors/cluster/probed"));
    let ran = project.hamflow(&["run", "--detach"]);
    assert!(ran.code == 0 && ran.stderr.contains("jobs left in the queue"), "{ran:?}");
    let status = project.hamflow(&["status"]).stdout;
    assert_eq!(status.matches("PENDING (JobHeldUser)").count(), 3, "{status}");
    let ids: Vec<&str> =
        status.lines().filter_map(|line| line.trim().strip_prefix("task ")?.split(':').next()).collect();
    let array = ids[0].split('_').next().unwrap();
    slurm("scontrol", &["release", array]);
    // The next run has no use for the option, since it submits nothing.
    let ran = project.run();
    assert_eq!(ran.ran(), ["preprocess"]);
    let log = project.hamflow(&["log", "preprocess"]).stdout;
    assert!(!log.contains(" was submitted to "), "{log}");
    assert!(project.files("out/preprocess") == probed.files("out/preprocess"), "the same bytes");
}

#[test]
#[ignore = "needs Slurm"]
fn a_submission_that_failed_but_was_accepted_is_not_repeated() {
    let project = program("echo y >> count; echo y > {outputs.y}");
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    let submit = format!(
        "#!/bin/sh\n{} \"$@\"\necho 'sbatch: error: Batch job submission failed: Socket timed out' >&2\nexit 1\n",
        sbatch.trim()
    );
    let ran = with_programs(&project, &[("sbatch", &submit)]);
    assert!(ran.code == 0, "{ran:?}");
    assert_eq!(project.read("count"), "y\n");
}

#[test]
#[ignore = "needs Slurm"]
fn a_node_that_lacks_the_cache_or_hamflow_is_found_before_anything_is_submitted() {
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    let change = |what: &str| format!("#!/bin/sh\nsed -E \"{what}\" | {} \"$@\"\n", sbatch.trim());
    for (what, expected) in [
        ("s#test -d '[^']*'#test -d /nowhere#", "a node of `cluster` does not see the cache"),
        ("s#test -x '[^']*'#test -x /nowhere#", "a node of `cluster` does not have hamflow at"),
    ] {
        let project = program("touch ran; echo y > {outputs.y}");
        let ran = with_programs(&project, &[("sbatch", &change(what))]);
        assert!(ran.code == 2 && ran.stderr.contains(expected) && !project.path("ran").exists(), "{ran:?}");
    }
}

#[test]
#[ignore = "needs Slurm"]
fn a_task_may_be_killed_while_or_after_it_writes_its_record() {
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    for cut in ["true", "truncate --size=-20 \\2/events-0.jsonl"] {
        let project = program("echo y >> count; echo y > {outputs.y}");
        let script = format!(
            "s#^exec (.*) worker --tasks ('[^']*') --index (.*)#\\1 worker --tasks \\2 --index \\3; case \\2 in *batch*) \
             if [ ! -e \\2/cut ]; then touch \\2/cut; {cut}; kill -9 \\$\\$; fi;; esac#"
        );
        let ran = with_programs(
            &project,
            &[("sbatch", &format!("#!/bin/sh\nsed -E \"{script}\" | {} \"$@\"\n", sbatch.trim()))],
        );
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(project.read("out/x/y.txt"), "y\n");
        // A whole record counts, also of a task that was killed; half of one does not, if it was not read before.
        let lost = ran.stderr.contains("was lost: ");
        assert_eq!(project.read("count").lines().count(), 1 + usize::from(lost), "{ran:?}");
        assert!(!lost || cut != "true", "{ran:?}");
    }
}

#[test]
#[ignore = "needs Slurm"]
fn an_attempt_that_is_given_up_is_cancelled() {
    // Once, Slurm says that it has no jobs, while the first attempt runs.
    let project = program(
        "echo begins >> count; n=$(grep -c begins count); sleep 12; echo $n ends >> count; echo y > {outputs.y}",
    );
    let squeue = slurm("sh", &["-c", "command -v squeue"]);
    let wrong = format!(
        "#!/bin/sh\n[ ! -e count ] || [ -e asked ] || {{ touch asked; exit 0; }}\nexec {} \"$@\"\n",
        squeue.trim()
    );
    let ran = with_programs(&project, &[("squeue", &wrong)]);
    assert!(ran.code == 0 && ran.stderr.contains("was lost: the batch system no longer has it"), "{ran:?}");
    assert_eq!(project.read("count"), "begins\nbegins\n2 ends\n");
}

#[test]
#[ignore = "needs Slurm"]
fn each_partition_is_probed() {
    let project = program("echo y > {outputs.y}");
    let text = project.read("pipeline.toml");
    let other = text.split_once("[stages.x]").unwrap().1.replace("echo y", "echo z");
    let other = other.replace("time = \"5m\"", "partition = \"patient\"");
    project.write("pipeline.toml", format!("{text}[stages.z]{other}"));
    let arrays = submitted_arrays(&project, &[]);
    assert_eq!(arrays, ["--array=0"; 4], "a probe and a task in each partition");
    let probed = project.read("cache/executors/cluster/probed");
    let partitions: std::collections::BTreeSet<&str> =
        probed.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(partitions, ["", "patient"].into());
    assert_eq!(submitted_arrays(&project, &[]).len(), 4, "nothing is to be done");
}

#[test]
#[ignore = "needs Slurm"]
fn a_record_may_appear_late() {
    // The events are written elsewhere and appear 30 s after the job has ended, which is asked about meanwhile.
    let project = program("echo y >> count; echo y > {outputs.y}");
    project
        .write("pipeline.toml", project.read("pipeline.toml").replace("record_wait = \"1s\"", "record_wait = \"90s\""));
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    // In a session of its own, which Slurm does not end with the job.
    let script = "s#^exec (.*) worker --tasks ('[^']*') --index (.*)#\\1 worker --tasks \\2 --index \\3; case \\2 in *batch*) \
                  mv \\2/events-0.jsonl \\2/late; setsid sh -c \\\"touch \\2/begun; sleep 30; mv \\2/late \\2/events-0.jsonl\\\" \
                  < /dev/null > /dev/null 2>\\&1 \\& while [ ! -e \\2/begun ]; do sleep 0.1; done;; esac#";
    let late = format!("#!/bin/sh\nsed -E \"{script}\" | {} \"$@\"\n", sbatch.trim());
    let started = Instant::now();
    let ran = with_programs(&project, &[("sbatch", &late)]);
    assert!(ran.code == 0 && !ran.stderr.contains("lost"), "{ran:?}");
    assert!(started.elapsed() > Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(project.read("count"), "y\n");
}

/// Writes programs into the project's folder `bin`.
pub fn write_programs(project: &Project, programs: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    for (name, text) in programs.iter().filter(|(name, _)| !project.path(&format!("bin/{name}")).exists()) {
        let path = format!("bin/{name}");
        project.write(&path, text);
        std::fs::set_permissions(project.path(&path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs with programs of the project's folder `bin` in front of all others.
pub fn with_programs(project: &Project, programs: &[(&str, &str)]) -> Ran {
    write_programs(project, programs);
    Project::finish(run_with_own_programs(project))
}

/// `hamflow run` with the programs of the project's folder `bin` in front of all others.
pub fn run_with_own_programs(project: &Project) -> Command {
    let mut command = project.command(&["run"]);
    command.env("PATH", format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap()));
    command
}

#[test]
#[ignore = "needs Slurm"]
fn records_decide_even_if_slurm_does_not_answer_or_is_wrong() {
    let project = program("sleep 7; echo y > {outputs.y}");
    let ran = with_programs(&project, &[("squeue", "#!/bin/sh\necho slurm_load_jobs error >&2\nexit 1\n")]);
    assert!(ran.code == 0 && !ran.stderr.contains("lost"), "{ran:?}");
    let project = program("sleep 8; echo y > {outputs.y}");
    let started = Instant::now();
    // Longer than the job waits for those of other tests.
    let ran = with_programs(&project, &[("squeue", "#!/bin/sh\nsleep 200\n")]);
    assert!(ran.code == 0 && started.elapsed() < Duration::from_secs(190), "{:?}: {ran:?}", started.elapsed());
    // A job that Slurm has not listed yet, and whose record comes in time.
    let project = program("sleep 6; echo y > {outputs.y}");
    project.write("pipeline.toml", project.read("pipeline.toml").replace("1s", "30s"));
    let ran = with_programs(&project, &[("squeue", "#!/bin/sh\n")]);
    assert!(ran.code == 0 && !ran.stderr.contains("lost"), "{ran:?}");
}

#[test]
#[ignore = "needs Slurm"]
fn an_array_is_not_larger_than_slurm_allows() {
    let pipeline = "[stages.synthetic]\nimages = 180\n[stages.metadata]\ncsv = \"synthetic.metadata\"\n\
                    images = \"synthetic.images\"\n[stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\n\
                    part_size = 16\nexecutor = \"cluster\"\n";
    let project = Project::builtin(&format!("{EXECUTOR}{pipeline}"));
    // The largest index is one less.
    let arrays = submitted_arrays(&project, &[("scontrol", "#!/bin/sh\necho 'MaxArraySize = 3'\n")]);
    assert_eq!(arrays, ["--array=0", "--array=0-1"], "a probe, and one array");
}

/// Runs, and returns the arrays that were submitted.
fn submitted_arrays(project: &Project, programs: &[(&str, &str)]) -> Vec<String> {
    let log = project.path("sbatch.txt").display().to_string();
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    let submit = format!("#!/bin/sh\necho \"$@\" >> '{log}'\nexec {} \"$@\"\n", sbatch.trim());
    let ran = with_programs(project, &[programs, &[("sbatch", &submit)]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let arguments = project.read("sbatch.txt");
    arguments.split_whitespace().filter(|word| word.starts_with("--array=")).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs Slurm"]
fn instances_of_a_stage_are_submitted_together() {
    let project = program("echo {params.n} > {outputs.y}");
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", format!("{text}params = {{ n = 0 }}\nmatrix = {{ n = [1, 2, 3, 4, 5, 6] }}\n"));
    assert_eq!(submitted_arrays(&project, &[]), ["--array=0", "--array=0-2"], "a probe, and one array");
    for n in 1..=6 {
        assert_eq!(project.read(&format!("out/x[n={n}]/y.txt")), format!("{n}\n"));
        let log = project.hamflow(&["log", &format!("x[n={n}]")]).stdout;
        assert_eq!(log.matches(" was submitted to `cluster` with 2 jobs").count(), 1, "{log}");
    }
}

#[test]
#[ignore = "needs Slurm"]
fn what_slurm_refuses_is_said_in_its_words() {
    let project = program("echo y > {outputs.y}");
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", text.replace("max_jobs = 3", "partition = \"nope\""));
    let ran = project.hamflow(&["run"]);
    let expected = "error: stage `x`: `sbatch` failed: invalid partition specified: nope";
    assert!(ran.code == 2 && ran.stderr.contains(expected), "{ran:?}");
    project.write("pipeline.toml", text.replace("100MB", "9TB"));
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 2 && ran.stderr.contains("`sbatch` failed: "), "{ran:?}");
    let fails = program("echo last words; exit 3");
    let ran = fails.hamflow(&["run"]);
    assert!(ran.code == 1 && ran.stderr.contains("`sh` ended with exit status 3\n  | last words"), "{ran:?}");
}

/// A pipeline of parts on an executor.
fn parts(executor: &str) -> String {
    format!(
        "{executor}[stages.synthetic]\nimages = 180\n[stages.metadata]\ncsv = \"synthetic.metadata\"\n\
         images = \"synthetic.images\"\n[stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\n\
         part_size = 16\n{}",
        if executor.is_empty() { "" } else { "executor = \"cluster\"\n" }
    )
}

#[test]
#[ignore = "needs Slurm"]
fn memory_that_was_too_little_is_named_or_grows() {
    // This Slurm has no cgroups, so it never says so itself.
    let project = program("sleep 20; echo y > {outputs.y}");
    let squeue = slurm("sh", &["-c", "command -v squeue"]);
    let says = format!("#!/bin/sh\n{} \"$@\" | sed 's/RUNNING/OUT_OF_MEMORY/'\n", squeue.trim());
    let ran = with_programs(&project, &[("squeue", &says)]);
    let expected = "it needed more memory than `resources` asks for (100.0 MB)";
    assert!(ran.code == 1 && ran.stderr.contains(expected), "{ran:?}");

    let project = program("if [ ! -e second ]; then touch second; sleep 60; fi; echo y > {outputs.y}");
    project.write("pipeline.toml", project.read("pipeline.toml").replace("max_jobs = 3", "memory_retry = 1.5"));
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    let log = project.path("sbatch.txt").display().to_string();
    let submit = format!("#!/bin/sh\necho \"$@\" >> '{log}'\nexec {} \"$@\"\n", sbatch.trim());
    let ran = with_programs(&project, &[("squeue", &says), ("sbatch", &submit)]);
    assert!(
        ran.code == 0 && ran.stderr.contains("was lost: it needed more memory; it is submitted again as"),
        "{ran:?}"
    );
    let arguments = project.read("sbatch.txt");
    let memory: Vec<&str> = arguments.split_whitespace().filter(|word| word.starts_with("--mem=")).collect();
    assert_eq!(memory, ["--mem=96M", "--mem=144M"], "100 MB, and 150 MB");
}

#[test]
#[ignore = "needs Slurm"]
fn a_training_goes_on_in_another_task_when_its_time_is_nearly_over() {
    goes_on_in_another_task(|pipeline| (Project::builtin(&format!("{EXECUTOR}{pipeline}")), None));
}

pub fn goes_on_in_another_task(project: impl Fn(&str) -> (Project, Option<tempfile::TempDir>)) {
    let pipeline = "[stages.synthetic]\nimages = 120\n[stages.metadata]\ncsv = \"synthetic.metadata\"\nimages = \"synthetic.images\"\n\
                    [stages.split]\ntable = \"metadata\"\nimages = \"synthetic.images\"\n\
                    [stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\nheight = 24\nwidth = 32\n\
                    [stages.train]\nshards = \"preprocess\"\nsplit = \"split\"\nepochs = 40\n";
    let local = Project::builtin(pipeline);
    local.run();
    let (cluster, _remote) = project(&format!("{pipeline}executor = \"cluster\"\nresources = {{ time = \"5m\" }}\n"));
    let running = Project::spawn(run_with_own_programs(&cluster));
    let array = array_of_stage(running.id(), "train");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.hamflow(&["log", "last", "train"]).stdout.contains("epoch 2/40") {
        assert!(Instant::now() < deadline, "the training does not begin");
    }
    // The notice that Slurm gives 90 s before the end.
    slurm("scancel", &["--signal=USR2", "--batch", &array]);
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && !said.contains("was lost"), "{said}");
    let log = cluster.hamflow(&["log", "train"]).stdout;
    assert!(log.contains(" has left before its time was over; "), "{log}");
    assert!(log.contains("training resumes from the checkpoint of epoch "), "{log}");
    assert!(cluster.files("out/train/model") == local.files("out/train/model"), "the same bytes");
}

#[test]
#[ignore = "needs Slurm"]
fn a_task_of_a_failed_node_goes_to_another_one() {
    let project = program(WAITS);
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", text.replace("max_jobs = 3", "partition = \"fragile\""));
    let running = project.start(&["run"]);
    project.wait_for("started");
    let array = array_of(running.id());
    let node = slurm("squeue", &["--noheader", "--format=%N", &format!("--jobs={array}")]);
    let node = node.trim();
    // The daemon and the job, as if the power had gone.
    let configuration = std::path::PathBuf::from(std::env::var("SLURM_CONF").unwrap());
    let pid = std::fs::read_to_string(configuration.with_file_name(format!("slurmd-{node}.pid"))).unwrap();
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    let tasks = format!("worker --tasks {}", project.root().display());
    for processes in [format!("slurmstepd: \\[{array}[_.]"), tasks] {
        let killed = Command::new("pkill").args(["-KILL", "-f", &processes]).status().unwrap();
        assert!(killed.success(), "{processes}");
    }
    project.write("go", "");
    let ended = running.wait_with_output().unwrap();
    slurm("slurmd", &["-N", node]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("was lost: it was ended (NODE_FAIL)"), "{said}");
    let other = if node == "small1" { "small2" } else { "small1" };
    let log = project.hamflow(&["log", "last"]).stdout;
    assert!(log.contains(&format!("on {other}")), "{log}");
}

#[test]
#[ignore = "needs Slurm"]
fn a_preempted_task_is_submitted_again() {
    let project = program("touch started; if [ ! -e again ]; then touch again; sleep 100; fi; echo y > {outputs.y}");
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", text.replace("max_jobs = 3", "partition = \"patient\""));
    let running = project.start(&["run"]);
    project.wait_for("started");
    let urgent = slurm("sbatch", &["--parsable", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 1"]);
    let ended = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("was lost: it was ended (PREEMPTED"), "job {urgent}: {said}");
    assert_eq!(project.read("out/x/y.txt"), "y\n");
}

#[test]
#[ignore = "needs Slurm"]
fn runs_of_two_projects_do_not_disturb_each_other() {
    let projects = [program(WAITS), program(WAITS)];
    let runs: Vec<_> = projects.iter().map(|project| project.start(&["run"])).collect();
    projects.iter().for_each(|project| project.wait_for("started"));
    assert!(Command::new("kill").args(["-INT", &runs[0].id().to_string()]).status().unwrap().success());
    projects[1].write("go", "");
    let codes: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap().status.code()).collect();
    assert_eq!(codes, [Some(130), Some(0)]);
    assert_eq!(projects[1].read("out/x/y.txt"), "y\n");
}

#[test]
#[ignore = "needs Slurm"]
fn trials_and_folds_run_as_arrays() {
    let data = "[stages.synthetic]\nimages = 120\n[stages.metadata]\ncsv = \"synthetic.metadata\"\nimages = \"synthetic.images\"\n\
                [stages.split]\ntable = \"metadata\"\nimages = \"synthetic.images\"\nfolds = 3\n\
                [stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\nheight = 24\nwidth = 32\n";
    let stages = "[stages.fold]\nkind = \"train\"\nshards = \"preprocess\"\nsplit = \"split\"\nepochs = 1\nEXECUTOR\
                  matrix = { fold = [0, 1] }\n\
                  [stages.search]\nshards = \"preprocess\"\nsplit = \"split\"\ntrain = { epochs = 1 }\nEXECUTOR\
                  space = { learning_rate = [0.001, 0.01] }\n";
    let local = Project::builtin(&format!("{data}{}", stages.replace("EXECUTOR", "")));
    local.run();
    let stages = stages.replace("EXECUTOR", "executor = \"cluster\"\n");
    let cluster = Project::builtin(&format!("{EXECUTOR}{data}{stages}"));
    cluster.run();
    for output in ["out/fold[fold=0]/model", "out/fold[fold=1]/model", "out/search/model", "out/search/best.json"] {
        assert!(cluster.files(output) == local.files(output), "{output}");
    }
    let log = cluster.hamflow(&["log", "search"]).stdout;
    assert!(log.matches(" was submitted to `cluster` with 1 job").count() == 2, "{log}");
}

/// A batch system of shell scripts: the commands to submit `SCRIPT` with the log `LOG`, to list and to cancel.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "qsub",
        "#!/bin/sh\nsetsid sh \"$2\" > \"$1\" 2>&1 < /dev/null &\necho $! >> \"$(dirname \"$0\")/jobs\"\n\
         echo \"Your job $! has been submitted\"\n",
    ),
    (
        "qstat",
        "#!/bin/sh\ntouch \"$(dirname \"$0\")/jobs\"\nwhile read -r job; do\n\
         if [ -d /proc/$job ] && ! grep -q '^State:.Z' /proc/$job/status; then echo \"$job r\"; fi\n\
         done < \"$(dirname \"$0\")/jobs\"\n",
    ),
    ("qdel", "#!/bin/sh\nfor job in \"$@\"; do kill -9 \"-$job\"; done\n"),
];

const TEMPLATE: &str = "[executors.cluster]\nkind = \"template\"\nsubmit = \"qsub {log} {script}\"\nlist = \"qstat\"\n\
                        cancel = \"qdel {ids}\"\nrecord_wait = \"1s\"\nmax_jobs = 3\n";

/// What makes a command find the batch system of shell scripts of a project.
fn with_scripts(project: &Project, arguments: &[&str]) -> Command {
    write_programs(project, &SCRIPTS);
    let mut command = project.command(arguments);
    command.env("PATH", format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap()));
    command
}

#[test]
fn a_template_runs_stages_with_any_batch_system() {
    let local = Project::builtin(&parts(""));
    local.run();
    let project = Project::builtin(&parts(TEMPLATE));
    let ran = Project::finish(with_scripts(&project, &["run"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(project.files("out/preprocess") == local.files("out/preprocess"), "the same bytes");
    let log = project.hamflow(&["log", "preprocess"]).stdout;
    assert_eq!(log.matches(" was submitted to `cluster` with ").count(), 3, "{log}");
    let run = project.hamflow(&["log", "last"]).stdout;
    assert!(
        run.lines().filter(|line| line.starts_with("  task ") && line.contains(": ended on ")).count() == 3,
        "{run}"
    );
}

#[test]
fn tasks_of_a_template_are_submitted_again_picked_up_and_cancelled() {
    let program = |line: &str| {
        Project::builtin(&format!(
            "{TEMPLATE}[stages.x]\nkind = \"command\"\nexecutor = \"cluster\"\n\
             outputs = {{ y = {{ type = \"file\", path = \"y.txt\" }} }}\nrun = '''{line}'''\n"
        ))
    };
    let project = program("if [ ! -e killed ]; then touch killed; kill -9 $PPID; fi; echo y > {outputs.y}");
    let ran = Project::finish(with_scripts(&project, &["run"]));
    assert!(ran.code == 0 && ran.stderr.contains("was lost: the batch system no longer has it"), "{ran:?}");

    let project = program(WAITS);
    let ran = Project::finish(with_scripts(&project, &["run", "--detach"]));
    assert!(ran.code == 0 && ran.stderr.contains("1 job left in the queue"), "{ran:?}");
    project.wait_for("started");
    let status = Project::finish(with_scripts(&project, &["status"])).stdout;
    assert!(status.contains(": r on "), "{status}");
    project.write("go", "");
    let ran = Project::finish(with_scripts(&project, &["run"]));
    assert!(ran.code == 0 && project.read("out/x/y.txt") == "y\n", "{ran:?}");

    let project = program(WAITS);
    let mut running = with_scripts(&project, &["run"]);
    let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    project.wait_for("started");
    assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
    assert_eq!(running.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(Project::finish(with_scripts(&project, &["status"])).stdout.matches("task ").count(), 0);
    let left = Command::new(project.path("bin/qstat")).output().unwrap().stdout;
    assert_eq!(String::from_utf8(left).unwrap(), "", "cancelled");
}

#[test]
fn keys_of_executors_are_checked() {
    let project = |keys: &str| Project::builtin(&format!("[executors.cluster]\n{keys}\n[stages.synthetic]\n"));
    for (keys, expected) in [
        ("kind = \"template\"\nlist = \"x\"\ncancel = \"x\"", "a template needs `submit`"),
        ("kind = \"slurm\"\nsubmit = \"x\"", "`submit` is for `kind = \"template\"`"),
        ("kind = \"slurm\"\nmemory_retry = 0.5", "`memory_retry` cannot be 0.5"),
        ("kind = \"slurm\"\nmax_jobs = 0", "`max_jobs` cannot be 0"),
        ("kind = \"pbs\"", "`kind` cannot be `pbs`"),
    ] {
        let ran = project(keys).hamflow(&["status"]);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{keys}: {ran:?}");
    }
}

#[test]
fn without_slurm_a_stage_says_how_to_run_here() {
    let project = program("echo y > {outputs.y}");
    let mut command = project.command(&["run"]);
    command.env("PATH", project.path("bin"));
    let ran = Project::finish(command);
    let expected = "cannot start `sbatch`: No such file or directory (os error 2)";
    assert!(ran.code == 2 && ran.stderr.contains(expected) && ran.stderr.contains("`--executor local`"), "{ran:?}");
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", text.replace("executor = \"cluster\"", "executor = \"clustr\""));
    let ran = project.hamflow(&["status"]);
    assert!(ran.stderr.contains("no executor `clustr`") && ran.stderr.contains("did you mean `cluster`?"), "{ran:?}");
    project.write("pipeline.toml", text.replace("[executors.cluster]", "[executors.local]"));
    let ran = project.hamflow(&["status"]);
    assert!(ran.stderr.contains("`local` cannot be the name of an executor"), "{ran:?}");
    project.write("pipeline.toml", text.replace("\"5m\"", "\"5 minutes\""));
    let ran = project.hamflow(&["status"]);
    assert!(ran.stderr.contains("`resources.time` cannot be `5 minutes`"), "{ran:?}");
}
