//! Tests of `preprocess` driven like the engine does: plan, parts, merge.

use std::path::{Path, PathBuf};

use hamflow_stage_api::{AnyKind, EventSink, Input, Inputs, Job, JobEvent, JobPart, Plan, perform};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use polars::prelude::{Column, DataFrame};

use super::*;
use crate::artifact;
use crate::shard::{ShardReader, read_index, tensor_digest};
use crate::test_support::{allocations, file, file_input, files_input, job, resolve, shared};
use hamflow_kernels::imaging::{Resizer, decode};

struct Silent;

impl EventSink for Silent {
    fn emit(&self, _event: JobEvent) {}
}

fn jpeg(seed: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(40, 30, |x, y| Rgb([(x * 6) as u8, (y * 8) as u8, (seed * 7) as u8]));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&image).unwrap();
    bytes
}

fn table(folder: &Path, ids: &[&str]) -> Input {
    let paths: Vec<String> = ids.iter().map(|id| format!("{id}.jpg")).collect();
    let columns = vec![
        Column::new("image_id".into(), ids),
        Column::new("folder".into(), vec![0i64; ids.len()]),
        Column::new("path".into(), paths),
        Column::new("age".into(), vec![50.0; ids.len()]),
    ];
    let frame = DataFrame::new(ids.len(), columns).unwrap();
    file_input(folder, "table.parquet", &crate::table::write(&frame).unwrap(), Some(ArtifactType::TABLE))
}

fn plan_of(whole: &Job, params: &Value) -> Result<Plan, StageError> {
    let params = resolve(&Preprocess, params).unwrap();
    AnyKind::plan(&Preprocess, &params, Planning { inputs: &whole.inputs, seed: None })
}

/// Runs all parts and the merge as the engine does; returns the output folder.
fn run_all(folder: &Path, params: &Value, table: Input, images: Input, threads: usize) -> Result<PathBuf, StageError> {
    let whole = job(&Preprocess, params, &[("table", table), ("images", images.clone())], &folder.join("whole"));
    let Plan::Parts(parts) = plan_of(&whole, params).unwrap() else { panic!("preprocess has parts") };
    let mut made = Vec::new();
    for part in parts {
        let output_dir = folder.join(&part.name);
        let files = part.files["images"].iter().map(|index| images.files[*index as usize].clone()).collect();
        let input = Input { files, ..images.clone() };
        let piece = Job {
            part: JobPart::Part { name: part.name.clone(), key: part.key, data: part.data },
            inputs: Inputs(BTreeMap::from([("images".to_owned(), vec![input])])),
            output_dir: output_dir.clone(),
            threads,
            ..whole.clone()
        };
        perform(&Preprocess, &piece, &Silent)?;
        let name = format!("shards/{}.arrow", part.name);
        let target = whole.output_dir.join(&name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let size = std::fs::copy(output_dir.join(&name), target).unwrap();
        made.push(PartOutput {
            name: part.name,
            side: BTreeMap::from([(ROWS.to_owned(), output_dir.join(ROWS))]),
            assembled: BTreeMap::from([(name, size)]),
        });
    }
    let whole = Job { part: JobPart::Merge { parts: made }, ..whole };
    perform(&Preprocess, &whole, &Silent)?;
    Ok(whole.output_dir)
}

fn shards(output: &Path) -> ShardReader {
    let files = std::fs::read_dir(output.join("shards")).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let bytes = std::fs::read(output.join("shards").join(&name)).unwrap();
        file(&output.join("shards"), &name, &bytes)
    });
    ShardReader::open(&files_input(files.collect(), Some(artifact::SHARDS))).unwrap()
}

const IDS: [&str; 7] = ["f", "b", "c", "a", "e", "d", "g"];

fn images(folder: &Path) -> Vec<InputFile> {
    IDS.iter().zip(1..).map(|(id, seed)| file(folder, &format!("{id}.jpg"), &jpeg(seed))).collect()
}

fn small() -> Value {
    json!({ "height": 6, "width": 8, "part_size": 2, "decode": "exact" })
}

/// Files of the `image` encoder, with the standard tables, and one with other subsampling.
fn two_sorts() -> Vec<Vec<u8>> {
    vec![jpeg(1), include_bytes!("../../kernels/src/imaging/fixtures/noise-422.jpg").to_vec()]
}

#[test]
fn the_number_of_allocations_does_not_grow_with_the_number_of_images() {
    assert_allocations_do_not_grow(&two_sorts());
}

