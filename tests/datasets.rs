//! Datasets of other layouts, classes and programs, to the report.

use std::path::Path;
use std::process::Command;

use crate::harness::{Project, Ran, python};

/// A synthetic dataset in the folder `data` of a project: its table and its images.
fn with_data(images: usize) -> (Project, Vec<Vec<String>>) {
    let source =
        Project::builtin(&format!("[pipeline]\nname = \"data\"\nseed = 3\n[stages.synthetic]\nimages = {images}\n"));
    assert_eq!(source.run().count("ran"), 1);
    let project = Project::builtin("");
    let mut rows = Vec::new();
    for (path, bytes) in source.files("out/synthetic") {
        if path.ends_with(".csv") {
            let text = String::from_utf8(bytes).unwrap();
            rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect();
        } else {
            project.write(&format!("data/{}", path.rsplit('/').next().unwrap()), bytes);
        }
    }
    (project, rows)
}

/// Lets `init` write the pipeline, makes its training short, and runs it to the report.
fn run_detected(project: &Project) -> Ran {
    std::fs::remove_file(project.path("pipeline.toml")).unwrap();
    let init = project.hamflow(&["init"]);
    assert_eq!(init.code, 0, "{init:?}");
    let pipeline = project.read("pipeline.toml").replace("epochs = 50", "epochs = 1");
    project.write("pipeline.toml", pipeline.replace("height = 75\nwidth = 100", "height = 12\nwidth = 16"));
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

/// The page of the report, in which no figure may be about what the dataset does not have.
fn report_without(project: &Project, absent: &[&str]) -> String {
    let page = project.read("out/report/index.html");
    for (figure, _) in project.files("out/eda/figures") {
        let stem = figure.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        let mut columns = stem.split("_by_").flat_map(|part| part.split("_and_"));
        assert!(!columns.any(|column| absent.contains(&column)), "{figure}");
    }
    assert!(page.contains("Images by cell type"), "the classes have a figure");
    page
}

#[test]
fn a_table_of_two_classes_without_age_and_site_runs_to_the_report() {
    let (project, rows) = with_data(150);
    let mut table = "image_id,dx\n".to_owned();
    for row in &rows {
        let class = if ["mel", "bcc", "akiec"].contains(&&row[2][..]) { "malignant" } else { "benign" };
        table.push_str(&format!("{},{class}\n", row[1]));
    }
    project.write("data/labels.csv", table);
    let ran = run_detected(&project);
    let warning =
        "no row has a `lesion_id`: whether images of one lesion or patient are in different splits cannot be checked";
    assert!(ran.stdout.contains(warning), "{ran:?}");
    let page = report_without(&project, &["sex", "age", "localization", "dx_type"]);
    assert!(page.contains("so nothing proves that no lesion or patient has images in more than one split"));
    assert!(!page.contains("Images by age") && !page.contains("By sex"), "nothing is known about patients");
    let metrics: serde_json::Value = serde_json::from_str(&project.read("out/evaluate/metrics.json")).unwrap();
    assert_eq!(metrics["test"]["classes"], serde_json::json!(["benign", "malignant"]));
    assert_eq!(metrics["test"]["subgroups"], serde_json::json!({}));
}

#[test]
fn folders_of_23_classes_run_to_the_report() {
    let (project, rows) = with_data(230);
    for (number, row) in rows.iter().enumerate() {
        let image = format!("data/{}.jpg", row[1]);
        let bytes = std::fs::read(project.path(&image)).unwrap();
        std::fs::remove_file(project.path(&image)).unwrap();
        project.write(&format!("data/kind {:02}/{}.jpg", number % 23 * 3, row[1]), bytes);
    }
    // Folders with numbers alone could be parts of a dataset.
    std::fs::rename(project.path("data/kind 00"), project.path("data/Blue naevus")).unwrap();
    assert_eq!(run_detected(&project).count("ran"), 8);
    let page = report_without(&project, &["sex", "age", "localization", "dx_type"]);
    assert!(page.contains("blue naevus") && page.contains("kind 66"));
    let metrics: serde_json::Value = serde_json::from_str(&project.read("out/evaluate/metrics.json")).unwrap();
    assert_eq!(metrics["test"]["confusion_matrix"].as_array().unwrap().len(), 23);
}

const EXTERNAL: &str = r#"
[pipeline]
name = "external"
seed = 3
[inputs]
here = "here.csv"
there = "there.csv"
images = "data"
[stages.metadata]
csv = "inputs.here"
images = "inputs.images"
[stages.split]
table = "metadata"
[stages.preprocess]
table = "metadata"
images = "inputs.images"
height = 11
width = 15
[stages.train]
shards = "preprocess"
split = "split"
epochs = 1
[stages.elsewhere]
kind = "metadata"
csv = "inputs.there"
images = "inputs.images"
[stages.preprocess-elsewhere]
kind = "preprocess"
table = "elsewhere"
images = "inputs.images"
height = 11
width = 15
[stages.evaluate]
model = "train"
shards = "preprocess"
split = "split"
external = "elsewhere"
external_shards = "preprocess-elsewhere"
[stages.compare]
predictions = ["evaluate"]
split = "external"
[stages.report]
metadata = "metadata.summary"
balance = "split"
model = "train"
metrics = "evaluate"
predictions = "evaluate"
figures = "evaluate"
"#;

#[test]
fn an_external_test_set_is_evaluated_unless_training_has_seen_it() {
    let (project, rows) = with_data(180);
    let header = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\n";
    let table = |rows: &[&Vec<String>]| {
        format!("{header}{}\n", rows.iter().map(|row| row.join(",")).collect::<Vec<_>>().join("\n"))
    };
    // Whole lesions are here or there; two images are copies of each other.
    let is_here = |row: &&Vec<String>| !row[0].as_bytes()[row[0].len() - 1].is_multiple_of(4);
    let (here, there): (Vec<&Vec<String>>, Vec<&Vec<String>>) = rows.iter().partition(is_here);
    project.write("here.csv", table(&here));
    project.write("there.csv", table(&there));
    project.write("pipeline.toml", EXTERNAL);
    assert_eq!(project.run().count("failed"), 0);
    let metrics = || serde_json::from_str::<serde_json::Value>(&project.read("out/evaluate/metrics.json")).unwrap();
    assert_eq!(metrics()["external"]["rows"], there.len());
    let page = project.read("out/report/index.html");
    for text in ["External test set", "What differs between the test sets", "have the same pixels after preprocessing"]
    {
        assert!(page.contains(text), "{text}");
    }
    let compared: serde_json::Value = serde_json::from_str(&project.read("out/compare/comparison.json")).unwrap();
    assert_eq!((&compared["split"], &compared["rows"]), (&"external".into(), &there.len().into()));

    project.write("there.csv", table(&rows.iter().collect::<Vec<_>>()));
    let ran = project.hamflow(&["run"]);
    let refusal =
        "the external test set `elsewhere.table` shares 100 images with training and validation: `ISIC_0000000`, ";
    assert!(ran.code == 2 && ran.stderr.contains(refusal), "{ran:?}");
    let ids: Vec<String> = here.iter().map(|row| format!("{:?}", row[1])).collect();
    let excluded = format!("csv = \"inputs.there\"\nexclude_images = [{}]\n", ids.join(", "));
    project.write("pipeline.toml", EXTERNAL.replace("csv = \"inputs.there\"\n", &excluded));
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(metrics()["external"]["rows"], there.len());
}

#[test]
#[ignore = "needs Python packages"]
fn the_example_of_an_own_model_runs_to_the_report() {
    let python = python("pyarrow, sklearn");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own-model");
    let project = Project::builtin(&std::fs::read_to_string(folder.join("pipeline.toml")).unwrap());
    project.write("train.py", std::fs::read(folder.join("train.py")).unwrap());
    // The program of the pipeline is `python3`.
    let programs = Path::new(&python).parent().unwrap();
    let mut run = Command::new(project.program());
    run.arg("run").current_dir(project.root());
    run.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let ran = Project::finish(run);
    assert_eq!(ran.code, 0, "{ran:?}");
    let metrics: serde_json::Value = serde_json::from_str(&project.read("out/evaluate-own/metrics.json")).unwrap();
    // Always answering the most frequent class gives 0.68.
    assert!(metrics["test"]["roc_auc_macro"].as_f64().unwrap() > 0.9, "{}", metrics["test"]["roc_auc_macro"]);
    let page = project.read("out/report/index.html");
    assert!(page.contains("Model comparison") && page.contains("scikit-learn"));
}
