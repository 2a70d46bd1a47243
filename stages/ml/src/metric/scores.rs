//! True classes and probabilities, validated once for all metrics.

use std::sync::{Arc, OnceLock};

use super::Undefined;

/// The tolerance for the sum of a row's probabilities, as in scikit-learn for f64.
const SUM_TOLERANCE: f64 = 1.490_116_119_384_765_6e-8;

/// True classes, predicted classes and probabilities of some rows, with a count per row: 1, or the number of times
/// that a row was drawn in a [resample](Scores::resampled).
#[derive(Debug, Clone)]
pub struct Scores {
    table: Arc<Table>,
    counts: Vec<u32>,
    len: usize,
}

/// The rows, shared by all resamples.
#[derive(Debug)]
struct Table {
    truth: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
    classes: usize,
    /// By class: the rows by decreasing probability; computed on first use.
    ranked: OnceLock<Vec<Vec<u32>>>,
}

/// A row with a nonzero count.
#[derive(Debug, Clone, Copy)]
pub struct ScoreRow<'a> {
    /// The true class.
    pub truth: usize,
    /// The predicted class: the first of the most probable ones.
    pub predicted: usize,
    /// The probability of each class.
    pub probabilities: &'a [f64],
    /// The count, at least 1.
    pub count: usize,
}

impl Scores {
    /// Validates the true class and the probabilities of each row; the prediction is the first of the most probable
    /// classes.
    ///
    /// Fails if a row does not have one probability for each of `classes`, a probability is not between 0 and 1, the
    /// probabilities do not sum to 1, or the true class does not exist.
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

    /// The same rows with new counts; rows that were not drawn have count 0.
    ///
    /// # Panics
    ///
    /// If the number of counts is not the number of rows.
    pub fn resampled(&self, counts: Vec<u32>) -> Self {
        assert_eq!(counts.len(), self.table.truth.len(), "one count per row");
        let len = counts.iter().map(|count| *count as usize).sum();
        Self { table: Arc::clone(&self.table), counts, len }
    }

    /// Fails in a resample without any row of a class that has rows: a mean over fewer classes is not comparable.
    pub fn require_drawn_classes(&self) -> Result<(), Undefined> {
        let mut drawn = vec![None; self.classes()];
        for (class, count) in self.table.truth.iter().zip(&self.counts) {
            *drawn[*class].get_or_insert(0) += *count as usize;
        }
        if drawn.contains(&Some(0)) { Err(Undefined::new("no row of a class was drawn")) } else { Ok(()) }
    }

    /// The number of rows, including repetitions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.table.classes
    }

    /// The true class of every row, regardless of its count.
    pub fn truth(&self) -> &[usize] {
        &self.table.truth
    }

    /// The predicted class of every row, regardless of its count.
    pub fn predicted(&self) -> &[usize] {
        &self.table.predicted
    }

    /// The probabilities of every row, regardless of its count.
    pub fn probabilities(&self) -> &[Vec<f64>] {
        &self.table.probabilities
    }

    /// The rows with a nonzero count, in order.
    pub fn rows(&self) -> impl Iterator<Item = ScoreRow<'_>> {
        (0..self.counts.len()).filter(|row| self.counts[*row] > 0).map(|row| self.row(row))
    }

    /// The rows with a nonzero count, by decreasing probability of `class`; ties in row order.
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

    /// Fails if there are no rows.
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

/// The index of the largest probability; the first one in a tie.
pub fn most_probable(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, &probability) in probabilities.iter().enumerate() {
        if probability > probabilities[best] {
            best = class;
        }
    }
    best
}

/// A row that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {problem}")]
pub struct ScoreError {
    /// The row, 0-based.
    pub row: usize,
    /// The problem, starting in lowercase.
    pub problem: String,
}

impl ScoreError {
    fn new(row: usize, problem: String) -> Self {
        Self { row, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_goes_to_the_first_class() {
        let scores = Scores::new(vec![1], vec![vec![0.2, 0.4, 0.4]], 3).unwrap();
        assert_eq!(scores.predicted(), [1]);
    }

    #[test]
    fn the_error_for_a_nan_probability_names_the_row() {
        let rows = vec![vec![0.5, 0.5], vec![0.5, f64::NAN]];
        let error = Scores::new(vec![0, 1], rows, 2).unwrap_err();
        assert_eq!(error.to_string(), "row 1: the probability of class 1 is NaN");
    }

    #[test]
    fn a_resample_repeats_its_rows_by_their_counts() {
        let rows = vec![vec![0.9, 0.1], vec![0.3, 0.7], vec![0.5, 0.5]];
        let scores = Scores::new(vec![0, 1, 1], rows, 2).unwrap().resampled(vec![2, 0, 3]);
        assert_eq!((scores.len(), scores.support()), (5, vec![2, 3]));
        assert_eq!(scores.rows().map(|row| row.count).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(scores.ranked(1).map(|row| row.probabilities[1]).collect::<Vec<_>>(), [0.5, 0.1]);
        assert!(scores.resampled(vec![0; 3]).is_empty());
    }

    #[test]
    fn rows_that_are_not_distributions_are_rejected() {
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
