//! What the commands print, as reviewed snapshots in `tests/snapshots`.

use insta::assert_snapshot;

use crate::harness::{CHAIN, Project, Ran, chain};

/// A project with [`CHAIN`] in which an input and a parameter changed after the first run.
fn changed() -> Project {
    let project = chain();
    project.write("text.txt", "abcd");
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    project
}

fn printed(project: &Project, arguments: &[&str]) -> String {
    let ran = project.hamflow(arguments);
    assert_eq!((ran.code, &ran.stderr[..]), (0, ""), "{arguments:?}");
    ran.stdout
}

/// Replaces durations and names of runs, and with them the alignment of the words.
fn redacted(ran: &Ran) -> String {
    let line = |line: &str| {
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let unit = word.trim_end_matches([':', ')']);
            let number = words.last().map(|last| last.trim_start_matches('('));
            if ["ms", "s"].contains(&unit) && number.is_some_and(|number| number.parse::<f64>().is_ok()) {
                let number = words.pop().unwrap();
                // A stage that takes less than a millisecond is printed without its time.
                if words.len() == 2 && number.starts_with(|first: char| first.is_ascii_digit()) && words[1] != "in" {
                    continue;
                }
                let opened = if number.starts_with('(') { "(" } else { "" };
                words.push(format!("{opened}[time]{}", &word[unit.len()..]));
            } else if word.ends_with(']') && words.last().is_some_and(|last| last == "[run") {
                words.push("NAME]".to_owned());
            } else {
                words.push(word.to_owned());
            }
        }
        words.join(" ") + "\n"
    };
    ran.stderr.lines().map(line).collect()
}

#[test]
fn the_status_before_and_after_a_run_and_after_changes() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    assert_snapshot!("status_before_the_first_run", printed(&project, &["status"]));
    assert_snapshot!("status_after_a_run", printed(&chain(), &["status"]));
    assert_snapshot!("status_after_changes", printed(&changed(), &["status"]));
}

#[test]
fn the_explanations_of_a_changed_parameter_and_of_a_changed_input() {
    let project = changed();
    assert_snapshot!("why_input", printed(&project, &["why", "first"]));
    assert_snapshot!("why_pending", printed(&project, &["why", "third"]));
    assert_snapshot!("why_fresh", printed(&project, &["why", "dice"]));
    let project = chain();
    project.write("pipeline.toml", CHAIN.replace("\"!\"", "\"?\""));
    assert_snapshot!("why_parameter", printed(&project, &["why", "second"]));
}

#[test]
fn the_graph_with_and_without_status() {
    let project = changed();
    assert_snapshot!("dag", printed(&project, &["dag"]));
    assert_snapshot!("dag_without_status", printed(&project, &["dag", "--no-status"]));
    assert_snapshot!("dag_in_dot", printed(&project, &["dag", "--format", "dot"]));
}

#[test]
fn the_summaries_of_runs() {
    let project = Project::new(CHAIN);
    project.write("text.txt", "abc");
    let run = || redacted(&project.hamflow(&["run", "--jobs", "1"]));
    assert_snapshot!("run_first", run());
    assert_snapshot!("run_with_nothing_to_do", run());
    project.write("text.txt", "abcd");
    assert_snapshot!("run_after_a_change", run());
    project.write("text.txt", "abc");
    assert_snapshot!("run_from_the_cache", run());
    assert_snapshot!("run_dry", project.hamflow(&["run", "--dry-run", "--force", "first"]).stdout);
}

#[test]
fn the_errors_of_a_pipeline_and_of_a_stage() {
    let project = Project::new(&CHAIN.replace("suffix = \"!\"", "sufix = \"!\""));
    assert_snapshot!("error_unknown_parameter", project.hamflow(&["run"]).stderr);
    let project = Project::new("[stages.crash]\n[stages.after]\nkind = \"shout\"\nfrom = \"crash\"\n");
    assert_snapshot!("error_failed_stage", redacted(&project.hamflow(&["run"])));
    assert_snapshot!("error_unknown_stage", project.hamflow(&["run", "carsh"]).stderr);
}

#[test]
fn kinds_and_the_description_of_one() {
    let project = Project::new(CHAIN);
    assert_snapshot!("kinds", printed(&project, &["kinds"]));
    assert_snapshot!("kinds_shout", printed(&project, &["kinds", "shout"]));
}

/// The help of a command and of all commands below it, with their names.
fn helps(project: &Project, command: &[&str]) -> Vec<(String, String)> {
    let mut asked = project.command(&[command, &["--help"]].concat());
    asked.env_remove("COLUMNS");
    let ran = Project::finish(asked);
    assert_eq!(ran.code, 0, "{command:?}: {ran:?}");
    let listed = ran.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let below: Vec<&str> =
        listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    let mut found = vec![(["help"].iter().chain(command).copied().collect::<Vec<_>>().join("_"), ran.stdout.clone())];
    found.extend(below.into_iter().flat_map(|name| helps(project, &[command, &[name]].concat())));
    found
}

#[test]
fn the_help_of_every_command() {
    let helps = helps(&Project::new(CHAIN), &[]);
    for name in ["help", "help_run", "help_cache", "help_cache_push"] {
        assert!(helps.iter().any(|(listed, _)| listed == name), "{name}");
    }
    for (name, text) in helps {
        assert_snapshot!(name, text);
    }
}
