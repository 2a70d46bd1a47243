//! Tests of the page: content, security, and behaviour with minimal inputs.

use std::collections::BTreeSet;
use std::path::Path;

use hamflow_stage_api::{ArtifactType, Input};
use polars::prelude::Column;
use serde_json::{Value, json};

use super::Report;
use crate::artifact;
use crate::ml::metric::{Scores, SplitMetrics};
use crate::plot::{ConfusionMatrixPlot, CountBarsPlot, Drawing, Figure, HeatExample, HeatMapsPlot};
use crate::table;
use crate::test_support::{file, file_input, files_input, run_kind};

const LABELS: [&str; 3] = ["akiec", "nv", "m<b>el"];

fn labels() -> Vec<String> {
    LABELS.map(str::to_owned).to_vec()
}

fn scores(rows: usize) -> Scores {
    let truth = (0..rows).map(|row| if row % 5 == 0 { 2 } else { 1 }).collect();
    let probabilities =
        (0..rows).map(|row| if row % 7 == 0 { vec![0.25, 0.25, 0.5] } else { vec![0.125, 0.625, 0.25] });
    Scores::new(truth, probabilities.collect(), 3).unwrap()
}

fn metrics(rows: usize) -> Value {
    json!({"test": SplitMetrics::of(&scores(rows), &labels()), "validation": SplitMetrics::of(&scores(0), &labels())})
}

fn json_input(folder: &Path, name: &str, artifact_type: ArtifactType, value: &Value) -> Input {
    file_input(folder, &format!("{name}.json"), &serde_json::to_vec(value).unwrap(), Some(artifact_type))
}

fn metrics_input(folder: &Path, rows: usize) -> (&'static str, Input) {
    ("metrics", json_input(folder, "metrics", ArtifactType::METRICS, &metrics(rows)))
}

fn predictions_input(folder: &Path, rows: usize) -> (&'static str, Input) {
    let scores = scores(rows);
    let text = |name: &str, value: &dyn Fn(usize) -> String| {
        Column::new(name.into(), (0..rows).map(value).collect::<Vec<String>>())
    };
    let confidence: Vec<f64> =
        scores.probabilities().iter().zip(scores.predicted()).map(|(row, class)| row[*class]).collect();
    let frame = table::frame(vec![
        text("image_id", &|row| format!("ISIC_{row:07}")),
        text("lesion_id", &|row| format!("HAM_{:07}", row / 2)),
        text("split", &|_| "test".to_owned()),
        text("label", &|row| LABELS[scores.truth()[row]].to_owned()),
        text("predicted", &|row| LABELS[scores.predicted()[row]].to_owned()),
        Column::new("confidence".into(), confidence),
        Column::new(
            format!("probability_{}", LABELS[2]).into(),
            scores.probabilities().iter().map(|row| row[2]).collect::<Vec<f64>>(),
        ),
    ])
    .unwrap();
    let bytes = table::write(&frame).unwrap();
    ("predictions", file_input(folder, "predictions.parquet", &bytes, Some(artifact::PREDICTIONS)))
}

fn figures_input(folder: &Path) -> (&'static str, Input) {
    let plot = ConfusionMatrixPlot { title: "Matrix".to_owned(), classes: labels(), counts: vec![vec![1, 2, 3]; 3] };
    let files = vec![
        file(folder, "confusion_matrix_test.svg", plot.draw().file().as_bytes()),
        file(folder, "confusion_matrix_test.json", &Figure::new(&plot).json()),
        file(folder, "confusion_matrix_validation.svg", plot.draw().file().as_bytes()),
        file(folder, "confusion_matrix_validation.json", &Figure::new(&plot).json()),
        file(folder, "foreign.svg", b"<svg><script>alert(1)</script></svg>"),
    ];
    ("figures", files_input(files, Some(artifact::FIGURES)))
}

fn split_of(rows: u64) -> Value {
    let side = |part: u64| json!({"rows": part, "groups": part, "fraction": part as f64 / rows as f64, "target": 0.5});
    json!({"train": side(rows / 2), "validation": side(0), "test": side(rows - rows / 2)})
}

fn balance(crossing: u64) -> Value {
    let class = |label: &str| json!({"class": label, "rows": 10, "groups": 10, "splits": split_of(10)});
    json!({
        "group": "lesion_id", "stratify": "dx", "groups": 30, "rows": 30, "groups_crossing": crossing, "splits": split_of(30),
        "classes": [class("m<b>el"), class("nv"), class("akiec")],
        "identical_images": {"checked": true, "sets": [{"images": ["a", "b"]}], "crossing": 0}, "folds": null,
    })
}

