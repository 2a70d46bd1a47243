//! Hair removal as in DullRazor: detects dark thin lines and fills them in from their surroundings.
//!
//! Lee, Ng, Gallagher, Coldman, McLean, "DullRazor: a software approach to hair removal from images", Computers in
//! Biology and Medicine 27 (1997), in the form that is common today: a black-hat transform of the grey image with a
//! cross of 17 pixels, a threshold of 10 (both for images of 600×450), and inpainting. The detected hairs are
//! bit-identical to OpenCV's. The inpainting is simpler than Telea's: from the edge of a hair inwards, each pixel
//! gets the mean of its known neighbours.

use super::Pixels;

/// The width of the cross in pixels, for an image of 600×450.
const CROSS: usize = 17;

/// The minimum black-hat response of a hair.
const THRESHOLD: u8 = 10;

/// Buffers that are reused from image to image.
#[derive(Debug, Default)]
pub struct HairRemover {
    grey: Vec<u8>,
    /// A row with padding on both sides.
    row: Vec<u8>,
    dilated: Vec<u8>,
    closed: Vec<u8>,
    /// The pixels that are still unknown.
    mask: Vec<bool>,
    edge: Vec<usize>,
    filled: Vec<(usize, [u8; 3])>,
}

impl HairRemover {
    /// Removes the hairs of an image.
    pub fn remove(&mut self, image: &mut Pixels) {
        self.find(image);
        self.fill(image);
    }

    /// Marks the pixels that are hair: `closing(grey) − grey > threshold`.
    fn find(&mut self, image: &Pixels) {
        let grey = |pixel: &[u8]| {
            let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
            ((red * 9798 + green * 19235 + blue * 3735 + (1 << 14)) >> 15) as u8
        };
        self.grey.clear();
        self.grey.extend(image.bytes.chunks_exact(3).map(grey));
        cross(&self.grey, image.width, &mut self.row, &mut self.dilated, (0, u8::max));
        cross(&self.dilated, image.width, &mut self.row, &mut self.closed, (255, u8::min));
        self.mask.clear();
        self.mask
            .extend(self.closed.iter().zip(&self.grey).map(|(closed, grey)| closed.saturating_sub(*grey) > THRESHOLD));
    }

    /// Fills in from the edges inwards. An image that consists of hair only is not changed.
    fn fill(&mut self, image: &mut Pixels) {
        let (width, height) = (image.width, image.height);
        let neighbours = |at: usize| {
            let (x, y) = ((at % width) as isize, (at / width) as isize);
            let steps = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)];
            steps.into_iter().filter_map(move |(dx, dy)| {
                let inside = (0..width as isize).contains(&(x + dx)) && (0..height as isize).contains(&(y + dy));
                inside.then(|| (y + dy) as usize * width + (x + dx) as usize)
            })
        };
        self.edge.clear();
        self.edge.extend((0..self.mask.len()).filter(|at| self.mask[*at]));
        while !self.edge.is_empty() {
            self.filled.clear();
            for &at in &self.edge {
                let (mut sums, mut count) = ([0u32; 3], 0);
                for known in neighbours(at).filter(|other| !self.mask[*other]) {
                    for (sum, value) in sums.iter_mut().zip(&image.bytes[known * 3..]) {
                        *sum += u32::from(*value);
                    }
                    count += 1;
                }
                if count > 0 {
                    self.filled.push((at, sums.map(|sum| ((sum + count / 2) / count) as u8)));
                }
            }
            if self.filled.is_empty() {
                return;
            }
            for (at, pixel) in &self.filled {
                image.bytes[at * 3..at * 3 + 3].copy_from_slice(pixel);
                self.mask[*at] = false;
            }
            self.edge.retain(|at| self.mask[*at]);
        }
    }
}

/// The extremum over a cross around each pixel; pixels outside the image count as `neutral`.
fn cross(
    image: &[u8],
    width: usize,
    padded: &mut Vec<u8>,
    target: &mut Vec<u8>,
    (neutral, extreme): (u8, fn(u8, u8) -> u8),
) {
    const REACH: usize = CROSS / 2;
    target.clear();
    target.extend_from_slice(image);
    padded.clear();
    padded.resize(width + 2 * REACH, neutral);
    for (row, target) in image.chunks_exact(width).zip(target.chunks_exact_mut(width)) {
        padded[REACH..REACH + width].copy_from_slice(row);
        for step in 0..CROSS {
            for (value, other) in target.iter_mut().zip(&padded[step..]) {
                *value = extreme(*value, *other);
            }
        }
    }
    let height = image.len() / width;
    for y in 0..height {
        let target = &mut target[y * width..][..width];
        for other in y.saturating_sub(REACH)..(y + REACH + 1).min(height) {
            for (value, other) in target.iter_mut().zip(&image[other * width..]) {
                *value = extreme(*value, *other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skin that gets lighter to the right, with two dark crossing hairs.
    fn skin() -> Pixels {
        let (width, height) = (40, 30);
        let mut bytes = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let hair = x == 12 || y == x / 2 + 5 || y == x / 2 + 6;
                let light = 120 + x as u8;
                bytes.extend(if hair { [40, 30, 25] } else { [light + 40, light, light - 20] });
            }
        }
        Pixels { bytes, ..Pixels::from(image::RgbImage::new(width as u32, height as u32)) }
    }

    // # OpenCV 5.0.0
    // import cv2, numpy as np
    // skin = np.array([[[40, 30, 25] if x == 12 or y in (x // 2 + 5, x // 2 + 6) else [160 + x, 120 + x, 100 + x]
    //                   for x in range(40)] for y in range(30)], dtype=np.uint8)
    // grey = cv2.cvtColor(skin, cv2.COLOR_RGB2GRAY)
    // hat = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, cv2.getStructuringElement(cv2.MORPH_CROSS, (17, 17)))
    // mask = hat > 10
    // print(cv2.__version__, int(mask.sum()), int((mask.ravel() * np.arange(mask.size)).sum()))
    #[test]
    fn the_detected_hairs_match_opencv() {
        let mut remover = HairRemover::default();
        remover.find(&skin());
        let found: Vec<usize> = (0..remover.mask.len()).filter(|at| remover.mask[*at]).collect();
        assert_eq!((found.len(), found.iter().sum::<usize>()), (108, 66376));
    }

    #[test]
    fn hairs_are_filled_in_from_their_surroundings() {
        let mut image = skin();
        HairRemover::default().remove(&mut image);
        for (at, pixel) in image.bytes.chunks_exact(3).enumerate() {
            let light = 120 + at as i32 % 40;
            let difference = (i32::from(pixel[1]) - light).abs();
            assert!(difference <= 3, "pixel {at} differs by {difference}");
        }
    }

    #[test]
    fn an_image_without_hair_is_not_changed() {
        let plain = Pixels::from(image::RgbImage::from_pixel(30, 20, image::Rgb([90; 3])));
        let mut image = plain.clone();
        HairRemover::default().remove(&mut image);
        assert_eq!(image, plain);
    }
}
