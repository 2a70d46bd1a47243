//! Looks up image files by id: the file name without its extension.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::OnceLock;

use hamflow_stage_api::{Digest, Input, InputFile, ReadAhead, StageError};

use crate::fast_map::{self, FastMap};

const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// The images of an input by id.
pub struct ImageNames<'a> {
    input: &'a Input,
    /// The index of the first file by id. Only used for lookups: the iteration order must not affect any output.
    by_id: FastMap<&'a str, u32>,
    /// The other files of an id, if there are any.
    others: FastMap<&'a str, Vec<u32>>,
    /// The id in the case of its file by the id in lower case; `None` if several ids differ only in case. Made when an id is
    /// not found otherwise.
    by_lower_case: OnceLock<HashMap<String, Option<&'a str>>>,
    count: usize,
}

impl<'a> ImageNames<'a> {
    /// Indexes the images below the folders of `input` at any depth; other files are ignored.
    pub fn new(input: &'a Input) -> Result<Self, StageError> {
        if !input.folder {
            return Err(StageError::input(format!("`{}` is a file; expected folders of images", input.name)));
        }
        let mut by_id: FastMap<&str, u32> = fast_map::with_capacity(input.files.len());
        let mut others: FastMap<&str, Vec<u32>> = FastMap::default();
        let mut count = 0;
        for (number, file) in (0..).zip(&input.files) {
            let Some(id) = id_of_image(file) else { continue };
            count += 1;
            match by_id.entry(id) {
                Entry::Vacant(free) => drop(free.insert(number)),
                Entry::Occupied(_) => others.entry(id).or_default().push(number),
            }
        }
        Ok(Self { input, by_id, others, by_lower_case: OnceLock::new(), count })
    }

    /// The number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of ids that have several files.
    pub fn ids_of_several_files(&self) -> usize {
        self.others.len()
    }

    /// The input.
    pub fn input(&self) -> &'a Input {
        self.input
    }

    /// The index of the first file of an id that is written as the file's name.
    pub fn first(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).map(|number| *number as usize)
    }

    /// The file of an image, if there is one. Of several files with the same bytes, the first; different ones are an error.
    ///
    /// If no file has exactly this name, an extension and folders in front of it do not count, and then case.
    pub fn find(&self, id: &str) -> Result<Option<&'a InputFile>, StageError> {
        Ok(self.find_number(id)?.map(|number| &self.input.files[number]))
    }

    /// The index of that file among the files of the input.
    pub fn find_number(&self, id: &str) -> Result<Option<usize>, StageError> {
        let (written, id) = (id, bare_id(id));
        let exact = self.by_id.get_key_value(written).or_else(|| self.by_id.get_key_value(id));
        let Some((found, number)) = exact.or_else(|| self.in_any_case(id)) else { return Ok(None) };
        let first = &self.input.files[*number as usize];
        let others = if self.others.is_empty() { None } else { self.others.get(found) };
        for other in others.into_iter().flatten().map(|number| &self.input.files[*number as usize]) {
            if !same_bytes(first, other)? {
                return Err(StageError::input(format!(
                    "image `{id}` has two files in `{}`: `{}` in {} and `{}` in {}",
                    self.input.name,
                    first.path,
                    folder(first),
                    other.path,
                    folder(other)
                ))
                .hint("keep one of them"));
            }
        }
        Ok(Some(*number as usize))
    }

    fn in_any_case(&self, id: &str) -> Option<(&&'a str, &u32)> {
        let ids = self.by_lower_case.get_or_init(|| {
            let mut ids: HashMap<String, Option<&str>> = HashMap::with_capacity(self.by_id.len());
            for id in self.by_id.keys() {
                ids.entry(id.to_lowercase()).and_modify(|id| *id = None).or_insert(Some(*id));
            }
            ids
        });
        ids.get(&id.to_lowercase())?.and_then(|id| self.by_id.get_key_value(id))
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

/// Whether two files have the same bytes, which are only read if they have not been hashed.
fn same_bytes(first: &InputFile, second: &InputFile) -> Result<bool, StageError> {
    let digest = |file: &InputFile| match file.digest.known() {
        Some(digest) => Ok(digest),
        None => read_digest(file),
    };
    Ok(digest(first)? == digest(second)?)
}

fn read_digest(file: &InputFile) -> Result<Digest, StageError> {
    let opened = ReadAhead::new(std::slice::from_ref(file)).next();
    let opened = opened.ok_or_else(|| StageError::bug("a list of one file is empty"))?;
    opened.read(&mut Vec::new()).map(|(_, digest)| digest)
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

/// The id of a file, if it is an image.
pub fn id_of_image(file: &InputFile) -> Option<&str> {
    id_of_path(&file.path)
}

/// An image's id without folders and without the extension of an image.
pub fn bare_id(id: &str) -> &str {
    let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
    id_of(name).unwrap_or(name)
}

/// The id of a path, if it is that of an image.
pub fn id_of_path(path: &str) -> Option<&str> {
    id_of(path).filter(|id| !is_resource_fork(id))
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
