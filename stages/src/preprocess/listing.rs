//! The images of the table, their files, and their assignment to parts.

use hamflow_stage_api::{Input, StageError};

use crate::table;

/// One row of the table of images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableRow {
    pub image_id: String,
    /// The index of the image folder.
    pub folder: u32,
    /// The path below that folder.
    pub path: String,
}

/// The columns that are read.
pub(super) const COLUMNS: [&str; 3] = ["image_id", "folder", "path"];

/// Reads the table's rows, sorted by image id. An empty table or a duplicate id is an error.
pub(super) fn read_rows(table: &Input) -> Result<Vec<TableRow>, StageError> {
    let frame = table::read(table.file()?, Some(&COLUMNS))?;
    let ids = table::required_strings(&frame, "image_id")?;
    let folders = table::required_integers(&frame, "folder")?;
    let paths = table::required_strings(&frame, "path")?;
    let mut rows = Vec::with_capacity(ids.len());
    for ((image_id, folder), path) in ids.into_iter().zip(folders).zip(paths) {
        let folder = u32::try_from(folder)
            .map_err(|_| StageError::input(format!("image `{image_id}` has the invalid folder index {folder}")))?;
        rows.push(TableRow { image_id, folder, path });
    }
    rows.sort_unstable();
    if rows.is_empty() {
        return Err(StageError::input(format!("the table `{}` has no rows", table.name)));
    }
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].image_id == pair[1].image_id) {
        return Err(StageError::input(format!("duplicate image `{}` in the table `{}`", pair[0].image_id, table.name)));
    }
    Ok(rows)
}

/// The index of each image's file in the listing of `images`.
pub(super) fn find(rows: &[TableRow], images: &Input) -> Result<Vec<u32>, StageError> {
    rows.iter()
        .map(|TableRow { image_id, folder, path }| {
            let found = images.files.binary_search_by(|file| (file.root, file.path.as_str()).cmp(&(*folder, path)));
            let index = found.map_err(|_| {
                StageError::input(format!("file `{path}` of image `{image_id}` is not in `{}`", images.name))
                    .hint("the table must have been made from the same folders in the same order")
            })?;
            Ok(u32::try_from(index).expect("a listing has fewer than 2^32 files"))
        })
        .collect()
}

/// Splits sorted rows into parts at content-defined boundaries.
///
/// A part ends after an id whose hash is 0 modulo `part_size`. Adding or removing an image therefore changes only its
/// own part. A hard maximum, counted from the last boundary, limits the size of a part.
pub(super) fn split_into_parts(rows: &[TableRow], part_size: usize) -> impl Iterator<Item = &[TableRow]> {
    let maximum = part_size.saturating_mul(4);
    let mut rest = rows;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().take(maximum).position(|row| is_boundary(&row.image_id, part_size));
        let (part, others) = rest.split_at(end.map_or(rest.len().min(maximum), |end| end + 1));
        rest = others;
        Some(part)
    })
}

/// The indices of `count` rows, in order, selected by their ids alone.
pub(super) fn sample(rows: &[TableRow], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_cached_key(|row| *blake3::hash(rows[*row].image_id.as_bytes()).as_bytes());
    order.truncate(count);
    order.sort_unstable();
    order
}

fn is_boundary(image_id: &str, part_size: usize) -> bool {
    let hash = blake3::hash(image_id.as_bytes());
    let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first).is_multiple_of(part_size as u64)
}

/// The name of the part that starts with this image; a valid file name on every system.
pub(super) fn part_name(first_id: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if first_id.len() <= 100 && first_id.bytes().all(safe) {
        format!("shard-{first_id}")
    } else {
        format!("shard-{}", &blake3::hash(first_id.as_bytes()).to_hex()[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: impl Iterator<Item = usize>) -> Vec<TableRow> {
        ids.map(|id| TableRow { image_id: format!("ISIC_{id:07}"), folder: 0, path: format!("{id}.jpg") }).collect()
    }

    fn parts(rows: &[TableRow]) -> Vec<Vec<TableRow>> {
        split_into_parts(rows, 64).map(<[TableRow]>::to_vec).collect()
    }

    /// The number of parts of `after` that are not in `before`.
    fn recomputed(before: &[TableRow], after: &[TableRow]) -> usize {
        let before = parts(before);
        parts(after).iter().filter(|part| !before.contains(part)).count()
    }

    #[test]
    fn parts_hold_all_rows_in_order_and_have_about_the_requested_size() {
        let rows = rows(0..10_015);
        let parts = parts(&rows);
        assert_eq!(parts.concat(), rows);
        assert!(parts.iter().all(|part| part.len() <= 256));
        assert!((100..220).contains(&parts.len()), "{}", parts.len());
    }

    #[test]
    fn adding_or_removing_an_image_recomputes_at_most_two_parts() {
        let all = rows(0..10_015);
        for gone in [0, 1, 63, 64, 5000, 7777, 10_014] {
            let fewer = rows((0..10_015).filter(|id| *id != gone));
            assert!(recomputed(&fewer, &all) <= 2, "{gone} added");
            assert!(recomputed(&all, &fewer) <= 2, "{gone} removed");
        }
    }

    #[test]
    fn a_hundred_appended_images_recompute_few_other_parts() {
        for size in [10_015, 10_200, 12_345] {
            let before = parts(&rows(0..size));
            let recomputed = parts(&rows(0..size + 100)).into_iter().filter(|part| !before.contains(part));
            let images: usize = recomputed.map(|part| part.len()).sum();
            assert!(images <= 500, "{images}");
        }
    }

    #[test]
    fn without_a_boundary_a_part_ends_at_the_maximum_size() {
        let same = vec![rows(3..4).remove(0); 1000];
        assert!(!is_boundary(&same[0].image_id, 64));
        assert_eq!(split_into_parts(&same, 64).map(<[TableRow]>::len).collect::<Vec<_>>(), [256, 256, 256, 232]);
    }

    #[test]
    fn a_part_is_named_after_its_first_image_if_that_is_a_valid_file_name() {
        assert_eq!(part_name("ISIC_0024306"), "shard-ISIC_0024306");
        assert!(part_name("../etc/passwd").bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        assert_ne!(part_name("a/b"), part_name("a/c"));
    }
}
