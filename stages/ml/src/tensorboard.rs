//! TensorBoard event files of scalars.
//!
//! A file is a sequence of TFRecords (tensorflow/core/lib/io/record_writer.h), each with an `Event` message of
//! tensorflow/core/util/event.proto. Only the few fields that scalars need are written, in protobuf's wire format.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The content of the first event of a file.
const VERSION: &[u8] = b"brain.Event:2";

/// An event file that is appended to.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Creates a file in `folder` with a name that TensorBoard recognises.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("events.out.tfevents.{}.hamflow", now().trunc()));
        let mut events = Self { file: File::create(path)? };
        events.write(&field(3, VERSION))?;
        Ok(events)
    }

    /// Appends the values of some tags at `step`.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = field(1, tag.as_bytes());
            entry.push(fixed32(2));
            entry.extend((*value as f32).to_le_bytes());
            summary.extend(field(1, &entry));
        }
        let mut event = vec![number(2)];
        varint(step, &mut event);
        event.extend(field(5, &summary));
        self.write(&event)
    }

    fn write(&mut self, rest: &[u8]) -> io::Result<()> {
        let event = [&[fixed64(1)][..], &now().to_le_bytes(), rest].concat();
        self.file.write_all(&record(&event))
    }
}

/// Seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A TFRecord: the length and the data, each with its masked CRC-32C.
fn record(data: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// The key of a varint field.
const fn number(field: u8) -> u8 {
    field << 3
}

/// The key of an 8-byte field.
const fn fixed64(field: u8) -> u8 {
    field << 3 | 1
}

/// The key of a 4-byte field.
const fn fixed32(field: u8) -> u8 {
    field << 3 | 5
}

/// A length-delimited field: bytes, text or a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut encoded);
    encoded.extend(bytes);
    encoded
}

fn varint(mut value: u64, output: &mut Vec<u8>) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    // from tensorboard.summary.writer.record_writer import RecordWriter; import io   # tensorboard 2.21
    // buffer = io.BytesIO(); RecordWriter(buffer).write(b"abc"); print(buffer.getvalue().hex())
    #[test]
    fn a_record_matches_tensorboard() {
        let hex: String = record(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, RECORD);
    }

    const RECORD: &str = "0300000000000000b099490e6162636e57f121";

    #[test]
    fn a_varint_has_seven_bits_per_byte() {
        let mut bytes = Vec::new();
        varint(300, &mut bytes);
        assert_eq!(bytes, [0xac, 0x02]);
    }
}
