//! Packs: many small blobs in one object, to save requests.
//!
//! A pack begins with a line `hash:size` per blob and an empty line, followed by the contents of the blobs in the same order.

use crate::digest::Digest;

/// The largest blob that is packed, in bytes.
pub const MAX_PACKED_BLOB: u64 = 64 * 1024;

/// A pack is complete when it reaches this size, in bytes.
pub const TARGET_PACK_SIZE: usize = 16 * 1024 * 1024;

/// Creates a pack.
pub fn pack(blobs: &[(Digest, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (digest, _) in blobs {
        bytes.extend(format!("{digest}\n").into_bytes());
    }
    bytes.push(b'\n');
    blobs.iter().for_each(|(_, blob)| bytes.extend(blob));
    bytes
}

/// Extracts the blobs of a pack and verifies them. Returns `None` if the pack is damaged.
pub fn unpack(bytes: &[u8]) -> Option<Vec<(Digest, &[u8])>> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let (names, mut rest) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 2..]);
    let mut blobs = Vec::new();
    for name in names.lines() {
        let digest: Digest = name.parse().ok()?;
        let (blob, after) = rest.split_at_checked(usize::try_from(digest.size()).ok()?)?;
        if Digest::of(blob) != digest {
            return None;
        }
        blobs.push((digest, blob));
        rest = after;
    }
    rest.is_empty().then_some(blobs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Arbitrary bytes are either rejected or yield blobs that match their digests.
        #[test]
        fn unpacked_blobs_are_intact(blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..4), place: prop::sample::Index, byte: u8, size in "[0-9]{1,20}") {
            let named: Vec<(Digest, Vec<u8>)> = blobs.iter().map(|blob| (Digest::of(blob), blob.clone())).collect();
            let packed = pack(&named);
            let mut damaged = packed.clone();
            let place = place.index(damaged.len());
            damaged[place] = byte;
            // A wrong size, up to more than the available memory.
            let header = packed.iter().position(|byte| *byte == b':').map(|colon| [&packed[..=colon], size.as_bytes(), &packed[colon + 2..]].concat());
            for bytes in [Some(packed.clone()), Some(damaged), header].into_iter().flatten() {
                if let Some(found) = unpack(&bytes) {
                    prop_assert!(found.iter().all(|(digest, blob)| Digest::of(blob) == *digest));
                }
            }
            prop_assert_eq!(unpack(&packed).map(|found| found.len()), if blobs.is_empty() { None } else { Some(blobs.len()) });
        }
    }

    #[test]
    fn packs_round_trip_and_damage_is_detected() {
        let blobs: Vec<(Digest, Vec<u8>)> =
            [&b"one"[..], b"", b"\n\nthree"].iter().map(|bytes| (Digest::of(bytes), bytes.to_vec())).collect();
        let packed = pack(&blobs);
        let unpacked: Vec<(Digest, Vec<u8>)> =
            unpack(&packed).unwrap().into_iter().map(|(digest, bytes)| (digest, bytes.to_vec())).collect();
        assert_eq!(unpacked, blobs);
        for place in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[place] ^= 1;
            assert!(unpack(&damaged).is_none(), "byte {place}");
        }
        assert!(unpack(&packed[..packed.len() - 1]).is_none());
        assert!(unpack(&[&packed[..], b"more"].concat()).is_none());
    }
}
