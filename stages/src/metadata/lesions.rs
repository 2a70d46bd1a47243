//! The groups of images that show the same lesion.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::table::group_of_one;

/// What the archive of ISIC appends to the id of a smaller copy of an image.
const SMALLER_COPY: &str = "_downsampled";

/// The lesion of each image.
#[derive(Debug)]
pub struct Lesions<'a> {
    /// The id of each image's lesion.
    pub ids: Vec<Cow<'a, str>>,
    /// The number of images without a known lesion or patient; each is a group of its own.
    pub alone: usize,
    /// The number of smaller copies that are in the group of their original.
    pub copies: usize,
    /// Whether the groups are patients, because the dataset has no lesions.
    pub are_patients: bool,
}

impl<'a> Lesions<'a> {
    /// Groups images by lesion; by patient if there are no lesions. A smaller copy of an image belongs to its original.
    pub fn new(lesions: Option<&[Option<&'a str>]>, patients: Option<&[Option<&'a str>]>, images: &[&str]) -> Self {
        let are_patients = lesions.is_none() && patients.is_some();
        let known = lesions.or(patients);
        let mut known: Vec<Option<&str>> = known.map_or_else(|| vec![None; images.len()], <[_]>::to_vec);
        let originals = originals(images);
        for (copy, original) in &originals {
            let group = known[*original].or(known[*copy]);
            known[*copy] = group;
            known[*original] = group;
        }
        let mut alone = known.iter().filter(|group| group.is_none()).count();
        let mut ids: Vec<Cow<'a, str>> = Vec::with_capacity(images.len());
        for (group, image) in known.iter().zip(images) {
            ids.push(group.map_or_else(|| Cow::Owned(group_of_one(image)), Cow::Borrowed));
        }
        for (copy, original) in &originals {
            alone -= usize::from(known[*copy].is_none());
            ids[*copy] = ids[*original].clone();
        }
        Self { ids, alone, copies: originals.len(), are_patients }
    }
}

/// The smaller copies with their originals, by index.
fn originals(images: &[&str]) -> Vec<(usize, usize)> {
    let copies = || images.iter().enumerate().filter_map(|(copy, id)| Some((copy, id.strip_suffix(SMALLER_COPY)?)));
    if copies().next().is_none() {
        return Vec::new();
    }
    let places: HashMap<&str, usize> = images.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    copies().filter_map(|(copy, original)| Some((copy, *places.get(original)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_copy_is_in_the_group_of_its_original() {
        let images = ["a", "a_downsampled", "b_downsampled", "b", "c_downsampled", "d"];
        let lesions = [Some("L1"), None, Some("L2"), None, None, None];
        let Lesions { ids, alone, copies, .. } = Lesions::new(Some(&lesions), None, &images);
        assert_eq!(ids, ["L1", "L1", "L2", "L2", "lesion of c_downsampled", "lesion of d"]);
        assert_eq!((alone, copies), (2, 2));
        let Lesions { ids, alone, .. } = Lesions::new(None, None, &images[..2]);
        assert_eq!((ids, alone), (vec![Cow::from("lesion of a"), "lesion of a".into()], 1));
    }

    #[test]
    fn patients_take_the_place_of_lesions() {
        let patients = [Some("p"), Some("p"), None];
        let found = Lesions::new(None, Some(&patients), &["a", "b", "c"]);
        assert_eq!((found.ids, found.are_patients), (vec!["p".into(), "p".into(), Cow::from("lesion of c")], true));
    }
}
