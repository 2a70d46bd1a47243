//! Tests of `gradcam` through the interface of the engine.

use hamflow_stage_api::{AnyKind, ArtifactType, Input, Inputs, Random};
use image::{ExtendedColorType, ImageEncoder};
use polars::prelude::Column;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::artifact;
use crate::shard::{INDEX_NAME, IndexRow, encode_index, tensor_digest};
use crate::table;
use crate::test_support::{
    Ran, file, file_input, files_input, folder_input, golden, resolve, run_kind, run_kind_with, shard,
};
use crate::train::Train;

const LABELS: [(&str, &str); 3] =
    [("akiec", "Actinic keratoses"), ("bcc", "Basal cell carcinoma"), ("df", "Dermatofibroma")];
const SHAPE: [usize; 3] = [8, 10, 3];
const ROWS: usize = 24;

/// Images with a bright square in a corner given by the class, masks of that square, a model and its predictions.
struct Fixture {
    folder: TempDir,
    _trained: Ran,
    model: Input,
}

fn png(pixels: &[u8], colour: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(pixels, SHAPE[1] as u32, SHAPE[0] as u32, colour).unwrap();
    bytes
}

fn id(row: usize) -> String {
    format!("ISIC_{row:04}")
}

fn split(row: usize) -> &'static str {
    ["train", "train", "test", "validation"][row % 4]
}

/// Whether a pixel is in the square of a class.
fn is_lesion(class: usize, y: usize, x: usize) -> bool {
    let (top, left) = [(0, 0), (0, 5), (4, 0)][class];
    (top..top + 4).contains(&y) && (left..left + 5).contains(&x)
}

fn pixels(row: usize) -> Vec<u8> {
    let mut random = Random::new(5, &id(row));
    let places = (0..SHAPE[0]).flat_map(|y| (0..SHAPE[1]).map(move |x| (y, x)));
    places
        .flat_map(|(y, x)| {
            let light = if is_lesion(row % 3, y, x) { 180 } else { 20 };
            [0; 3].map(|_: u8| light + random.below(50) as u8)
        })
        .collect()
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text =
            |name: &str, of: &dyn Fn(usize) -> String| Column::new(name.into(), (0..ROWS).map(of).collect::<Vec<_>>());
        let table = table::frame(vec![
            text("image_id", &id),
            text("label", &|row| LABELS[row % 3].0.to_owned()),
            text("cell_type", &|row| LABELS[row % 3].1.to_owned()),
            Column::new("cell_type_idx".into(), (0..ROWS).map(|row| (row % 3) as i64).collect::<Vec<_>>()),
            text("split", &|row| split(row).to_owned()),
        ]);
        let table = table::write(&table.unwrap()).unwrap();
        let table = file_input(folder.path(), "split.parquet", &table, Some(ArtifactType::TABLE));
        let inputs = [("shards", shards(folder.path())), ("split", table)];
        let trained = run_kind(&Train, &json!({ "epochs": 1, "device": "cpu" }), &inputs).unwrap();
        let model = folder_input(&[&trained.output_dir().join("model")], Some(artifact::MODEL));
        Self { folder, _trained: trained, model }
    }

    fn images(&self) -> Input {
        let image = |row: usize| {
            let bytes = png(&pixels(row), ExtendedColorType::Rgb8);
            file(self.folder.path(), &format!("images/{}.png", id(row)), &bytes)
        };
        files_input((0..ROWS).map(image).collect(), None)
    }

    fn masks(&self) -> Input {
        let mask = |row: usize| {
            let places = (0..SHAPE[0]).flat_map(|y| (0..SHAPE[1]).map(move |x| (y, x)));
            let lesion: Vec<u8> = places.map(|(y, x)| if is_lesion(row % 3, y, x) { 255 } else { 0 }).collect();
            let bytes = png(&lesion, ExtendedColorType::L8);
            file(self.folder.path(), &format!("masks/{}_segmentation.png", id(row)), &bytes)
        };
        files_input((0..ROWS).map(mask).collect(), None)
    }

    /// Predicts the true class of each row that is not for training, but labels row 2 (`df`) `akiec`. The confidence
    /// decreases with the row.
    fn predictions(&self) -> Input {
        let rows = || (0..ROWS).filter(|row| split(*row) != "train");
        let predicted = |row: usize| LABELS[if row == 2 { 0 } else { row % 3 }].0.to_owned();
        let text =
            |name: &str, of: &dyn Fn(usize) -> String| Column::new(name.into(), rows().map(of).collect::<Vec<_>>());
        let table = table::frame(vec![
            text("image_id", &id),
            text("split", &|row| split(row).to_owned()),
            text("label", &|row| LABELS[row % 3].0.to_owned()),
            text("predicted", &predicted),
            Column::new("confidence".into(), rows().map(|row| 0.99 - row as f64 / 100.0).collect::<Vec<_>>()),
        ]);
        let bytes = table::write(&table.unwrap()).unwrap();
        file_input(self.folder.path(), "predictions.parquet", &bytes, Some(artifact::PREDICTIONS))
    }

    fn inputs(&self) -> Vec<(&'static str, Input)> {
        vec![
            ("model", self.model.clone()),
            ("shards", shards(self.folder.path())),
            ("predictions", self.predictions()),
            ("images", self.images()),
        ]
    }

    fn inputs_with_masks(&self) -> Vec<(&'static str, Input)> {
        let mut inputs = self.inputs();
        inputs.push(("masks", self.masks()));
        inputs
    }
}

