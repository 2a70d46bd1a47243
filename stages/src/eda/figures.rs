//! The figures: distributions of patients and lesions, and sample images.

use hamflow_stage_api::{Random, StageError};

use super::rows::{Rows, UNKNOWN, by_frequency};
use crate::image_names::ImageNames;
use crate::plot::{
    CountBarsPlot, Figure, HistogramSeries, PALETTE, Sample, SampleGridPlot, SampleRow, StackedHistogramPlot,
};
use hamflow_kernels::imaging::{
    ColourConstancy, Decoding, Filter, Fit, HairRemoval, Preparation, Preparer, jpeg_base64,
};

/// Number of bins of the age histogram.
const BINS: usize = 30;

/// Bin width in years of stacked age histograms; ages are recorded in steps of five.
const STEP: f64 = 5.0;

/// Number of sample images per class, and their size in pixels.
const SAMPLES: usize = 5;
const SAMPLE: (usize, usize) = (100, 75);

/// The palette index for groups without a colour of their own.
const GREY: usize = PALETTE.len() - 1;

/// A column to plot: its values in display order, and their colours.
struct Grouping<'a> {
    title: &'a str,
    values: &'a [String],
    order: Vec<String>,
    colours: Vec<usize>,
}

impl<'a> Grouping<'a> {
    fn new(title: &'a str, values: &'a [String], colour: impl Fn(usize, &str) -> usize) -> Self {
        let order = by_frequency(values);
        let colours = order.iter().enumerate().map(|(place, value)| colour(place, value)).collect();
        Self { title, values, order, colours }
    }

    fn place(&self, value: &str) -> usize {
        self.order.iter().position(|found| found == value).unwrap_or(0)
    }

    /// Row counts by value.
    fn counts(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0]; self.order.len()];
        for value in self.values {
            counts[self.place(value)][0] += 1;
        }
        counts
    }

    /// Row counts by value and by the other column's value.
    fn counts_by(&self, other: &Grouping<'_>) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; other.order.len()]; self.order.len()];
        for (value, of_other) in self.values.iter().zip(other.values) {
            counts[self.place(value)][other.place(of_other)] += 1;
        }
        counts
    }
}

/// Every figure with its file name without extension.
pub fn figures(rows: &Rows, images: &ImageNames<'_>, seed: u64) -> Result<Vec<(String, Figure)>, StageError> {
    let cell_types: Vec<String> = rows.classes.iter().map(|class| rows.names[*class].1.clone()).collect();
    let of_class =
        |_: usize, name: &str| rows.names.iter().position(|(_, found)| found == name).unwrap_or(GREY) % PALETTE.len();
    let of_sex = |_: usize, sex: &str| match sex {
        "female" => 0,
        "male" => 1,
        _ => GREY,
    };
    let sex = rows.sexes.as_ref().map(|sexes| Grouping::new("sex", sexes, of_sex));
    let cell_type = Some(Grouping::new("cell type", &cell_types, of_class));
    let way = rows.ways.as_ref().map(|ways| Grouping::new("way of diagnosis", ways, |_, _| 0));
    let site = rows.sites.as_ref().map(|sites| Grouping::new("site", sites, |_, _| 0));
    let mut figures = Vec::new();
    for (name, grouping) in [("sex", &sex), ("cell_type", &cell_type), ("dx_type", &way), ("localization", &site)] {
        let Some(grouping) = grouping else { continue };
        figures.push((format!("images_by_{name}"), Figure::new(&counts(grouping))));
        if let (Some(sex), true) = (&sex, name != "sex") {
            figures.push((format!("images_by_{name}_and_sex"), Figure::new(&counts_by(grouping, sex))));
        }
    }
    if let Some(ages) = &rows.ages {
        figures.push(("age".to_owned(), Figure::new(&ages_of(ages))));
        let few_sites = rows.sites.as_deref().zip(site.as_ref()).map(|(sites, site)| few(sites, site));
        let few_sites = few_sites.as_ref().map(FewSites::grouping);
        for (name, grouping) in [("sex", &sex), ("cell_type", &cell_type), ("localization", &few_sites)] {
            if let Some(grouping) = grouping {
                figures.push((format!("age_by_{name}"), Figure::new(&ages_by(ages, grouping))));
            }
        }
    }
    figures.push(("samples".to_owned(), Figure::new(&samples(rows, images, seed)?)));
    Ok(figures)
}

/// The sites, of which only the most frequent get a colour; the others are combined.
struct FewSites {
    coloured: Vec<String>,
    sites: Vec<String>,
}

fn few(sites: &[String], grouping: &Grouping<'_>) -> FewSites {
    let coloured: Vec<String> = grouping.order.iter().filter(|site| *site != UNKNOWN).take(GREY).cloned().collect();
    let shown = |site: &String| if coloured.contains(site) { site.clone() } else { "other or unknown".to_owned() };
    FewSites { sites: sites.iter().map(shown).collect(), coloured }
}

impl FewSites {
    fn grouping(&self) -> Grouping<'_> {
        let colour = |_: usize, name: &str| self.coloured.iter().position(|site| site == name).unwrap_or(GREY);
        Grouping::new("site", &self.sites, colour)
    }
}

