//! True classes and probability rows, checked once so that every metric may trust them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Undefined;

/// How far from 1 a row's sum may be: what scikit-learn allows for f64.
const SUM_TOLERANCE: f64 = 1.490_116_119_384_765_6e-8;

/// The true class, the predicted class and the probabilities of some rows, and how often each of them counts: once, or in a
/// [resample](Scores::resampled) as often as it was drawn.
#[derive(Debug, Clone)]
pub struct Scores {
    table: Arc<Table>,
    counts: Vec<u32>,
    len: usize,
}

/// The rows, shared by all resamples of them.
#[derive(Debug)]
struct Table {
    truth: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
    classes: usize,
    /// By class: the rows by falling probability of it. Sorted when first asked for.
    ranked: OnceLock<Vec<Vec<u32>>>,
}

/// A row that counts.
#[derive(Debug, Clone, Copy)]
pub struct ScoreRow<'a> {
    /// The true class.
    pub truth: usize,
    /// The first of the most probable classes.
    pub predicted: usize,
    /// By class.
    pub probabilities: &'a [f64],
    /// How often it counts, at least once.
    pub count: usize,
}

impl Scores {
    /// Takes the true class and the probabilities of each row; the prediction is the first of the most probable classes.
    ///
    /// Fails where a row has no probability for each of `classes`, a probability that is not a number between 0 and 1,
    /// probabilities that do not sum to 1, or a true class that does not exist.
    pub fn new(truth: Vec<usize>, probabilities: Vec<Vec<f64>>, classes: usize) -> Result<Self, ScoreError> {
        if truth.len() != probabilities.len() {
            let row = truth.len().min(probabilities.len());
            return Err(ScoreError::new(row, format!("{} labels, {} predictions", truth.len(), probabilities.len())));
        }
        for (row, (label, probabilities)) in truth.iter().zip(&probabilities).enumerate() {
            check_row(*label, probabilities, classes).map_err(|problem| ScoreError::new(row, problem))?;
        }
        let predicted = probabilities.iter().map(|row| most_probable(row)).collect();
        let (counts, len) = (vec![1; truth.len()], truth.len());
        let table = Table { truth, predicted, probabilities, classes, ranked: OnceLock::new() };
        Ok(Self { table: Arc::new(table), counts, len })
    }

    /// The same rows, each counted as often as `counts` says of it; a row that is left out counts 0 times.
    ///
    /// # Panics
    ///
    /// Where there is not one count per row.
    pub fn resampled(&self, counts: Vec<u32>) -> Self {
        assert_eq!(counts.len(), self.table.truth.len(), "one count per row");
        let len = counts.iter().map(|count| *count as usize).sum();
        Self { table: Arc::clone(&self.table), counts, len }
    }

    /// Fails in a resample that drew no row of a class which has rows: a mean over classes would be one over fewer of them.
    pub fn require_drawn_classes(&self) -> Result<(), Undefined> {
        let mut drawn = vec![None; self.classes()];
        for (class, count) in self.table.truth.iter().zip(&self.counts) {
            *drawn[*class].get_or_insert(0) += *count as usize;
        }
        if drawn.contains(&Some(0)) { Err(Undefined::new("no row of a class was drawn")) } else { Ok(()) }
    }

    /// The number of rows, each as often as it counts.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row counts.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.table.classes
    }

    /// The true class of each row, whether or not it counts.
    pub fn truth(&self) -> &[usize] {
        &self.table.truth
    }

    /// The predicted class of each row, whether or not it counts.
    pub fn predicted(&self) -> &[usize] {
        &self.table.predicted
    }

    /// The probabilities of each row, whether or not it counts.
    pub fn probabilities(&self) -> &[Vec<f64>] {
        &self.table.probabilities
    }

    /// The rows that count, in their order.
    pub fn rows(&self) -> impl Iterator<Item = ScoreRow<'_>> {
        (0..self.counts.len()).filter(|row| self.counts[*row] > 0).map(|row| self.row(row))
    }

    /// The rows that count, by falling probability of `class`; equal ones in their order.
    pub fn ranked(&self, class: usize) -> impl Iterator<Item = ScoreRow<'_>> {
        let ranked =
            self.table.ranked.get_or_init(|| (0..self.classes()).map(|class| self.table.rank(class)).collect());
        ranked[class].iter().map(|row| *row as usize).filter(|row| self.counts[*row] > 0).map(|row| self.row(row))
    }

    fn row(&self, row: usize) -> ScoreRow<'_> {
        ScoreRow {
            truth: self.table.truth[row],
            predicted: self.table.predicted[row],
            probabilities: &self.table.probabilities[row],
            count: self.counts[row] as usize,
        }
    }

    /// The number of rows of each class.
    pub fn support(&self) -> Vec<usize> {
        let mut support = vec![0; self.classes()];
        for row in self.rows() {
            support[row.truth] += row.count;
        }
        support
    }

    /// Fails where there are no rows, since nothing can be said of them.
    pub fn require_rows(&self) -> Result<(), Undefined> {
        if self.is_empty() { Err(Undefined::new("no rows")) } else { Ok(()) }
    }
}