#[test]
#[ignore = "needs the real data"]
fn the_number_of_allocations_does_not_grow_with_the_number_of_original_images() {
    let entries = std::fs::read_dir(shared("ham10000-originals")).unwrap();
    let first = entries.map(|entry| entry.unwrap().path()).min().unwrap();
    let mut sorts = two_sorts();
    // It has tables of its own.
    sorts.push(std::fs::read(first).unwrap());
    assert_allocations_do_not_grow(&sorts);
}

/// Several sorts of files alternate, so that the decoder's tables do too.
fn assert_allocations_do_not_grow(sorts: &[Vec<u8>]) {
    let folder = tempfile::tempdir().unwrap();
    let sorts: Vec<InputFile> =
        sorts.iter().zip(0..).map(|(bytes, i)| file(folder.path(), &format!("{i}.jpg"), bytes)).collect();
    for fit in ["stretch", "pad"] {
        let parameters: PreprocessParams =
            serde_json::from_value(json!({ "height": 15, "width": 20, "fit": fit })).unwrap();
        let taken = [6, 12, 24].map(|count| {
            let files = (0..count).map(|i| sorts[i % sorts.len()].clone()).collect();
            let image_ids: Vec<String> = (0..count).map(|i| format!("image {i}")).collect();
            let inputs = [("images", files_input(files, None))];
            let job = Job { threads: 1, ..job(&Preprocess, &json!({}), &inputs, &folder.path().join("job")) };
            let context = StageContext::new(&job, &Silent);
            let (file, card) = (context.create("shard").unwrap(), parameters.card());
            let mut writer =
                ShardWriter::create(file, parameters.shape(), parameters.dtype, &card, &image_ids).unwrap();
            let before = allocations::total();
            let made = prepare_all(&context, &parameters, &image_ids, &mut writer, &mut Vec::new()).unwrap();
            let taken = allocations::total() - before;
            assert_eq!(made.len(), count);
            taken
        });
        assert!(taken[0] > 0 && taken.iter().all(|often| *often == taken[0]), "{fit}: {taken:?}");
    }
}

#[test]
fn every_image_becomes_the_tensor_with_the_digest_in_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let input = files_input(images(&folder.path().join("images")), None);
    let output = run_all(folder.path(), &small(), table(folder.path(), &IDS), input, 1).unwrap();
    let reader = shards(&output);
    assert_eq!(reader.shape(), [6, 8, 3]);
    let card = json!({
        "colour_constancy": "none", "decode": "exact", "dtype": "u8", "filter": "bicubic", "fit": "stretch",
        "hair_removal": "none", "height": 6, "width": 8,
    });
    assert_eq!(reader.preprocess(), &card);
    let bytes = std::fs::read(output.join("shards/index.parquet")).unwrap();
    let index = read_index(&file(folder.path(), "index.parquet", &bytes)).unwrap();
    assert_eq!(index.iter().map(|row| row.image_id.as_str()).collect::<String>(), "abcdefg");
    for row in index {
        let tensor = reader.tensor(&row.image_id).unwrap();
        assert_eq!(tensor_digest(tensor), row.digest);
        let seed = IDS.iter().position(|id| *id == row.image_id).unwrap() as u32 + 1;
        let mut expected = vec![0; 6 * 8 * 3];
        Resizer::new(Filter::Bicubic).resize(&decode(&jpeg(seed)).unwrap().into(), (8, 6), &mut expected);
        assert_eq!(tensor, expected);
    }
    assert_eq!(std::fs::read(output.join(QUARANTINE)).unwrap(), b"{\n  \"images\": []\n}\n");
}

#[test]
fn a_bad_image_is_an_error_or_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = images(&folder.path().join("images"));
    files[2] = file(&folder.path().join("images"), "c.jpg", &jpeg(3)[..200]);
    files[4] = file(&folder.path().join("images"), "e.jpg", b"not an image at all");
    let input = files_input(files, None);
    let run = |params: Value, name: &str| {
        let scratch = folder.path().join(name);
        run_all(&scratch, &params, table(folder.path(), &IDS), input.clone(), 2)
    };
    let error = run(json!({}), "first").unwrap_err();
    assert!(error.message.contains("c.jpg`: the file is truncated"), "{error}");
    assert!(error.hint.unwrap().contains("quarantine"));

    let output = run(json!({ "bad_images": "quarantine", "part_size": 1 }), "second").unwrap();
    assert_eq!(shards(&output).image_ids().collect::<String>(), "abdfg");
    let list: Value = serde_json::from_slice(&std::fs::read(output.join(QUARANTINE)).unwrap()).unwrap();
    assert_eq!(list["images"][0]["image_id"], "c");
    assert_eq!(
        list["images"][1],
        json!({ "image_id": "e", "path": "e.jpg", "reason": "is text, not an image", "offset": null })
    );
}

