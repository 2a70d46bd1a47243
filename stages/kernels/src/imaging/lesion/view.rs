//! Renders one image of a lesion.

use std::f64::consts::TAU;

use hamflow_stage_api::Random;
use image::{Rgb, RgbImage};

use super::{Lesion, Look, Texture};

/// The camera pose.
struct Pose {
    cosine: f64,
    sine: f64,
    center: [f64; 2],
    /// Pixels per radius of the lesion.
    unit: f64,
    mirrored: bool,
}

/// The effect of the lesion on the skin at one point.
struct Shade {
    cover: f64,
    dark: f64,
    pale: f64,
    red: f64,
}

impl Lesion {
    /// Renders one view with random rotation, shift, scale and lighting, some hairs and noise.
    ///
    /// The pixels depend only on the lesion, the size and `random`, on every machine.
    pub fn view(&self, width: u32, height: u32, random: &mut Random) -> RgbImage {
        let pose = Pose::new(width, height, self.size, random);
        let patches = Patches::new(random);
        let mut pixels = Vec::with_capacity((width * height) as usize);
        for y in 0..height {
            for x in 0..width {
                let uneven = patches.at(f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
                let skin = self.skin.map(|value| value + 9.0 * uneven);
                let [u, v] = pose.to_lesion(x, y);
                pixels.push(self.colour(&self.shade(u, v), skin));
            }
        }
        for _ in 0..random.below(3) {
            draw_hair(&mut pixels, width, height, random);
        }
        self.expose(&mut pixels, random);
        RgbImage::from_fn(width, height, |x, y| Rgb(pixels[(y * width + x) as usize].map(|value| value as u8)))
    }

    fn colour(&self, shade: &Shade, skin: [f64; 3]) -> [f64; 3] {
        const WHITE: [f64; 3] = [240.0, 222.0, 214.0];
        const RED: [f64; 3] = [150.0, 45.0, 50.0];
        [0, 1, 2].map(|channel| {
            let mut value = skin[channel] + shade.cover * (self.tint[channel] - skin[channel]);
            value *= 1.0 - 0.7 * shade.dark;
            value += shade.red * (RED[channel] - value);
            value + shade.pale * (WHITE[channel] - value)
        })
    }

    fn shade(&self, u: f64, v: f64) -> Shade {
        let mut shade = Shade { cover: 0.0, dark: 0.0, pale: 0.0, red: 0.0 };
        let radius = (u * u * self.elongation + v * v / self.elongation).sqrt();
        // Nothing extends beyond this radius.
        if radius > 2.0 {
            return shade;
        }
        let (border, streak) = self.border(u, v);
        let inside = ramp((border - radius) / self.softness + 0.5);
        shade.cover = self.cover * inside;
        shade.dark = inside * self.network.strength * net(u, v, self.network);
        shade.dark += inside * self.asymmetry * ramp(0.5 + 0.9 * u);
        if self.streaks > 0.0 {
            shade.dark += inside * self.streaks * streak * ramp(3.0 * (radius - 0.6));
        }
        shade.pale = inside * self.scales.strength * bands(u, v, self.scales);
        for spot in &self.spots {
            let [x, y] = [u - spot.center[0], v - spot.center[1]];
            let square = x * x + y * y;
            let reach = spot.radius + 0.2;
            if square > reach * reach {
                continue;
            }
            let edge = spot.radius - square.sqrt();
            let amount = spot.strength * ramp(edge / 0.08 + 0.5);
            match spot.look {
                Look::Dark => shade.dark = shade.dark.max(amount),
                Look::Pale => shade.pale = shade.pale.max(amount * inside),
                Look::Lobule => {
                    shade.cover = shade.cover.max(amount);
                    shade.pale = shade.pale.max(spot.strength * ramp(1.5 - (edge + 0.08).abs() / 0.06));
                }
            }
        }
        for [from, to] in &self.vessels {
            shade.red = shade.red.max(0.8 * ramp(1.5 - distance([u, v], *from, *to) / 0.045));
        }
        shade.dark = shade.dark.min(1.0);
        shade
    }

    /// The outline's radius in the direction of a point, and the strength of the streak there.
    fn border(&self, u: f64, v: f64) -> (f64, f64) {
        let length = (u * u + v * v).sqrt().max(1e-9);
        let (cosine, sine) = (u / length, v / length);
        let mut radius = 1.0;
        // The powers of a unit complex number are the cosines and sines of the angle's multiples.
        let (mut c, mut s) = (cosine, sine);
        for [a, b] in &self.outline {
            (c, s) = (c * cosine - s * sine, c * sine + s * cosine);
            radius += a * c + b * s;
        }
        let (mut c, mut s) = (cosine, sine);
        for _ in 0..4 {
            (c, s) = (c * c - s * s, 2.0 * c * s);
        }
        (radius, ramp(0.5 + 1.5 * c))
    }

    /// Applies the mean colour, a lighting gradient, and noise; clamps values to a byte.
    fn expose(&self, pixels: &mut [[f64; 3]], random: &mut Random) {
        let count = pixels.len() as f64;
        let light = random.uniform(-8.0, 8.0);
        let shift = [0, 1, 2].map(|channel| {
            let sum: f64 = pixels.iter().map(|pixel| pixel[channel]).sum();
            self.mean[channel] + light + random.uniform(-4.0, 4.0) - sum / count
        });
        for pixel in pixels {
            let noise = random.next_u64().to_le_bytes();
            let grain = f64::from(noise[0]) + f64::from(noise[1]) - 255.0;
            for channel in 0..3 {
                let value =
                    pixel[channel] + shift[channel] + grain / 32.0 + (f64::from(noise[2 + channel]) - 127.5) / 48.0;
                pixel[channel] = (value + 0.5).clamp(0.0, 255.0);
            }
        }
    }
}

impl Pose {
    fn new(width: u32, height: u32, size: f64, random: &mut Random) -> Self {
        let angle = random.uniform(0.0, TAU);
        let (width, height) = (f64::from(width), f64::from(height));
        let small = width.min(height);
        Self {
            cosine: libm::cos(angle),
            sine: libm::sin(angle),
            center: [
                width / 2.0 + small * random.uniform(-0.09, 0.09),
                height / 2.0 + small * random.uniform(-0.06, 0.06),
            ],
            unit: small * size * random.uniform(0.31, 0.37),
            mirrored: random.below(2) == 1,
        }
    }

