//! The appearance of each class of lesion.

use hamflow_stage_api::Random;

use super::{Lesion, Look, Spot, Texture};

/// The seven classes of HAM10000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diagnosis {
    /// Actinic keratosis: a diffuse patch under coarse pale scales.
    Akiec,
    /// Basal cell carcinoma: a faint disc with a wreath of dark nests, and branching vessels.
    Bcc,
    /// Benign keratosis: a sharp border, many small pale cysts.
    Bkl,
    /// Dermatofibroma: a white scar within a brown ring.
    Df,
    /// Melanoma: a jagged border with streaks, one side darker.
    Mel,
    /// Nevus: round and regular, with a fine network.
    Nv,
    /// Vascular lesion: a cluster of lobules with pale rims.
    Vasc,
}

impl Diagnosis {
    /// Every class, in alphabetical order of its code.
    pub const ALL: [Self; 7] = [Self::Akiec, Self::Bcc, Self::Bkl, Self::Df, Self::Mel, Self::Nv, Self::Vasc];

    /// The class-specific shift of the mean colour: less than the variation within a class, so that it is only a weak cue.
    const fn shift(self) -> [f64; 3] {
        match self {
            Self::Akiec => [4.0, -2.0, -1.0],
            Self::Bcc => [3.0, 0.0, 2.0],
            Self::Bkl => [0.0, 1.0, -2.0],
            Self::Df => [1.0, 2.0, 0.0],
            Self::Mel => [-6.0, -5.0, -3.0],
            Self::Nv => [0.0, 0.0, 0.0],
            Self::Vasc => [4.0, -4.0, 0.0],
        }
    }
}

impl Lesion {
    /// Draws the traits of one lesion at random.
    pub fn new(diagnosis: Diagnosis, random: &mut Random) -> Self {
        // Some lesions of every class are ambiguous.
        let typical = if random.unit() < 0.08 { random.uniform(0.2, 0.5) } else { random.uniform(0.75, 1.0) };
        let mut lesion = Self::plain(diagnosis, random);
        match diagnosis {
            Diagnosis::Akiec => lesion.akiec(typical, random),
            Diagnosis::Bcc => lesion.bcc(typical, random),
            Diagnosis::Bkl => lesion.bkl(typical, random),
            Diagnosis::Df => lesion.df(typical, random),
            Diagnosis::Mel => lesion.mel(typical, random),
            Diagnosis::Nv => lesion.nv(typical, random),
            Diagnosis::Vasc => lesion.vasc(typical, random),
        }
        lesion
    }

    /// A smooth brown disc with the colours that all classes share.
    fn plain(diagnosis: Diagnosis, random: &mut Random) -> Self {
        let mut colour = |center: [f64; 3], light: f64, hue: f64| {
            let light = random.uniform(-light, light);
            center.map(|value| value + light + random.uniform(-hue, hue))
        };
        let tint = colour([120.0, 78.0, 62.0], 25.0, 16.0);
        let skin = colour([205.0, 160.0, 145.0], 18.0, 9.0);
        let mean = colour([172.0, 128.0, 115.0], 24.0, 10.0);
        let shift = diagnosis.shift();
        Self {
            outline: harmonics(2, 0.04, random),
            size: 1.0,
            elongation: random.uniform(1.0, 1.25),
            softness: 0.15,
            cover: 0.9,
            network: Texture::default(),
            scales: Texture::default(),
            asymmetry: 0.0,
            streaks: 0.0,
            spots: Vec::new(),
            vessels: Vec::new(),
            tint,
            skin,
            mean: [0, 1, 2].map(|channel| mean[channel] + shift[channel]),
        }
    }

    fn akiec(&mut self, typical: f64, random: &mut Random) {
        self.size = 1.3;
        self.softness = 0.5;
        self.cover = 0.8;
        self.scales = Texture { strength: typical, period: random.uniform(0.38, 0.5) };
    }

