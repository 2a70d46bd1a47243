//! The statistical findings behind the figures.

use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::{Digest, StageError};
use serde_json::{Value, json};

use super::rows::{Rows, UNKNOWN};
use super::statistics::{Test, chi_squared, mann_whitney, quartiles};
use crate::image_names::ImageNames;

/// Maximum number of items that are listed.
const NAMED: usize = 20;

/// Computes the findings about the rows and their images.
pub fn findings(rows: &Rows, images: &ImageNames<'_>) -> Result<Value, StageError> {
    Ok(json!({
        "images": rows.len(),
        "classes": classes(rows),
        "imbalance": imbalance(rows),
        "lesions": lesions(rows),
        "identical_images": identical(rows, images)?,
        "unknown": unknown(rows),
        "concentrations": {
            "unit": "the first image of each lesion, because images of one lesion are no independent observations",
            "age_test": "Mann-Whitney U, class against the rest; effect: rank-biserial correlation",
            "site_test": "chi-squared of class by site; effect: phi",
            "p_values": "times the number of tests of the kind (Bonferroni), at most 1",
            "by_class": concentrations(rows),
        },
    }))
}

fn count<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}

fn classes(rows: &Rows) -> Value {
    let counts = count(rows.classes.iter().copied());
    let class = |(index, (label, name)): (usize, &(String, String))| {
        let images = counts.get(&index).copied().unwrap_or(0);
        json!({"label": label, "name": name, "images": images, "share": images as f64 / rows.len().max(1) as f64})
    };
    rows.names.iter().enumerate().map(class).collect()
}

/// The ratio of the most frequent to the rarest class that occurs.
fn imbalance(rows: &Rows) -> Value {
    let counts = count(rows.classes.iter().copied());
    let most = counts.iter().max_by_key(|(class, count)| (**count, std::cmp::Reverse(**class)));
    let least = counts.iter().min_by_key(|(class, count)| (**count, **class));
    match (most, least) {
        (Some((most, largest)), Some((least, smallest))) => json!({
            "most_frequent": rows.names[*most].0,
            "rarest": rows.names[*least].0,
            "ratio": *largest as f64 / *smallest as f64,
        }),
        _ => Value::Null,
    }
}

fn lesions(rows: &Rows) -> Value {
    let images = count(rows.lesion_ids.iter());
    let mut diagnoses: BTreeMap<&String, BTreeSet<usize>> = BTreeMap::new();
    for (lesion, class) in rows.lesion_ids.iter().zip(&rows.classes) {
        diagnoses.entry(lesion).or_default().insert(*class);
    }
    let contradicting: Vec<Value> = diagnoses
        .iter()
        .filter(|(_, classes)| classes.len() > 1)
        .map(|(lesion, classes)| {
            let labels: Vec<&str> = classes.iter().map(|class| rows.names[*class].0.as_str()).collect();
            json!({"lesion_id": lesion, "classes": labels})
        })
        .collect();
    let sharing: usize = images.values().filter(|count| **count > 1).sum();
    json!({
        "lesions": images.len(),
        "most_images_of_one": images.values().max().copied().unwrap_or(0),
        "images_that_share_a_lesion": sharing,
        "share_of_images_that_share_a_lesion": sharing as f64 / rows.len().max(1) as f64,
        "contradicting_diagnoses": contradicting.len(),
        "contradicting": contradicting.into_iter().take(NAMED).collect::<Vec<_>>(),
    })
}

/// Groups of images with byte-identical files.
fn identical(rows: &Rows, images: &ImageNames<'_>) -> Result<Value, StageError> {
    let mut by_digest: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (place, image_id) in rows.image_ids.iter().enumerate() {
        if let Some(file) = images.find(image_id)? {
            by_digest.entry(file.known_digest()?).or_default().push(place);
        }
    }
    let sets: Vec<Vec<usize>> = by_digest.into_values().filter(|places| places.len() > 1).collect();
    let set = |places: &Vec<usize>| {
        let ids: Vec<&str> = places.iter().map(|place| rows.image_ids[*place].as_str()).collect();
        let lesions: BTreeSet<&str> = places.iter().map(|place| rows.lesion_ids[*place].as_str()).collect();
        let labels: BTreeSet<&str> = places.iter().map(|place| rows.names[rows.classes[*place]].0.as_str()).collect();
        json!({"images": ids, "lesions": lesions, "classes": labels})
    };
    let mut named: Vec<Value> = sets.iter().map(set).collect();
    named.sort_by_key(|set| set["images"][0].as_str().unwrap_or_default().to_owned());
    Ok(json!({
        "sets": sets.len(),
        "images": sets.iter().map(Vec::len).sum::<usize>(),
        "named": named.into_iter().take(NAMED).collect::<Vec<_>>(),
    }))
}

fn unknown(rows: &Rows) -> Value {
    let unknown = |values: &Vec<String>| values.iter().filter(|value| *value == UNKNOWN).count();
    let ages = rows.ages.as_ref().map(|ages| ages.iter().filter(|age| age.is_none()).count());
    let counts = [
        ("age", ages),
        ("sex", rows.sexes.as_ref().map(unknown)),
        ("localization", rows.sites.as_ref().map(unknown)),
        ("dx_type", rows.ways.as_ref().map(unknown)),
    ];
    counts
        .into_iter()
        .filter_map(|(name, count)| Some((name.to_owned(), json!(count?))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn concentrations(rows: &Rows) -> Value {
    let lesions = rows.first_of_lesions();
    let classes = rows.names.len();
    let site_of = |place: usize| rows.sites.as_ref().map(|sites| &sites[place]);
    let sites: BTreeSet<&String> =
        lesions.iter().filter_map(|place| site_of(*place)).filter(|site| *site != UNKNOWN).collect();
    let corrected = |p: f64, tests: usize| (p * tests as f64).min(1.0);
    let of_class = |class: usize| {
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            lesions.iter().partition(|place| rows.classes[**place] == class);
        let ages = |places: &[usize]| {
            let mut ages: Vec<f64> = places.iter().filter_map(|place| rows.ages.as_ref()?[*place]).collect();
            ages.sort_by(f64::total_cmp);
            ages
        };
        let (own, other) = (ages(&inside), ages(&outside));
        let age = mann_whitney(&own, &other).zip(quartiles(&own)).zip(quartiles(&other));
        let age = age.map(|((Test { effect, p }, own), other)| {
            json!({"quartiles": own, "quartiles_of_the_rest": other, "effect": effect, "p": corrected(p, classes)})
        });
        let at = |places: &[usize], site: &String| places.iter().filter(|place| site_of(**place) == Some(site)).count();
        let tests = sites.iter().filter_map(|site| {
            let (own, other) = (at(&inside, site), at(&outside, site));
            let test = chi_squared([[own, inside.len() - own], [other, outside.len() - other]])?;
            Some((*site, own, other, test))
        });
        let strongest = tests.max_by(|a, b| a.3.effect.total_cmp(&b.3.effect).then_with(|| b.0.cmp(a.0)));
        let site = strongest.filter(|(.., test)| test.effect > 0.0).map(|(site, own, other, Test { effect, p })| {
            json!({
                "site": site,
                "share": own as f64 / inside.len() as f64,
                "share_of_the_rest": other as f64 / outside.len() as f64,
                "effect": effect,
                "p": corrected(p, classes * sites.len()),
            })
        });
        json!({"class": rows.names[class].0, "lesions": inside.len(), "age": age, "site": site})
    };
    (0..classes).map(of_class).collect()
}
