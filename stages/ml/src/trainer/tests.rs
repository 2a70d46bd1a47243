//! Tests of training on images in memory: convergence, reproducibility, and divergence.

use super::*;
use crate::augment::Augmentation;
use crate::model;
use crate::recipe::ClassWeights;
use crate::schedule::Curve;
use crate::switch::Switch;
use hamflow_kernels::shape::MapShape;

const SHAPE: MapShape = MapShape { height: 8, width: 9, channels: 3 };

/// Noise images with a bright stripe that is horizontal, vertical or absent, by class.
fn images(count: usize, purpose: &str) -> (Vec<Vec<u8>>, Vec<usize>) {
    let mut random = Random::new(3, purpose);
    (0..count)
        .map(|i| {
            let (class, place) = (i % 3, random.below(6) as usize + 1);
            let image = (0..SHAPE.len())
                .map(|k| {
                    let (y, x) = (k / (9 * 3), k / 3 % 9);
                    let bright = (class == 0 && y == place) || (class == 1 && x == place);
                    random.below(60) as u8 + if bright { 180 } else { 0 }
                })
                .collect();
            (image, class)
        })
        .unzip()
}

fn recipe() -> Recipe {
    Recipe { seed: 5, epochs: 4, batch_size: 7, learning_rate: 2e-3, augment: Switch(None), ..Recipe::default() }
}

/// Passes a trainer with 60 training and 31 validation images to `work`.
fn with_trainer<R: Send>(
    recipe: Recipe,
    threads: usize,
    work: impl FnOnce(Trainer<'_>) -> Result<R, StageError> + Send,
) -> Result<R, StageError> {
    let network = model::find("baseline").unwrap().network(SHAPE, 3).unwrap();
    let (training, validation) = (images(60, "training"), images(31, "validation"));
    let samples = |set: &'static str| {
        let (images, classes) = if set == "training" { &training } else { &validation };
        Samples { images: images.iter().map(Vec::as_slice).collect(), classes: classes.clone(), weights: Vec::new() }
    };
    let training = samples("training");
    let normalisation = Normalisation::fit(&training.images);
    let data = Data { training, validation: samples("validation"), normalisation };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| work(Trainer::new(&network, recipe, data)?))
}

/// Trains for some epochs.
fn train(recipe: Recipe, epochs: usize, threads: usize) -> Result<(Trained, Vec<u8>), StageError> {
    with_trainer(recipe, threads, |mut trainer| {
        for _ in 0..epochs {
            trainer.run_epoch(|_| ())?;
        }
        let trained = trainer.finish();
        let bytes = crate::card::encode_weights(&trained.weights)?;
        Ok((trained, bytes))
    })
}

#[test]
fn training_resumes_bit_identically_from_a_checkpoint() {
    let recipe = Recipe { augment: Switch::default(), ..recipe() };
    let run =
        |trainer: &mut Trainer<'_>, epochs: usize| (0..epochs).try_for_each(|_| trainer.run_epoch(|_| ()).map(|_| ()));
    let (saved, whole) = with_trainer(recipe.clone(), 2, |mut trainer| {
        run(&mut trainer, 3)?;
        let saved = trainer.checkpoint()?;
        run(&mut trainer, 4)?;
        Ok((saved, trainer.checkpoint()?))
    })
    .unwrap();
    let gone_on = with_trainer(recipe, 3, |mut trainer| {
        let mut damaged = saved.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(trainer.restore(&damaged, 9)?, Restored::Unusable);
        assert_eq!(trainer.restore(&saved[..saved.len() - 1], 9)?, Restored::Unusable);
        assert_eq!(trainer.restore(&saved, 2)?, Restored::Longer);
        assert!(trainer.history().is_empty(), "nothing was changed");
        assert_eq!(trainer.restore(&saved, 3)?, Restored::After(3));
        run(&mut trainer, 4)?;
        trainer.checkpoint()
    });
    assert!(gone_on.unwrap() == whole, "weights, moments, schedule, best and history");
}