    fn bcc(&mut self, typical: f64, random: &mut Random) {
        self.size = 1.15;
        self.softness = 0.3;
        self.cover = 0.3;
        // A ring of nests: most of eight positions on a circle, with jitter.
        const PLACES: [[f64; 2]; 8] = [
            [1.0, 0.0],
            [0.71, 0.71],
            [0.0, 1.0],
            [-0.71, 0.71],
            [-1.0, 0.0],
            [-0.71, -0.71],
            [0.0, -1.0],
            [0.71, -0.71],
        ];
        for [x, y] in PLACES {
            let ([dx, dy], radius) = (inside(0.12, random), random.uniform(0.2, 0.3));
            if random.unit() < 0.85 {
                let center = [0.78 * x + dx, 0.78 * y + dy];
                self.spots.push(Spot { center, radius, strength: typical, look: Look::Dark });
            }
        }
        for _ in 0..5 {
            let (mut from, mut step) = (inside(1.1, random), inside(0.5, random));
            for _ in 0..4 {
                let to = [from[0] + step[0], from[1] + step[1]];
                self.vessels.push([from, to]);
                let turn = inside(0.35, random);
                step = [step[0] + turn[0], step[1] + turn[1]];
                from = to;
            }
        }
    }

    fn bkl(&mut self, typical: f64, random: &mut Random) {
        self.softness = 0.05;
        self.elongation = random.uniform(1.15, 1.5);
        for _ in 0..16 + random.below(8) {
            let center = inside(0.85, random);
            let radius = random.uniform(0.09, 0.15);
            self.spots.push(Spot { center, radius, strength: 0.95 * typical, look: Look::Pale });
        }
    }

    fn df(&mut self, typical: f64, random: &mut Random) {
        self.size = 0.9;
        self.softness = 0.3;
        self.elongation = random.uniform(1.0, 1.15);
        let center = inside(0.12, random);
        let radius = random.uniform(0.45, 0.58);
        self.spots.push(Spot { center, radius, strength: typical, look: Look::Pale });
    }

    fn mel(&mut self, typical: f64, random: &mut Random) {
        self.softness = 0.06;
        self.outline = harmonics(10, 0.05 + 0.07 * typical, random);
        self.asymmetry = 0.8 * typical;
        self.streaks = 0.8 * typical;
    }

    fn nv(&mut self, typical: f64, random: &mut Random) {
        self.network = Texture { strength: 0.6 * typical, period: random.uniform(0.2, 0.27) };
    }

    fn vasc(&mut self, typical: f64, random: &mut Random) {
        self.size = 1.2;
        self.cover = 0.15 + 0.6 * (1.0 - typical);
        self.softness = 0.3;
        // Lobules with a minimum distance, so that the gaps between them are visible.
        for _ in 0..60 {
            let (center, radius) = (inside(0.95, random), random.uniform(0.24, 0.38));
            let free = |spot: &Spot| {
                let [x, y] = [center[0] - spot.center[0], center[1] - spot.center[1]];
                (x * x + y * y).sqrt() > radius + spot.radius + 0.05
            };
            if self.spots.iter().all(free) {
                self.spots.push(Spot { center, radius, strength: 0.4 + 0.6 * typical, look: Look::Lobule });
            }
        }
    }
}

/// Random amplitudes of the second and later harmonics, decreasing with frequency.
fn harmonics(count: usize, amplitude: f64, random: &mut Random) -> Vec<[f64; 2]> {
    (0..count)
        .map(|i| {
            let size = amplitude / (1.0 + 0.15 * i as f64);
            [random.uniform(-size, size), random.uniform(-size, size)]
        })
        .collect()
}

/// A random point in a disc of this radius.
fn inside(radius: f64, random: &mut Random) -> [f64; 2] {
    loop {
        let [x, y] = [random.uniform(-1.0, 1.0), random.uniform(-1.0, 1.0)];
        if x * x + y * y <= 1.0 {
            return [x * radius, y * radius];
        }
    }
}
