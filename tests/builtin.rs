//! The built-in kinds together, on a small synthetic dataset.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Project, python};

pub const SMALL: &str = r#"
[pipeline]
name = "small"
seed = 5
[stages.synthetic]
images = 180
[stages.metadata]
csv = "synthetic.metadata"
images = "synthetic.images"
[stages.clean]
kind = "impute"
table = "metadata"
column = "age"
[stages.split]
table = "clean"
images = "synthetic.images"
[stages.preprocess]
table = "metadata"
images = "synthetic.images"
height = 11
width = 15
part_size = 16
[stages.train]
shards = "preprocess"
split = "split"
epochs = 2
batch_size = 11
[stages.evaluate]
model = "train"
shards = "preprocess"
split = "split"
[stages.eda]
table = "metadata"
images = "synthetic.images"
[stages.gradcam]
model = "train"
shards = "preprocess"
predictions = "evaluate"
images = "synthetic.images"
[stages.report]
metadata = "metadata.summary"
exploration = "eda"
findings = "eda"
clean = "clean.summary"
balance = "split"
model = "train"
history = "train"
training = "train.summary"
metrics = "evaluate"
predictions = "evaluate"
figures = "evaluate"
explanations = "gradcam"
localisation = "gradcam"
quarantine = "preprocess.quarantine"
"#;

fn small() -> Project {
    let project = Project::builtin(SMALL);
    let ran = project.run();
    assert_eq!(ran.count("ran"), 10, "{ran:?}");
    project
}

#[test]
fn a_run_ends_with_its_headline_metric_and_its_page() {
    let project = Project::builtin(SMALL);
    let ran = project.hamflow(&["run"]);
    let lines: Vec<&str> = ran.stderr.lines().rev().take(3).collect();
    assert_eq!(lines[0], "open out/report/index.html", "{ran:?}");
    let value = lines[1].strip_prefix("evaluate.test.balanced_accuracy  0.");
    assert!(value.is_some_and(|digits| digits.len() == 4), "{ran:?}");
    assert!(lines[2].starts_with("finished in "), "{ran:?}");
    let again = project.hamflow(&["run"]).stderr;
    assert!(again.starts_with("nothing to do: 10 stages are fresh") && again.lines().count() == 1, "{again}");
}

#[test]
fn outputs_are_identical_for_any_number_of_threads() {
    let mut first: Option<Vec<(String, Vec<u8>)>> = None;
    for threads in ["1", "2", "3", "7"] {
        let project = Project::builtin(SMALL);
        project.run_with(&["--jobs", threads]);
        let files = project.files("out");
        assert!(files.len() > 180);
        match &first {
            None => first = Some(files),
            Some(first) => {
                let differing: Vec<&String> =
                    first.iter().zip(&files).filter(|(a, b)| a != b).map(|((name, _), _)| name).collect();
                assert!(differing.is_empty() && first.len() == files.len(), "{threads} threads: {differing:?}");
            }
        }
    }
}

#[test]
fn the_whole_pipeline_reruns_only_what_a_change_affects() {
    let project = small();
    assert_eq!(project.run().count("fresh"), 10);
    // A training parameter does not affect stages before `train`.
    let ran = project.run_with(&["--set", "stages.train.epochs=1"]);
    assert_eq!(ran.ran(), ["train", "evaluate", "gradcam", "report"]);
    // Filling ages differently affects neither the images nor their split, and so not the model either.
    let ran = project.run_with(&["--set", "stages.clean.strategy=median"]);
    assert_eq!(ran.ran(), ["clean", "split", "report"], "{ran:?}");
    let metrics = project.hamflow(&["metrics"]);
    assert!(metrics.stdout.contains("evaluate.test.balanced_accuracy"), "{metrics:?}");
    let page = project.read("out/report/index.html");
    assert!(page.to_lowercase().contains("synthetic data"));
    for asking in ["src=\"http", "href=\"http", "url(http", "@import", "fetch(", "<link"] {
        assert!(!page.contains(asking), "the page makes no network requests, but contains `{asking}`");
    }
    assert!(!page.contains(&*project.root().to_string_lossy()), "no local paths");
}

#[test]
fn the_report_knows_the_parameters_behind_it_and_no_name_of_a_stage() {
    let project = small();
    let page = project.read("out/report/index.html");
    assert!(page.contains("<h3>Recipe</h3>") && page.contains("<dt>batch size</dt>"), "the parameters of the training");
    assert!(page.contains("gradcam reads ") && page.contains("<h4>synthetic</h4>"), "the graph and all parameters");
    let renamed =
        SMALL.replace("[stages.gradcam]", "[stages.heat]\nkind = \"gradcam\"").replace("\"gradcam\"\n", "\"heat\"\n");
    let renamed = renamed.replace("kind = \"heat\"", "kind = \"gradcam\"");
    project.write("pipeline.toml", renamed);
    let ran = project.run();
    assert_eq!((ran.ran(), ran.with_outcome("cached")), (Vec::new(), vec!["heat".to_owned()]));
}