    fn to_lesion(&self, x: u32, y: u32) -> [f64; 2] {
        let x = (f64::from(x) + 0.5 - self.center[0]) / self.unit;
        let y = (f64::from(y) + 0.5 - self.center[1]) / self.unit;
        let y = if self.mirrored { -y } else { y };
        [x * self.cosine - y * self.sine, x * self.sine + y * self.cosine]
    }
}

/// A linear ramp from 0 to 1, clamped outside.
fn ramp(x: f64) -> f64 {
    x.clamp(0.0, 1.0)
}

/// The distance from the middle of a period, from 0 to 1.
fn wave(x: f64, period: f64) -> f64 {
    let x = x / period;
    2.0 * (x - x.floor() - 0.5).abs()
}

/// A network of dark lines: 1 on a line, 0 in a mesh.
fn net(u: f64, v: f64, texture: Texture) -> f64 {
    if texture.strength == 0.0 {
        return 0.0;
    }
    let line = wave(u, texture.period).max(wave(v, texture.period));
    ramp((line - 0.45) * 3.0)
}

/// Pale winding bands.
fn bands(u: f64, v: f64, texture: Texture) -> f64 {
    if texture.strength == 0.0 {
        return 0.0;
    }
    let swing = wave(v, 0.9);
    let bent = u + 0.15 * swing * swing * (3.0 - 2.0 * swing);
    ramp((wave(bent, texture.period) - 0.4) * 4.0)
}

fn distance(point: [f64; 2], from: [f64; 2], to: [f64; 2]) -> f64 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let off = [point[0] - from[0], point[1] - from[1]];
    let length = (along[0] * along[0] + along[1] * along[1]).max(1e-9);
    let t = ramp((off[0] * along[0] + off[1] * along[1]) / length);
    let [x, y] = [off[0] - t * along[0], off[1] - t * along[1]];
    (x * x + y * y).sqrt()
}

/// Low-frequency variations of the skin's lightness, between −1 and 1.
struct Patches([[f64; Patches::COLUMNS + 1]; Patches::ROWS + 1]);

impl Patches {
    const COLUMNS: usize = 12;
    const ROWS: usize = 9;

    fn new(random: &mut Random) -> Self {
        let mut values = [[0.0; Self::COLUMNS + 1]; Self::ROWS + 1];
        values.as_flattened_mut().fill_with(|| random.uniform(-1.0, 1.0));
        Self(values)
    }

    /// The value at a position, both coordinates in [0, 1).
    fn at(&self, x: f64, y: f64) -> f64 {
        let (x, y) = (x * Self::COLUMNS as f64, y * Self::ROWS as f64);
        let (column, row) = (x as usize, y as usize);
        let (x, y) = (x - column as f64, y - row as f64);
        let across = |row: usize| self.0[row][column] * (1.0 - x) + self.0[row][column + 1] * x;
        across(row) * (1.0 - y) + across(row + 1) * y
    }
}

/// Draws a dark curved line between two points.
fn draw_hair(pixels: &mut [[f64; 3]], width: u32, height: u32, random: &mut Random) {
    let mut point = |low: f64, high: f64| {
        [random.uniform(low, high) * f64::from(width), random.uniform(low, high) * f64::from(height)]
    };
    let [from, to, bow] = [point(0.0, 1.0), point(0.0, 1.0), point(-0.15, 0.15)];
    let bend = [0, 1].map(|axis| f64::midpoint(from[axis], to[axis]) + bow[axis]);
    let steps = 2 * (width + height);
    for step in 0..steps {
        let t = f64::from(step) / f64::from(steps);
        let place =
            [0, 1].map(|axis| (1.0 - t) * (1.0 - t) * from[axis] + 2.0 * t * (1.0 - t) * bend[axis] + t * t * to[axis]);
        let (x, y) = ((place[0] as u32).min(width - 1), (place[1] as u32).min(height - 1));
        pixels[(y * width + x) as usize] = [70.0, 50.0, 45.0];
    }
}
