//! ROC curves.

use super::ranking::{Ranking, mean_of_classes, of_classes};
use super::{Measured, Scores, Undefined};

/// The receiver operating characteristic of one class against the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct RocCurve {
    /// False and true positive rates at decreasing thresholds, from (0, 0) to (1, 1), without collinear points.
    pub points: Vec<(f64, f64)>,
    /// The area under the curve by the trapezoidal rule; ties count half.
    pub area: f64,
}

/// The ROC curve of `class` against the rest; undefined if either side has no rows.
pub fn roc_curve(scores: &Scores, class: usize) -> Result<RocCurve, Undefined> {
    let ranking = Ranking::of(scores, class)?;
    let area = ranking.roc_area()?;
    let rate = |(wrong, right): (usize, usize)| {
        (wrong as f64 / ranking.negatives as f64, right as f64 / ranking.positives as f64)
    };
    Ok(RocCurve { points: without_straight(&ranking.corners).into_iter().map(rate).collect(), area })
}

/// Removes collinear points.
fn without_straight(corners: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for &(x, y) in corners {
        if let [.., (x0, y0), (x1, y1)] = kept[..]
            && (x1 - x0) as u128 * (y - y1) as u128 == (x - x1) as u128 * (y1 - y0) as u128
        {
            kept.pop();
        }
        kept.push((x, y));
    }
    kept
}

/// The mean area over all classes (`roc_auc_score(multi_class="ovr")`).
pub fn roc_auc_macro(scores: &Scores) -> Measured {
    mean_of_classes(scores, Ranking::roc_area)
}

/// The mean area over all classes, weighted by their rows (`average="weighted"`).
pub fn roc_auc_weighted(scores: &Scores) -> Measured {
    let areas = of_classes(scores, Ranking::roc_area)?;
    let total: f64 = areas.iter().zip(scores.support()).map(|(area, rows)| area * rows as f64).sum();
    Ok(total / scores.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    // roc_auc_score(truth == c, probabilities[:, c]) for each class of the fixture, which is full of ties
    #[test]
    fn every_area_matches_scikit_learn() {
        for (class, expected) in fixture::AREAS.iter().enumerate() {
            let area = roc_curve(&fixture::scores(), class).unwrap().area;
            assert!((area - expected).abs() < 1e-12, "class {class}: {area} instead of {expected}");
        }
    }

    #[test]
    fn ties_count_half() {
        let scores = Scores::new(vec![0, 1, 0, 1], vec![vec![0.5, 0.5]; 4], 2).unwrap();
        let curve = roc_curve(&scores, 0).unwrap();
        assert_eq!(curve, RocCurve { points: vec![(0.0, 0.0), (1.0, 1.0)], area: 0.5 });
    }

    #[test]
    fn collinear_points_are_removed() {
        let rows = [0.9, 0.8, 0.7, 0.6].map(|p| vec![p, 1.0 - p]).to_vec();
        let scores = Scores::new(vec![0, 0, 1, 1], rows, 2).unwrap();
        let curve = roc_curve(&scores, 0).unwrap();
        assert_eq!(curve.points, [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]);
        assert_eq!(curve.area, 1.0);
    }

    #[test]
    fn the_area_is_undefined_if_one_side_has_no_rows() {
        let scores = fixture::certain(&[(0, 0), (0, 1)], 2);
        assert_eq!(roc_curve(&scores, 0).unwrap_err().reason, "no rows of any other class");
        assert_eq!(roc_curve(&scores, 1).unwrap_err().reason, "no rows of this class");
        assert_eq!(roc_auc_macro(&scores).unwrap_err().reason, "rows of one class only");
        let scores = fixture::certain(&[(0, 0), (1, 1)], 3);
        assert_eq!(roc_auc_weighted(&scores).unwrap_err().reason, "1 of 3 classes have no rows");
    }
}
