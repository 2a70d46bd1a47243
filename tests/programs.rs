//! Programs as stages: how they run, end and fail.

// Other systems do not adopt what a program leaves behind.
#![cfg(all(target_os = "linux", not(hamflow_portable)))]

use std::process::Command;
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
    assert_eq!(project.run_with(&["--jobs", "1"]).ran(), ["fit[alpha=0.1]", "fit[alpha=1]"]);
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
fn what_an_attempt_made_is_no_input_of_the_next_one() {
    let line =
        "cat given.txt > {outputs.y}; if [ -e tried.txt ]; then cat tried.txt; else echo t > tried.txt; exit 1; fi";
    let project = programs(&[("a", "retries = 1", line)]);
    project.write("given.txt", "x");
    project.run();
    let lock = project.read("pipeline.lock");
    assert!(lock.contains("given.txt") && !lock.contains("tried.txt"), "{lock}");
    std::fs::remove_file(project.path("tried.txt")).unwrap();
    assert_eq!(project.run().count("fresh"), 1);
}

#[test]
fn the_log_says_what_changed_between_attempts() {
    let line = "cat given.txt > {outputs.y}; if [ ! -e go ]; then touch go; while [ ! -e made ]; do sleep 0.01; done; exit 1; fi";
    let project = programs(&[("a", "retries = 1", line)]);
    project.write("given.txt", "one");
    let running = project.start(&["run"]);
    project.wait_for("go");
    project.write("given.txt", "two");
    project.write("made", "");
    assert!(running.wait_with_output().unwrap().status.success());
    let log = project.hamflow(&["log", "a"]);
    assert!(log.stdout.contains("attempt 2 began with other files than attempt 1: `"), "{log:?}");
    assert!(log.stdout.contains("given.txt` changed"), "{log:?}");
}

