//! The examples in the documentation work.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Project, in_ci, python};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The code blocks in a language of a Markdown file.
fn blocks(file: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let parts: Vec<&str> = text.split("```").collect();
    let inside = parts.iter().skip(1).step_by(2);
    inside.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).map(str::to_owned).collect()
}

#[test]
fn pipelines_in_the_readme_are_pipelines() {
    let blocks = blocks("README.md", "toml");
    assert!(blocks.len() >= 2);
    for block in blocks {
        let project = Project::builtin(&block);
        let ran = project.hamflow(&["dag", "--no-status"]);
        assert_eq!(ran.code, 0, "{block}\n{ran:?}");
    }
}

#[test]
fn the_remote_of_the_documents_is_one() {
    let blocks = blocks("docs/remote.md", "toml");
    assert_eq!(blocks.len(), 1);
    let project = Project::builtin(&format!("[stages.synthetic]\n{}", blocks[0]));
    let ran = project.hamflow(&["dag", "--no-status"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn commands_in_the_readme_are_commands() {
    let project = Project::builtin("[stages.synthetic]\n");
    let mut seen = 0;
    for line in blocks("README.md", "console").iter().flat_map(|block| block.lines()) {
        let Some(words) = line.strip_prefix("hamflow ") else { continue };
        let command = words.split_whitespace().next().unwrap();
        assert_eq!(project.hamflow(&[command, "--help"]).code, 0, "{line}");
        seen += 1;
    }
    assert!(seen >= 7);
}

#[test]
fn every_example_is_planned() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap().flatten() {
        let file = entry.path().join("pipeline.toml");
        if let Ok(text) = std::fs::read_to_string(&file) {
            let project = Project::builtin(&text);
            let ran = project.hamflow(&["dag", "--no-status"]);
            assert_eq!(ran.code, 0, "{}: {ran:?}", file.display());
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

#[test]
fn every_profile_of_the_shipped_pipeline_is_planned() {
    let text = std::fs::read_to_string(root().join("pipeline.toml")).unwrap();
    let profiles: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("[profiles.")?.strip_suffix(']')).collect();
    assert_eq!(profiles, ["demo", "masks"]);
    let project = Project::builtin(&text);
    for profile in profiles {
        let ran = project.hamflow(&["dag", "--no-status", "--profile", profile]);
        assert_eq!(ran.code, 0, "{profile}: {ran:?}");
    }
}

#[test]
fn the_shipped_pipeline_says_where_the_data_is_to_be_had() {
    let text = std::fs::read_to_string(root().join("pipeline.toml")).unwrap();
    let project = Project::builtin(&text);
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    for wanted in
        ["data/HAM10000_metadata.csv", "data/HAM10000_images_part_2", "doi:10.7910/DVN/DBW86T", "--profile demo"]
    {
        assert!(ran.stderr.contains(wanted), "{ran:?}");
    }
    assert_eq!(project.hamflow(&["dag", "--no-status", "--profile", "demo"]).code, 0);
}

#[test]
fn the_example_of_commands_runs_and_knows_when_it_is_done() {
    let folder = root().join("examples/command");
    let project = Project::builtin(&std::fs::read_to_string(folder.join("pipeline.toml")).unwrap());
    project.write("poem.txt", std::fs::read(folder.join("poem.txt")).unwrap());
    assert_eq!(project.run().ran(), ["words", "top"]);
    assert!(project.read("out/top/top.txt").trim_start().starts_with("3 and"), "{}", project.read("out/top/top.txt"));
    assert_eq!(project.run().count("fresh"), 2);
    project.write("pipeline.toml", project.read("pipeline.toml").replace("count = 3", "count = 1"));
    assert_eq!(project.run().ran(), ["top"]);
    assert_eq!(project.read("out/top/top.txt").lines().count(), 1);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "examples/README.md",
        "docs/shards.md",
        "docs/ci.md",
        "docs/remote.md",
        "docs/security.md",
        "docs/cuda.md",
        "docs/results.md",
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = root().join(Path::new(file).parent().unwrap()).join(path);
            assert!(path.exists(), "{file} links to {target}");
            let headings = std::fs::read_to_string(&path).unwrap_or_default().to_lowercase().replace(' ', "-");
            assert!(
                heading.is_empty()
                    || headings.lines().any(|line| line.trim_start_matches('#').trim_start_matches('-') == heading),
                "{file} links to {target}"
            );
        }
    }
}

/// From the dataset to shards.
const TO_SHARDS: &str = r#"
[inputs]
metadata = "data/HAM10000_metadata.csv"
images = ["data/images"]
[stages.metadata]
csv = "inputs.metadata"
images = "inputs.images"
[stages.split]
table = "metadata"
images = "inputs.images"
[stages.preprocess]
table = "metadata"
images = "inputs.images"
height = 11
width = 15
part_size = 16
"#;

/// The commands of a GitHub or GitLab workflow, in order.
fn workflow_commands(workflow: &str, python: &str) -> Vec<String> {
    let script = "import json, sys, yaml\n[job] = yaml.safe_load(sys.stdin).get('jobs', {}).values() or [None]\nprint(json.dumps([step['run'] for step in job['steps'] if 'run' in step]))";
    let gitlab = "import json, sys, yaml\n[job] = yaml.safe_load(sys.stdin).values()\nprint(json.dumps(job['script']))";
    let script = if workflow.contains("jobs:") { script } else { gitlab };
    let mut child =
        Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(workflow.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn with_the_workflows_a_fresh_runner_runs_nothing_with_and_without_the_images() {
    let Some(python) = python("yaml") else { return };
    let source = Project::builtin("[stages.synthetic]\nimages = 120\n");
    source.run();
    let dataset = source.files("out/synthetic");
    let workflows = blocks("docs/ci.md", "yaml");
    assert_eq!(workflows.len(), 2);
    for workflow in workflows {
        let commands = workflow_commands(&workflow, &python);
        assert!(commands.len() >= 3, "{commands:?}");
        let runner = |kept: Option<&Project>, with_images: bool| {
            let checkout = Project::builtin(TO_SHARDS);
            if with_images {
                for (path, bytes) in &dataset {
                    checkout.write(&path.replace("out/synthetic", "data"), bytes);
                }
            }
            if let Some(kept) = kept {
                for file in ["pipeline.lock", "hamflow-cache.tar"] {
                    checkout.write(file, std::fs::read(kept.path(file)).unwrap());
                }
            }
            for command in &commands {
                let mut shell = Command::new("sh");
                let programs = checkout.program().parent().unwrap();
                let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
                shell.args(["-ec", command]).current_dir(checkout.root());
                shell.env("PATH", path).env("GITHUB_OUTPUT", checkout.path("github-output"));
                let ran = Project::finish(shell);
                assert_eq!(ran.code, 0, "{command}: {ran:?}");
            }
            checkout
        };
        let outcomes = |checkout: &Project| {
            let record: serde_json::Value =
                serde_json::from_str(&checkout.hamflow(&["log", "last", "--json"]).stdout).unwrap();
            let stages = record["stages"].as_array().unwrap().iter();
            stages.map(|stage| stage["outcome"].as_str().unwrap().to_owned()).collect::<BTreeSet<String>>()
        };
        let first = runner(None, true);
        assert_eq!(outcomes(&first), ["ran".to_owned()].into());
        for with_images in [true, false] {
            let second = runner(Some(&first), with_images);
            assert_eq!(outcomes(&second), ["cached".to_owned()].into(), "images: {with_images}");
            assert_eq!(second.files("out"), first.files("out"));
        }
    }
}

/// The modules that a Python code block imports.
fn imports(block: &str) -> Vec<&str> {
    let named = block.lines().filter_map(|line| line.strip_prefix("import ").or_else(|| line.strip_prefix("from ")));
    named.filter_map(|rest| rest.split([' ', '.']).next()).collect()
}

#[test]
fn the_ways_to_read_shards_work() {
    let python = std::env::var("HAMFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let pipeline = "[stages.synthetic]\nimages = 120\n[stages.metadata]\ncsv = \"synthetic.metadata\"\nimages = \"synthetic.images\"\n[stages.preprocess]\ntable = \"metadata\"\nimages = \"synthetic.images\"\npart_size = 16\n";
    let project = Project::builtin(pipeline);
    assert_eq!(project.run().count("ran"), 3);
    let mut wanted = BTreeSet::from(["pyarrow", "polars", "datasets", "torch"]);
    for block in blocks("docs/shards.md", "python") {
        let imports = imports(&block);
        wanted.retain(|module| !imports.contains(module));
        let there = |module: &&&str| {
            let probe = Command::new(&python).args(["-c", &format!("import {module}")]).output();
            probe.is_ok_and(|output| output.status.success())
        };
        let missing: Vec<&&str> = imports.iter().filter(|module| !there(module)).collect();
        if !missing.is_empty() {
            println!("SKIPPED: `{python}` has no {missing:?}; this block of docs/shards.md was not run:\n{block}");
            // PyTorch from PyPI downloads gigabytes of CUDA, too much for such a small test.
            assert!(!in_ci() || missing == [&"torch"], "{missing:?} must be there in CI");
            continue;
        }
        let ran = Command::new(&python).args(["-c", &block]).current_dir(project.root()).output().unwrap();
        assert!(ran.status.success(), "{block}\n{}", String::from_utf8_lossy(&ran.stderr));
        assert!(!ran.stdout.is_empty(), "{block}");
    }
    assert!(wanted.is_empty(), "no block shows how to read shards with {wanted:?}");
}