// A file's path is in no part's key, so a part must not contain it; moving a file changes the table.
#[test]
fn the_path_of_a_quarantined_image_comes_from_the_table_only() {
    let folder = tempfile::tempdir().unwrap();
    let params = json!({ "bad_images": "quarantine" });
    let made = |path: &str| {
        let scratch = folder.path().join(path.replace('/', "_"));
        let bad = file(&scratch.join("images"), path, b"not an image at all");
        let good = file(&scratch.join("images"), "b.jpg", &jpeg(2));
        let mut files = vec![bad, good];
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let columns = vec![
            Column::new("image_id".into(), ["a", "b"]),
            Column::new("folder".into(), [0i64, 0]),
            Column::new("path".into(), [path, "b.jpg"]),
        ];
        let table = crate::table::write(&DataFrame::new(2, columns).unwrap()).unwrap();
        let table = file_input(&scratch, "table.parquet", &table, Some(ArtifactType::TABLE));
        let output = run_all(&scratch, &params, table, files_input(files, None), 1).unwrap();
        let list: Value = serde_json::from_slice(&std::fs::read(output.join(QUARANTINE)).unwrap()).unwrap();
        assert_eq!(list["images"][0]["path"], path);
        std::fs::read(scratch.join("shard-a").join(ROWS)).unwrap()
    };
    assert!(made("a.jpg") == made("moved/a.jpg"));
}

#[test]
fn the_output_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = images(&folder.path().join("images"));
    files[4] = file(&folder.path().join("images"), "e.jpg", b"not an image at all");
    let input = files_input(files, None);
    let params = json!({ "height": 6, "width": 8, "bad_images": "quarantine" });
    let made = |threads: usize| {
        let scratch = folder.path().join(threads.to_string());
        let output = run_all(&scratch, &params, table(folder.path(), &IDS), input.clone(), threads).unwrap();
        let shard = std::fs::read(output.join("shards/shard-a.arrow")).unwrap();
        let index = std::fs::read(output.join("shards/index.parquet")).unwrap();
        (shard, index, std::fs::read(output.join(QUARANTINE)).unwrap())
    };
    let one = made(1);
    for threads in [2, 3, 16] {
        assert!(made(threads) == one, "{threads} threads");
    }
}

#[test]
fn the_first_bad_image_is_reported_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = images(&folder.path().join("images"));
    for bad in ["d", "e", "g"] {
        let at = IDS.iter().position(|id| *id == bad).unwrap();
        files[at] = file(&folder.path().join("images"), &format!("{bad}.jpg"), b"not an image at all");
    }
    let input = files_input(files, None);
    for threads in [1, 2, 3, 16] {
        let scratch = folder.path().join(threads.to_string());
        let error = run_all(&scratch, &json!({}), table(folder.path(), &IDS), input.clone(), threads).unwrap_err();
        assert!(error.message.contains("d.jpg`: the file is text"), "{threads} threads: {error}");
    }
}

struct Panics;

impl EventSink for Panics {
    fn emit(&self, event: JobEvent) {
        assert!(!matches!(event, JobEvent::Warning { .. }), "this sink rejects warnings");
    }
}

// Otherwise the other threads would wait forever for the image of the thread that panicked.
#[test]
fn a_thread_that_panics_ends_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = images(&folder.path().join("images"));
    files[0] = file(&folder.path().join("images"), "f.jpg", b"not an image at all");
    let image_ids: Vec<String> = IDS.iter().map(|id| (*id).to_owned()).collect();
    let parameters: PreprocessParams = serde_json::from_value(json!({ "bad_images": "quarantine" })).unwrap();
    let inputs = [("images", files_input(files, None))];
    let job = Job { threads: 3, ..job(&Preprocess, &json!({}), &inputs, &folder.path().join("job")) };
    let context = StageContext::new(&job, &Panics);
    let file = context.create("shard").unwrap();
    let mut writer =
        ShardWriter::create(file, parameters.shape(), parameters.dtype, &parameters.card(), &image_ids).unwrap();
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        prepare_all(&context, &parameters, &image_ids, &mut writer, &mut Vec::new())
    }));
    assert_eq!(made.unwrap_err().downcast_ref::<&str>(), Some(&"this sink rejects warnings"));
}

#[test]
fn a_dataset_with_only_bad_images_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let input = files_input(vec![file(&folder.path().join("images"), "a.jpg", b"")], None);
    let params = json!({ "bad_images": "quarantine" });
    assert!(run_all(folder.path(), &params, table(folder.path(), &["a"]), input, 1).is_err());
}

fn plan(table: Input, images: Input) -> Result<Plan, StageError> {
    let folder = tempfile::tempdir().unwrap();
    let whole = job(&Preprocess, &small(), &[("table", table), ("images", images)], folder.path());
    plan_of(&whole, &small())
}

