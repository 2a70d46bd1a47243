//! Fuzz targets for the parsers of files that may come from elsewhere. For arbitrary bytes they must not panic, hang or
//! allocate excessive memory.
//!
//! `fuzz/` has a binary for each target; `tests/fuzz.rs` briefly runs all of them on seeds and mutated seeds.

use crate::command::reads_as_line;
use crate::ml::card::{Card, read_weights};
use crate::shard::ShardReader;
use crate::table::{Sheet, read_bytes};
use hamflow_kernels::imaging::Decoder;

/// A target with its name, which is also that of its fuzz binary and of its seed directory. Returns whether the parser
/// accepted the bytes.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("csv", csv),
    ("parquet", parquet),
    ("jpeg", jpeg),
    ("card", card),
    ("safetensors", safetensors),
    ("shard", shard),
    ("line", line),
];

/// A table as CSV.
pub fn csv(bytes: &[u8]) -> bool {
    let Ok(csv) = Sheet::read("fuzz.csv", bytes.to_vec()) else { return false };
    let last = csv.height() - 1;
    for column in 0..csv.header.len() {
        assert_eq!(csv.text(last, column), csv.text(last, column).trim());
        assert!(csv.error(last, column, "").place.is_none_or(|place| place.line > 0));
    }
    true
}

/// A table as Parquet.
pub fn parquet(bytes: &[u8]) -> bool {
    read_bytes("fuzz.parquet", bytes.to_vec(), None, &[]).is_ok()
}

/// An image, decoded at full and at reduced size.
pub fn jpeg(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::default();
    let whole = decoder.decode(bytes).is_ok();
    if let Ok(image) = decoder.decode_reduced(bytes, |_, _| 0.25) {
        assert_eq!(image.bytes.len(), image.width * image.height * 3);
    }
    whole
}

/// The card of a model.
pub fn card(bytes: &[u8]) -> bool {
    Card::parse(bytes).is_ok()
}

/// The weights of a model.
pub fn safetensors(bytes: &[u8]) -> bool {
    read_weights(bytes).is_ok()
}

/// A shard of tensors.
pub fn shard(bytes: &[u8]) -> bool {
    ShardReader::is_shard(bytes)
}

/// A line for the shell with placeholders.
pub fn line(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(reads_as_line)
}
