//! 120 rows of 7 classes with many ties and a class that is never predicted, and the expected metrics from
//! scikit-learn 1.9.1.
//!
//! ```python
//! import numpy as np
//! from sklearn.metrics import *
//! random = np.random.default_rng(2018)
//! prior = np.array([4, 6, 11, 3, 13, 67, 16])
//! truth = np.concatenate([np.arange(7), random.choice(7, 113, p=prior / prior.sum())])
//! logits = random.normal(size=(120, 7)) + 1.5 * np.eye(7)[truth] + np.log(prior) / 2
//! share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
//! weights = np.floor(share * 64).astype(int)          # multiples of 1/64: exact in f64, and full of ties
//! weights[:, 3] = np.minimum(weights[:, 3], 3)         # class 3 is never predicted
//! weights[np.arange(120), weights.argmax(1)] += 64 - weights.sum(1)
//! p = weights / 64
//! predicted = p.argmax(1)
//! assert 3 not in predicted and (p.sum(1) == 1).all()
//! for average in ["macro", "weighted"]:
//!     print(precision_recall_fscore_support(truth, predicted, average=average))
//!     print(roc_auc_score(truth, p, multi_class="ovr", average=average))
//! print(accuracy_score(truth, predicted), balanced_accuracy_score(truth, predicted), log_loss(truth, p, labels=range(7)))
//! print(precision_recall_fscore_support(truth, predicted, labels=range(7)), confusion_matrix(truth, predicted))
//! print([roc_auc_score(truth == c, p[:, c]) for c in range(7)])
//! print(average_precision_score(np.eye(7)[truth], p, average="macro"), cohen_kappa_score(truth, predicted))
//! print(matthews_corrcoef(truth, predicted), brier_score_loss(truth, p, labels=range(7), scale_by_half=False))
//! ```

use super::Scores;

/// The rows produced by the script.
pub fn scores() -> Scores {
    let rows = WEIGHTS.iter().map(|row| row.iter().map(|weight| f64::from(*weight) / 64.0).collect()).collect();
    Scores::new(TRUTH.to_vec(), rows, 7).expect("the rows sum to 1")
}

/// Rows with a true class and a certain prediction.
pub fn certain(pairs: &[(usize, usize)], classes: usize) -> Scores {
    let row = |predicted| (0..classes).map(|class| if class == predicted { 1.0 } else { 0.0 }).collect();
    let rows = pairs.iter().map(|(_, predicted)| row(*predicted)).collect();
    Scores::new(pairs.iter().map(|(truth, _)| *truth).collect(), rows, classes).expect("the rows sum to 1")
}

/// scikit-learn's metrics of the whole split.
pub const EXPECTED: [(&str, f64); 15] = [
    ("accuracy", 0.675),
    ("balanced_accuracy", 0.45102040816326533),
    ("precision_macro", 0.46955782312925176),
    ("recall_macro", 0.45102040816326533),
    ("f1_macro", 0.45504201680672274),
    ("precision_weighted", 0.6663888888888889),
    ("recall_weighted", 0.675),
    ("f1_weighted", 0.6659547152194212),
    ("roc_auc_macro", 0.867615023657312),
    ("roc_auc_weighted", 0.8738557608392791),
    ("log_loss", 1.2952538101613214),
    ("average_precision_macro", 0.5203950786211406),
    ("cohen_kappa", 0.5352070712086603),
    ("matthews_correlation", 0.5381452853633246),
    ("brier", 0.4837239583333333),
];

/// Average precision of each class against the rest.
pub const AVERAGE_PRECISIONS: [f64; 7] = [
    0.13422590657884775,
    0.5935859949017843,
    0.5188685322613894,
    0.0724219084296106,
    0.7103076086225155,
    0.8689652399881505,
    0.7443903595656867,
];

/// Sensitivity of each class at 90 % and 95 % specificity.
pub const SENSITIVITIES: [(f64, f64); 7] = [
    (0.2, 0.0),
    (0.8333333333333334, 0.6666666666666666),
    (0.7142857142857143, 0.5714285714285714),
    (0.0, 0.0),
    (0.7333333333333333, 0.6666666666666666),
    (0.5892857142857143, 0.5178571428571429),
    (0.75, 0.7),
];

/// The expected calibration error over 15 bins, from the script next to its test.
pub const CALIBRATION_ERROR: f64 = 0.09661458333333331;

/// The temperature that minimises the log loss, and that loss.
pub const TEMPERATURE: (f64, f64) = (1.1857279317771505, 1.2837972527799986);

