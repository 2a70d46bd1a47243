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
    /// The id in the case of its file by the id in lower case; `None` if several ids differ only in case.
    by_lower_case: HashMap<String, Option<&'a str>>,
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
            let Some(id) = id_of(&file.path).filter(|id| !is_resource_fork(id)) else { continue };
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
        let mut by_lower_case: HashMap<String, Option<&str>> = HashMap::with_capacity(by_id.len());
        for id in by_id.keys() {
            by_lower_case.entry(id.to_lowercase()).and_modify(|id| *id = None).or_insert(Some(*id));
        }
        Ok(Self { input, by_id, by_lower_case, count })
    }

    /// The number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The file of an image, if there is one; an ambiguous id is an error.
    ///
    /// If no file has exactly this name, an extension and folders in front of it do not count, and then case.
    pub fn find(&self, id: &str) -> Result<Option<&'a InputFile>, StageError> {
        let (written, id) = (id, bare_id(id));
        let found = self
            .by_id
            .get(written)
            .or_else(|| self.by_id.get(id))
            .or_else(|| self.by_lower_case.get(&id.to_lowercase())?.and_then(|id| self.by_id.get(id)));
        match found {
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

/// Whether a file holds what macOS keeps beside a file on other file systems (AppleDouble), under nearly the same name.
pub fn is_resource_fork(name: &str) -> bool {
    name.starts_with("._")
}

/// The id of a file's image; the path of an image has one.
pub fn id_of_file(file: &InputFile) -> &str {
    id_of(&file.path).unwrap_or(&file.path)
}

/// An image's id without folders and without the extension of an image.
fn bare_id(id: &str) -> &str {
    let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
    id_of(name).unwrap_or(name)
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

    #[test]
    fn ids_with_folders_and_extensions_are_bare_ids() {
        for id in ["ISIC_1", "ISIC_1.jpg", "images/ISIC_1.JPG", "C:\\images\\ISIC_1.png"] {
            assert_eq!(bare_id(id), "ISIC_1");
        }
        assert_eq!(bare_id("ISIC_1.2"), "ISIC_1.2");
    }
}