fn findings() -> Value {
    json!({
        "images": 10015,
        "imbalance": {"ratio": 58.3, "rarest": "df", "most_frequent": "nv"},
        "lesions": {"lesions": 7470, "images_that_share_a_lesion": 4501, "most_images_of_one": 6, "contradicting_diagnoses": 1},
        "identical_images": {"sets": 2, "images": 4},
        "unknown": {"age": 57, "dx_type": 0},
        "concentrations": {"by_class": [
            {"class": "m<b>el", "age": {"p": 0.001, "effect": 0.38, "quartiles": [55.0, 65.0, 75.0], "quartiles_of_the_rest": [40.0, 50.0, 60.0]}},
            {"class": "nv", "age": {"p": 0.5, "effect": -0.5}},
        ]},
    })
}

fn exploration_input(folder: &Path) -> (&'static str, Input) {
    let plot = CountBarsPlot {
        title: "Images by <sex>".to_owned(),
        groups: vec!["male".to_owned()],
        series: vec!["images".to_owned()],
        counts: vec![vec![5406]],
        colours: vec![1],
    };
    let files = vec![
        file(folder, "images_by_sex.svg", plot.draw().file().as_bytes()),
        file(folder, "images_by_sex.json", &Figure::new(&plot).json()),
    ];
    ("exploration", files_input(files, Some(artifact::FIGURES)))
}

fn explanations_input(folder: &Path) -> (&'static str, Input) {
    let example = HeatExample {
        image_id: "ISIC_<1>".to_owned(),
        label: "nv".to_owned(),
        predicted: "akiec".to_owned(),
        confidence: 0.75,
        pictures: ["AA==", "AQ==", "Ag=="].map(str::to_owned),
    };
    let plot = HeatMapsPlot { title: "Nevi".to_owned(), size: (200, 150), examples: vec![example] };
    let files = vec![
        file(folder, "heat_nv.svg", plot.draw().file().as_bytes()),
        file(folder, "heat_nv.json", &Figure::new(&plot).json()),
    ];
    ("explanations", files_input(files, Some(artifact::FIGURES)))
}

fn localisation() -> Value {
    let of = |images: u64, share: f64| json!({"images": images, "without_mask": 2, "without_heat": 1, "pointing_game": share, "heat_in_lesion": share / 2.0, "lesion_share": 0.25});
    let mut all = of(100, 0.75);
    all["per_class"] = json!({"nv": of(80, 0.8125), "akiec": {"images": 0, "without_mask": 0, "without_heat": 0}});
    all["undefined"] = json!({"per_class.akiec.pointing_game": "there are no rows of it"});
    json!({ "test": all })
}

fn everything(folder: &Path) -> Vec<(&'static str, Input)> {
    let summary = |name, value| json_input(folder, name, artifact::SUMMARY, &value);
    let layers = json!([{"name": "conv1", "kind": "conv 3×3, ReLU", "output": [75, 100, 32], "parameters": 896}]);
    let card = json!({
        "format": 1, "model": "baseline", "layers": layers, "parameters": 896,
        "input": {"height": 75, "width": 100, "channels": 3},
        "classes": [{"label": "nv", "name": "Melanocytic nevi"}], "normalisation": {"mean": 160.5, "standard_deviation": 46.0},
        "preprocess": {"height": 75},
        "training": {"seed": 1234, "epochs": 1, "epoch": 1, "training_rows": 7211, "validation_rows": 801},
    });
    let card = file(folder, "card.json", &serde_json::to_vec(&card).unwrap());
    let epoch = json!({"epoch": 1, "learning_rate": 0.001, "train_loss": 1.5, "train_accuracy": 0.5,
        "validation_loss": null, "validation_accuracy": null});
    let metadata = json!({
        "rows": 10015, "lesions": 7470, "synthetic": true, "nulls": {"age": 57, "sex": 0}, "age": {"min": 0.0, "max": 85.0},
        "classes": [{"index": 0, "label": "akiec", "name": "Actinic <keratoses>", "rows": 30, "lesions": 20}],
        "counts": {"dx": {"nv": 1}, "sex": {"female": 1, "male": 3}},
    });
    vec![
        ("metadata", summary("metadata", metadata)),
        ("clean", summary("clean", json!({"column": "age", "strategy": "mean", "fit": "all", "filled": 57}))),
        ("quarantine", summary("quarantine", json!({"images": []}))),
        ("balance", json_input(folder, "balance", artifact::BALANCE, &balance(0))),
        ("model", files_input(vec![card], Some(artifact::MODEL))),
        ("history", json_input(folder, "history", artifact::HISTORY, &json!({"epochs": [epoch]}))),
        (
            "training",
            summary(
                "training",
                json!({"best_epoch": 1, "input": [75, 100, 3], "layers": layers, "model": "baseline", "parameters": 896}),
            ),
        ),
        ("findings", summary("findings", findings())),
        exploration_input(folder),
        explanations_input(folder),
        ("localisation", json_input(folder, "localisation", ArtifactType::METRICS, &localisation())),
        metrics_input(folder, 100),
        predictions_input(folder, 100),
        figures_input(folder),
    ]
}