/// Balanced accuracy, log loss, Matthews correlation, and area and average precision of class 5, for five resamples.
pub const RESAMPLED: [[f64; 5]; 5] = [
    [0.42878787878787883, 1.6208645521769265, 0.4998425444772798, 0.8549107142857143, 0.8625163389380511],
    [0.5111111111111111, 0.9823387472698273, 0.5441108920033652, 0.8575, 0.8625028006514077],
    [0.4271062271062271, 1.1377780670465276, 0.4930451289529692, 0.8959276018099548, 0.9085435482196615],
    [0.5166666666666667, 0.8977824215913899, 0.6221650508025469, 0.9305555555555556, 0.9322691197691199],
    [0.5370370370370371, 0.9684823685979135, 0.5739606197052718, 0.8787878787878788, 0.857787274453941],
];

/// Precision, recall, F1 and support of each class.
pub const PER_CLASS: [(f64, f64, f64, usize); 7] = [
    (0.0, 0.0, 0.0, 5),
    (0.375, 0.5, 0.42857142857142855, 6),
    (0.7, 0.5, 0.5833333333333334, 14),
    (0.0, 0.0, 0.0, 4),
    (0.75, 0.6, 0.6666666666666666, 15),
    (0.7619047619047619, 0.8571428571428571, 0.8067226890756303, 56),
    (0.7, 0.7, 0.7, 20),
];

/// Area under the ROC curve of each class against the rest.
pub const AREAS: [f64; 7] = [
    0.846086956521739,
    0.9619883040935673,
    0.816711590296496,
    0.7790948275862069,
    0.8946031746031745,
    0.8720703125,
    0.90275,
];

/// Rows are true classes.
pub const CONFUSION: [[usize; 7]; 7] = [
    [0, 0, 0, 0, 1, 4, 0],
    [1, 3, 1, 0, 0, 1, 0],
    [1, 1, 7, 0, 0, 4, 1],
    [2, 0, 0, 0, 1, 1, 0],
    [1, 1, 0, 0, 9, 2, 2],
    [1, 1, 2, 0, 1, 48, 3],
    [1, 2, 0, 0, 0, 3, 14],
];

#[rustfmt::skip]
const TRUTH: [usize; 120] = [
    0, 1, 2, 3, 4, 5, 6, 5, 3, 6, 6, 2, 3, 6, 5, 4, 5, 5, 6, 5, 5, 2, 0, 2, 5, 6, 2, 5, 6, 5,
    5, 5, 4, 5, 5, 2, 5, 2, 5, 5, 5, 4, 6, 6, 2, 5, 5, 4, 5, 5, 5, 5, 6, 5, 6, 1, 2, 5, 5, 6,
    0, 5, 5, 4, 2, 5, 6, 5, 1, 5, 4, 4, 6, 5, 5, 3, 5, 4, 1, 6, 5, 6, 4, 2, 5, 6, 6, 5, 0, 6,
    5, 5, 5, 4, 6, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 4, 1, 5, 2, 0, 5, 4, 5, 1, 5, 5, 2, 4, 5, 2,
];

