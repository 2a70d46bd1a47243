//! Looks up image files by id: the file name without its extension.

use std::collections::HashMap;

use hamflow_stage_api::{Input, InputFile, StageError};

const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// The first file of an id, and a second one if the id is ambiguous.
struct Found<'a> {
    first: &'a InputFile,
    second: Option<&'a InputFile>,
}

/// The images of an input by id.
pub struct ImageNames<'a> {
    input: &'a Input,
    /// Only used for lookups: the iteration order must not affect any output.
    by_id: HashMap<&'a str, Found<'a>>,
    count: usize,
}

impl<'a> ImageNames<'a> {
    /// Indexes the images below the folders of `input` at any depth; other files are ignored.
    pub fn new(input: &'a Input) -> Result<Self, StageError> {
        if !input.folder {
            return Err(StageError::input(format!("`{}` is a file; expected folders of images", input.name)));
        }
        let mut by_id: HashMap<&str, Found> = HashMap::with_capacity(input.files.len());
        let mut count = 0;
        for file in &input.files {
            let Some(id) = id_of(&file.path) else { continue };
            count += 1;
            let mut is_second = true;
            let found = by_id.entry(id).or_insert_with(|| {
                is_second = false;
                Found { first: file, second: None }
            });
            if is_second {
                found.second.get_or_insert(file);
            }
        }
        Ok(Self { input, by_id, count })
    }

    /// The number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The file of an image, if there is one; an ambiguous id is an error.
    pub fn find(&self, id: &str) -> Result<Option<&'a InputFile>, StageError> {
        match self.by_id.get(id) {
            None => Ok(None),
            Some(Found { first, second: None }) => Ok(Some(first)),
            Some(Found { first, second: Some(second) }) => Err(StageError::input(format!(
                "image `{id}` has two files in `{}`: `{}` in {} and `{}` in {}",
                self.input.name,
                first.path,
                folder(first),
                second.path,
                folder(second)
            ))
            .hint("keep one of them")),
        }
    }

    /// The error for ids without an image: their number, and the first few ids.
    pub fn missing<'b>(&self, ids: impl ExactSizeIterator<Item = &'b str>) -> StageError {
        const SHOWN: usize = 5;
        let n = ids.len();
        let mut shown = ids.take(SHOWN).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        if n > SHOWN {
            shown.push_str(", …");
        }
        let images = if n == 1 { "image is" } else { "images are" };
        let name = &self.input.name;
        let error = StageError::input(format!("{n} {images} missing in `{name}`: {shown}"));
        if self.by_id.is_empty() {
            return error.hint(format!("`{name}` has no file with the extension jpg, jpeg or png"));
        }
        error
    }
}

fn folder(file: &InputFile) -> String {
    format!("folder {}", file.root + 1)
}

fn id_of(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_file_name_without_extension() {
        assert_eq!(id_of("ISIC_0024306.jpg"), Some("ISIC_0024306"));
        assert_eq!(id_of("a/b.c/ISIC.1.JPEG"), Some("ISIC.1"));
        assert_eq!(id_of("a/x.Png"), Some("x"));
        assert_eq!(id_of("a.jpg/readme.txt"), None);
        assert_eq!(id_of(".jpg"), None);
        assert_eq!(id_of("jpg"), None);
    }
}
