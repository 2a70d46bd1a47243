//! Round-trip tests of writing and reading shards.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::DataType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use hamflow_stage_api::{Digest, Input, InputFile, OutputFile};
use serde_json::json;

use super::{Dtype, IndexRow, ShardReader, ShardWriter, encode_index, read_index, tensor_digest};
use crate::test_support::{self, file, files_input};

fn input(files: Vec<InputFile>) -> Input {
    files_input(files, None)
}

const SHAPE: [usize; 3] = [2, 3, 3];

fn shard(ids: &[&str], first: u8) -> Vec<u8> {
    let tensors: Vec<[u8; 18]> = (first..).take(ids.len()).map(|value| [value; 18]).collect();
    let rows = ids.iter().zip(&tensors).map(|(id, tensor)| (*id, &tensor[..]));
    test_support::shard(SHAPE, &json!({ "height": 2, "width": 3 }), rows)
}

#[test]
fn tensors_are_found_by_id_across_shards() {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![
        file(folder.path(), "index.parquet", b"not a shard"),
        file(folder.path(), "shard-a.arrow", &shard(&["a", "b"], 1)),
        file(folder.path(), "shard-c.arrow", &shard(&["c"], 3)),
        file(folder.path(), "shard-d.arrow", &shard(&[], 0)),
    ];
    let reader = ShardReader::open(&input(files)).unwrap();
    assert_eq!(reader.shape(), [2, 3, 3]);
    assert_eq!(reader.preprocess(), &json!({ "height": 2, "width": 3 }));
    assert_eq!(reader.image_ids().collect::<Vec<_>>(), ["a", "b", "c"]);
    for (id, value) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(reader.tensor(id).unwrap(), [value; 18]);
    }
    assert!(reader.tensor("d").unwrap_err().message.contains("`d`"));
}

#[test]
fn a_changed_or_corrupt_shard_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = shard(&["a"], 1);
    let mut changed = file(folder.path(), "shard-a.arrow", &bytes);
    changed.digest = Digest::of(b"something else").into();
    assert!(ShardReader::open(&input(vec![changed])).unwrap_err().message.contains("changed"));
    for length in [0, 5, 64, bytes.len() / 2, bytes.len() - 1] {
        let damaged = file(folder.path(), "shard-a.arrow", &bytes[..length]);
        assert!(ShardReader::open(&input(vec![damaged])).is_err(), "{length} bytes");
    }
    assert!(ShardReader::open(&input(Vec::new())).is_err());
}

#[test]
fn a_duplicate_image_in_the_shards_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["shard-a.arrow", "shard-b.arrow"].map(|name| file(folder.path(), name, &shard(&["a"], 1)));
    assert!(ShardReader::open(&input(files.into())).unwrap_err().message.contains("duplicate image `a`"));
}

/// The bytes that arrow's writer produces from whole columns, with the schema of `like`.
fn in_one_piece(like: &[u8], ids: &[String], tensors: &[u8]) -> Vec<u8> {
    let schema = FileReader::try_new(std::io::Cursor::new(like), None).unwrap().schema();
    let DataType::FixedSizeList(item, size) = schema.field(1).data_type() else { panic!("{schema}") };
    let values: ArrayRef = match item.data_type() {
        DataType::UInt8 => Arc::new(UInt8Array::from(tensors.to_vec())),
        _ => Arc::new(Float32Array::from_iter_values(tensors.iter().map(|value| f32::from(*value) / 255.0))),
    };
    let tensors = FixedSizeListArray::try_new(Arc::clone(item), *size, values, None).unwrap();
    let columns: [ArrayRef; 2] = [Arc::new(StringArray::from_iter_values(ids)), Arc::new(tensors)];
    let mut writer = FileWriter::try_new(Vec::new(), &schema).unwrap();
    if !ids.is_empty() {
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns.into()).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

// Ids of many lengths, so that the length of the data before the tensors depends on which images are skipped.
#[test]
fn a_shard_written_image_by_image_matches_arrow_with_any_images_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shard.arrow");
    let ids: Vec<String> = (0..7).map(|row: usize| "i".repeat(1 + row * row * 5)).collect();
    let tensor = |row: usize| -> Vec<u8> { (0..18).map(|place| (row * 31 + place * 7) as u8).collect() };
    let left_out: [&[usize]; 6] = [&[], &[0], &[6], &[1, 2, 5], &[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5, 6]];
    for dtype in [Dtype::U8, Dtype::F32] {
        for left_out in left_out {
            let file = OutputFile::create(folder.path().join("shard.arrow")).unwrap();
            let mut writer = ShardWriter::create(file, SHAPE, dtype, &json!({ "width": 3 }), &ids).unwrap();
            for row in 0..ids.len() {
                if left_out.contains(&row) {
                    writer.leave_out();
                } else {
                    writer.push(&tensor(row)).unwrap();
                }
            }
            writer.finish().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let kept = || (0..ids.len()).filter(|row| !left_out.contains(row));
            let (ids, tensors): (Vec<String>, Vec<Vec<u8>>) = kept().map(|row| (ids[row].clone(), tensor(row))).unzip();
            assert!(bytes == in_one_piece(&bytes, &ids, &tensors.concat()), "{dtype:?} without {left_out:?}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no other file remains in the folder");
}

#[test]
fn a_shard_is_written_incrementally_and_only_finished_with_all_images() {
    let folder = tempfile::tempdir().unwrap();
    let file = OutputFile::create(folder.path().join("shard.arrow")).unwrap();
    let path = file.path().to_owned();
    let ids: Vec<String> = (0..20).map(|row| format!("image {row}")).collect();
    let shape = [100, 100, 3];
    let mut writer = ShardWriter::create(file, shape, Dtype::U8, &json!({}), &ids).unwrap();
    for row in 1..ids.len() as u64 {
        writer.push(&[0; 30_000]).unwrap();
        let (written, pushed) = (std::fs::metadata(&path).unwrap().len(), row * 30_000);
        assert!(written + 64 * 1024 > pushed, "{written} of more than {pushed} bytes are in the file");
    }
    let error = writer.finish().unwrap_err();
    assert!(error.message.contains("only 19 of the 20 images of a shard were added or skipped"), "{error}");
}

#[test]
fn an_index_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let row = |id: &str, row| IndexRow {
        image_id: id.to_owned(),
        shard: "shard-a.arrow".to_owned(),
        row,
        digest: tensor_digest(&[row as u8]),
    };
    let rows = [row("a", 0), row("b", 1)];
    let file = file(folder.path(), "index.parquet", &encode_index(&rows).unwrap());
    assert_eq!(read_index(&file).unwrap(), rows);
}
