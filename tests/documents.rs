//! What the documents show works.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::builtin::SMALL;
use crate::harness::{Project, python};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The code blocks of a language in a Markdown file.
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

/// The Markdown files of the project, relative to its root.
fn documents() -> Vec<String> {
    let mut files = vec!["cache/README.md".to_owned(), "fuzz/README.md".to_owned()];
    let mut folders = vec![PathBuf::new(), "docs".into(), "examples".into()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap().flatten() {
            let path = folder.join(entry.file_name());
            if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path.to_str().unwrap().to_owned());
            } else if !folder.as_os_str().is_empty() && entry.path().is_dir() {
                folders.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The pages of the guide.
fn guide() -> Vec<String> {
    documents().into_iter().filter(|file| file.starts_with("docs/guide/")).collect()
}

/// The files that pipelines of a page need: blocks of YAML and Python that begin with a comment with their name, and files of folders.
fn companions(file: &str) -> Vec<(String, String)> {
    let blocks = ["yaml", "python"].iter().flat_map(|language| blocks(file, language));
    let named = blocks.filter_map(|block| {
        let name = block.lines().next()?.strip_prefix("# ")?;
        (!name.contains(' ')).then(|| (name.to_owned(), block.clone()))
    });
    named
        .chain([
            ("scans/a.csv".to_owned(), "1\n".to_owned()),
            ("samples/a.txt".to_owned(), "a\n".to_owned()),
            ("config.yaml".to_owned(), "min_length: 3\n".to_owned()),
            (
                "params.yaml".to_owned(),
                "seed: 1\nprepare: {seed: 1, split: 0.5}\ntrain: {lr: 0.1, rate: 0.1}\n".to_owned(),
            ),
        ])
        .collect()
}

#[test]
fn pipelines_in_the_guide_are_pipelines() {
    let mut seen = 0;
    for file in guide() {
        for block in blocks(&file, "toml") {
            // Settings are shown without stages.
            let stage = if block.contains("[stages.") { "" } else { "[stages.synthetic]\n" };
            let project = Project::builtin(&format!("{stage}{block}"));
            for (name, text) in companions(&file) {
                project.write(&name, text);
            }
            let ran = project.hamflow(&["dag", "--no-status"]);
            assert_eq!(ran.code, 0, "{file}: {block}\n{ran:?}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn the_remote_of_the_documents_is_one() {
    let blocks = blocks("docs/guide/remotes.md", "toml");
    assert_eq!(blocks.len(), 1);
    assert!(blocks[0].contains("[cache.remote]"));
}

/// The lines of a document's console blocks that call hamflow, without comments.
fn console_lines(file: &str) -> Vec<String> {
    let lines = blocks(file, "console").join("\n");
    let calls = lines.lines().filter_map(|line| line.strip_prefix("hamflow "));
    calls.map(|line| line.split(" #").next().unwrap().trim().to_owned()).collect()
}

/// The help of a command, and the names of the commands below it.
fn help(project: &Project, command: &[&str]) -> (String, Vec<String>) {
    let ran = project.hamflow(&[command, &["--help"]].concat());
    assert_eq!(ran.code, 0, "{command:?}: {ran:?}");
    let listed = ran.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let names = listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    (ran.stdout, names)
}

/// Checks each subcommand and each flag of a call against the help.
fn check_call(project: &Project, file: &str, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut depth = 0;
    let text = loop {
        let (text, names) = help(project, &words[..depth]);
        match words.get(depth) {
            Some(word) if names.iter().any(|name| name == word) => depth += 1,
            word => {
                assert!(names.is_empty(), "{file}: `hamflow {line}`: {word:?} is none of {names:?}");
                break text;
            }
        }
    };
    let known: BTreeSet<&str> = text.split(|letter: char| !letter.is_alphanumeric() && letter != '-').collect();
    for flag in words[depth..].iter().filter(|word| word.starts_with('-')) {
        let name = flag.split('=').next().unwrap();
        assert!(known.contains(name), "{file}: `hamflow {line}`: `{name}` is not in the help:\n{text}");
    }
}

/// The first line that a command prints, which is then stopped.
fn first_line(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn commands_in_the_readme_work_one_after_the_other() {
    let project = Project::builtin(SMALL);
    let readme = console_lines("README.md");
    assert!(readme.len() >= 7, "{readme:?}");
    for line in readme {
        check_call(&project, "README.md", &line);
        let mut command = project.command(&line.split_whitespace().collect::<Vec<_>>());
        command.env("BROWSER", "true");
        if line.starts_with("serve") {
            assert!(first_line(command).starts_with("http://127.0.0.1:"), "`hamflow {line}`");
            continue;
        }
        let ran = Project::finish(command);
        assert_eq!(ran.code, 0, "`hamflow {line}`: {ran:?}");
        assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "`hamflow {line}` printed nothing");
    }
    let status = project.hamflow(&["status"]).stdout;
    assert!(status.lines().count() == 10 && status.lines().all(|line| line.starts_with("fresh ")), "{status}");
}

#[test]
fn commands_in_the_guide_are_commands() {
    let project = Project::builtin("[stages.synthetic]\n");
    let mut seen = 0;
    for file in guide() {
        for line in console_lines(&file) {
            check_call(&project, &file, &line);
            seen += 1;
        }
    }
    assert!(seen >= 30, "{seen}");
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
    let names = text.lines().filter_map(|line| line.strip_prefix("[profiles.")?.strip_suffix(']'));
    let profiles: Vec<&str> = names.filter(|name| !name.contains('.')).collect();
    assert_eq!(profiles, ["demo", "transfer", "masks"]);
    let project = Project::builtin(&text);
    for profile in profiles {
        let ran = project.hamflow(&["dag", "--no-status", "--profile", profile]);
        assert_eq!(ran.code, 0, "{profile}: {ran:?}");
    }
}

#[test]
fn the_shipped_pipeline_says_where_to_get_the_data() {
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

/// A Markdown file without its code blocks.
fn prose(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split("```").step_by(2).collect()
}

/// The anchors of a Markdown file, as GitHub makes them of its headings.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = prose(path).to_lowercase();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim().replace(' ', "-"));
    titles.map(|title| title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let files = documents();
    assert!(files.len() >= 40, "{files:?}");
    for file in files {
        let own = root().join(&file);
        let text = prose(&own);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { own.clone() } else { own.parent().unwrap().join(path) };
            assert!(path.exists(), "{file} links to {target}");
            assert!(heading.is_empty() || anchors(&path).contains(heading), "{file} links to {target}");
        }
    }
}

#[test]
fn lines_of_documents_wrap_at_120_columns() {
    for file in documents() {
        for (number, line) in std::fs::read_to_string(root().join(&file)).unwrap().lines().enumerate() {
            // Tables and links cannot be wrapped.
            let wraps = !line.starts_with('|') && line.trim().contains(' ');
            assert!(!wraps || line.chars().count() <= 120, "{file}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn the_first_pages_stay_short() {
    for (file, most) in [("README.md", 120), ("ARCHITECTURE.md", 150), ("CONTRIBUTING.md", 120)] {
        let lines = std::fs::read_to_string(root().join(file)).unwrap().lines().count();
        assert!(lines <= most, "{file} has {lines} lines, more than {most}");
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

/// The commands of a workflow of GitHub or GitLab, in their order.
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
#[ignore = "needs Python packages"]
fn with_the_workflows_a_fresh_runner_runs_nothing_with_and_without_the_images() {
    let python = python("yaml");
    let source = Project::builtin("[stages.synthetic]\nimages = 120\n");
    source.run();
    let dataset = source.files("out/synthetic");
    let workflows = blocks("docs/guide/ci.md", "yaml");
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

/// The modules that a block imports.
fn imports(block: &str) -> Vec<&str> {
    let named = block.lines().filter_map(|line| line.strip_prefix("import ").or_else(|| line.strip_prefix("from ")));
    named.filter_map(|rest| rest.split([' ', '.']).next()).collect()
}

/// A project of every stage that the page about Python reads.
fn project_for_python(model: &str) -> Project {
    let project = Project::builtin(&format!(
        r#"
[stages.synthetic]
images = 120
[stages.metadata]
csv = "synthetic.metadata"
images = "synthetic.images"
[stages.split]
table = "metadata"
[stages.preprocess]
table = "metadata"
images = "synthetic.images"
part_size = 16
[stages.train]
shards = "preprocess"
split = "split"
model = "{model}"
epochs = 1
[stages.evaluate]
model = "train"
shards = "preprocess"
split = "split"
bootstrap = 10
[stages.export]
model = "train"
"#
    ));
    assert_eq!(project.run().count("ran"), 7);
    project
}

#[test]
#[ignore = "needs Python packages"]
fn the_ways_to_read_from_python_work() {
    let project = project_for_python("baseline");
    assert_blocks_run(&project, &["pyarrow", "polars", "datasets", "pandas", "matplotlib"], |imports| {
        !imports.contains(&"torch")
    });
}

// PyTorch from PyPI brings gigabytes of CUDA, which is too much for a test of some lines: CI may lack it.
#[test]
#[ignore = "needs PyTorch"]
fn the_ways_to_read_tensors_and_weights_with_pytorch_work() {
    for model in
        ["baseline", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "resnet-18", "mobilenet-v2"]
    {
        let project = project_for_python(model);
        let wanted: &[&str] = if model == "baseline" { &["torch", "timm"] } else { &["timm"] };
        assert_blocks_run(&project, wanted, |imports| wanted.iter().any(|module| imports.contains(module)));
    }
}

/// Runs the chosen blocks of the page, which import all `wanted` modules.
fn assert_blocks_run(project: &Project, wanted: &[&str], is_chosen: impl Fn(&[&str]) -> bool) {
    let mut wanted: BTreeSet<&str> = wanted.iter().copied().collect();
    let path = format!("{}:{}", project.program().parent().unwrap().display(), std::env::var("PATH").unwrap());
    for block in blocks("docs/guide/python.md", "python") {
        let imports = imports(&block);
        if !is_chosen(&imports) {
            continue;
        }
        wanted.retain(|module| !imports.contains(module));
        let ran = Command::new(python(&imports.join(", ")))
            .args(["-c", &block])
            .current_dir(project.root())
            .env("PATH", &path)
            .env("MPLBACKEND", "Agg")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{block}\n{}", String::from_utf8_lossy(&ran.stderr));
        assert!(!ran.stdout.is_empty(), "{block}");
    }
    assert!(wanted.is_empty(), "no block shows how to read with {wanted:?}");
}

#[test]
fn tests_named_in_documents_exist() {
    let mut sources = String::new();
    let mut todo = vec![root().join("src"), root().join("stages"), root().join("tests")];
    while let Some(folder) = todo.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut seen = 0;
    for file in documents() {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let is_path =
                name.contains("::") && name.chars().all(|c| c.is_ascii_lowercase() || "_:0123456789".contains(c));
            let Some(last) = name.rsplit("::").next().filter(|last| is_path && *last != "tests") else { continue };
            let found = sources.contains(&format!("fn {last}("))
                || [";", " {"].iter().any(|end| sources.contains(&format!("mod {last}{end}")));
            assert!(found, "{file} names `{name}`, which does not exist");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// The first block of a page in a language that contains a text.
fn block_with(file: &str, language: &str, text: &str) -> String {
    let found = blocks(file, language).into_iter().find(|block| block.contains(text));
    found.unwrap_or_else(|| panic!("{file} has no block with `{text}`"))
}

#[test]
fn the_pipeline_of_dvc_in_the_guide_is_converted_as_shown_and_runs() {
    const PAGE: &str = "docs/guide/migrating.md";
    let project = Project::builtin("");
    let folder = project.path("example");
    std::fs::create_dir(&folder).unwrap();
    project.write("example/dvc.yaml", block_with(PAGE, "yaml", "# dvc.yaml"));
    project.write("example/params.yaml", "prepare: {seed: 1, split: 0.5}\ntrain: {rate: 0.1}\n");
    project.write("example/data/data.csv", "a,1\nb,2\nc,3\nd,4\n");
    // It writes to a path of its own and reads the parameters, as that of the get-started does.
    project.write(
        "example/src/prepare.py",
        "import os, random, sys\nassert 'seed: 1' in open('params.yaml').read()\nrandom.seed(1)\nos.makedirs('data/prepared')\n\
         rows = open(sys.argv[1]).read().split()\nopen('data/prepared/train.csv', 'w').write('\\n'.join(rows[::2]))\n\
         open('data/prepared/test.csv', 'w').write('\\n'.join(rows[1::2]))\n",
    );
    project.write(
        "example/src/train.py",
        "import sys\nrows = open(sys.argv[1] + '/train.csv').read().split()\n\
         open(sys.argv[2], 'w').write(str(sum(int(row.split(',')[1]) for row in rows) / len(rows)))\n",
    );
    project.write(
        "example/src/evaluate.py",
        "import json, os, sys\nmodel, data, out = sys.argv[1:]\nmean = float(open(model).read())\nos.makedirs(out)\n\
         errors = [abs(int(row.split(',')[1]) - mean) for row in open(data + '/test.csv').read().split()]\n\
         json.dump({'error': {'mean': sum(errors) / len(errors)}}, open(out + '/metrics.json', 'w'))\n\
         open(out + '/errors.csv', 'w').write('row,error\\n' + ''.join(f'{i},{e}\\n' for i, e in enumerate(errors)))\n",
    );
    let run = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.current_dir(&folder);
        Project::finish(command)
    };
    let converted = run(&["init", "--from", "dvc.yaml"]);
    assert!(converted.code == 0 && !converted.stderr.contains("not converted"), "{converted:?}");
    assert_eq!(project.read("example/pipeline.toml"), block_with(PAGE, "toml", "# Converted from dvc.yaml"));
    let ran = run(&["run", "--json"]);
    assert_eq!((ran.code, ran.count("ran")), (0, 4), "{ran:?}");
    assert_eq!(run(&["run", "--json"]).count("fresh"), 4);
    let metrics = run(&["metrics"]);
    // (2, 4) against the mean of (1, 3).
    assert!(metrics.stdout.contains("evaluate.error.mean") && metrics.stdout.trim().ends_with("1"), "{metrics:?}");
    assert!(project.read("example/out/report/index.html").contains(">Errors</text>"));
    assert!(!project.path("example/data/prepared").exists());
    let again = run(&["init", "--from", "dvc.yaml"]);
    assert!(again.code == 2 && again.stderr.contains("`pipeline.toml` already exists"), "{again:?}");
}

#[test]
fn the_workflow_of_snakemake_in_the_guide_runs() {
    let project = Project::builtin(&block_with("docs/guide/migrating.md", "toml", "foreach"));
    project.write("config.yaml", "min_length: 3\nother: 1\n");
    project.write(
        "count.py",
        "import sys\nprint(sum(len(w) >= int(sys.argv[1]) for w in open(sys.argv[2]).read().split()))\n",
    );
    project.write("samples/a.txt", "one to three");
    project.write("samples/b.txt", "of it");
    let ran = project.run();
    assert_eq!((ran.count("ran"), project.read("out/summary/summary.txt")), (3, "0\n2\n".to_owned()), "{ran:?}");
    project.write("config.yaml", "min_length: 2\nother: 1\n");
    assert_eq!((project.run().count("ran"), project.read("out/summary/summary.txt")), (3, "2\n3\n".to_owned()));
    project.write("samples/b.txt", "of it all");
    assert_eq!(project.run().ran(), ["count[each=b.txt]", "summary"]);
}
