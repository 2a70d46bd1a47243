//! Synthetic patients: the lesions, their images, and their metadata.

use std::fmt::Write;

use hamflow_stage_api::Random;

use crate::table::{DATASET, SYNTHETIC};
use hamflow_kernels::imaging::Diagnosis;

/// Values with their relative frequencies in HAM10000.
type Shares = &'static [(&'static str, u32)];

/// The statistics of a class in HAM10000; shares are counts of lesions, in thousandths.
struct Profile {
    diagnosis: Diagnosis,
    code: &'static str,
    images: usize,
    /// Mean and standard deviation in years.
    age: (f64, f64),
    dx_type: Shares,
    sex: Shares,
    localization: Shares,
}

/// The classes in the order of their first occurrence in the HAM10000 metadata.
#[rustfmt::skip]
const PROFILES: [Profile; 7] = [
    Profile {
        diagnosis: Diagnosis::Bkl, code: "bkl", images: 1099, age: (64.4, 14.0),
        dx_type: &[("histo", 670), ("consensus", 283), ("confocal", 47)],
        sex: &[("male", 569), ("female", 418), ("unknown", 12)],
        localization: &[("face", 267), ("back", 183), ("lower extremity", 150), ("upper extremity", 92), ("trunk", 78), ("chest", 69),
            ("abdomen", 50), ("scalp", 33), ("neck", 28), ("unknown", 26), ("hand", 17), ("ear", 6), ("genital", 1), ("foot", 1)],
    },
    Profile {
        diagnosis: Diagnosis::Nv, code: "nv", images: 6705, age: (47.3, 14.2),
        dx_type: &[("follow_up", 686), ("histo", 253), ("consensus", 61)],
        sex: &[("male", 514), ("female", 478), ("unknown", 8)],
        localization: &[("lower extremity", 227), ("trunk", 213), ("back", 196), ("abdomen", 133), ("upper extremity", 93), ("foot", 39),
            ("unknown", 32), ("chest", 21), ("face", 11), ("neck", 11), ("genital", 8), ("hand", 7), ("scalp", 4), ("ear", 4), ("acral", 1)],
    },
    Profile {
        diagnosis: Diagnosis::Df, code: "df", images: 115, age: (52.7, 13.1),
        dx_type: &[("consensus", 603), ("histo", 397)],
        sex: &[("female", 521), ("male", 479)],
        localization: &[("lower extremity", 740), ("upper extremity", 192), ("abdomen", 27), ("back", 14), ("foot", 14), ("genital", 14)],
    },
    Profile {
        diagnosis: Diagnosis::Mel, code: "mel", images: 1113, age: (61.3, 15.1),
        dx_type: &[("histo", 1000)],
        sex: &[("male", 604), ("female", 396)],
        localization: &[("back", 301), ("upper extremity", 181), ("lower extremity", 169), ("face", 106), ("chest", 55), ("abdomen", 50),
            ("trunk", 41), ("neck", 29), ("foot", 24), ("ear", 16), ("scalp", 15), ("unknown", 10), ("hand", 2)],
    },
    Profile {
        diagnosis: Diagnosis::Vasc, code: "vasc", images: 142, age: (52.5, 20.3),
        dx_type: &[("consensus", 663), ("histo", 337)],
        sex: &[("male", 510), ("female", 490)],
        localization: &[("trunk", 276), ("abdomen", 224), ("lower extremity", 163), ("back", 122), ("upper extremity", 61), ("face", 51),
            ("chest", 31), ("hand", 31), ("neck", 20), ("scalp", 20)],
    },
    Profile {
        diagnosis: Diagnosis::Bcc, code: "bcc", images: 514, age: (66.9, 13.5),
        dx_type: &[("histo", 1000)],
        sex: &[("male", 627), ("female", 373)],
        localization: &[("back", 376), ("face", 187), ("lower extremity", 110), ("chest", 98), ("upper extremity", 98), ("scalp", 34),
            ("neck", 34), ("abdomen", 28), ("trunk", 18), ("unknown", 9), ("foot", 6), ("hand", 3)],
    },
    Profile {
        diagnosis: Diagnosis::Akiec, code: "akiec", images: 327, age: (66.6, 11.6),
        dx_type: &[("histo", 1000)],
        sex: &[("male", 649), ("female", 351)],
        localization: &[("face", 368), ("upper extremity", 184), ("lower extremity", 180), ("back", 96), ("chest", 39), ("neck", 35),
            ("scalp", 35), ("hand", 35), ("abdomen", 13), ("ear", 9), ("trunk", 4)],
    },
];

const REAL_IMAGES: usize = 10_015;

/// Minimum number of lesions per class, so that each split can get some.
const MIN_LESIONS: usize = 8;

/// The number of lesions in HAM10000 with one, two, … six images: nevi, and all others.
const NEVUS_VIEWS: [u64; 6] = [4474, 633, 275, 17, 2, 2];
const OTHER_VIEWS: [u64; 6] = [1040, 790, 215, 17, 3, 2];