fn shards(folder: &std::path::Path) -> Input {
    let card = json!({
        "colour_constancy": "none", "decode": "reduced", "dtype": "u8", "filter": "bicubic", "fit": "stretch",
        "hair_removal": "none", "height": SHAPE[0], "width": SHAPE[1],
    });
    let mut index = Vec::new();
    for (number, row) in (0..).zip(0..ROWS) {
        let digest = tensor_digest(&pixels(row));
        index.push(IndexRow { image_id: id(row), shard: "shard-ISIC_0000.arrow".to_owned(), row: number, digest });
    }
    let rows: Vec<(String, Vec<u8>)> = (0..ROWS).map(|row| (id(row), pixels(row))).collect();
    let shard = shard(SHAPE, &card, rows.iter().map(|(id, tensor)| (&id[..], &tensor[..])));
    let shard = file(folder, "shard-ISIC_0000.arrow", &shard);
    files_input(vec![shard, file(folder, INDEX_NAME, &encode_index(&index).unwrap())], Some(artifact::SHARDS))
}

/// The keys of the examples in a class's figure.
fn shown(ran: &Ran, label: &str) -> Vec<String> {
    let examples = ran.json(&format!("overlays/heat_{label}.json"))["data"]["examples"].clone();
    examples.as_array().unwrap().iter().map(|example| example["image_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn figures_and_metrics_cover_the_rows_of_the_split() {
    let fixture = Fixture::new();
    let ran = run_kind(&GradCam, &json!({}), &fixture.inputs_with_masks()).unwrap();
    // The test rows are 2, 6, 10, 14, 18 and 22; rows 2 and 14 are `df`, and row 2 is predicted wrongly.
    assert_eq!(shown(&ran, "df"), [id(14), id(2)]);
    assert_eq!(shown(&ran, "akiec"), [id(6), id(18)]);
    let localisation = &ran.json("localisation.json")["test"];
    assert_eq!((&localisation["images"], &localisation["per_class"]["df"]["images"]), (&json!(6), &json!(2)));
    // A lesion has 4×5 of 8×10 pixels.
    let measured = 6 - localisation["without_heat"].as_u64().unwrap();
    assert!(measured > 0, "some images have a nonzero heat map: {localisation}");
    assert!((localisation["lesion_share"].as_f64().unwrap() - 0.25).abs() < 1e-12, "{localisation}");
    let share = localisation["heat_in_lesion"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&share), "{share}");
    // 20 times the model's width is at least 200 pixels.
    assert_eq!(ran.json("overlays/heat_df.json")["data"]["size"], json!([200, 160]));
}

#[test]
fn without_masks_only_shown_images_are_processed() {
    let fixture = Fixture::new();
    let ran = run_kind(&GradCam, &json!({ "examples": 1 }), &fixture.inputs()).unwrap();
    assert_eq!(shown(&ran, "df"), [id(14), id(2)]);
    assert_eq!(shown(&ran, "akiec"), [id(6)]);
    let localisation = &ran.json("localisation.json")["test"];
    assert_eq!(localisation["undefined"]["pointing_game"], "no masks are given");
    assert!(localisation.get("pointing_game").is_none());
}

#[test]
fn a_split_without_predictions_is_a_warning() {
    let fixture = Fixture::new();
    let ran = run_kind(&GradCam, &json!({ "split": "train" }), &fixture.inputs_with_masks()).unwrap();
    assert!(format!("{:?}", ran.events).contains("split `train` has no predictions"), "{:?}", ran.events);
    assert_eq!(ran.json("localisation.json")["train"]["undefined"]["pointing_game"], "there are no rows of it");
    let refused = resolve(&GradCam, &json!({ "split": "tset" })).unwrap_err();
    assert_eq!(refused.hint.as_deref(), Some("did you mean `test`?"));
}

#[test]
fn the_output_does_not_depend_on_the_number_of_threads() {
    let fixture = Fixture::new();
    let paths = ["localisation.json", "overlays/heat_akiec.svg", "overlays/heat_bcc.svg", "overlays/heat_df.svg"];
    let run = |threads| {
        run_kind_with(&GradCam, &json!({}), &fixture.inputs_with_masks(), |job| job.threads = threads).unwrap()
    };
    let expected = golden(&run(1), &paths);
    for threads in [2, 3, 7] {
        assert_eq!(golden(&run(threads), &paths), expected, "{threads} threads");
    }
}

#[test]
fn the_key_covers_shown_images_tensors_and_masks_only() {
    let fixture = Fixture::new();
    let views = |inputs: Vec<(&str, Input)>| {
        let inputs = Inputs(inputs.into_iter().map(|(port, input)| (port.to_owned(), vec![input])).collect());
        let params = resolve(&GradCam, &json!({ "examples": 1 })).unwrap();
        AnyKind::views(&GradCam, &params, Planning { inputs: &inputs, seed: None }).unwrap()
    };
    let before = views(fixture.inputs_with_masks());
    let changed = |row: usize, port: &str| {
        let mut inputs = fixture.inputs_with_masks();
        let input = &mut inputs.iter_mut().find(|(name, _)| *name == port).unwrap().1;
        let changed = input.files.iter_mut().find(|file| file.path.contains(&id(row))).unwrap();
        changed.digest = hamflow_stage_api::Digest::of(b"other").into();
        views(inputs) != before
    };
    // Row 6 is shown, row 18 is not; row 1 is a training row.
    assert!(changed(6, "images") && !changed(18, "images") && !changed(1, "images"));
    assert!(changed(6, "masks") && changed(18, "masks") && !changed(1, "masks"));
}

#[test]
fn bad_masks_and_unknown_classes_are_errors() {
    let fixture = Fixture::new();
    let mut inputs = fixture.inputs();
    let broken = file(fixture.folder.path(), &format!("broken/{}.png", id(6)), b"not a picture");
    inputs.push(("masks", files_input(vec![broken], None)));
    let error = run_kind(&GradCam, &json!({}), &inputs).err().unwrap();
    assert!(error.message.starts_with("the mask `") && error.message.contains(&id(6)), "{error}");

    let mut inputs = fixture.inputs();
    let table = table::frame(vec![
        Column::new("image_id".into(), vec![id(2)]),
        Column::new("split".into(), vec!["test"]),
        Column::new("label".into(), vec!["nv"]),
        Column::new("predicted".into(), vec!["nv"]),
        Column::new("confidence".into(), vec![0.5]),
    ]);
    let bytes = table::write(&table.unwrap()).unwrap();
    inputs[2].1 = file_input(fixture.folder.path(), "foreign.parquet", &bytes, Some(artifact::PREDICTIONS));
    let error = run_kind(&GradCam, &json!({}), &inputs).err().unwrap();
    assert_eq!(error.message, "class `nv` of the predictions is not a class of the model");
}

#[test]
fn the_output_bytes_match_the_revision() {
    let ran = run_kind(&GradCam, &json!({}), &Fixture::new().inputs_with_masks()).unwrap();
    let digest = golden(&ran, &["localisation.json", "overlays/heat_akiec.svg", "overlays/heat_df.json"]);
    assert_eq!((Kind::spec(&GradCam).revision, digest.as_str()), (4, "a2a42235c56d"));
}
