//! What the images and patients of a split are like, to see what differs between two test sets.

use std::collections::BTreeMap;

use super::rows::Row;
use crate::ml::metric::{ColourSummary, Population};

/// Adds up the colours of images.
#[derive(Debug, Clone, Copy, Default)]
pub struct Colours {
    images: u64,
    sums: [f64; 3],
    brightness: f64,
    squares: f64,
}

/// The weights of red, green and blue in the brightness (ITU-R BT.601).
const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

impl Colours {
    /// Adds an image: red, green and blue of each pixel.
    pub fn add(&mut self, pixels: &[u8]) {
        let mut sums = [0u64; 3];
        for pixel in pixels.as_chunks::<3>().0 {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
        }
        let count = (pixels.len() / 3).max(1) as f64 * 255.0;
        let means = sums.map(|sum| sum as f64 / count);
        let brightness: f64 = means.iter().zip(LUMA).map(|(mean, weight)| mean * weight).sum();
        self.images += 1;
        self.sums.iter_mut().zip(means).for_each(|(sum, mean)| *sum += mean);
        self.brightness += brightness;
        self.squares += brightness * brightness;
    }

    /// The means over the images; `None` without images.
    pub fn summary(&self) -> Option<ColourSummary> {
        let images = Some(self.images).filter(|images| *images > 0)? as f64;
        let brightness = self.brightness / images;
        Some(ColourSummary {
            mean: self.sums.map(|sum| sum / images),
            brightness,
            brightness_deviation: (self.squares / images - brightness * brightness).max(0.0).sqrt(),
        })
    }
}

/// Describes the rows of a split.
pub fn population(rows: &[&Row], colours: Option<&Colours>) -> Population {
    let count = rows.len().max(1) as f64;
    let mut lesions: Vec<&str> = rows.iter().map(|row| row.lesion_id.as_str()).collect();
    lesions.sort_unstable();
    lesions.dedup();
    let mut classes: BTreeMap<String, f64> = BTreeMap::new();
    let mut attributes: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for row in rows {
        *classes.entry(row.label.clone()).or_default() += 1.0;
        for (name, value) in &row.attributes {
            *attributes.entry((*name).to_owned()).or_default().entry(value.clone()).or_default() += 1.0;
        }
    }
    let share = |counts: &mut BTreeMap<String, f64>| counts.values_mut().for_each(|value| *value /= count);
    share(&mut classes);
    attributes.values_mut().for_each(share);
    let colours = colours.and_then(Colours::summary);
    Population { images: rows.len(), lesions: lesions.len(), classes, attributes, colours }
}

#[cfg(test)]
mod tests {
    use super::*;

    // a = np.array([[[10, 20, 30], [30, 40, 50]]]); b = np.full((1, 2, 3), 255)
    // m = np.array([a.mean((0, 1)), b.mean((0, 1))]) / 255; y = m @ [.299, .587, .114]; print(m.mean(0), y.mean(), y.std())
    #[test]
    fn colours_match_numpy() {
        let mut colours = Colours::default();
        colours.add(&[10, 20, 30, 30, 40, 50]);
        colours.add(&[255; 6]);
        let found = colours.summary().unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(
            found
                .mean
                .iter()
                .zip([0.5392156862745098, 0.5588235294117647, 0.5784313725490196])
                .all(|(a, b)| near(*a, b))
        );
        assert!(near(found.brightness, 0.5551960784313725), "{found:?}");
        assert!(near(found.brightness_deviation, 0.4448039215686275), "{found:?}");
        assert_eq!(Colours::default().summary(), None);
    }
}
