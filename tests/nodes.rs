//! Nodes without a shared file system: a real Slurm, and a remote.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::{
    EXECUTOR, array_of, goes_on_in_another_task, run_with_own_programs, slurm, wait_until_gone, with_programs,
    write_programs,
};
use crate::harness::Project;

/// A project whose executor `cluster` uses a remote, and the remote. The nodes see an empty folder instead of the project.
fn with_remote(pipeline: &str) -> (Project, tempfile::TempDir) {
    let remote = tempfile::tempdir().unwrap();
    let executor = EXECUTOR.replace("record_wait", "transport = \"remote\"\nrecord_wait");
    let cache = format!("[cache.remote]\nurl = \"{}\"\n[cache.remote.keys]\n", remote.path().display());
    let project = Project::builtin(&format!("{executor}{cache}{pipeline}"));
    let sbatch = slurm("sh", &["-c", "command -v sbatch"]);
    let hidden = format!(
        "unshare --map-root-user --mount sh -c 'mount -t tmpfs tmpfs \"$0\" \\&\\& exec \"$@\"' '{}'",
        project.root().display()
    );
    let submit = format!(
        "#!/bin/sh\nsed -E \"s#^exec (.*)#exec {} \\1#\" | {} \"$@\"\n",
        hidden.replace('"', "\\\"").replace('$', "\\$"),
        sbatch.trim()
    );
    write_programs(&project, &[("sbatch", &submit)]);
    (project, remote)
}

/// All bytes of the files below a folder.
fn bytes_below(folder: &std::path::Path) -> Vec<u8> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { bytes_below(&path) } else { std::fs::read(path).unwrap() }).collect()
}

#[test]
#[ignore = "needs Slurm"]
fn the_checkpoint_of_a_training_goes_through_the_remote() {
    goes_on_in_another_task(|pipeline| {
        let (project, remote) = with_remote(pipeline);
        (project, Some(remote))
    });
}

