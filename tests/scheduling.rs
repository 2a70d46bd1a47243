//! Which stages run at the same time.

// Other systems do not say how much memory is free.
#![cfg(all(target_os = "linux", not(hamflow_portable)))]

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::Project;

/// The memory of this machine in bytes.
fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Runs two stages with these settings that wait until they are released. Returns how many of them were given to workers while the first one
/// ran, and in which order they started and ended.
fn run_two_stages(settings: &str) -> (usize, Vec<String>) {
    let stage = |name: &str| format!("[stages.{name}]\nkind = \"hold\"\nname = \"{name}\"\n{settings}\n");
    let project = Project::new(&(stage("a") + &stage("b")));
    let mut run = project.start(&["run", "--json", "--jobs", "2"]);
    let mut events = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The engine submits whatever fits before it handles the first message of a worker, such as this one.
    assert!(events.any(|line| line.contains("\"event\":\"progress\"")), "no stage started");
    // The folder for a stage's side files is made when its job is submitted.
    let runs: Vec<_> = std::fs::read_dir(project.path("cache/runs")).unwrap().map(|run| run.unwrap().path()).collect();
    let submitted = ["a", "b"].iter().filter(|stage| runs.iter().any(|run| run.join(stage).is_dir())).count();
    project.write("go-on", "");
    let last: Value = serde_json::from_str(&events.last().unwrap()).unwrap();
    assert_eq!((last["ran"].as_u64(), last["failed"].as_u64()), (Some(2), Some(0)), "{last}");
    assert!(run.wait().unwrap().success());
    (submitted, project.read("order").lines().map(str::to_owned).collect())
}

/// Asserts that two stages with this memory each run one after the other.
fn assert_one_after_the_other(memory: u64) {
    let (submitted, order) = run_two_stages(&format!("memory = {memory}"));
    assert_eq!(submitted, 1, "{order:?}");
    let stages = if order[0].starts_with('a') { ["a", "b"] } else { ["b", "a"] };
    let wanted: Vec<String> =
        stages.iter().flat_map(|stage| ["starts", "ends"].map(|what| format!("{stage} {what}"))).collect();
    assert_eq!(order, wanted);
}

#[test]
fn stages_whose_memory_does_not_fit_together_never_run_at_the_same_time() {
    assert_one_after_the_other(total_memory() / 5 * 3);
}

#[test]
fn stages_whose_memory_fits_together_run_at_the_same_time() {
    assert_eq!(run_two_stages("").0, 2);
    assert_eq!(run_two_stages("memory = 1024").0, 2);
}

#[test]
fn a_stage_that_needs_more_memory_than_the_machine_has_runs_alone() {
    assert_one_after_the_other(total_memory() * 3);
}

#[test]
fn the_time_of_a_stage_is_that_of_its_job_without_waiting() {
    const HELD: Duration = Duration::from_secs(1);
    let project =
        Project::new("[stages.a]\nkind = \"hold\"\nname = \"a\"\n[stages.b]\nkind = \"hold\"\nname = \"b\"\n");
    let mut run = project.start(&["run", "--json", "--jobs", "1"]);
    let mut events = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(events.any(|line| line.contains("\"event\":\"progress\"")), "no stage started");
    let started = Instant::now();
    while started.elapsed() < HELD {
        std::thread::yield_now();
    }
    project.write("go-on", "");
    let events: Vec<Value> = events.map(|line| serde_json::from_str(&line).unwrap()).collect();
    let finished = events.iter().filter(|event| event["event"] == "stage_finished");
    let times: Vec<u64> = finished.map(|event| event["wall_ms"].as_u64().unwrap()).collect();
    let held = HELD.as_millis() as u64;
    // The other stage was ready all the time, but there was no core for it.
    assert!(times.len() == 2 && times[0] >= held && times[1] < held, "{times:?}");
    assert!(run.wait().unwrap().success());
}
