//! Training on images in memory: it learns, it repeats itself to the bit, it stops where the numbers end.

use super::*;
use crate::ml::model;
use crate::ml::shape::MapShape;

const SHAPE: MapShape = MapShape { height: 8, width: 9, channels: 3 };

/// Images of noise with a bright stripe: across, down, or none, by class.
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
    Recipe {
        seed: 5,
        batch_size: 7,
        learning_rate: 2e-3,
        augment: None,
        class_weights: ClassWeights::None,
        plateau: Some(Plateau::default()),
        keep: Keep::Best,
    }
}

/// Lends a trainer of 60 images, with 31 for validation, to `work`.
fn with_trainer<R: Send>(
    recipe: Recipe,
    threads: usize,
    work: impl FnOnce(Trainer<'_>) -> Result<R, StageError> + Send,
) -> Result<R, StageError> {
    let network = Network::new(SHAPE, &(model::find("baseline").unwrap().layers)(3)).unwrap();
    let (training, validation) = (images(60, "training"), images(31, "validation"));
    let samples = |set: &'static str| {
        let (images, classes) = if set == "training" { &training } else { &validation };
        Samples { images: images.iter().map(Vec::as_slice).collect(), classes: classes.clone() }
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
        let bytes = crate::ml::card::encode_weights(&trained.weights)?;
        Ok((trained, bytes))
    })
}

#[test]
fn training_goes_on_from_a_checkpoint_to_the_bit() {
    let recipe = Recipe { augment: Some(Augmentation::default()), ..recipe() };
    let run =
        |trainer: &mut Trainer<'_>, epochs: usize| (0..epochs).try_for_each(|_| trainer.run_epoch(|_| ()).map(|_| ()));
    let (saved, whole) = with_trainer(recipe, 2, |mut trainer| {
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
fn the_number_of_threads_changes_no_byte() {
    let augmented = Recipe { augment: Some(Augmentation::default()), ..recipe() };
    let (expected, bytes) = train(augmented, 2, 1).unwrap();
    for threads in [2, 3, 7] {
        let (trained, other) = train(augmented, 2, threads).unwrap();
        assert!(bytes == other, "{threads} threads");
        assert_eq!(trained.history, expected.history);
    }
    assert!(train(Recipe { seed: 6, ..augmented }, 2, 1).unwrap().1 != bytes);
    assert!(train(recipe(), 2, 1).unwrap().1 != bytes);
}

#[test]
fn the_last_weights_are_kept_where_wanted() {
    let last = Recipe { keep: Keep::Last, ..recipe() };
    let (trained, _) = train(last, 3, 2).unwrap();
    assert_eq!(trained.epoch, 3);
}

#[test]
fn a_loss_that_is_no_number_stops_training_and_names_the_step() {
    let error = train(Recipe { learning_rate: 1e30, ..recipe() }, 2, 2).err().unwrap();
    assert!(error.message.starts_with("the loss became "), "{error}");
    assert!(error.message.contains("at step ") && error.message.contains("learning rate 1"), "{error}");
}

// from sklearn.utils.class_weight import compute_class_weight
// compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 1, 1, 2, 0, 0])
#[test]
fn balanced_weights_are_scikit_learns() {
    let weights = class_weights(ClassWeights::Balanced, &[0, 0, 0, 1, 1, 2, 0, 0], 3);
    assert_eq!(weights, [8.0 / 15.0, 8.0 / 6.0, 8.0 / 3.0]);
    assert_eq!(class_weights(ClassWeights::None, &[0, 1], 2), [1.0, 1.0]);
}
