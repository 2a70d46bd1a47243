//! Tests of writing and reading shards together.

use hamflow_stage_api::{ArtifactType, Digest, Input, InputFile};
use serde_json::json;

use super::{Dtype, IndexRow, ShardReader, ShardWriter, encode_index, read_index, tensor_digest};
use crate::test_support::{file, files_input, push};

fn input(files: Vec<InputFile>) -> Input {
    files_input(files, Some(ArtifactType::Shards))
}

fn shard(ids: &[&str], first: u8) -> Vec<u8> {
    let mut writer = ShardWriter::new([2, 3, 3], Dtype::U8, &json!({ "height": 2, "width": 3 }));
    for (id, value) in ids.iter().zip(first..) {
        push(&mut writer, id, &[value; 18]);
    }
    writer.finish().unwrap()
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
fn a_shard_that_changed_or_is_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = shard(&["a"], 1);
    let mut changed = file(folder.path(), "shard-a.arrow", &bytes);
    changed.digest = Digest::of(b"something else");
    assert!(ShardReader::open(&input(vec![changed])).unwrap_err().message.contains("changed"));
    for length in [0, 5, 64, bytes.len() / 2, bytes.len() - 1] {
        let damaged = file(folder.path(), "shard-a.arrow", &bytes[..length]);
        assert!(ShardReader::open(&input(vec![damaged])).is_err(), "{length} bytes");
    }
    assert!(ShardReader::open(&input(Vec::new())).is_err());
}

#[test]
fn an_image_that_is_twice_in_the_shards_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["shard-a.arrow", "shard-b.arrow"].map(|name| file(folder.path(), name, &shard(&["a"], 1)));
    assert!(ShardReader::open(&input(files.into())).unwrap_err().message.contains("`a` is twice"));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    assert_eq!(shard(&["a", "b"], 1), shard(&["a", "b"], 1));
}

#[test]
fn an_index_is_read_back_as_it_was_written() {
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