fn counts(grouping: &Grouping<'_>) -> CountBarsPlot {
    CountBarsPlot {
        title: format!("Images by {}", grouping.title),
        groups: grouping.order.clone(),
        series: vec!["images".to_owned()],
        counts: grouping.counts(),
        colours: grouping.colours.clone(),
    }
}

fn counts_by(grouping: &Grouping<'_>, other: &Grouping<'_>) -> CountBarsPlot {
    CountBarsPlot {
        title: format!("Images by {} and {}", grouping.title, other.title),
        groups: grouping.order.clone(),
        series: other.order.clone(),
        counts: grouping.counts_by(other),
        colours: other.colours.clone(),
    }
}

/// The index of a value's bin. Bins are half-open except for the last (as `numpy.histogram`).
fn bin(bounds: &[f64], value: f64) -> usize {
    let above = bounds.partition_point(|bound| *bound <= value);
    above.clamp(1, bounds.len() - 1) - 1
}

fn ages_of(ages: &[Option<f64>]) -> StackedHistogramPlot {
    let known = || ages.iter().flatten();
    let (least, most) = known().fold((f64::INFINITY, 0.0_f64), |(least, most), age| (least.min(*age), most.max(*age)));
    let (least, most) = if least < most { (least, most) } else { (0.0, most.max(1.0)) };
    let bounds: Vec<f64> = (0..=BINS).map(|i| least + (most - least) * i as f64 / BINS as f64).collect();
    let mut counts = vec![0; BINS];
    known().for_each(|age| counts[bin(&bounds, *age)] += 1);
    let series = vec![HistogramSeries { name: "images".to_owned(), colour: 0, counts }];
    histogram("Images by age".to_owned(), bounds, series, ages)
}

fn ages_by(ages: &[Option<f64>], grouping: &Grouping<'_>) -> StackedHistogramPlot {
    let most = ages.iter().flatten().fold(STEP, |most: f64, age| most.max(*age));
    let bins = libm::floor(most / STEP) as usize + 1;
    let bounds: Vec<f64> = (0..=bins).map(|i| STEP * i as f64).collect();
    let mut counts = vec![vec![0; bins]; grouping.order.len()];
    for (age, value) in ages.iter().zip(grouping.values) {
        if let Some(age) = age {
            counts[grouping.place(value)][bin(&bounds, *age)] += 1;
        }
    }
    let series = grouping.order.iter().zip(&grouping.colours).zip(counts);
    let series = series.map(|((name, colour), counts)| HistogramSeries { name: name.clone(), colour: *colour, counts });
    histogram(format!("Images by age and {}", grouping.title), bounds, series.collect(), ages)
}

fn histogram(
    title: String,
    bounds: Vec<f64>,
    series: Vec<HistogramSeries>,
    ages: &[Option<f64>],
) -> StackedHistogramPlot {
    let unknown = ages.iter().filter(|age| age.is_none()).count() as u64;
    StackedHistogramPlot { title, axis: "age in years".to_owned(), bounds, series, unknown }
}

/// Randomly drawn images of each class at a size of 100×75.
fn samples(rows: &Rows, images: &ImageNames<'_>, seed: u64) -> Result<SampleGridPlot, StageError> {
    let mut preparer = Preparer::new(Preparation {
        height: SAMPLE.1,
        width: SAMPLE.0,
        filter: Filter::Bicubic,
        fit: Fit::Stretch,
        decode: Decoding::Reduced,
        colour_constancy: ColourConstancy::None,
        hair_removal: HairRemoval::None,
    });
    let mut drawn = Vec::new();
    for (class, (label, name)) in rows.names.iter().enumerate() {
        let mut places: Vec<usize> = (0..rows.len()).filter(|place| rows.classes[*place] == class).collect();
        Random::new(seed, &format!("samples {label}")).shuffle(&mut places);
        let mut row = Vec::new();
        for place in places.into_iter().take(SAMPLES) {
            let image_id = rows.image_ids[place].clone();
            let jpeg = match images.find(&image_id)? {
                Some(file) => thumbnail(&mut preparer, &file.read()?)?,
                None => None,
            };
            row.push(Sample { image_id, jpeg });
        }
        drawn.push(SampleRow { label: name.clone(), images: row });
    }
    let title = format!("{SAMPLES} images of each class, drawn at random");
    Ok(SampleGridPlot { title, size: SAMPLE, rows: drawn })
}

/// A small JPEG in Base64; `None` if the image cannot be decoded.
fn thumbnail(preparer: &mut Preparer, bytes: &[u8]) -> Result<Option<String>, StageError> {
    let (width, height) = SAMPLE;
    let mut pixels = vec![0; width * height * 3];
    if preparer.prepare(bytes, &mut pixels).is_err() {
        return Ok(None);
    }
    jpeg_base64(&pixels, width, height).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    // np.histogram([0, 5, 9.9, 10, 20, 30], bins=3, range=(0, 30))[0] == [3, 1, 2]
    #[test]
    fn bins_match_numpy() {
        let bounds = [0.0, 10.0, 20.0, 30.0];
        let mut counts = [0; 3];
        for value in [0.0, 5.0, 9.9, 10.0, 20.0, 30.0] {
            counts[bin(&bounds, value)] += 1;
        }
        assert_eq!(counts, [3, 1, 2]);
    }
}