impl Table {
    fn rank(&self, class: usize) -> Vec<u32> {
        let count = u32::try_from(self.truth.len()).expect("fewer than 4 billion rows");
        let mut rows: Vec<u32> = (0..count).collect();
        let of = |row: &u32| self.probabilities[*row as usize][class];
        rows.sort_by(|a, b| of(b).total_cmp(&of(a)));
        rows
    }
}

fn check_row(label: usize, probabilities: &[f64], classes: usize) -> Result<(), String> {
    if label >= classes {
        return Err(format!("the class {label} does not exist, there are {classes}"));
    }
    if probabilities.len() != classes {
        return Err(format!("{} probabilities for {classes} classes", probabilities.len()));
    }
    if let Some(class) = probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(format!("the probability of class {class} is {}", probabilities[class]));
    }
    let sum: f64 = probabilities.iter().sum();
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(format!("the probabilities sum to {sum}, not to 1"));
    }
    Ok(())
}

/// The index of the largest probability, the first of equals.
pub fn most_probable(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, &probability) in probabilities.iter().enumerate() {
        if probability > probabilities[best] {
            best = class;
        }
    }
    best
}

/// A row that cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreError {
    /// The row, counted from 0.
    pub row: usize,
    /// What is wrong with it, lowercase at its start.
    pub problem: String,
}

impl ScoreError {
    fn new(row: usize, problem: String) -> Self {
        Self { row, problem }
    }
}

impl fmt::Display for ScoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}: {}", self.row, self.problem)
    }
}

impl std::error::Error for ScoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_goes_to_the_first_class() {
        let scores = Scores::new(vec![1], vec![vec![0.2, 0.4, 0.4]], 3).unwrap();
        assert_eq!(scores.predicted(), [1]);
    }

    #[test]
    fn a_probability_that_is_no_number_names_its_row() {
        let rows = vec![vec![0.5, 0.5], vec![0.5, f64::NAN]];
        let error = Scores::new(vec![0, 1], rows, 2).unwrap_err();
        assert_eq!(error.to_string(), "row 1: the probability of class 1 is NaN");
    }

    #[test]
    fn a_resample_counts_its_rows_as_often_as_it_says() {
        let rows = vec![vec![0.9, 0.1], vec![0.3, 0.7], vec![0.5, 0.5]];
        let scores = Scores::new(vec![0, 1, 1], rows, 2).unwrap().resampled(vec![2, 0, 3]);
        assert_eq!((scores.len(), scores.support()), (5, vec![2, 3]));
        assert_eq!(scores.rows().map(|row| row.count).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(scores.ranked(1).map(|row| row.probabilities[1]).collect::<Vec<_>>(), [0.5, 0.1]);
        assert!(scores.resampled(vec![0; 3]).is_empty());
    }

    #[test]
    fn rows_that_are_no_distribution_are_refused() {
        for (row, problem) in [
            (vec![0.5, 0.4], "the probabilities sum to 0.9, not to 1"),
            (vec![1.5, -0.5], "the probability of class 0 is 1.5"),
            (vec![1.0], "1 probabilities for 2 classes"),
        ] {
            assert_eq!(Scores::new(vec![0], vec![row], 2).unwrap_err().problem, problem);
        }
        assert!(Scores::new(vec![2], vec![vec![1.0, 0.0]], 2).is_err());
        assert!(Scores::new(vec![0], Vec::new(), 2).is_err());
    }
}