#[test]
#[ignore = "needs Slurm"]
fn nodes_without_a_shared_file_system_use_the_remote() {
    let pipeline = "[inputs]\nwords = \"words.txt\"\n[stages.synthetic]\nimages = 180\n[stages.metadata]\ncsv = \"synthetic.metadata\"\n\
                    images = \"synthetic.images\"\n[stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\n\
                    part_size = 16\nEXECUTOR[stages.sorted]\nkind = \"command\"\nEXECUTORinputs = { words = \"inputs.words\" }\n\
                    secret_env = [\"PASSWORD\"]\noutputs = { y = { type = \"folder\" } }\n\
                    run = \"mkdir -p {outputs.y}/a && sort {inputs.words} > {outputs.y}/a/y.txt && sh {file:more.sh} >> {outputs.y}/a/y.txt && python3 {file:more.py} >> {outputs.y}/a/y.txt\"\n";
    let files = |project: &Project| {
        project.write("words.txt", "b\na\n");
        project.write("more.sh", "echo c; echo ${#PASSWORD}");
        project.write("more.py", "import json; print(json.dumps(['d']))");
        project.write("other.py", "");
    };
    let run = |project: &Project, arguments: &[&str]| {
        let mut command = run_with_own_programs(project);
        command.args(arguments).env("PASSWORD", "hunter-9-password");
        Project::finish(command)
    };
    let local = Project::builtin(&pipeline.replace("EXECUTOR", ""));
    files(&local);
    let ran = run(&local, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let (cluster, remote) = with_remote(&pipeline.replace("EXECUTOR", "executor = \"cluster\"\n"));
    files(&cluster);
    let ran = run(&cluster, &[]);
    assert!(ran.code == 0 && !ran.stderr.contains("warning"), "{ran:?}");
    for stage in ["preprocess", "sorted"] {
        assert!(cluster.files(&format!("out/{stage}")) == local.files(&format!("out/{stage}")), "the bytes of {stage}");
    }
    assert_eq!(cluster.read("out/sorted/y/a/y.txt"), "a\nb\nc\n17\n[\"d\"]\n");
    let log = cluster.hamflow(&["log", "preprocess"]).stdout;
    assert!(log.contains(" to the remote"), "{log}");
    let sent = bytes_below(remote.path());
    assert!(
        sent.len() > 100_000 && !sent.windows(8).any(|bytes| bytes == b"hunter-9"),
        "no secret in {} bytes",
        sent.len()
    );
    // What was made there is fresh here.
    assert!(run(&cluster, &["--executor", "local"]).stderr.contains("nothing to do"), "all is fresh");
}

/// Names are random, and one in 64 begins with a hyphen.
#[test]
fn names_of_tasks_in_a_remote_may_begin_with_a_hyphen() {
    let ran = Project::builtin("").hamflow(&["worker", "--remote-tasks=-oX", "--index", "0"]);
    assert!(ran.code == 43 && ran.stderr.contains("`HAMFLOW_TASKS_URL` is not set"), "{ran:?}");
}

#[test]
#[ignore = "needs Slurm"]
fn what_is_not_declared_is_not_on_a_node_without_a_shared_file_system() {
    let pipeline = "[stages.x]\nkind = \"command\"\nexecutor = \"cluster\"\noutputs = { y = { type = \"file\" } }\n\
                    run = \"cat extra.txt 2> /dev/null > {outputs.y} || echo none > {outputs.y}\"\n";
    let (project, _remote) = with_remote(pipeline);
    project.write("extra.txt", "text");
    let ran = with_programs(&project, &[]);
    let expected = "the program looked for `extra.txt`, which the node does not have";
    assert!(ran.code == 2 && ran.stderr.contains(expected) && ran.stderr.contains("{file:extra.txt}"), "{ran:?}");
    std::fs::remove_file(project.path("extra.txt")).unwrap();
    assert_eq!(with_programs(&project, &[]).code, 0);
    assert_eq!(project.read("out/x/y"), "none\n");
    // A folder with more than was sent.
    let text = project.read("pipeline.toml");
    project.write("data/a.csv", "a\n");
    project.write("data/b.csv", "b\n");
    let run = "run = \"echo {file:data/a.csv}; cat data/*.csv > {outputs.y}\"";
    let lines = text.lines().map(|line| if line.starts_with("run = ") { run } else { line });
    project.write("pipeline.toml", lines.collect::<Vec<_>>().join("\n"));
    let ran = with_programs(&project, &[]);
    let expected = "the program listed the folder `data`, of which the node has only what is declared";
    assert!(ran.code == 2 && ran.stderr.contains(expected), "{ran:?}");
    std::fs::remove_file(project.path("data/b.csv")).unwrap();
    assert_eq!(with_programs(&project, &[]).code, 0);
    assert_eq!(project.read("out/x/y"), "a\n");
    // No remote at all.
    let text = project.read("pipeline.toml");
    let without: Vec<&str> =
        text.lines().filter(|line| !line.contains("cache.remote") && !line.starts_with("url")).collect();
    project.write("pipeline.toml", without.join("\n"));
    let ran = project.hamflow(&["run"]);
    assert!(ran.code == 2 && ran.stderr.contains("`transport = \"remote\"` needs a remote"), "{ran:?}");
}

#[test]
#[ignore = "needs Slurm"]
fn a_run_goes_on_with_records_in_the_remote_also_if_that_was_away() {
    let go = tempfile::tempdir().unwrap();
    let go = go.path().join("go");
    let pipeline = format!(
        "[stages.x]\nkind = \"command\"\nexecutor = \"cluster\"\nundeclared = \"off\"\noutputs = {{ y = {{ type = \"file\" }} }}\n\
         run = \"touch {0}-started; while [ ! -e {0} ]; do sleep 0.2; done; echo y > {{outputs.y}}\"\n",
        go.display()
    );
    let (project, remote) = with_remote(&pipeline);
    let running = Project::spawn(run_with_own_programs(&project));
    let started = go.with_file_name("go-started");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        assert!(Instant::now() < deadline, "the job does not begin");
        std::thread::sleep(Duration::from_millis(100));
    }
    let array = array_of(running.id());
    assert!(Command::new("kill").args(["-KILL", &running.id().to_string()]).status().unwrap().success());
    running.wait_with_output().unwrap();
    std::fs::write(&go, "").unwrap();
    wait_until_gone(&array);
    let away = remote.path().with_extension("away");
    std::fs::rename(remote.path(), &away).unwrap();
    let next = Project::spawn(run_with_own_programs(&project));
    std::thread::sleep(Duration::from_secs(25));
    std::fs::rename(&away, remote.path()).unwrap();
    let ended = next.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        ended.status.success()
            && said.contains("records in the remote cannot be read now")
            && !said.contains("was lost"),
        "{said}"
    );
    assert_eq!(project.read("out/x/y"), "y\n");
    let log = project.hamflow(&["log", "x"]).stdout;
    assert!(log.contains(&format!("goes on as task {array}_0, which an earlier run submitted")), "{log}");
}
