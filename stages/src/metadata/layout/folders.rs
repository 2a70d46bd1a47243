//! A folder of images per class, without a table.

use hamflow_stage_api::StageError;

use super::super::cases::{Cases, Diagnoses};
use super::{Layout, Source};
use crate::image_names::id_of_image;

/// The layout.
pub const LAYOUT: Layout = Layout {
    name: "folders",
    summary: "one folder of images per class",
    columns: &[],
    classes: None,
    fits: |source| source.sheets.is_empty(),
    read,
};

/// Names of folders that divide a dataset, and are not classes.
const SPLITS: [&str; 7] = ["train", "training", "val", "valid", "validation", "test", "testing"];

fn read<'a>(layout: &'static Layout, source: &Source<'a>) -> Result<Cases<'a>, StageError> {
    if let Some(sheet) = source.sheets.first() {
        let message = format!("the layout `{}` has no table, but `csv` is `{}`", layout.name, sheet.name());
        return Err(StageError::input(message).hint("remove `csv`, or the parameter `layout`"));
    }
    let input = source.images.input();
    let numbered = input.files.iter().enumerate();
    let files: Vec<(&str, usize)> = numbered.filter_map(|(number, file)| Some((id_of_image(file)?, number))).collect();
    if files.is_empty() {
        return Err(StageError::input(format!("`{}` has no images", input.name))
            .hint("images have the extension jpg, jpeg or png"));
    }
    let paths: Vec<&str> = files.iter().map(|(_, number)| &input.files[*number].path[..]).collect();
    let (depth, mut notes) = (class_depth(&paths), Vec::new());
    if depth.below_splits {
        notes.push("images of `train`, `test` and the like are divided again by the stage `split`".to_owned());
    }
    let mut cases = Cases {
        images: Vec::with_capacity(files.len()),
        diagnoses: Diagnoses::default(),
        columns: Vec::new(),
        ids: None,
        notes,
    };
    for (id, number) in files {
        let path = &input.files[number].path;
        let class = depth.class(path).ok_or_else(|| outside(path, &input.name))?;
        let first = source.images.first(id).unwrap_or(number);
        if first == number {
            cases.images.push(id);
            cases.diagnoses.push(class);
            continue;
        }
        // Another file of the same class must have the same bytes, which is checked later.
        let other = &input.files[first].path;
        if depth.class(other) != Some(class) {
            return Err(StageError::input(format!("image `{id}` has two classes: `{other}` and `{path}`"))
                .hint("an image is known by its file name, which must not occur in two classes; rename one of them"));
        }
    }
    Ok(cases)
}

/// Where the folders of the classes are.
struct Depth {
    /// The number of folders above them.
    above: usize,
    /// Whether those divide the dataset in training and test.
    below_splits: bool,
}

impl Depth {
    fn class<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut parts = path.split('/');
        let folder = parts.nth(self.above)?;
        parts.next().map(|_| folder)
    }
}

/// The first depth with different folders, below those that divide the dataset.
fn class_depth(paths: &[&str]) -> Depth {
    let mut depth = Depth { above: 0, below_splits: false };
    loop {
        let mut folders = paths.iter().map(|path| depth.class(path));
        let Some(Some(first)) = folders.next() else { return depth };
        let is_split = |folder: &str| SPLITS.iter().any(|split| folder.eq_ignore_ascii_case(split));
        let all_splits = is_split(first) && folders.clone().all(|folder| folder.is_some_and(is_split));
        let all_same = folders.all(|folder| folder == Some(first));
        if !all_splits && !all_same {
            return depth;
        }
        depth.below_splits |= all_splits;
        depth.above += 1;
    }
}

fn outside(path: &str, input: &str) -> StageError {
    let message = format!("image `{path}` of `{input}` is in no folder of a class");
    StageError::input(message).hint("put it into the folder of its class, or connect a table of the images with `csv`")
}
