//! The confusion matrix.

use super::Scores;

/// Counts rows by true class (row of the matrix) and predicted class (column), both in index order.
pub fn confusion_matrix(scores: &Scores) -> Vec<Vec<usize>> {
    let mut matrix = vec![vec![0; scores.classes()]; scores.classes()];
    for row in scores.rows() {
        matrix[row.truth][row.predicted] += row.count;
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    #[test]
    fn rows_are_true_classes_and_columns_are_predicted_ones() {
        let scores = fixture::certain(&[(0, 1), (0, 1), (1, 1)], 3);
        assert_eq!(confusion_matrix(&scores), [[0, 2, 0], [0, 1, 0], [0, 0, 0]]);
    }

    #[test]
    fn the_matrix_matches_scikit_learn() {
        assert_eq!(confusion_matrix(&fixture::scores()), fixture::CONFUSION);
    }
}