#[test]
fn a_simple_rule_is_learned() {
    let (trained, _) = train(recipe(), 12, 2).unwrap();
    let best = trained.history[trained.epoch - 1].validation_accuracy.unwrap();
    assert!(best > 0.9, "{:?}", trained.history);
    assert!(trained.history.iter().all(|record| record.validation_accuracy.unwrap() <= best));
    let first = trained.history.iter().position(|record| record.validation_accuracy == Some(best));
    assert_eq!(first, Some(trained.epoch - 1));
}

#[test]
fn the_output_does_not_depend_on_the_number_of_threads() {
    let augmented = Recipe { augment: Switch::default(), ..recipe() };
    let (expected, bytes) = train(augmented.clone(), 2, 1).unwrap();
    for threads in [2, 3, 7] {
        let (trained, other) = train(augmented.clone(), 2, threads).unwrap();
        assert!(bytes == other, "{threads} threads");
        assert_eq!(trained.history, expected.history);
    }
    assert!(train(Recipe { seed: 6, ..augmented }, 2, 1).unwrap().1 != bytes);
    assert!(train(recipe(), 2, 1).unwrap().1 != bytes);
}

#[test]
fn keep_last_returns_the_last_weights() {
    let last = Recipe { keep: Keep::Last, ..recipe() };
    let (trained, _) = train(last, 3, 2).unwrap();
    assert_eq!(trained.epoch, 3);
}

#[test]
fn a_nan_loss_stops_training_and_names_the_step() {
    let error = train(Recipe { learning_rate: 1e30, ..recipe() }, 2, 2).err().unwrap();
    assert!(error.message.starts_with("the loss became "), "{error}");
    assert!(error.message.contains("at step ") && error.message.contains("learning rate 1"), "{error}");
}

// from sklearn.utils.class_weight import compute_class_weight
// compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 1, 1, 2, 0, 0])
#[test]
fn balanced_weights_match_scikit_learn() {
    let balanced = Recipe { class_weights: ClassWeights::Balanced, ..recipe() };
    let weights = balanced.class_weights(&[0, 0, 0, 1, 1, 2, 0, 0], 3);
    assert_eq!(weights, [8.0 / 15.0, 8.0 / 6.0, 8.0 / 3.0]);
    assert_eq!(recipe().class_weights(&[0, 1], 2), [1.0, 1.0]);
}

// import numpy as np   # github.com/richardaecn/class-balanced-loss, class_balanced_loss.py
// n = np.array([5, 2, 1]); w = (1 - 0.9) / (1 - 0.9**n); print((w / w.sum() * 3).tolist())
const EFFECTIVE: [f64; 3] = [0.41376937366205485, 0.8918036642544639, 1.694426962083481];

#[test]
fn effective_number_weights_match_the_paper() {
    let effective = Recipe { class_weights: ClassWeights::EffectiveNumber, effective_number_beta: 0.9, ..recipe() };
    let weights = effective.class_weights(&[0, 0, 0, 1, 1, 2, 0, 0], 3);
    for (ours, papers) in weights.iter().zip(EFFECTIVE) {
        assert!((ours - papers).abs() < 1e-12, "{ours} {papers}");
    }
}

// compute_class_weight("balanced", classes=[0, 2], y=[0, 0, 0, 2]) for the classes that occur
#[test]
fn a_class_without_images_does_not_change_the_weights_of_others() {
    let balanced = Recipe { class_weights: ClassWeights::Balanced, ..recipe() };
    assert_eq!(balanced.class_weights(&[0, 0, 0, 2], 4), [4.0 / 6.0, 1.0, 2.0, 1.0]);
    let effective = Recipe { class_weights: ClassWeights::EffectiveNumber, effective_number_beta: 0.9, ..recipe() };
    let with_absent = effective.class_weights(&[0, 0, 0, 2, 2, 3, 0, 0], 5);
    for (ours, papers) in [0, 2, 3].map(|class| with_absent[class]).iter().zip(EFFECTIVE) {
        assert!((ours - papers).abs() < 1e-12, "{ours} {papers}");
    }
    assert_eq!((with_absent[1], with_absent[4]), (1.0, 1.0));
}