/// Probabilities in units of 1/64.
#[rustfmt::skip]
const WEIGHTS: [[u8; 7]; 120] = [
    [6, 1, 2, 3, 26, 17, 9], [3, 44, 11, 1, 1, 2, 2], [6, 2, 34, 3, 7, 5, 7], [18, 1, 12, 2, 8, 13, 10],
    [8, 18, 11, 0, 13, 11, 3], [6, 6, 10, 2, 8, 30, 2], [0, 2, 2, 0, 1, 9, 50], [2, 0, 52, 0, 3, 3, 4],
    [28, 9, 16, 3, 2, 4, 2], [10, 8, 8, 3, 2, 6, 27], [0, 0, 14, 3, 8, 10, 29], [5, 0, 25, 2, 9, 10, 13],
    [3, 11, 6, 3, 5, 30, 6], [1, 1, 10, 1, 7, 9, 35], [1, 1, 1, 3, 0, 57, 1], [1, 5, 3, 3, 42, 8, 2],
    [0, 1, 1, 0, 3, 50, 9], [17, 4, 5, 3, 2, 23, 10], [7, 45, 1, 0, 0, 7, 4], [7, 1, 3, 3, 0, 43, 7],
    [6, 7, 10, 3, 1, 27, 10], [1, 8, 14, 1, 1, 37, 2], [7, 6, 5, 3, 4, 26, 13], [1, 1, 50, 0, 1, 9, 2],
    [1, 3, 7, 2, 1, 50, 0], [11, 1, 2, 2, 5, 36, 7], [3, 40, 0, 2, 7, 3, 9], [0, 0, 0, 0, 0, 64, 0],
    [8, 5, 1, 3, 4, 4, 39], [1, 23, 6, 0, 0, 29, 5], [1, 0, 1, 0, 1, 60, 1], [3, 10, 1, 3, 0, 46, 1],
    [0, 3, 3, 0, 32, 25, 1], [0, 1, 3, 1, 19, 34, 6], [0, 5, 3, 3, 8, 44, 1], [5, 8, 19, 0, 1, 25, 6],
    [0, 1, 1, 1, 4, 11, 46], [1, 10, 22, 0, 2, 17, 12], [4, 0, 4, 1, 3, 35, 17], [0, 2, 4, 0, 5, 47, 6],
    [1, 1, 2, 3, 3, 41, 13], [0, 4, 6, 0, 19, 26, 9], [0, 5, 17, 3, 6, 1, 32], [2, 0, 5, 3, 2, 40, 12],
    [5, 3, 26, 1, 2, 21, 6], [9, 2, 9, 2, 5, 30, 7], [32, 0, 3, 3, 4, 21, 1], [31, 5, 0, 0, 15, 11, 2],
    [3, 0, 4, 1, 2, 38, 16], [1, 2, 1, 3, 12, 43, 2], [10, 2, 10, 3, 12, 3, 24], [1, 4, 3, 1, 6, 49, 0],
    [6, 4, 14, 1, 3, 7, 29], [5, 4, 0, 3, 13, 33, 6], [1, 6, 2, 0, 3, 15, 37], [11, 10, 21, 1, 17, 2, 2],
    [3, 3, 7, 3, 0, 45, 3], [1, 0, 0, 0, 2, 59, 2], [1, 2, 6, 0, 1, 54, 0], [26, 1, 4, 2, 15, 10, 6],
    [14, 1, 8, 3, 3, 30, 5], [0, 1, 1, 2, 2, 57, 1], [1, 0, 9, 0, 1, 41, 12], [14, 5, 2, 3, 1, 14, 25],
    [15, 2, 4, 3, 9, 29, 2], [2, 3, 20, 0, 4, 33, 2], [1, 1, 2, 0, 9, 36, 15], [0, 0, 0, 0, 1, 63, 0],
    [1, 12, 1, 0, 1, 34, 15], [4, 0, 8, 0, 3, 44, 5], [8, 8, 7, 3, 20, 10, 8], [0, 0, 7, 1, 54, 0, 2],
    [0, 0, 1, 0, 1, 28, 34], [3, 3, 15, 0, 0, 40, 3], [6, 0, 11, 3, 15, 28, 1], [2, 8, 3, 3, 43, 2, 3],
    [4, 0, 1, 0, 7, 51, 1], [2, 2, 5, 0, 39, 11, 5], [30, 21, 3, 0, 0, 9, 1], [9, 2, 4, 1, 0, 17, 31],
    [0, 3, 1, 3, 3, 51, 3], [0, 0, 0, 2, 2, 6, 54], [2, 2, 5, 0, 5, 46, 4], [0, 0, 36, 0, 0, 27, 1],
    [0, 1, 5, 2, 4, 47, 5], [4, 36, 2, 0, 11, 8, 3], [0, 3, 4, 2, 11, 8, 36], [0, 0, 0, 0, 3, 61, 0],
    [11, 1, 4, 2, 2, 44, 0], [15, 3, 2, 1, 8, 0, 35], [0, 0, 0, 0, 9, 55, 0], [3, 2, 1, 1, 5, 43, 9],
    [0, 0, 3, 1, 4, 56, 0], [0, 1, 1, 0, 44, 14, 4], [1, 14, 3, 3, 6, 6, 31], [3, 10, 9, 1, 6, 14, 21],
    [1, 1, 0, 1, 1, 57, 3], [0, 0, 12, 1, 13, 30, 8], [1, 4, 0, 3, 1, 54, 1], [8, 9, 8, 1, 14, 19, 5],
    [1, 1, 12, 0, 2, 46, 2], [2, 1, 1, 1, 5, 54, 0], [1, 3, 7, 3, 7, 31, 12], [0, 0, 1, 1, 1, 45, 16],
    [2, 17, 1, 3, 27, 11, 3], [1, 1, 2, 1, 54, 4, 1], [6, 43, 6, 3, 1, 2, 3], [3, 22, 10, 3, 9, 13, 4],
    [26, 1, 3, 0, 22, 12, 0], [15, 1, 1, 2, 1, 42, 2], [0, 4, 30, 0, 7, 21, 2], [0, 8, 4, 1, 36, 14, 1],
    [1, 2, 2, 2, 8, 49, 0], [1, 48, 6, 0, 1, 7, 1], [9, 7, 2, 3, 24, 17, 2], [1, 0, 14, 2, 8, 35, 4],
    [10, 10, 24, 3, 4, 4, 9], [3, 6, 9, 3, 13, 4, 26], [20, 2, 7, 3, 3, 25, 4], [0, 1, 15, 3, 11, 8, 26],
];
