//! Programs as stages: how they run, end and fail.

// Other systems do not adopt what a program leaves behind.
#![cfg(all(target_os = "linux", not(hamflow_portable)))]

use std::time::{Duration, Instant};

use crate::harness::Project;

/// A pipeline of programs, each a line of the shell with the output `y`.
fn programs(stages: &[(&str, &str, &str)]) -> Project {
    let stage = |(name, settings, line): &(&str, &str, &str)| {
        format!(
            "[stages.{name}]\nkind = \"command\"\noutputs = {{ y = {{ type = \"file\", path = \"y.txt\" }} }}\n{settings}\n\
             run = '''{line}'''\n"
        )
    };
    Project::builtin(&stages.iter().map(stage).collect::<String>())
}

#[test]
fn programs_run_at_the_same_time_and_each_has_its_own_time() {
    let line = |name: &str| format!("sleep 2; echo {name} {{threads}} > {{outputs.y}}");
    let project = programs(&[("a", "", &line("a")), ("b", "", &line("b"))]);
    let started = Instant::now();
    let ran = project.run_with(&["--jobs", "2"]);
    assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
    let finished = ran.events().into_iter().filter(|event| event["event"] == "stage_finished");
    let times: Vec<u64> = finished.map(|event| event["wall_ms"].as_u64().unwrap()).collect();
    assert!(times.len() == 2 && times.iter().all(|time| (2000..3000).contains(time)), "{times:?}");
    assert_eq!(project.read("out/a/y.txt"), "a 1\n", "one core");
}

#[test]
fn a_program_gets_the_cores_that_it_declares() {
    // Different lines, since equal programs run once.
    let project = programs(&[
        ("all", "resources = { cpus = \"all\" }", "echo {threads} > {outputs.y}"),
        ("two", "resources = { cpus = 2 }", "echo  {threads} > {outputs.y}"),
        ("many", "resources = { cpus = 1000 }", "echo   {threads} > {outputs.y}"),
    ]);
    project.run_with(&["--jobs", "3"]);
    let threads = ["all", "two", "many"].map(|stage| project.read(&format!("out/{stage}/y.txt")));
    assert_eq!(threads, ["3\n", "2\n", "3\n"]);
    // Declared resources are not part of the key.
    let ran = project.run_with(&["--set", "stages.two.resources.cpus=1"]);
    assert_eq!(ran.count("fresh"), 3, "{ran:?}");
}

#[test]
fn a_matrix_varies_a_value_of_a_program() {
    let settings = "params = { alpha = 0, beta = 7 }\nmatrix = { alpha = [0.1, 1.0] }";
    let project = programs(&[("fit", settings, "echo {params.alpha} {params.beta} > {outputs.y}")]);
    assert_eq!(project.run().ran(), ["fit[alpha=0.1]", "fit[alpha=1]"]);
    assert_eq!(project.read("out/fit[alpha=0.1]/y.txt"), "0.1 7\n");
    let ran = programs(&[("fit", "matrix = { alpha = [1] }", "echo > {outputs.y}")]).hamflow(&["status"]);
    assert!(ran.stderr.contains("unknown axis `alpha`") && ran.stderr.contains("params = { alpha = … }"), "{ran:?}");
}

