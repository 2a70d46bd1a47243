//! Colour constancy.

/// The Minkowski norm that Barata et al. found best for dermoscopy images.
const NORM: i32 = 6;

/// Shades of grey: estimates the illuminant as the Minkowski mean of each channel and divides it out.
///
/// `e(c) = (mean I(c)^p)^(1/p)`, scaled to unit length; every value is multiplied by `1 / (√3 e(c))` and clamped to 255
/// (Finlayson, Trezzi, "Shades of gray and colour constancy", CIC 2004; for dermoscopy with p = 6: Barata, Celebi, Marques,
/// "Improving dermoscopy image classification using color constancy", IEEE JBHI 2015). An image with a channel that is 0
/// everywhere is not changed.
pub fn shades_of_grey(pixels: &mut [u8]) {
    let mut counts = [[0u64; 256]; 3];
    for pixel in pixels.chunks_exact(3) {
        for (counts, value) in counts.iter_mut().zip(pixel) {
            counts[usize::from(*value)] += 1;
        }
    }
    let count = (pixels.len() / 3) as f64;
    let light = counts.map(|counts| {
        let sum: f64 = counts.iter().zip(0u32..).map(|(count, value)| *count as f64 * power(value)).sum();
        libm::pow(sum / count, 1.0 / f64::from(NORM))
    });
    let length = (light[0] * light[0] + light[1] * light[1] + light[2] * light[2]).sqrt();
    if light.contains(&0.0) {
        return;
    }
    let tables = light.map(|light| {
        let gain = length / (3.0f64.sqrt() * light);
        std::array::from_fn::<u8, 256, _>(|value| (value as f64 * gain + 0.5).min(255.0) as u8)
    });
    for pixel in pixels.chunks_exact_mut(3) {
        for (value, table) in pixel.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
}

/// The sixth power, which an f64 represents exactly.
fn power(value: u32) -> f64 {
    u64::from(value).pow(NORM.unsigned_abs()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np
    // image = np.array([[(x * 7 + y * 3) % 256, (x * 2 + y * 5) % 180, (x + y) % 90] for y in range(9) for x in range(11)], dtype=float)
    // light = np.mean(image ** 6, axis=0) ** (1 / 6)
    // light /= np.linalg.norm(light)
    // out = np.minimum(np.floor(image / (light * np.sqrt(3)) + 0.5), 255).astype(int)
    // print(out[:6].ravel().tolist(), int(out.sum()), int((out * np.arange(out.size).reshape(out.shape)).sum()))
    #[test]
    fn the_values_match_numpy() {
        let mut pixels: Vec<u8> = (0..99)
            .flat_map(|i| {
                let (x, y) = (i % 11, i / 11);
                [(x * 7 + y * 3) % 256, (x * 2 + y * 5) % 180, (x + y) % 90].map(|value: u32| value as u8)
            })
            .collect();
        shades_of_grey(&mut pixels);
        let sum: u64 = pixels.iter().map(|value| u64::from(*value)).sum();
        let weighted: u64 = pixels.iter().zip(0u64..).map(|(value, i)| u64::from(*value) * i).sum();
        assert_eq!(pixels[..18], [0, 0, 0, 5, 2, 4, 10, 4, 7, 15, 7, 11, 19, 9, 15, 24, 11, 19]);
        assert_eq!((sum, weighted), (9778, 1724305));
    }

    #[test]
    fn grey_images_and_empty_channels_are_not_changed() {
        let mut grey: Vec<u8> = (0..60u8).flat_map(|value| [value; 3]).collect();
        let before = grey.clone();
        shades_of_grey(&mut grey);
        assert_eq!(grey, before);
        let mut dark = vec![0, 0, 0, 5, 0, 0];
        shades_of_grey(&mut dark);
        assert_eq!(dark, [0, 0, 0, 5, 0, 0]);
    }
}