/// A lesion with its metadata.
pub(super) struct Case {
    pub lesion_id: String,
    pub diagnosis: Diagnosis,
    code: &'static str,
    dx_type: &'static str,
    age: Option<u32>,
    sex: &'static str,
    localization: &'static str,
    photos: Vec<Photo>,
}

/// One image of a lesion.
pub(super) struct Photo {
    pub image_id: String,
    /// The image id that seeds the drawing: the image's own, except for one duplicate.
    pub drawn_as: String,
    /// The index in the order of image ids.
    number: usize,
}

/// All lesions, in CSV order.
pub(super) struct Cohort {
    cases: Vec<Case>,
    images: usize,
}

impl Cohort {
    /// Generates lesions with `images` images in total; at least 100.
    pub fn new(images: usize, random: &mut Random) -> Self {
        let mut cases = Vec::new();
        for (profile, quota) in PROFILES.iter().zip(quotas(images)) {
            let mut views = group_sizes(profile, quota, random);
            if profile.diagnosis == Diagnosis::Nv {
                // Ensures that there is a nevus with two images for the duplicate below.
                if let Some(first) = views.iter().position(|size| *size > 1) {
                    views.swap(0, first);
                }
            }
            cases.extend(views.into_iter().map(|size| profile.case(size, random)));
        }
        let mut cohort = Self { cases, images };
        cohort.name(random);
        cohort.copy_one();
        cohort.forget_ages(random);
        cohort
    }

    /// Assigns ids to lesions and images in random order.
    fn name(&mut self, random: &mut Random) {
        let mut lesions: Vec<usize> = (0..self.cases.len()).collect();
        let mut images: Vec<usize> = (0..self.images).collect();
        random.shuffle(&mut lesions);
        random.shuffle(&mut images);
        let mut images = images.into_iter();
        for (case, lesion) in self.cases.iter_mut().zip(lesions) {
            case.lesion_id = format!("HAM_{lesion:07}");
            for photo in &mut case.photos {
                photo.number = images.next().expect("the group sizes add up to the images");
                photo.image_id = format!("ISIC_{:07}", photo.number);
                photo.drawn_as.clone_from(&photo.image_id);
            }
        }
    }

    /// Makes two images of one nevus byte-identical, as in HAM10000.
    fn copy_one(&mut self) {
        let case = self.cases.iter_mut().find(|case| case.diagnosis == Diagnosis::Nv && case.photos.len() > 1);
        if let Some([first, second, ..]) = case.map(|case| case.photos.as_mut_slice()) {
            second.drawn_as.clone_from(&first.drawn_as);
        }
    }

    /// Removes ages in the same proportion as HAM10000: 57 of 10,015 images, nearly all of them nevi with one image.
    fn forget_ages(&mut self, random: &mut Random) {
        let wanted = (self.images * 57).div_ceil(REAL_IMAGES);
        let is_single_nevus = |case: &Case| case.diagnosis == Diagnosis::Nv && case.photos.len() == 1;
        let mut singles: Vec<&mut Case> = self.cases.iter_mut().filter(|case| is_single_nevus(case)).collect();
        random.shuffle(&mut singles);
        for case in singles.into_iter().take(wanted) {
            case.age = None;
        }
    }

    /// Every image with its lesion, in CSV order.
    pub fn photos(&self) -> impl Iterator<Item = (&Case, &Photo)> {
        self.cases.iter().flat_map(|case| case.photos.iter().map(move |photo| (case, photo)))
    }

    /// The path of an image: the first half of the ids is in one folder, the rest in another, like the published HAM10000.
    pub fn path(&self, photo: &Photo) -> String {
        let folder = 1 + usize::from(photo.number >= self.images / 2);
        format!("HAM10000_images_part_{folder}/{}.jpg", photo.image_id)
    }

    /// The metadata in the columns and format of HAM10000; the column `dataset` marks the images as synthetic.
    pub fn csv(&self) -> String {
        let mut text = format!("lesion_id,image_id,dx,dx_type,age,sex,localization,{DATASET}\n");
        for (case, photo) in self.photos() {
            let Case { lesion_id, code, dx_type, age, sex, localization, .. } = case;
            let age = age.map(|age| format!("{age}.0")).unwrap_or_default();
            writeln!(text, "{lesion_id},{},{code},{dx_type},{age},{sex},{localization},{SYNTHETIC}", photo.image_id)
                .expect("a string takes everything");
        }
        text
    }
}

impl Profile {
    /// A lesion with `views` images that have no ids yet.
    fn case(&self, views: usize, random: &mut Random) -> Case {
        let photo = || Photo { image_id: String::new(), drawn_as: String::new(), number: 0 };
        Case {
            lesion_id: String::new(),
            diagnosis: self.diagnosis,
            code: self.code,
            dx_type: pick(self.dx_type, random),
            age: Some(age(self.age, random)),
            sex: pick(self.sex, random),
            localization: pick(self.localization, random),
            photos: (0..views).map(|_| photo()).collect(),
        }
    }
}