#[test]
fn the_report_and_the_comparison_show_the_run_records() {
    let project = small();
    project.run_with(&["--set", "stages.train.epochs=1"]);
    let log = project.hamflow(&["log", "--json"]);
    let runs: Vec<serde_json::Value> = log.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [second, first] = [0, 1].map(|number| runs[number]["run"].as_str().unwrap().to_owned());

    // The current state without overrides is that of the first run.
    let ran = project.hamflow(&["report"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let page = std::fs::read_to_string(ran.stdout.trim()).unwrap();
    assert!(page.contains(&format!("The run {first}")) && page.contains("never built"));
    assert!(page.contains("Synthetic data.") && page.ends_with("</html>"));
    assert!(!project.read("out/report/index.html").contains(&second), "the artifact contains no run details");
    let ran = project.hamflow(&["report", "--run", &second]);
    assert!(std::fs::read_to_string(ran.stdout.trim()).unwrap().contains(&format!("The run {second}")));

    let ran = project.hamflow(&["compare", &first, &second]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let page = std::fs::read_to_string(ran.stdout.trim()).unwrap();
    assert!(
        page.contains("<strong>train</strong>: <code>epochs</code> changed from 2 to 1</li>"),
        "differences are listed"
    );
    assert!(page.contains("<h3>evaluate: test</h3>") && page.contains("<th scope=\"row\">balanced accuracy</th>"));
    assert!(page.contains("<span class=\"interval\">") && page.contains("equal metrics</summary>"), "{page}");
    assert!(page.contains("alt=\"Learning curves of train in both runs\" src=\"data:image/svg+xml;base64,"), "{page}");
    assert_eq!(page.matches("<iframe").count(), 2);
    assert!(!page.contains("<strong>preprocess</strong>"), "equal stages are not listed");

    // Another model on the same rows.
    project.run_with(&["--set", "stages.train.learning_rate=0.01"]);
    let ran = project.hamflow(&["compare", &first, "last"]);
    let page = std::fs::read_to_string(ran.stdout.trim()).unwrap();
    assert!(page.contains("That of a difference is paired: it resamples the same lesions for both runs."), "{page}");
    // Other rows cannot be paired; the page says why.
    project.run_with(&["--set", "stages.split.seed=7"]);
    let ran = project.hamflow(&["compare", &first, "last"]);
    let page = std::fs::read_to_string(ran.stdout.trim()).unwrap();
    let unpaired =
        format!("Differences of <strong>evaluate</strong> have no interval: <code>run {first}</code> has a prediction");
    assert!(page.contains(&unpaired) && !page.contains("is paired"), "{page}");
}

#[test]
fn predict_agrees_with_evaluate() {
    let project = small();
    let ran = project.hamflow(&["predict", "train", "out/synthetic/images", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answers: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 180);
    // The challenge submission has the same probabilities by image.
    let submission = project.read("out/evaluate/isic_2018_submission.csv");
    let mut lines = submission.lines();
    let classes: Vec<String> = lines.next().unwrap().split(',').skip(1).map(str::to_lowercase).collect();
    let mut compared = 0;
    for line in lines {
        let (image, probabilities) = line.split_once(',').unwrap();
        let named = |answer: &&serde_json::Value| answer["image"].as_str().unwrap().ends_with(&format!("{image}.jpg"));
        let answer = answers.iter().find(named).unwrap();
        for (class, probability) in classes.iter().zip(probabilities.split(',')) {
            let (ours, theirs) =
                (answer["probabilities"][class].as_f64().unwrap(), probability.parse::<f64>().unwrap());
            // A JSON round trip may lose the last bit.
            assert!((ours - theirs).abs() <= f64::EPSILON * theirs, "{image}: {ours} {theirs}");
            compared += 1;
        }
    }
    assert!(compared > 100);

    // Outside of the project, the model directory is enough. A file that is not an image is reported and skipped.
    project.write("elsewhere/broken.jpg", "no picture");
    std::os::unix::fs::symlink("/nonexistent", project.path("elsewhere/gone.jpg")).unwrap();
    let first = answers[0]["image"].as_str().unwrap();
    std::fs::copy(project.path(first), project.path("elsewhere/good.jpg")).unwrap();
    let mut command = project.command(&["predict", "../out/train/model", ".", "--gradcam", "heat"]);
    let ran = Project::finish({
        command.current_dir(project.path("elsewhere"));
        command
    });
    assert_eq!((ran.code, ran.stdout.lines().count()), (1, 1), "{ran:?}");
    assert!(ran.stderr.contains("broken.jpg` ") && !ran.stderr.contains("good.jpg"), "{ran:?}");
    assert!(ran.stderr.contains("note: `.`: skipped `gone.jpg` (broken symlink)"), "{ran:?}");
    assert_eq!(&std::fs::read(project.path("elsewhere/heat/good_gradcam.png")).unwrap()[1..4], b"PNG");
    assert!(!project.path("elsewhere/heat/broken_gradcam.png").exists());

    for (arguments, wanted) in [
        (
            &["predict", "trian", first][..],
            "`trian` is neither a directory nor a stage that produces a model\nhint: stages with a model: `train`",
        ),
        (&["predict", "train", "nothing.jpg"], "no such image: `nothing.jpg`"),
        (&["predict", "train", "out/train"], "contains no files with the extension jpg, jpeg or png"),
        (&["predict", "out/split", first], "has no file `card.json`"),
        (&["predict", "train", first, first, "--gradcam", "heat"], "would both write the overlay"),
        (&["predict", "out/train", first], "did you mean `out/train/model`?"),
        (&["predict", "train", first, "--gradcam", "pipeline.toml"], "is a file, but `--gradcam` takes a directory"),
        // The model is that of the current pipeline, not whatever is in `out/`.
        (&["predict", "train", first, "--set", "stages.train.epochs=3"], "the model of `train` is not up to date"),
    ] {
        let ran = project.hamflow(arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(wanted), "{ran:?}");
    }
}

#[test]
#[ignore = "needs Python packages"]
fn the_official_scorer_of_isic_accepts_the_submission() {
    let project = small();
    let predictions = "import sys, polars as pl\n\
        rows = pl.read_parquet(sys.argv[1]).filter(pl.col('split') == 'test')\n\
        classes = ['mel', 'nv', 'bcc', 'akiec', 'bkl', 'df', 'vasc']\n\
        print(','.join(['image', *map(str.upper, classes)]))\n\
        for image, label in rows.select('image_id', 'label').iter_rows():\n\
        \x20   print(','.join([image, *('1.0' if label == name else '0.0' for name in classes)]))\n";
    let python = python("isic_challenge_scoring, polars");
    let run = |arguments: &[&str]| {
        let output = Command::new(&python).args(arguments).current_dir(project.root()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    project.write("truth.csv", run(&["-c", predictions, "out/evaluate/predictions.parquet"]));
    let scorer = ["-m", "isic_challenge_scoring", "-o", "json", "classification", "truth.csv"];
    let score = run(&[&scorer[..], &["out/evaluate/isic_2018_submission.csv"]].concat());
    let score: serde_json::Value = serde_json::from_str(&score).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&project.read("out/evaluate/metrics.json")).unwrap();
    let ours = metrics["test"]["balanced_accuracy"].as_f64().unwrap();
    let theirs = score["overall"].as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-12, "hamflow {ours}, the scorer {theirs}");
}

#[test]
fn the_demo_runs_in_a_directory_without_a_pipeline() {
    let project = Project::builtin("");
    std::fs::remove_file(project.path("pipeline.toml")).unwrap();
    let other = project.hamflow(&["run", "--profile", "other"]);
    assert!(other.code != 0 && other.stderr.contains("`hamflow init` writes one"), "{other:?}");
    assert!(!project.path("pipeline.toml").exists());
    let dry = project.hamflow(&["run", "--profile", "demo", "--dry-run"]);
    assert!(dry.code != 0 && !project.path("pipeline.toml").exists(), "{dry:?}");
    let demo = project.hamflow(&["run", "--profile", "demo", "--set", "stages.synthetic.images=180", "metadata"]);
    assert_eq!(demo.code, 0, "{demo:?}");
    assert!(demo.stderr.starts_with("created pipeline.toml, the pipeline of `hamflow init`"), "{demo:?}");
    assert_eq!(project.read("pipeline.toml"), include_str!("../pipeline.toml"));
}

#[test]
fn the_help_includes_the_commands_of_the_stages() {
    let project = Project::builtin("");
    let help = |command: &[&str]| {
        let mut asked = project.command(&[command, &["--help"]].concat());
        asked.env_remove("COLUMNS");
        Project::finish(asked).stdout
    };
    insta::assert_snapshot!("help", help(&[]));
    insta::assert_snapshot!("help_predict", help(&["predict"]));
}

#[test]
fn an_error_in_a_table_shows_its_location() {
    let project = Project::builtin(
        "[inputs]\ncsv = \"data/table.csv\"\nimages = \"data\"\n[stages.metadata]\ncsv = \"inputs.csv\"\nimages = \"inputs.images\"\n",
    );
    project.write("data/table.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization\nl,i,scc,histo,5,male,back\n");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--> data/table.csv:2:5\n"), "{}", ran.stderr);
}

#[test]
fn overlays_never_overwrite_images() {
    let project = small();
    let image = project.files("out/synthetic/images").swap_remove(0);
    for name in ["own/mole.png", "own/mole_gradcam.png"] {
        project.write(name, &image.1);
    }
    let ran = project.hamflow(&["predict", "train", "own/mole.png", "--gradcam", "own"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(std::fs::read(project.path("own/mole.png")).unwrap() == image.1);
    let other = project.hamflow(&["predict", "train", "own", "--gradcam", "own"]);
    assert!(
        other.code == 2 && other.stderr.contains("an overlay would overwrite the image `own/mole_gradcam.png`"),
        "{other:?}"
    );
}

#[test]
fn missing_classes_and_skipped_images_make_metrics_undefined() {
    let source = Project::builtin("[stages.synthetic]\nimages = 180\n");
    source.run();
    let dataset = source.files("out/synthetic");
    let pipeline = SMALL
        .replace(
            "[stages.synthetic]\nimages = 180\n",
            "[inputs]\ncsv = \"data/HAM10000_metadata.csv\"\nimages = [\"data/images\"]\n",
        )
        .replace("synthetic.metadata", "inputs.csv")
        .replace("synthetic.images", "inputs.images")
        .replace("part_size = 16", "part_size = 16\nbad_images = \"quarantine\"");
    let run = |keep: fn(&str) -> bool, broken: Option<&str>| {
        let project = Project::builtin(&pipeline);
        for (path, bytes) in &dataset {
            let path = path.replace("out/synthetic", "data");
            if path.ends_with(".csv") {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let kept = text.lines().enumerate().filter(|(number, line)| *number == 0 || keep(line));
                project.write(&path, kept.map(|(_, line)| format!("{line}\n")).collect::<String>());
            } else {
                project.write(
                    &path,
                    if broken.is_some_and(|image| path.contains(image)) { b"nothing" } else { &bytes[..] },
                );
            }
        }
        let ran = project.hamflow(&["run"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(project.read("out/report/index.html").contains("undefined"));
        (ran.stderr, project)
    };
    let (printed, project) = run(|line| line.contains(",nv,"), None);
    assert!(printed.contains("have no training examples"), "{printed}");
    let metrics = project.hamflow(&["metrics"]).stdout;
    let auc = metrics.lines().find(|line| line.starts_with("evaluate.test.roc_auc_macro")).unwrap();
    assert!(auc.ends_with("undefined"), "{metrics}");
    let (printed, _) = run(|line| !line.contains(",df,"), None);
    assert!(printed.contains("class `class-3` has no training examples"), "{printed}");
    let table = source.read("out/synthetic/HAM10000_metadata.csv");
    let image = table.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    let (printed, _) = run(|line| !line.contains(",df,"), Some(image));
    let skipped = ["without an image in the shards", "the shards have no image of"];
    assert!(skipped.iter().any(|warning| printed.contains(warning)), "{printed}");
}

#[test]
fn a_page_is_named_even_if_no_browser_starts() {
    let project = small();
    let open = |browser: &str| project.command(&["report", "--open"]).env("BROWSER", browser).output().unwrap();
    assert!(open("true").status.success());
    let failed = open("no-such-browser");
    assert_eq!(failed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&failed.stdout).trim().ends_with("report.html"));
    let printed = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(printed.contains("cannot start a browser (tried `no-such-browser`)"), "{printed}");
}

/// Reads the training events with TensorBoard's own reader.
#[test]
#[ignore = "needs Python packages"]
fn tensorboard_reads_the_epochs() {
    let python = python("tensorboard");
    let project = small();
    let script = r#"
import glob, json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
[folder] = glob.glob("cache/runs/*/train")
events = EventAccumulator(folder)
events.Reload()
names = {"loss/training": "train_loss", "accuracy/training": "train_accuracy", "loss/validation": "validation_loss",
         "accuracy/validation": "validation_accuracy", "learning_rate": "learning_rate"}
assert set(events.Tags()["scalars"]) == set(names), events.Tags()
epochs = json.load(open("out/train/history.json"))["epochs"]
for tag, name in names.items():
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert [step for step, _ in found] == [epoch["epoch"] for epoch in epochs], found
    assert all(abs(value - epoch[name]) <= 1e-6 * abs(epoch[name]) for (_, value), epoch in zip(found, epochs)), found
print("read", len(epochs), "epochs")
"#;
    let output = Command::new(&python).args(["-c", script]).current_dir(project.root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("read "));
}

/// Reads every output with libraries of other projects, using the Python in `$HAMFLOW_PYTHON`, which `tests/check.sh` sets up.
#[test]
#[ignore = "needs Python packages"]
fn python_reads_the_tables_the_shards_and_the_weights() {
    let python = python("pyarrow, polars, safetensors, numpy");
    let project = small();
    let script = r#"
import json, sys
import numpy, polars, pyarrow as pa, pyarrow.parquet as pq, safetensors.numpy
for path in ["out/metadata/table.parquet", "out/split/table.parquet", "out/evaluate/predictions.parquet", "out/preprocess/shards/index.parquet"]:
    a, b = pq.read_table(path), polars.read_parquet(path)
    assert a.num_rows == b.height > 0 and a.column_names == b.columns, path
table = pq.read_table("out/split/table.parquet").to_pylist()
groups = {}
for row in table:
    groups.setdefault(row["lesion_id"], set()).add(row["split"])
assert all(len(sides) == 1 for sides in groups.values()), "a lesion crosses"
import glob
rows = 0
for path in sorted(glob.glob("out/preprocess/shards/*.arrow")):
    with pa.memory_map(path) as source:
        shard = pa.ipc.open_file(source).read_all()
    kind = shard.schema.field("image").type
    assert isinstance(kind, pa.FixedShapeTensorType) and list(kind.shape) == [11, 15, 3], kind
    tensor = shard.column("image").combine_chunks()
    tensor = tensor.chunk(0) if isinstance(tensor, pa.ChunkedArray) else tensor
    assert tensor.to_numpy_ndarray().shape == (shard.num_rows, 11, 15, 3)
    rows += shard.num_rows
assert rows == len(table), (rows, len(table))
weights = safetensors.numpy.load_file("out/train/model/model.safetensors")
card = json.load(open("out/train/model/card.json"))
assert sum(w.size for w in weights.values()) > 0 and all(w.dtype == numpy.float32 for w in weights.values())
predictions = pq.read_table("out/evaluate/predictions.parquet").to_pylist()
for row in predictions:
    total = sum(v for k, v in row.items() if k.startswith("probability_"))
    assert abs(total - 1) < 1e-9, row
print("read", rows, "tensors")
"#;
    let output = Command::new(&python).args(["-c", script]).current_dir(project.root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("read 180 tensors"));
}

#[test]
#[ignore = "needs Python packages"]
fn onnxruntime_gives_the_probabilities_of_exported_models() {
    let python = python("onnx, onnxruntime, pyarrow, numpy, safetensors");
    let project =
        Project::builtin(&format!("{SMALL}\n[stages.export]\nmodel = \"train\"\nlicence = \"cc-by-nc-4.0\"\n"));
    let script = r#"
import glob, json, sys
import numpy, onnx, onnxruntime, pyarrow as pa, pyarrow.parquet as pq, safetensors.numpy
model = onnx.load("out/export/model.onnx")
onnx.checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession("out/export/model.onnx")
[images], [probabilities] = session.get_inputs(), session.get_outputs()
assert (images.name, images.shape, images.type) == ("images", ["batch", 11, 15, 3], "tensor(uint8)"), images
labels = json.load(open("out/export/hugging_face/config.json"))["id2label"]
expected = {row["image_id"]: [row[f"probability_{labels[str(i)]}"] for i in range(len(labels))] for row in pq.read_table("out/evaluate/predictions.parquet").to_pylist()}
seen, worst = 0, 0.0
for path in sorted(glob.glob("out/preprocess/shards/*.arrow")):
    with pa.memory_map(path) as source:
        shard = pa.ipc.open_file(source).read_all()
    tensor = shard.column("image").combine_chunks()
    tensor = tensor.chunk(0) if isinstance(tensor, pa.ChunkedArray) else tensor
    known = [(row, expected[name]) for row, name in enumerate(shard.column("image_id").to_pylist()) if name in expected]
    if known:
        rows, theirs = zip(*known)
        ours = session.run(None, {"images": tensor.to_numpy_ndarray()[list(rows)]})[0]
        worst = max(worst, float(numpy.abs(ours - numpy.array(theirs)).max()))
        seen += len(rows)
assert seen == len(expected) > 40 and worst < 1e-5, (seen, worst)
weights = safetensors.numpy.load_file("out/export/hugging_face/model.safetensors")
constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
assert all((weights[name] == constants[name]).all() for name in weights) and len(weights) > 10
front = open("out/export/hugging_face/README.md").read().split("---")[1]
assert "license: cc-by-nc-4.0" in front and "pipeline_tag: image-classification" in front, front
print("seen", seen)
"#;
    for model in ["baseline", "efficientnet-lite0", "resnet-18", "mobilenet-v2"] {
        let set = format!("stages.train.model={model}");
        let ran = project.run_with(&["--set", &set, "--set", "stages.train.batch_size=20", "evaluate", "export"]);
        assert_eq!(ran.code, 0, "{model}: {ran:?}");
        let output = Command::new(&python).args(["-c", script]).current_dir(project.root()).output().unwrap();
        assert!(output.status.success(), "{model}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn folds_are_evaluated_on_their_rows_and_an_ensemble_of_them_on_test_rows_only() {
    let pipeline = &SMALL[..SMALL.find("[stages.eda]").unwrap()];
    let pipeline = pipeline.replace("table = \"clean\"\nimages", "folds = 3\ntable = \"clean\"\nimages").replace(
        "[stages.evaluate]",
        "[stages.train.matrix]\nfold = [0, 1, 2]\n[stages.ensemble]\nmodels = \"train[*]\"\n[stages.joined]\nkind = \"evaluate\"\nmodel = \"ensemble\"\nshards = \"preprocess\"\nsplit = \"split\"\nsplits = [\"test\"]\n[stages.out-of-fold]\nkind = \"evaluate\"\npredictions = \"evaluate[*]\"\nsplit = \"split\"\nsplits = [\"validation\"]\n[stages.evaluate]",
    );
    let project = Project::builtin(&pipeline);
    let ran = project.run();
    assert_eq!(ran.code, 0, "{ran:?}");
    let metrics: Vec<serde_json::Value> = project
        .files("out")
        .iter()
        .filter(|(name, _)| name.contains("evaluate") && name.ends_with("metrics.json"))
        .map(|(_, bytes)| serde_json::from_slice(bytes).unwrap())
        .collect();
    let rows = |metrics: &serde_json::Value, split: &str| metrics[split]["rows"].as_u64().unwrap();
    assert_eq!(metrics.len(), 3);
    let validation: u64 = metrics.iter().map(|metrics| rows(metrics, "validation")).sum();
    assert_eq!(validation + rows(&metrics[0], "test"), 180, "each row outside the test split is in one fold");
    let joined: serde_json::Value = serde_json::from_str(&project.read("out/joined/metrics.json")).unwrap();
    assert_eq!(rows(&joined, "test"), rows(&metrics[0], "test"));
    let pooled: serde_json::Value = serde_json::from_str(&project.read("out/out-of-fold/metrics.json")).unwrap();
    assert_eq!(rows(&pooled, "validation"), validation);
    assert!(pooled["validation"]["intervals"]["balanced_accuracy"].is_array(), "{pooled}");
    assert_eq!(pooled["validation"]["warnings"]["rows"], serde_json::Value::Null);
    let ran = project.hamflow(&["run", "--set", "stages.joined.splits=[\"validation\"]"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("were trained on different folds"), "{ran:?}");
    let ran = project.hamflow(&["run", "--set", "stages.out-of-fold.splits=[\"test\"]"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("has two predictions") && ran.stderr.contains("every fold predicts the test rows"),
        "{ran:?}"
    );
    let ran = project.hamflow(&["run", "--set", "stages.out-of-fold.model=\"ensemble\""]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`model` and `predictions` exclude each other"), "{ran:?}");
}

#[test]
fn artifacts_of_the_wrong_type_are_rejected_before_anything_runs() {
    let project = Project::builtin(&SMALL.replace("shards = \"preprocess\"", "shards = \"split\""));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("`shards` takes") && ran.stderr.contains("pipeline.toml:"), "{ran:?}");
    assert!(!project.path("out").exists());
}

#[test]
fn printed_secrets_stay_out_of_logs_records_and_messages() {
    let pipeline = "[stages.say]\nkind = \"command\"\nsecret_env = [\"TOKEN\", \"PRIVATE_KEY\", \"PIN\"]\noutputs = { to = { type = \"file\", path = \"to\" } }\nrun = \"echo asking with $TOKEN; echo \\\"$PRIVATE_KEY\\\"; echo pin $PIN; echo refused: $TOKEN >&2; exit 3\"\n";
    let project = Project::builtin(pipeline);
    let mut command = project.command(&["run"]);
    command
        .env("TOKEN", "correct-horse")
        .env("PRIVATE_KEY", "-----BEGIN\nMIIEvQ correct-horse\n-----END")
        .env("PIN", "123");
    let ran = Project::finish(command);
    assert_eq!(ran.code, 1, "{ran:?}");
    let kept = project.files("cache/runs");
    let mut texts: Vec<String> = kept.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    texts.extend([ran.stdout, ran.stderr]);
    assert!(texts.iter().any(|text| text.contains("asking with ***")), "{texts:?}");
    for secret in ["correct-horse", "MIIEvQ", "BEGIN"] {
        assert!(texts.iter().all(|text| !text.contains(secret)), "{secret}: {texts:?}");
    }
    assert!(
        texts.iter().any(|text| text.contains("pin 123")),
        "short secrets are not redacted, as documented: {texts:?}"
    );
}

#[test]
fn a_secret_is_redacted_wherever_a_long_line_is_cut() {
    let pipeline = "[stages.say]\nkind = \"command\"\nsecret_env = [\"TOKEN\"]\n\
                    outputs = { to = { type = \"file\" } }\n\
                    run = [\"sh\", \"-c\", \"for n in 16370 16372 16375 16380 16384 32760; do head -c $n /dev/zero | tr '\\\\0' x; \
                    echo $TOKEN; done; printf $TOKEN; exit 3\"]\n";
    let project = Project::builtin(pipeline);
    let mut command = project.command(&["run"]);
    command.env("TOKEN", "correct-horse-battery");
    let ran = Project::finish(command);
    assert_eq!(ran.code, 1, "{ran:?}");
    let log = project.hamflow(&["log", "last", "say"]).stdout;
    assert_eq!(log.matches("***").count(), 7, "{} characters", log.len());
    for part in ["correct", "horse", "battery"] {
        assert!(!log.contains(part) && !ran.stderr.contains(part), "{part} is readable");
    }
}

#[test]
fn the_run_lock_and_the_record_have_no_secret_of_the_command_line() {
    let pipeline = "[stages.x]\nkind = \"command\"\nsecret_env = [\"TOKEN\"]\nparams = { p = \"\" }\n\
                    outputs = { y = { type = \"file\" } }\nrun = \"cat cache/run.lock > {outputs.y}\"\n";
    let project = Project::builtin(pipeline);
    let mut command = project.command(&["run", "--set", "stages.x.params.p=correct-horse"]);
    command.env("TOKEN", "correct-horse");
    let ran = Project::finish(command);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lock = project.read("out/x/y");
    assert!(lock.contains("run --set stages.x.params.p=***"), "{lock}");
    let log = project.hamflow(&["log"]).stdout;
    assert!(log.contains("run --set stages.x.params.p=***"), "{log}");
}

#[test]
fn a_remote_without_a_scheme_shows_no_password() {
    let project = Project::builtin("[stages.synthetic]\n[cache.remote]\nurl = \"x\"\n");
    for url in [
        "ci:correct-horse@host/p",
        "ci:correct-horse@host",
        "https:/ci:correct-horse@host/p",
        "//ci:correct-horse@host",
    ] {
        for ran in [
            project.hamflow(&["cache", "info", "--remote", "--set", &format!("cache.remote.url={url}")]),
            Project::finish({
                let mut command = project.command(&["cache", "info", "--remote"]);
                command.env("HAMFLOW_REMOTE", url);
                command
            }),
        ] {
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.stderr.contains("the URL has no scheme"), "{ran:?}");
            assert!(!format!("{ran:?}").contains("correct-horse"), "{ran:?}");
        }
    }
}

#[test]
fn a_mistake_beside_a_url_does_not_print_its_password() {
    let pipeline = "[stages.synthetic]\n[cache]\nremote = { url = \"https://ci:correct-horse@host/p\", kesy = {} }\n";
    let ran = Project::builtin(pipeline).hamflow(&["status"]);
    assert!(ran.code == 2 && ran.stderr.contains("kesy") && ran.stderr.contains("https://***@host/p"), "{ran:?}");
    assert!(!ran.stderr.contains("correct-horse"), "{ran:?}");
}

#[test]
fn sizes_and_names_in_a_model_card_are_checked() {
    let project = Project::builtin(SMALL);
    project.run_with(&["train"]);
    let image = project.files("out/synthetic/images")[0].0.clone();
    for (name, bytes) in project.files("out/train/model") {
        project.write(&name.replace("out/train/model", "m"), bytes);
    }
    let card: serde_json::Value = serde_json::from_str(&project.read("m/card.json")).unwrap();
    for value in ["0", "12", "65536", "2147483648", "18446744073709551615", "-1", "1e400", "null", "\"11\""] {
        for field in
            ["/preprocess/height", "/preprocess/width", "/input/height", "/input/width", "/input/channels", "/format"]
        {
            let mut changed = card.clone();
            *changed.pointer_mut(field).unwrap() = "CHANGED".into();
            project.write("m/card.json", changed.to_string().replace("\"CHANGED\"", value));
            let ran = project.hamflow(&["predict", "m", &image, "--gradcam", "heat"]);
            assert_eq!(ran.code, 2, "{field} = {value}: {ran:?}");
        }
    }
    let long = "x".repeat(300);
    for (label, problem) in [
        ("a/b", "is not valid"),
        ("", "is empty"),
        (card["classes"][1]["label"].as_str().unwrap(), "two classes"),
        (&long, "is not valid"),
    ] {
        let mut changed = card.clone();
        changed["classes"][2]["label"] = (*label).into();
        project.write("m/card.json", changed.to_string());
        let ran = project.hamflow(&["predict", "m", &image]);
        assert!(ran.code == 2 && ran.stderr.contains(problem), "{label}: {ran:?}");
    }
}

#[test]
fn a_missing_column_is_reported_with_location_and_suggestion() {
    // The columns that a program writes are known only after it ran.
    let copy = "\n[stages.copy]\nkind = \"command\"\ninputs = { t = \"metadata.table\" }\noutputs = { t = { type = \"table\" } }\nrun = [\"cp\", \"{inputs.t}\", \"{outputs.t}\"]\n";
    let clean = "[stages.clean]\nkind = \"impute\"\ntable = \"metadata\"\ncolumn = \"age\"";
    assert!(SMALL.contains(clean));
    let of_copy = clean.replace("metadata", "copy").replace("\"age\"", "\"agee\"");
    let project = Project::builtin(&(SMALL.replace(clean, &of_copy) + copy));
    let ran = project.hamflow(&["run", "clean"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let line = SMALL.lines().position(|line| line == "[stages.clean]").unwrap() + 1;
    assert!(ran.stderr.contains(&format!("--> pipeline.toml:{line}:")), "{ran:?}");
    assert!(ran.stderr.contains("`agee`") && ran.stderr.contains("did you mean `age`?"), "{ran:?}");
}

#[test]
fn killed_training_resumes_from_its_last_epoch_with_identical_results() {
    let pipeline = SMALL.replace("epochs = 2", "epochs = 40");
    let whole = Project::builtin(&pipeline);
    whole.run_with(&["train"]);
    let project = Project::builtin(&pipeline);
    project.run_with(&["preprocess", "split"]);
    let mut killed = project.start(&["run", "train"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !project.files("cache/checkpoints").iter().any(|(path, _)| path.ends_with("/training")) {
        assert!(Instant::now() < deadline, "no checkpoint was written");
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let ran = project.hamflow(&["run", "train"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("note: train: training resumes from the checkpoint of epoch "), "{ran:?}");
    assert!(project.files("out") == whole.files("out"), "identical results");

    // A higher number of epochs resumes from there; `--force` starts from scratch.
    project.write("pipeline.toml", SMALL.replace("epochs = 2", "epochs = 41"));
    let longer = project.hamflow(&["run", "train"]);
    assert!(longer.stderr.contains("note: train: training resumes from the checkpoint of epoch 40"), "{longer:?}");
    let model = project.files("out/train");
    let forced = project.hamflow(&["run", "train", "--force"]);
    assert!(forced.code == 0 && !forced.stderr.contains("training resumes"), "{forced:?}");
    assert!(project.files("out/train") == model, "identical results");
}

/// Errors that can be detected without running are reported before anything runs.
#[test]
fn a_table_without_a_required_column_is_rejected_before_anything_runs() {
    let whole = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/pipeline.toml")).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        let project = Project::builtin(&whole.replacen(from, to, 1));
        let ran = project.hamflow(&["run", "--profile", "demo", "--dry-run"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(!project.path("out").exists());
        ran.stderr
    };
    let printed = refused("column = \"age\"", "column = \"agee\"");
    assert!(printed.contains("stage `clean`: `metadata` has no column `agee`, which `table` requires"), "{printed}");
    assert!(printed.contains("table = \"metadata\"") && printed.contains("hint: did you mean `age`?"), "{printed}");
    let printed = refused(
        "shards = \"preprocess\"\nsplit = \"split\"\nmodel",
        "shards = \"preprocess\"\nsplit = \"clean\"\nmodel",
    );
    assert!(printed.contains("stage `train`: `clean` has no column `split`, which `split` requires"), "{printed}");
    assert!(printed.contains("hint: use `split = \"split\"`, which has this column"), "{printed}");
}

#[test]
fn a_name_that_no_key_can_hold_is_an_error_of_a_stage_whose_program_could_read_it() {
    let pipeline = "[inputs]\nim = \"im\"\n[stages.a]\nkind = \"command\"\ninputs = { im = \"inputs.im\" }\n\
                    outputs = { y = { type = \"file\" } }\nrun = \"cat {inputs.im}/* > {outputs.y}\"\n";
    let project = Project::builtin(pipeline);
    project.write("im/plain.txt", "1");
    assert_eq!(project.run().count("ran"), 1);
    project.write("im/two\nlines.txt", "2");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`inputs.im`: the program could read `two\\nlines.txt`"), "{ran:?}");
}