#[test]
fn programs_that_need_more_memory_than_there_is_together_run_one_after_the_other() {
    let line = "echo begin >> ../order.txt; sleep 0.3; echo end >> ../order.txt; echo > {outputs.y}";
    let order = |memory: &str| {
        let line = line.replace("../", "");
        // Of equal commands, only one would run.
        let project = programs(&[("a", memory, &line), ("b", memory, &format!("{line}; true"))]);
        project.run_with(&["--jobs", "2"]);
        project.read("order.txt").replace('\n', " ")
    };
    assert_eq!(order("resources = { memory = \"900TB\" }"), "begin end begin end ");
    assert_eq!(order("resources = { memory = \"1MB\" }"), "begin begin end end ");
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

/// A program that writes metrics, a curve and predicted classes.
const FIT: &str = r#"
[stages.fit]
kind = "command"
params = { rate = 0.5 }
run = "sh fit.sh {params.rate} {outputs.curve} {outputs.metrics} {outputs.classes}"

[stages.fit.outputs.curve]
type = "csv"
path = "curve.csv"
plots = [{ x = "epoch", y = ["loss", "validation"], title = "Loss" }]

[stages.fit.outputs.classes]
type = "file"
path = "classes.json"
plots = [{ x = "actual", y = "predicted", form = "confusion" }, { x = "actual", y = "score", form = "bar" }]

[stages.fit.outputs.metrics]
type = "metrics"
path = "metrics.json"

[stages.report]
metrics = "fit.metrics"
figures = ["fit.plots"]
"#;

fn fit() -> Project {
    let project = Project::builtin(FIT);
    let script = "printf 'epoch,loss,validation\\n1,%s,1\\n2,0.25,0.75\\n' $1 > $2\n\
                  printf '{\"accuracy\": %s, \"train\": {\"deep\": {\"loss\": 3}}}' $1 > $3\n\
                  printf '[{\"actual\": \"a\", \"predicted\": \"b\", \"score\": 0.5}]' > $4\n";
    project.write("fit.sh", script);
    project
}

#[test]
fn plots_of_columns_are_in_the_report_and_in_the_comparison() {
    let project = fit();
    let first = project.run().count("ran");
    assert_eq!(first, 2);
    assert_eq!(project.files("out/fit/plots").len(), 6);
    let page = project.read("out/report/index.html");
    for expected in
        ["<h2 id=\"curves-title\">Figures</h2>", ">Loss</text>", ">predicted class</text>", ">validation</text>"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(page.contains("<th scope=\"row\">train.deep.loss</th><td class=\"number\">3</td>"), "{page}");
    project.run_with(&["--set", "stages.fit.params.rate=0.75"]);
    let log = project.hamflow(&["log"]).stdout;
    let runs: Vec<&str> = log.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let compared = project.hamflow(&["compare", runs[1], runs[0]]);
    let page = std::fs::read_to_string(compared.stdout.trim()).unwrap();
    assert!(page.contains("<h2>Plots</h2>") && page.contains("fit.curve: Loss"), "{compared:?}");
}

#[test]
fn mistakes_in_plots_name_the_columns_there_are() {
    let project = fit();
    let failed = |from: &str, to: &str| {
        project.write("pipeline.toml", FIT.replace(from, to));
        let ran = project.hamflow(&["run", "fit"]);
        assert!(ran.code != 0, "{ran:?}");
        ran.stderr
    };
    let missing = failed("\"validation\"]", "\"validatoin\"]");
    assert!(missing.contains("output `curve` has no column `validatoin` for its plot"), "{missing}");
    assert!(missing.contains("did you mean `validation`?"), "{missing}");
    let text = failed("y = \"score\", form = \"bar\"", "y = \"predicted\"");
    assert!(text.contains("`actual` in row 1 is `a`, which is not a number"), "{text}");
    let form = failed("x = \"actual\", y = \"score\"", "y = \"score\"");
    assert!(form.contains("a plot of this form needs `x`"), "{form}");
    let name = failed("outputs.curve]", "outputs.plots]");
    assert!(name.contains("the figures of `plots` are the output `plots`"), "{name}");
}

#[test]
fn metrics_of_revisions_are_compared_by_their_lock_files() {
    let project = fit();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@x"]).args(arguments).current_dir(project.root());
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    };
    let no_git = project.hamflow(&["metrics", "--rev", "main"]);
    assert!(no_git.code == 2 && no_git.stderr.contains("cannot read `pipeline.lock` at revision `main`"), "{no_git:?}");
    git(&["init", "-q", "-b", "main"]);
    project.run();
    git(&["add", "pipeline.toml", "pipeline.lock", "fit.sh"]);
    git(&["commit", "-q", "-m", "x"]);
    project.write("pipeline.toml", FIT.replace("0.5", "0.75"));
    project.run();
    let compared = project.hamflow(&["metrics", "--rev", "main"]);
    let line = compared.stdout.lines().find(|line| line.starts_with("fit.accuracy")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["fit.accuracy", "0.5000", "0.7500", "+0.2500"]);
    assert!(compared.stderr.contains("1 more with `--all`"), "{compared:?}");
    let all = project.hamflow(&["metrics", "--rev", "main", "--all", "--json"]);
    assert!(all.stdout.contains("\"fit.train.deep.loss\":3.0") && all.stdout.contains("\"main\""), "{all:?}");
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    project.run();
    let lost = project.hamflow(&["metrics", "--rev", "main"]);
    assert!(lost.stderr.contains("the cache no longer has the metrics of `fit` at `main`"), "{lost:?}");
    let many = project.hamflow(&["metrics", "--rev", "main", "--rev", "main", "last"]);
    assert!(many.stderr.contains("compares two runs or revisions"), "{many:?}");
}

#[test]
fn a_warning_names_what_the_cache_does_not_keep() {
    let line = "mkdir -p {outputs.y}/empty; echo x > {outputs.y}/run.sh; chmod +x {outputs.y}/run.sh; echo x > {outputs.z}; \
                chmod +x {outputs.z}";
    let project = Project::builtin(&format!(
        "[stages.x]\nkind = \"command\"\noutputs = {{ y = {{ type = \"folder\" }}, z = {{ type = \"file\", path = \"tool\" }} }}\n\
         run = \"{line}\"\n"
    ));
    let ran = project.hamflow(&["run"]);
    assert!(ran.stderr.contains("output `y` has the empty folder `empty`, and the cache keeps only files"), "{ran:?}");
    for (output, file) in [("y", "run.sh"), ("z", "tool")] {
        let warning = format!("output `{output}`: `{file}` is executable, and the cache keeps no permissions");
        assert!(ran.stderr.contains(&warning), "{ran:?}");
    }
}