#[test]
fn balanced_sampling_draws_all_classes_equally_often() {
    let balanced = Recipe { sampling: Sampling::Balanced, ..recipe() };
    with_trainer(balanced, 1, |mut trainer| {
        // 40 images of class 0, 20 of class 1, none of class 2.
        trainer.data.training.classes = (0..60).map(|i| usize::from(i >= 40)).collect();
        let classes: Vec<usize> =
            (1..=50).flat_map(|epoch| trainer.order(epoch)).map(|i| trainer.data.training.classes[i]).collect();
        let ones = classes.iter().filter(|class| **class == 1).count();
        assert_eq!(classes.len(), 50 * 60);
        assert!((1400..1600).contains(&ones), "{ones} of 3000");
        assert_ne!(trainer.order(1), trainer.order(2));
        Ok(())
    })
    .unwrap();
}

#[test]
fn every_option_has_an_effect_and_is_reproducible_on_any_number_of_threads() {
    let plain = train(recipe(), 2, 2).unwrap().1;
    let coloured = Augmentation { brightness: 0.2, contrast: 0.2, saturation: 0.2, ..Augmentation::default() };
    for other in [
        Recipe { augment: Switch(Some(coloured)), ..recipe() },
        Recipe { mixup: 0.4, ..recipe() },
        Recipe { sampling: Sampling::Balanced, ..recipe() },
        Recipe { label_smoothing: 0.1, ..recipe() },
        Recipe { focal_gamma: 2.0, ..recipe() },
        Recipe { clip_norm: 0.1, ..recipe() },
        Recipe { schedule: Curve::Cosine, warmup_epochs: 0.5, ..recipe() },
        Recipe { schedule: Curve::OneCycle, ..recipe() },
    ] {
        let one = train(other.clone(), 2, 1).unwrap().1;
        assert!(one != plain, "{other:?} has no effect");
        assert!(one == train(other.clone(), 2, 3).unwrap().1, "{other:?} depends on threads");
    }
}

#[test]
fn a_planned_learning_rate_ends_near_0_and_rejects_other_plans() {
    let cosine = Recipe { schedule: Curve::Cosine, ..recipe() };
    let saved = with_trainer(cosine.clone(), 2, |mut trainer| {
        let rates: Vec<f64> = (0..4).map(|_| trainer.run_epoch(|_| ()).unwrap().learning_rate).collect();
        assert!(rates.is_sorted_by(|a, b| a > b) && rates[3] < 0.01 * rates[0], "{rates:?}");
        trainer.checkpoint()
    })
    .unwrap();
    let longer = Recipe { epochs: 6, ..cosine.clone() };
    assert_eq!(with_trainer(longer, 2, |mut trainer| trainer.restore(&saved, 6)).unwrap(), Restored::OtherPlan);
    assert_eq!(with_trainer(cosine, 2, |mut trainer| trainer.restore(&saved, 4)).unwrap(), Restored::After(4));
}

