//! The real stages together, on a small synthetic dataset.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Project, python};

const SMALL: &str = r#"
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
fn outputs_are_the_same_bytes_for_any_number_of_threads() {
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
fn the_whole_pipeline_runs_once_and_explains_what_changes_redo() {
    let project = small();
    assert_eq!(project.run().count("fresh"), 10);
    // Another training parameter: nothing before `train` looks at it.
    let ran = project.run_with(&["--set", "stages.train.epochs=1"]);
    assert_eq!(ran.ran(), ["train", "evaluate", "gradcam", "report"]);
    // Another way to fill ages: the images and the split of them stay, so does the model.
    let ran = project.run_with(&["--set", "stages.clean.strategy=median"]);
    assert_eq!(ran.ran(), ["clean", "split", "report"], "{ran:?}");
    let metrics = project.hamflow(&["metrics"]);
    assert!(metrics.stdout.contains("evaluate.test.balanced_accuracy"), "{metrics:?}");
    let page = project.read("out/report/index.html");
    assert!(page.to_lowercase().contains("synthetic data"));
    for asking in ["src=\"http", "href=\"http", "url(http", "@import", "fetch(", "<link"] {
        assert!(!page.contains(asking), "the page asks the network for nothing, but has `{asking}`");
    }
    assert!(!page.contains(&*project.root().to_string_lossy()), "no path of this machine");
}

#[test]
fn the_report_and_two_runs_side_by_side_show_what_the_records_say() {
    let project = small();
    project.run_with(&["--set", "stages.train.epochs=1"]);
    let log = project.hamflow(&["log", "--json"]);
    let runs: Vec<serde_json::Value> = log.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [second, first] = [0, 1].map(|number| runs[number]["run"].as_str().unwrap().to_owned());

    // The state without overrides is the first run's.
    let ran = project.hamflow(&["report"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let page = std::fs::read_to_string(ran.stdout.trim()).unwrap();
    assert!(page.contains(&format!("The run {first}")) && page.contains("never built"));
    assert!(page.contains("Synthetic data.") && page.ends_with("</html>"));
    assert!(!project.read("out/report/index.html").contains(&second), "the artifact says nothing of its run");
    let ran = project.hamflow(&["report", "--run", &second]);
    assert!(std::fs::read_to_string(ran.stdout.trim()).unwrap().contains(&format!("The run {second}")));

    let ran = project.hamflow(&["compare", &first, &second]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let page = std::fs::read_to_string(ran.stdout.trim()).unwrap();
    assert!(
        page.contains("<strong>train</strong>: <code>epochs</code> changed from 2 to 1</li>"),
        "what is different is named"
    );
    assert!(page.contains("evaluate.test.balanced_accuracy") && page.matches("<iframe").count() == 2);
    assert!(!page.contains("<strong>preprocess</strong>"), "what is the same is not");
}

#[test]
fn a_model_classifies_images_as_the_evaluation_did() {
    let project = small();
    let ran = project.hamflow(&["predict", "train", "out/synthetic/images", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answers: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 180);
    // The challenge's submission has the same probabilities, by image.
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
            // Reading JSON may cost the last bit.
            assert!((ours - theirs).abs() <= f64::EPSILON * theirs, "{image}: {ours} {theirs}");
            compared += 1;
        }
    }
    assert!(compared > 100);

    // Elsewhere the folder of the model is enough; a file that is no image is said and stops nothing.
    project.write("elsewhere/broken.jpg", "no picture");
    let first = answers[0]["image"].as_str().unwrap();
    std::fs::copy(project.path(first), project.path("elsewhere/good.jpg")).unwrap();
    let mut command = project.command(&["predict", "../out/train/model", ".", "--gradcam", "heat"]);
    let ran = Project::finish({
        command.current_dir(project.path("elsewhere"));
        command
    });
    assert_eq!((ran.code, ran.stdout.lines().count()), (1, 1), "{ran:?}");
    assert!(ran.stderr.contains("broken.jpg` ") && !ran.stderr.contains("good.jpg"), "{ran:?}");
    assert_eq!(&std::fs::read(project.path("elsewhere/heat/good_gradcam.png")).unwrap()[1..4], b"PNG");
    assert!(!project.path("elsewhere/heat/broken_gradcam.png").exists());

    for (arguments, wanted) in [
        (
            &["predict", "trian", first][..],
            "`trian` is neither a folder nor a stage that makes a model\nhint: `train` does",
        ),
        (&["predict", "train", "nothing.jpg"], "there is no image `nothing.jpg`"),
        (&["predict", "train", "out/train"], "has no file with the extension jpg, jpeg or png"),
        (&["predict", "out/split", first], "has no file `card.json`"),
        (&["predict", "train", first, first, "--gradcam", "heat"], "would both have the picture"),
        (&["predict", "out/train", first], "did you mean `out/train/model`?"),
        (&["predict", "train", first, "--gradcam", "pipeline.toml"], "is a file; `--gradcam` takes a folder"),
        // The model is that of the pipeline as it is, not what happens to lie in `out/`.
        (&["predict", "train", first, "--set", "stages.train.epochs=3"], "no model of what the pipeline says now"),
    ] {
        let ran = project.hamflow(arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(wanted), "{ran:?}");
    }
}

#[test]
fn a_mistake_in_a_table_is_shown_where_the_table_lies() {
    let project = Project::builtin(
        "[inputs]\ncsv = \"data/table.csv\"\nimages = \"data\"\n[stages.metadata]\ncsv = \"inputs.csv\"\nimages = \"inputs.images\"\n",
    );
    project.write("data/table.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization\nl,i,scc,histo,5,male,back\n");
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--> data/table.csv:2:5\n"), "{}", ran.stderr);
}

#[test]
fn pictures_never_replace_images() {
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
        other.code == 2 && other.stderr.contains("a picture would replace the image `own/mole_gradcam.png`"),
        "{other:?}"
    );
}

#[test]
fn absent_classes_and_left_out_images_leave_a_page_with_what_is_undefined() {
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
    let (said, project) = run(|line| line.contains(",nv,"), None);
    assert!(said.contains("have no training examples"), "{said}");
    let metrics = project.hamflow(&["metrics"]).stdout;
    let auc = metrics.lines().find(|line| line.starts_with("evaluate.test.roc_auc_macro")).unwrap();
    assert!(auc.ends_with("undefined"), "{metrics}");
    let (said, _) = run(|line| !line.contains(",df,"), None);
    assert!(said.contains("class `class-3` has no training examples"), "{said}");
    let table = source.read("out/synthetic/HAM10000_metadata.csv");
    let image = table.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    let (said, _) = run(|line| !line.contains(",df,"), Some(image));
    let skipped = ["without an image in the shards", "the shards have no image of"];
    assert!(skipped.iter().any(|warning| said.contains(warning)), "{said}");
}

#[test]
fn a_page_that_cannot_be_shown_is_named_all_the_same() {
    let project = small();
    let open = |browser: &str| project.command(&["report", "--open"]).env("BROWSER", browser).output().unwrap();
    assert!(open("true").status.success());
    let failed = open("no-such-browser");
    assert_eq!(failed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&failed.stdout).trim().ends_with("report.html"));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("no browser can be started (`no-such-browser`)"), "{said}");
}