#[test]
fn planning_fails_if_table_and_folders_do_not_match() {
    let folder = tempfile::tempdir().unwrap();
    let input = files_input(images(&folder.path().join("images")), None);
    let refused = |ids: &[&str]| plan(table(folder.path(), ids), input.clone()).unwrap_err().message;
    assert!(refused(&["a", "x"]).contains("file `x.jpg` of image `x`"));
    assert!(refused(&["a", "b", "a"]).contains("duplicate image `a`"));
    assert!(refused(&[]).contains("has no rows"));
}

#[test]
fn the_view_contains_only_the_sorted_ids_and_paths() {
    let folder = tempfile::tempdir().unwrap();
    let input = files_input(images(&folder.path().join("images")), None);
    let whole =
        job(&Preprocess, &small(), &[("table", table(folder.path(), &["b", "a"])), ("images", input)], folder.path());
    let params = resolve(&Preprocess, &small()).unwrap();
    let views = AnyKind::views(&Preprocess, &params, Planning { inputs: &whole.inputs, seed: None }).unwrap();
    assert_eq!(views[0].text, "a\t0/a.jpg\nb\t0/b.jpg\n");
}

#[test]
fn parameters_out_of_range_are_refused() {
    for (name, value) in [("height", json!(0)), ("width", json!(5000)), ("part_size", json!(0)), ("fit", json!("crop"))]
    {
        let params = json!({ name: value });
        assert_eq!(resolve(&Preprocess, &params).unwrap_err().path, [name]);
    }
}

// If these digests change without a new REVISION, caches contain other bytes than a rebuild produces.
#[test]
fn the_shard_bytes_match_the_revision() {
    let digests = [
        json!({}),
        json!({ "height": 6, "width": 8 }),
        json!({ "height": 6, "width": 8, "decode": "exact" }),
        json!({ "height": 8, "width": 8, "fit": "center-crop" }),
        json!({ "height": 8, "width": 8, "fit": "pad" }),
        json!({ "height": 6, "width": 8, "colour_constancy": "shades-of-grey" }),
        json!({ "height": 24, "width": 32, "hair_removal": "dullrazor" }),
        json!({ "height": 6, "width": 8, "dtype": "f32" }),
    ]
    .map(|params| {
        let folder = tempfile::tempdir().unwrap();
        let input = files_input(images(&folder.path().join("images")), None);
        let output = run_all(folder.path(), &params, table(folder.path(), &IDS), input, 1).unwrap();
        tensor_digest(&std::fs::read(output.join("shards/shard-a.arrow")).unwrap())[..16].to_owned()
    });
    assert_eq!((REVISION, digests.each_ref().map(String::as_str)), (4, DIGESTS));
}

const DIGESTS: [&str; 8] = [
    "d3800458fe02a184",
    "69c1a9bd7d9de331",
    "03a32deaedc00c32",
    "f169d631f98b4a84",
    "b822a95fded57617",
    "cbbfc7d9d064fe13",
    "0e53329c73f028b3",
    "df56ad7a114a0bd4",
];

#[test]
fn floats_are_the_bytes_divided_by_255_and_training_rejects_them() {
    let folder = tempfile::tempdir().unwrap();
    let input = files_input(images(&folder.path().join("images")), None);
    let made = |dtype: &str| {
        let scratch = folder.path().join(dtype);
        let params = json!({ "height": 6, "width": 8, "dtype": dtype });
        run_all(&scratch, &params, table(folder.path(), &IDS), input.clone(), 1).unwrap()
    };
    let bytes = shards(&made("u8"));
    let path = made("f32").join("shards/shard-a.arrow");
    let mut reader = arrow::ipc::reader::FileReader::try_new(std::fs::File::open(&path).unwrap(), None).unwrap();
    let batch = reader.next().unwrap().unwrap();
    let ids = arrow::array::AsArray::as_string::<i32>(batch.column(0).as_ref());
    let tensors = arrow::array::AsArray::as_fixed_size_list(batch.column(1).as_ref());
    for row in 0..batch.num_rows() {
        let tensor = tensors.value(row);
        let floats = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float32Type>(tensor.as_ref());
        let expected: Vec<f32> = bytes.tensor(ids.value(row)).unwrap().iter().map(|v| f32::from(*v) / 255.0).collect();
        assert_eq!(floats.values(), &expected[..]);
    }
    let shard = file(folder.path(), "shard-a.arrow", &std::fs::read(path).unwrap());
    let error = ShardReader::open(&files_input(vec![shard], Some(artifact::SHARDS))).unwrap_err();
    assert!(error.message.contains("set `dtype = \"u8\"` in `preprocess`"), "{error}");
}