#[test]
fn early_stopping_counts_epochs_without_improvement() {
    let record = |accuracy: f64| EpochRecord {
        epoch: 1,
        learning_rate: 1e-3,
        train_loss: 1.0,
        train_accuracy: 0.5,
        validation_loss: Some(1.0),
        validation_accuracy: Some(accuracy),
    };
    with_trainer(Recipe { early_stopping: 2, ..recipe() }, 1, |mut trainer| {
        let mut exhausted = Vec::new();
        for accuracy in [0.5, 0.6, 0.6, 0.5, 0.7, 0.6, 0.6] {
            trainer.history.push(record(accuracy));
            trainer.scores.push(Some(accuracy));
            exhausted.push(trainer.is_exhausted());
        }
        assert_eq!(exhausted, [false, false, false, true, false, false, true]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn nan_weights_are_never_the_best() {
    let one_step = Recipe { batch_size: 1000, ..recipe() };
    with_trainer(one_step, 1, |mut trainer| {
        trainer.run_epoch(|_| ())?;
        trainer.schedule = Schedule::new(1e38);
        let error = trainer.run_epoch(|_| ()).err().unwrap();
        assert!(
            error.message.starts_with("the weights stopped being numbers in epoch 2 with learning rate "),
            "{error}"
        );
        assert!(trainer.diverged());
        assert!(trainer.finish().weights.are_finite().unwrap());
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_best_weights_before_divergence_are_kept() {
    with_trainer(recipe(), 2, |mut trainer| {
        let best = trainer.run_epoch(|_| ())?;
        trainer.schedule = Schedule::new(1e30);
        let error = trainer.run_epoch(|_| ()).err().unwrap();
        assert!(error.message.contains("the worst gradient was not finite in `"), "{error}");
        assert!(trainer.diverged() && trainer.has_best());
        let trained = trainer.finish();
        assert_eq!((trained.epoch, trained.history), (1, vec![best]));
        trained
            .weights
            .with_slices(|slices| assert!(slices.iter().all(|slice| slice.iter().all(|w| w.is_finite()))))
            .unwrap();
        Ok(())
    })
    .unwrap();
}

/// Recipes with options that change the result, each of which must train, resume and not depend on threads.
fn options() -> Vec<(&'static str, Recipe)> {
    use crate::optim::OptimiserKind::{AdamW, Sgd};
    let augment = Augmentation { crop: 0.5, quarter_turns: true, erasing: 0.5, ..Augmentation::default() };
    vec![
        ("adam-w", Recipe { optimiser: AdamW, weight_decay: 0.01, ..recipe() }),
        ("sgd", Recipe { optimiser: Sgd, weight_decay: 1e-4, learning_rate: 1e-2, ..recipe() }),
        ("ema", Recipe { ema: 0.9, ..recipe() }),
        ("logit adjustment", Recipe { logit_adjustment: 1.0, ..recipe() }),
        ("cutmix", Recipe { cutmix: 1.0, ..recipe() }),
        ("cutmix and mixup", Recipe { cutmix: 1.0, mixup: 0.2, ..recipe() }),
        ("augmentation", Recipe { augment: Switch(Some(augment)), ..recipe() }),
        ("balanced accuracy", Recipe { keep_metric: "balanced_accuracy".into(), ..recipe() }),
        ("frozen", Recipe { freeze: vec!["conv1".into(), "conv2".into()], ..recipe() }),
        ("unfreezing", Recipe { unfreeze_epochs: 1, ..recipe() }),
        ("rates", Recipe { rate_factors: [("head".to_owned(), 3.0)].into(), ..recipe() }),
    ]
}

#[test]
fn every_option_changes_the_result_and_resumes_bit_identically() {
    let (_, plain) = train(recipe(), 2, 2).unwrap();
    for (name, recipe) in options() {
        let (_, whole) = train(recipe.clone(), 2, 2).unwrap();
        let has_effect = name != "balanced accuracy";
        assert_eq!(whole != plain, has_effect, "{name}");
        let saved = with_trainer(recipe.clone(), 1, |mut trainer| {
            trainer.run_epoch(|_| ())?;
            trainer.checkpoint()
        });
        let resumed = with_trainer(recipe, 3, |mut trainer| {
            assert_eq!(trainer.restore(&saved?, 9)?, Restored::After(1));
            trainer.run_epoch(|_| ())?;
            crate::card::encode_weights(&trainer.finish().weights)
        });
        assert!(resumed.unwrap() == whole, "{name}");
    }
}

#[test]
fn frozen_layers_keep_their_weights() {
    let recipe = Recipe { freeze: vec!["conv1".into(), "dense1.bias".into()], keep: Keep::Last, ..recipe() };
    let (trained, _) = train(recipe.clone(), 2, 2).unwrap();
    let network = model::find("baseline").unwrap().network(SHAPE, 3).unwrap();
    let first = first_weights(&network, &recipe).unwrap();
    for ((name, before), (_, after)) in first.iter().zip(trained.weights.iter()) {
        let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let is_frozen = name.starts_with("conv1.") || name == "dense1.bias";
        assert_eq!(values(before) == values(after), is_frozen, "{name}");
    }
}

#[test]
fn the_epoch_is_chosen_by_the_metric() {
    for (keep_metric, sign) in [("balanced_accuracy", 1.0), ("log_loss", -1.0)] {
        let (trained, _) = train(Recipe { keep_metric: keep_metric.into(), ..recipe() }, 6, 2).unwrap();
        let score = |epoch: usize| sign * trained.scores[epoch].unwrap();
        let best = (0..6).map(score).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(score(trained.epoch - 1), best, "{keep_metric}: {:?}", trained.scores);
    }
    let (by_loss, _) = train(Recipe { keep_metric: "log_loss".into(), ..recipe() }, 6, 2).unwrap();
    let losses = by_loss.history.iter().map(|record| record.validation_loss.unwrap());
    for (score, loss) in by_loss.scores.iter().zip(losses) {
        assert!((score.unwrap() - loss).abs() < 1e-9, "{score:?} {loss}");
    }
}

#[test]
fn a_checkpoint_of_the_previous_version_is_resumed() {
    let (saved, whole) = with_trainer(recipe(), 2, |mut trainer| {
        trainer.run_epoch(|_| ())?;
        let saved = trainer.checkpoint_of_version_3()?;
        trainer.run_epoch(|_| ())?;
        Ok((saved, trainer.checkpoint()?))
    })
    .unwrap();
    let resumed = with_trainer(recipe(), 2, |mut trainer| {
        assert_eq!(trainer.restore(&saved, 9)?, Restored::After(1));
        trainer.run_epoch(|_| ())?;
        trainer.checkpoint()
    });
    assert!(resumed.unwrap() == whole);
}

#[test]
fn logit_offsets_are_the_logarithms_of_the_shares() {
    let recipe = Recipe { logit_adjustment: 2.0, ..recipe() };
    let offsets = recipe.logit_offsets(&[0, 0, 0, 1], 3);
    for (ours, share) in offsets.iter().zip([0.75f64, 0.25, 0.25]) {
        assert!((f64::from(*ours) - 2.0 * share.ln()).abs() < 1e-6, "{offsets:?}");
    }
    assert!(self::recipe().logit_offsets(&[0, 1], 2).is_empty());
}

#[test]
fn a_single_last_image_joins_the_step_before_with_batch_norm() {
    let network =
        model::find("mobilenet-v2").unwrap().network(MapShape { height: 32, width: 32, channels: 3 }, 3).unwrap();
    let image = vec![7u8; 32 * 32 * 3];
    let sizes = |count: usize| {
        let samples = Samples { images: vec![&image[..]; count], classes: vec![0; count], weights: vec![2.0; count] };
        let data =
            Data { training: samples, validation: Samples::default(), normalisation: Normalisation::shared(0.0, 1.0) };
        let recipe = Recipe { keep: Keep::Last, batch_size: 4, ..recipe() };
        let trainer = Trainer::new(&network, recipe.clone(), data.clone()).unwrap();
        let rates = trainer.rates(count);
        let epoch = Epoch {
            number: 1,
            order: (0..count).collect(),
            rates,
            recipe: &recipe,
            data: &data,
            class_weights: &[0.5; 3],
            logit_offsets: &[],
        };
        let targets: Vec<f64> =
            epoch.steps().flat_map(|step| epoch.targets(step)).map(|target| target.weight).collect();
        assert_eq!(targets, vec![1.0; count], "weights of rows and classes are multiplied");
        epoch.steps().map(|step| step.images.len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(8), [4, 4]);
    assert_eq!(sizes(9), [4, 5]);
    assert_eq!(sizes(10), [4, 4, 2]);
}