/// The number of images per profile: in HAM10000's proportions, with a minimum for rare classes. Nevi get the remainder.
fn quotas(images: usize) -> [usize; 7] {
    let mut quotas = PROFILES.map(|profile| (images * profile.images / REAL_IMAGES).max(MIN_LESIONS));
    let nevi = PROFILES.iter().position(|profile| profile.diagnosis == Diagnosis::Nv).expect("nevi have a profile");
    let others = quotas.iter().sum::<usize>() - quotas[nevi];
    quotas[nevi] = images - others;
    quotas
}

/// The number of images of each lesion of a class. They sum to `quota`, and there are at least [`MIN_LESIONS`] lesions.
fn group_sizes(profile: &Profile, quota: usize, random: &mut Random) -> Vec<usize> {
    let weights = if profile.diagnosis == Diagnosis::Nv { NEVUS_VIEWS } else { OTHER_VIEWS };
    let mut sizes = Vec::new();
    let mut left = quota;
    while left > 0 {
        let wanted = 1 + weighted(&weights, random);
        let reserved = MIN_LESIONS.saturating_sub(sizes.len() + 1);
        let size = wanted.min(left.saturating_sub(reserved)).max(1);
        sizes.push(size);
        left -= size;
    }
    sizes
}

/// Draws an index with probability proportional to its weight.
fn weighted(weights: &[u64], random: &mut Random) -> usize {
    let mut drawn = random.below(weights.iter().sum());
    for (i, weight) in weights.iter().enumerate() {
        match drawn.checked_sub(*weight) {
            Some(rest) => drawn = rest,
            None => return i,
        }
    }
    weights.len() - 1
}

fn pick(shares: Shares, random: &mut Random) -> &'static str {
    let weights: Vec<u64> = shares.iter().map(|(_, share)| u64::from(*share)).collect();
    shares[weighted(&weights, random)].0
}

/// A multiple of five years up to 85, approximately normal (the sum of twelve uniform numbers).
fn age((mean, deviation): (f64, f64), random: &mut Random) -> u32 {
    let normal = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    let fives = ((mean + deviation * normal) / 5.0 + 0.5).clamp(0.0, 17.0);
    fives as u32 * 5
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn cohort(images: usize) -> Cohort {
        Cohort::new(images, &mut Random::new(1234, "cohort"))
    }

    #[test]
    fn classes_and_lesions_have_the_expected_proportions() {
        for images in [100, 140, 1400, 10_015] {
            let cohort = cohort(images);
            assert_eq!(cohort.photos().count(), images);
            let mut lesions = BTreeMap::new();
            for case in &cohort.cases {
                *lesions.entry(case.code).or_insert(0) += 1;
                assert!((1..=6).contains(&case.photos.len()));
            }
            assert_eq!(lesions.len(), 7);
            assert!(lesions.values().all(|count| *count >= MIN_LESIONS), "{lesions:?}");
        }
        let large = cohort(10_015);
        let share = large.cases.len() as f64 / 10_015.0;
        assert!((0.73..0.77).contains(&share), "{share}");
        assert_eq!(quotas(10_015), [1099, 6705, 115, 1113, 142, 514, 327]);
    }

    #[test]
    fn ids_are_unique_and_one_image_is_a_duplicate_within_its_lesion() {
        let cohort = cohort(1400);
        let ids: BTreeSet<&str> = cohort.photos().map(|(_, photo)| photo.image_id.as_str()).collect();
        assert_eq!(ids.len(), 1400);
        let lesions: BTreeSet<&str> = cohort.cases.iter().map(|case| case.lesion_id.as_str()).collect();
        assert_eq!(lesions.len(), cohort.cases.len());
        let copies: Vec<_> = cohort.photos().filter(|(_, photo)| photo.drawn_as != photo.image_id).collect();
        assert_eq!(copies.len(), 1);
        assert!(copies[0].0.photos.iter().any(|photo| photo.image_id == copies[0].1.drawn_as));
    }

    #[test]
    fn the_csv_has_the_format_of_the_original() {
        let csv = cohort(1400).csv();
        let mut lines = csv.lines();
        assert_eq!(lines.next(), Some("lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"));
        let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 1400);
        assert_eq!(rows.iter().filter(|row| row[4].is_empty()).count(), 8);
        for row in rows {
            assert_eq!((row.len(), row[7]), (8, "synthetic"));
            assert!(row[0].starts_with("HAM_") && row[1].starts_with("ISIC_"));
            assert!(row[4].is_empty() || row[4].strip_suffix(".0").unwrap().parse::<u32>().unwrap() % 5 == 0);
        }
        assert!(!csv.contains('\r') && csv.ends_with('\n'));
    }
}