#[test]
fn quarantined_images_are_listed_with_reason_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let quarantine = json!({"images": [
        {"image_id": "ISIC_7", "path": "a/ISIC_7.jpg", "reason": "is truncated: <half>", "offset": 4711},
        {"image_id": "ISIC_8", "path": "ISIC_8.jpg", "reason": "is empty", "offset": null},
    ]});
    let mut inputs = everything(folder.path());
    let listed = json_input(folder.path(), "left-out", artifact::SUMMARY, &quarantine);
    inputs.iter_mut().find(|(port, _)| *port == "quarantine").unwrap().1 = listed;
    let page = page(&inputs);
    for part in
        ["2 images were left out", "<code>a/ISIC_7.jpg</code>", "is truncated: &lt;half&gt;", "4711", "is empty"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("Every image could be read"));
}

fn page(inputs: &[(&str, Input)]) -> String {
    String::from_utf8(run_kind(&Report, &json!({}), inputs).unwrap().bytes("index.html")).unwrap()
}

fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn everything_is_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    for text in [
        "On <strong>100 images</strong> of 50 lesions of the <strong>test</strong> split",
        "<strong>Synthetic data.</strong>",
        "Not for clinical use.",
        "10,015 images of 7,470 lesions. No lesion has images on two sides",
        "57 missing values of <code>age</code>",
        "Every image could be read.",
        "<strong>0</strong> of 30 groups",
        "<strong>0</strong> of 1 sets of byte-identical images",
        "<strong>epoch 1</strong>",
        "75 × 100 × 32",
        "Melanocytic nevi",
        "hamflow run --locked",
        "On the validation split: 0 images",
        "no rows",
    ] {
        assert!(page.contains(text), "`{text}` is missing");
    }
}

#[test]
fn links_resolve_and_ids_are_unique() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    let ids = attributes(&page, "id");
    let known: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(known.len(), ids.len(), "an id is there twice: {ids:?}");
    let inside_figures = |target: &&str| !target.starts_with("data:image/jpeg;base64,");
    for target in attributes(&page, "href").into_iter().filter(inside_figures) {
        assert!(known.contains(target.strip_prefix('#').unwrap()), "`{target}` leads nowhere");
    }
    for labels in attributes(&page, "aria-labelledby") {
        assert!(labels.split(' ').all(|id| known.contains(id)), "`{labels}` names nothing");
    }
}

#[test]
fn the_page_loads_nothing_and_runs_only_its_own_script() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    assert!(attributes(&page, "src").iter().all(|source| source.starts_with("data:image/svg+xml,")));
    assert!(!page.contains("@import") && !page.contains("url(") && !page.contains("<link"));
    assert_eq!(page.matches("<script").count(), 2, "the data of the predictions, and the script");
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn names_from_the_data_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    assert!(!page.contains("<b>el") && !page.contains("<keratoses>") && page.contains("m&lt;b&gt;el"));
}

#[test]
fn the_page_does_not_depend_on_stage_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = everything(folder.path());
    let first = page(&inputs);
    for (_, input) in &mut inputs {
        input.name = format!("renamed.{}", input.name);
    }
    assert_eq!(page(&inputs), first);
}

#[test]
fn findings_and_explanations_are_described_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    for text in [
        "For each image of <code>df</code> there are <strong>58.3</strong>",
        "<strong>44.9 %</strong> of the images (4,501) share their lesion",
        "<strong>1</strong> lesion has images with different diagnoses",
        "<strong>4</strong> images are the same file as another",
        "Not known: age of 57 images.",
        "patients are older (median 65 against 50 years; rank-biserial +0.38)",
        "Images by &lt;sex&gt;",
        "<td class=\"number\">81.2 %</td>",
        "<td class=\"number\">75.0 %</td>",
        "2 images have no mask that says anything, and of 1 nothing speaks",
        "ISIC_&lt;1&gt;",
        "The network: baseline",
    ] {
        assert!(page.contains(text), "`{text}` is missing");
    }
    assert!(!page.contains("rank-biserial -0.5"), "what may be chance is no finding");
}

#[test]
fn subgroups_have_a_table_and_the_largest_difference() {
    let folder = tempfile::tempdir().unwrap();
    let scores = scores(100);
    let mut split = SplitMetrics::of(&scores, &labels());
    let sexes: Vec<&str> = (0..100).map(|row| if row < 60 { "female" } else { "male" }).collect();
    split.add_subgroups("sex", &sexes, &scores, &[]);
    let metrics = json_input(folder.path(), "subgroups", ArtifactType::METRICS, &json!({ "test": split }));
    let page = page(&[("metrics", metrics)]);
    assert!(page.contains("<strong>sex</strong>: ") && page.contains("between"), "the largest difference is said");
    assert!(page.contains("<th scope=\"row\">female</th><td class=\"number\">60</td>"), "every subgroup has its rows");
}