/// Reads the events that training leaves beside its log with TensorBoard's own reader.
#[test]
fn tensorboard_reads_the_epochs() {
    let Some(python) = python("tensorboard") else { return };
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

/// Reads every output with other programs' libraries. `$HAMFLOW_PYTHON` names a Python that has them; `tests/check.sh` makes one.
#[test]
fn python_reads_the_tables_the_shards_and_the_weights() {
    let Some(python) = python("pyarrow, polars, safetensors, numpy") else { return };
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
fn artifacts_that_do_not_fit_are_refused_before_anything_runs() {
    let project = Project::builtin(&SMALL.replace("shards = \"preprocess\"", "shards = \"split\""));
    let ran = project.hamflow(&["run"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("`shards` takes") && ran.stderr.contains("pipeline.toml:"), "{ran:?}");
    assert!(!project.path("out").exists());
}

#[test]
fn a_secret_that_a_program_prints_stays_out_of_logs_records_and_messages() {
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
        "what is that short is not hidden, as is documented: {texts:?}"
    );
}

#[test]
fn a_column_that_is_not_there_is_named_with_the_stage_s_line_and_what_was_meant() {
    // What columns a program writes only its run says.
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
fn training_that_was_killed_goes_on_from_its_last_epoch_and_ends_with_the_same_bytes() {
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
    assert!(project.files("out") == whole.files("out"), "the same bytes");

    // More epochs go on from there; who forces a stage wants it from nothing.
    project.write("pipeline.toml", SMALL.replace("epochs = 2", "epochs = 41"));
    let longer = project.hamflow(&["run", "train"]);
    assert!(longer.stderr.contains("note: train: training resumes from the checkpoint of epoch 40"), "{longer:?}");
    let model = project.files("out/train");
    let forced = project.hamflow(&["run", "train", "--force"]);
    assert!(forced.code == 0 && !forced.stderr.contains("training resumes"), "{forced:?}");
    assert!(project.files("out/train") == model, "the same bytes");
}

// What can be known before anything runs is said before anything runs.
#[test]
fn a_table_without_a_column_that_is_read_is_refused_before_anything_runs() {
    let whole = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/pipeline.toml")).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        let project = Project::builtin(&whole.replacen(from, to, 1));
        let ran = project.hamflow(&["run", "--profile", "demo", "--dry-run"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(!project.path("out").exists());
        ran.stderr
    };
    let said = refused("column = \"age\"", "column = \"agee\"");
    assert!(said.contains("stage `clean`: `metadata` makes no column `agee`, which is read at `table`"), "{said}");
    assert!(said.contains("table = \"metadata\"") && said.contains("hint: did you mean `age`?"), "{said}");
    let said = refused(
        "shards = \"preprocess\"\nsplit = \"split\"\nmodel",
        "shards = \"preprocess\"\nsplit = \"clean\"\nmodel",
    );
    assert!(said.contains("stage `train`: `clean` makes no column `split`, which is read at `split`"), "{said}");
    assert!(said.contains("hint: write `split = \"split\"`, which has it"), "{said}");
}
