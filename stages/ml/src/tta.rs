//! Test-time augmentation: the mean of the probabilities over flips and quarter turns of an image.

use crate::augment::Draw;

/// The numbers of views that are possible: the image; with its horizontal flip; with both flips and the half turn; with
/// the quarter turns of all of these.
pub const VIEW_COUNTS: [usize; 4] = [1, 2, 4, 8];

/// The views of an image, the image itself first. Quarter turns of an image that is not square are stretched to its frame.
pub fn views(count: usize) -> impl Iterator<Item = Draw> {
    let all = [0, 1].into_iter().flat_map(|quarter_turns| {
        let flips = [[false, false], [false, true], [true, false], [true, true]];
        flips.map(|flip| Draw { quarter_turns, flip, ..Draw::NONE })
    });
    all.take(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Affine;
    use hamflow_kernels::shape::MapShape;

    #[test]
    fn eight_views_are_the_symmetries_of_a_square() {
        let shape = MapShape { height: 3, width: 3, channels: 1 };
        let image: Vec<u8> = (0..9).collect();
        let table = [std::array::from_fn(|i| i as f32); 3];
        let mut seen: Vec<Vec<u32>> = views(8)
            .map(|draw| {
                let mut output = vec![0.0; 9];
                Affine::new(&draw, shape).apply(shape, &image, &table, &mut output);
                output.iter().map(|value| value.round() as u32).collect()
            })
            .collect();
        assert_eq!(seen[0], (0..9).collect::<Vec<u32>>());
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 8, "{seen:?}");
        assert!(seen.iter().all(|view| view[4] == 4), "the centre stays");
        for count in VIEW_COUNTS {
            assert_eq!(views(count).count(), count);
        }
    }
}