#[test]
fn the_model_card_contains_the_evaluation_or_the_reason_for_its_absence() {
    let folder = tempfile::tempdir().unwrap();
    let card = |inputs: &[(&str, Input)]| {
        String::from_utf8(run_kind(&Report, &json!({}), inputs).unwrap().bytes("model_card.md")).unwrap()
    };
    let full = card(&everything(folder.path()));
    assert!(full.contains("> **Synthetic data.**") && full.contains("test: 100 images"), "{full}");
    let none = card(&[metrics_input(folder.path(), 20)]);
    assert_eq!(none, "No model card: the report was given no model.\n");
}

#[test]
fn metrics_alone_make_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&[metrics_input(folder.path(), 20)]);
    assert_eq!(attributes(&page, "aria-labelledby"), ["summary-title", "results-title", "provenance-title"]);
    assert!(!page.contains("Synthetic data"));
}

#[test]
fn the_page_reports_a_split_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&[metrics_input(folder.path(), 0)]);
    assert!(page.contains("nothing can be said: no rows.") && page.contains("undefined"));
}

#[test]
fn leakage_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let leaking = json_input(folder.path(), "balance", artifact::BALANCE, &balance(3));
    let page = page(&[metrics_input(folder.path(), 10), ("balance", leaking)]);
    assert!(page.contains("<li class=\"bad\"><strong>3</strong> of 30 groups"), "the groups that cross are shown");
    assert!(!page.contains("No lesion has images on two sides"));
}

#[test]
fn classes_are_in_index_order_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    let split = page.split("<section id=\"split\"").nth(1).unwrap().split("</section>").next().unwrap();
    let table = split.split("<tbody>").nth(1).unwrap();
    let places = ["akiec", "nv", "m&lt;b&gt;el"].map(|label| table.find(label).unwrap());
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn an_input_with_invalid_json_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let broken = file_input(folder.path(), "metrics.json", b"{", Some(ArtifactType::METRICS));
    let error = run_kind(&Report, &json!({}), &[("metrics", broken)]).err().unwrap();
    assert!(error.message.starts_with("`test.metrics.json` has unexpected content: "), "{error}");
}

#[test]
fn the_page_for_all_of_ham10000_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&[metrics_input(folder.path(), 10_015), predictions_input(folder.path(), 10_015)]);
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}

// truth is malignant in every fifth of 35 rows; the probability of malignancy is 0.5 in every seventh and 0.25 in the others:
// from sklearn.metrics import confusion_matrix
// confusion_matrix([r % 5 == 0 for r in range(35)], [r % 7 == 0 for r in range(35)]).ravel()  # [24 4 6 1]
#[test]
fn thresholds_of_malignant_classes_are_shown_with_what_they_mean() {
    let folder = tempfile::tempdir().unwrap();
    let mut metrics = metrics(35);
    metrics["test"]["malignant"] = json!({"classes": [LABELS[2]], "rows": 7, "values": {}, "intervals": {}});
    let metrics = ("metrics", json_input(folder.path(), "metrics", ArtifactType::METRICS, &metrics));
    let page = page(&[metrics, predictions_input(folder.path(), 35)]);
    let row = |threshold: &str, cells: [&str; 5]| {
        let cells: String = cells.iter().map(|cell| format!("<td class=\"number\">{cell}</td>")).collect();
        format!("<th class=\"number\" scope=\"row\">{threshold}</th>{cells}")
    };
    for expected in [
        row("0.20", ["100.0 %", "0.0 %", "20.0", "0.0", "80.0"]),
        row("0.50", ["14.3 %", "85.7 %", "2.9", "17.1", "11.4"]),
        row("0.70", ["0.0 %", "100.0 %", "0.0", "20.0", "0.0"]),
    ] {
        assert!(page.contains(&expected), "{expected}");
    }
    assert!(page.contains("<script id=\"threshold-data\" type=\"application/json\">[[0.25,0.25,"), "the script's data");
    assert!(page.contains("</polyline>"), "elements of the drawing are closed");
}

/// If this digest changes, increment `REVISION`; otherwise caches return results of the old version.
#[test]
fn the_golden_digest_of_the_revision() {
    use hamflow_stage_api::Kind;
    let folder = tempfile::tempdir().unwrap();
    let page = page(&everything(folder.path()));
    assert_eq!(Report.spec().revision, 8);
    assert_eq!(
        blake3::hash(page.as_bytes()).to_hex().as_str(),
        "bec2cf8d4081be2dd3ccfcdb379de5a8cb088b08d29582908f3bcdd10dd61b74"
    );
}
