//! Looks for a dataset in a folder and writes a pipeline for it (`hamflow init`).

mod pipeline;
#[cfg(test)]
mod tests;
mod walk;

use std::path::Path;

use hamflow_stage_api::{DetectedProject, Digest, FileDigest, Input, InputFile, StageError, Symlinks, read_regular};

use crate::image_names::ImageNames;
use crate::metadata::{Inspection, inspect};
use crate::plot::grouped;
use crate::table::Sheet;
use walk::Found;

/// The maximum number of tables that are looked into.
const MAX_TABLES: usize = 50;

/// A dataset in a folder.
struct Dataset {
    inspection: Inspection,
    /// The tables, relative to the folder.
    tables: Vec<String>,
    /// The folders of the images, relative to the folder.
    images: Vec<String>,
    /// The folder of the masks, if there is one.
    masks: Option<String>,
    /// Other tables that name images.
    others: Vec<String>,
}

/// Looks for a dataset below `folder`; `None` if there is none that a pipeline could read.
pub fn detect(folder: &Path) -> Result<Option<DetectedProject>, StageError> {
    let found = walk::walk(folder)?;
    let Some(dataset) = find(folder, &found) else { return Ok(None) };
    let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let lines = lines(&dataset);
    let pipeline = pipeline::text(&dataset, name.as_deref().unwrap_or("project"), &lines);
    Ok(Some(DetectedProject { pipeline, found: lines }))
}

/// The dataset with the most images.
fn find(folder: &Path, found: &Found) -> Option<Dataset> {
    let images = input(folder, found.images.iter().filter(|path| !is_mask(path)));
    if images.files.is_empty() {
        return None;
    }
    let sheets: Vec<(&String, Sheet)> = found
        .tables
        .iter()
        .take(MAX_TABLES)
        .filter_map(|path| Some((path, Sheet::read(path, read(folder, path)?).ok()?)))
        .collect();
    let names = ImageNames::new(&images).ok()?;
    let sheets: Vec<(&String, Sheet)> = sheets.into_iter().filter(|(_, sheet)| names_images(sheet, &names)).collect();
    let tables: Vec<&String> = sheets.iter().map(|(path, _)| *path).collect();
    let sheets: Vec<Sheet> = sheets.into_iter().map(|(_, sheet)| sheet).collect();
    let dataset = match sheets.is_empty() {
        true => folders(&images).map(|inspection| (inspection, Vec::new())),
        false => best(&sheets, &images, &tables),
    };
    let named: Vec<String> = tables.into_iter().cloned().collect();
    let (inspection, tables) = dataset?;
    let images = match tables.is_empty() {
        // The folders below it are the classes.
        true => vec![walk::common_folder(&inspection.images)],
        false => walk::folders_of(&inspection.images),
    };
    let masks = walk::folders_of(&found.images.iter().filter(|path| is_mask(path)).cloned().collect::<Vec<_>>());
    let others = named.into_iter().filter(|path| !tables.contains(path)).collect();
    Some(Dataset { inspection, tables, images, masks: masks.into_iter().next(), others })
}

/// The table, or all tables joined, that explain the most images. Fewer tables win a tie.
fn best(sheets: &[Sheet], images: &Input, tables: &[&String]) -> Option<(Inspection, Vec<String>)> {
    let mut found: Vec<(Inspection, Vec<String>)> = Vec::new();
    for (sheet, path) in sheets.iter().zip(tables) {
        if let Ok(inspection) = inspect(std::slice::from_ref(sheet), images) {
            found.push((inspection, vec![(*path).clone()]));
        }
    }
    if let (true, Ok(inspection)) = (sheets.len() > 1, inspect(sheets, images)) {
        let all = tables.iter().map(|path| (*path).clone()).collect();
        // Further tables are worth it if they have lesions or ages that the best one lacks.
        let adds = |(single, _): &(Inspection, Vec<String>)| {
            inspection.rows >= single.rows
                && (inspection.without_group < single.without_group || inspection.has_ages && !single.has_ages)
        };
        if found.iter().all(adds) {
            return Some((inspection, all));
        }
    }
    let most = found.iter().map(|(inspection, _)| inspection.rows).max()?;
    found.into_iter().find(|(inspection, _)| inspection.rows == most)
}

/// A folder of images per class, unless the folders are parts of one dataset, such as `part_1` and `part_2`.
fn folders(images: &Input) -> Option<Inspection> {
    let inspection = inspect(&[], images).ok()?;
    let stems = |label: &String| label.trim_end_matches(|last: char| last.is_ascii_digit()).to_owned();
    let mut names: Vec<String> = inspection.classes.iter().map(|(label, ..)| stems(label)).collect();
    names.dedup();
    let is_numbered = names.len() == 1;
    (!is_numbered).then_some(inspection)
}

/// Whether a table has a column with the names of images.
fn names_images(sheet: &Sheet, names: &ImageNames<'_>) -> bool {
    let rows = sheet.height().min(200);
    (0..sheet.header.len()).any(|column| {
        let known = (0..rows).filter(|row| matches!(names.find(sheet.text(*row, column)), Ok(Some(_)) | Err(_)));
        known.count() * 2 > rows
    })
}

fn read(folder: &Path, path: &str) -> Option<Vec<u8>> {
    read_regular(&folder.join(path), Symlinks::Follow).ok()
}

fn is_mask(path: &str) -> bool {
    let stem = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(stem, _)| stem);
    ["_segmentation", "_mask"].iter().any(|end| stem.ends_with(end))
}

fn input<'p>(folder: &Path, paths: impl Iterator<Item = &'p String>) -> Input {
    let file = |path: &String| InputFile {
        root: 0,
        path: path.clone(),
        digest: FileDigest::Unread { size: 0 },
        source: folder.join(path),
    };
    Input {
        name: "images".to_owned(),
        is_artifact: false,
        labels: Vec::new(),
        digest: Digest::of(b"").into(),
        files: paths.map(file).collect(),
        folder: true,
        path: None,
    }
}

/// What was found, one line each.
fn lines(dataset: &Dataset) -> Vec<String> {
    let Inspection { layout, rows, without_image, classes, without_group, .. } = &dataset.inspection;
    let count = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{} {many}", grouped(count as u64)),
    };
    let mut lines = Vec::new();
    match &dataset.tables[..] {
        [] => lines.push(format!("no table; layout `{layout}`")),
        tables => lines.push(format!("{}; layout `{layout}`", quoted(tables))),
    }
    let missing = match without_image {
        0 => String::new(),
        1 => "; 1 row without an image is dropped".to_owned(),
        missing => format!("; {} rows without an image are dropped", grouped(*missing as u64)),
    };
    lines.push(format!("{} in {}{missing}", count(*rows, "image", "images"), quoted(&dataset.images)));
    let each: Vec<String> =
        classes.iter().map(|(label, _, rows)| format!("{label} {}", grouped(*rows as u64))).collect();
    lines.push(format!("{} classes: {}", classes.len(), each.join(", ")));
    if *without_group > 0 {
        let images = count(*without_group, "image has", "images have");
        lines.push(format!("{images} no lesion: nothing proves that their lesion is on one side of the split"));
    }
    if let Some(masks) = &dataset.masks {
        lines.push(format!("masks in `{masks}`"));
    }
    if !dataset.others.is_empty() {
        lines.push(format!("not used: {}", quoted(&dataset.others)));
    }
    lines
}

fn quoted(paths: &[String]) -> String {
    paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(" and ")
}