#[test]
fn a_stage_ends_with_its_program() {
    let project = programs(&[("a", "", "sleep 60 & echo done > {outputs.y}")]);
    let started = Instant::now();
    let ran = project.hamflow(&["run"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let warning = "stage `a`: when the program ended, `sleep` was still running and was stopped";
    assert!(ran.stderr.contains(warning), "{ran:?}");
}

#[test]
fn a_program_that_exceeds_its_time_is_stopped_and_started_again() {
    let line = "if [ -e {file} ]; then echo second > {outputs.y}; else touch {file}; echo first; sleep 60; fi";
    let line = line.replace("{file}", "mark");
    let project = programs(&[("a", "timeout = \"1s\"\nretries = 2", &line)]);
    let ran = project.hamflow(&["run"]);
    let warning = "attempt 1 of 3, after 1.0 s: `sh` took longer than 1s and was stopped; it is started again";
    assert!(ran.stderr.contains(warning), "{ran:?}");
    assert_eq!(project.read("out/a/y.txt"), "second\n");
    // Neither is part of the key.
    project.write("pipeline.toml", project.read("pipeline.toml").replace("1s", "2h").replace("retries = 2", ""));
    assert_eq!(project.run().count("fresh"), 1);

    let project = programs(&[("a", "timeout = \"300ms\"", "echo waits; sleep 60; echo > {outputs.y}")]);
    let ran = project.hamflow(&["run"]);
    let message = "`sh` took longer than 300ms and was stopped\n  | waits\nhint: raise `timeout`";
    assert!(ran.code == 1 && ran.stderr.contains(message), "{ran:?}");
}

#[test]
fn an_attempt_begins_without_what_the_last_one_wrote() {
    let line = "echo x >> {outputs.y}; test -e $TMPDIR/t && exit 9; touch $TMPDIR/t; echo x >> count; test $(wc -l < count) = 3";
    let project = programs(&[("a", "retries = 2", line)]);
    project.run();
    assert_eq!((project.read("out/a/y.txt"), project.read("count")), ("x\n".to_owned(), "x\nx\nx\n".to_owned()));
    let project = programs(&[("a", "retries = 1", "exit 4")]);
    let ran = project.hamflow(&["run"]);
    assert!(ran.stderr.contains("attempt 1 of 2, after 0.0 s: `sh` ended with exit status 4"), "{ran:?}");
    assert!(ran.stderr.contains("error: stage `a`: `sh` ended with exit status 4"), "{ran:?}");
}

#[test]
fn a_stage_may_name_its_shell() {
    let line = "a=(1 2 3); echo ${{#a[@]}} > {outputs.y}";
    let project = programs(&[("a", "shell = \"bash\"", line)]);
    project.run();
    assert_eq!(project.read("out/a/y.txt"), "3\n");
    let wrong = |settings: &str, expected: &str| {
        let ran = programs(&[("a", settings, "echo > {outputs.y}")]).hamflow(&["status"]);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{ran:?}");
    };
    wrong(
        "shell = \"fish\"",
        "`shell` cannot be `fish`, expected `sh`, `bash`, `dash`, `ksh`, `zsh`, with or without a path",
    );
    wrong("timeout = \"2 parsecs\"", "`timeout` cannot be `2 parsecs`");
    wrong("timeout = \"0s\"", "write a time with a unit, such as `30s`, `90m` or `2h`");
    wrong("retries = -1", "`retries`: expected a non-negative integer");
}

#[test]
fn lines_from_windows_and_very_long_lines_are_run() {
    let long = format!("x={}\necho ${{{{#x}}}} $0 > {{outputs.y}}", "x".repeat(200_000));
    let project = programs(&[("windows", "", "echo a\r\necho b > {outputs.y}\r\n"), ("long", "", &long)]);
    project.run();
    assert_eq!(project.read("out/windows/y.txt"), "b\n");
    assert!(project.read("out/long/y.txt").starts_with("200000 "), "{}", project.read("out/long/y.txt"));
}

#[test]
fn only_the_last_state_of_a_progress_bar_is_kept() {
    let line = "for i in $(seq 1 500); do printf '\\r%d/500 ####' $i; done; echo; echo reason >&2; exit 1";
    let project = programs(&[("a", "", line)]);
    let ran = project.hamflow(&["run"]);
    assert!(ran.stderr.contains("  | 500/500 ####\n  | reason\n"), "{ran:?}");
    assert_eq!(ran.stderr.matches("####").count(), 1);
    assert_eq!(project.hamflow(&["log", "last", "a"]).stdout.matches("####").count(), 1);
}
