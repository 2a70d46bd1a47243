//! The kind `search` in a pipeline: which trials run, resume and are reproducible.

use serde_json::Value;

use crate::builtin::SMALL;
use crate::harness::Project;

/// A search over two learning rates with an evaluation and a report.
fn searched(space: &str) -> String {
    let head = &SMALL[..SMALL.find("[stages.train]").unwrap()];
    format!(
        r#"{head}
[stages.search]
shards = "preprocess"
split = "split"
metric = "balanced_accuracy"
train = {{ epochs = 3, batch_size = 11 }}
{space}
[stages.evaluate]
model = "search"
shards = "preprocess"
split = "split"
[stages.report]
model = "search"
history = "search"
training = "search.summary"
metrics = "evaluate"
predictions = "evaluate"
search = "search"
"#
    )
}

fn record(project: &Project) -> Value {
    serde_json::from_str(&project.read("out/search/search.json")).unwrap()
}

/// The number of parts of `search` that ran and that were cached, from the log of the run.
fn parts(project: &Project) -> (usize, usize) {
    let records = project.files("cache/runs");
    let (_, bytes) = records.iter().rfind(|(name, _)| name.ends_with("record.json")).unwrap();
    let run: Value = serde_json::from_slice(bytes).unwrap();
    let stages = run["stages"].as_array().unwrap();
    let search = stages.iter().find(|stage| stage["stage"] == "search").unwrap();
    let count = |name: &str| search[name].as_u64().unwrap_or(0) as usize;
    (count("parts_ran"), count("parts_cached"))
}

#[test]
fn an_added_value_runs_only_the_new_trials() {
    let project = Project::builtin(&searched("space = { learning_rate = [1e-3, 1e-4] }"));
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(parts(&project), (2, 0));
    let before = record(&project);
    let page = project.read("out/report/index.html");
    assert!(page.contains("2 trials were compared by the <strong>balanced accuracy</strong>"), "{page}");
    assert_eq!(project.run().count("ran"), 0);

    project.write("pipeline.toml", searched("space = { learning_rate = [1e-3, 3e-3, 1e-4] }"));
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(parts(&project), (1, 2));
    let after = record(&project);
    let curve = |record: &Value, rate: f64| {
        let trials = record["trials"].as_array().unwrap().iter();
        trials.clone().find(|trial| trial["values"]["learning_rate"] == rate).map(|trial| trial["curve"].clone())
    };
    assert_eq!(curve(&before, 1e-4), curve(&after, 1e-4));
    assert!(curve(&before, 3e-3).is_none() && curve(&after, 3e-3).is_some());

    let verified = project.hamflow(&["verify", "--rebuild", "search"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn halving_continues_the_best_trials_and_more_trials_keep_those_so_far() {
    let space = |trials: usize| {
        searched(&format!(
            "method = \"random\"\ntrials = {trials}\nhalving = {{ min_epochs = 1, factor = 3 }}\nspace = {{ learning_rate = {{ min = 1e-5, max = 1e-2, log = true }} }}"
        ))
    };
    let project = Project::builtin(&space(6));
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    // Six trials of one epoch, two of which continue to three.
    assert_eq!(parts(&project), (8, 0));
    let statuses = |record: &Value, status: &str| {
        record["trials"].as_array().unwrap().iter().filter(|trial| trial["status"] == status).count()
    };
    let found = record(&project);
    assert_eq!((statuses(&found, "completed"), statuses(&found, "pruned")), (2, 4));

    project.write("pipeline.toml", space(7));
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    let (new, cached) = parts(&project);
    assert!(cached >= 7 && new <= 2, "{new} new, {cached} cached");
    let first = |record: &Value| record["trials"][0]["values"].clone();
    assert_eq!(first(&record(&project)), first(&found));
}

#[test]
fn a_search_whose_trials_all_diverge_fails_and_names_them() {
    let project = Project::builtin(&searched("space = { learning_rate = [10.0], momentum = [0.9, 0.95] }"));
    let ran = project.hamflow(&["run", "--set", "stages.search.train.optimiser=\"sgd\""]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("all 2 trials diverged") && ran.stderr.contains("learning_rate = 10"), "{ran:?}");
}
