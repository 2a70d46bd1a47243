//! Linear scales and round tick values.

/// A linear map from values to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    domain: (f64, f64),
    range: (f64, f64),
}

impl Scale {
    /// Maps `domain` to `range`; an empty domain is widened around its value.
    pub fn new(domain: (f64, f64), range: (f64, f64)) -> Self {
        let (low, high) = domain;
        let domain = if high > low { domain } else { (low - 0.5, low + 0.5) };
        Self { domain, range }
    }

    /// The pixel coordinate of `value`.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value - self.domain.0) / (self.domain.1 - self.domain.0);
        self.range.0 + share * (self.range.1 - self.range.0)
    }
}

/// About `count` round values (1, 2 or 5 times a power of ten apart) that enclose `low` to `high`.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let extent = if high > low { high - low } else { 1.0 };
    let rough = extent / count.max(1) as f64;
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough * 0.999).unwrap_or(10.0) * power;
    let first = libm::floor(low / step + 1e-9);
    let last = libm::ceil((low + extent) / step - 1e-9);
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// The lowest and the highest of some values, a little apart if they are equal. `None` if there are none.
pub fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let ends = values.filter(|value| value.is_finite()).fold(None, |ends: Option<(f64, f64)>, value| {
        Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    });
    ends.map(|(low, high)| {
        let around = (0.05 * low.abs()).max(1e-3);
        if high > low { (low, high) } else { (low - around, high + around) }
    })
}

/// A tick label with as many decimals as the step requires.
pub fn tick_label(value: f64, step: f64) -> String {
    let decimals = if step >= 1.0 { 0 } else { libm::ceil(-libm::log10(step) - 1e-9) as usize };
    let text = format!("{value:.decimals$}");
    if decimals == 0 && value >= 1000.0 {
        return grouped(value as u64);
    }
    if text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.')) { "0".to_owned() } else { text }
}

/// A count with commas between groups of three digits: `10,015`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(0.0, 6705.0, 4), [0.0, 2000.0, 4000.0, 6000.0, 8000.0]);
        assert_eq!(ticks(3.0, 3.0, 2), [3.0, 3.5, 4.0]);
    }

    #[test]
    fn equal_values_have_a_narrow_extent_around_them() {
        assert_eq!(extent([0.2, f64::NAN, 0.6].into_iter()), Some((0.2, 0.6)));
        assert_eq!(extent([0.8, 0.8].into_iter()), Some((0.76, 0.8400000000000001)));
        assert_eq!(extent([0.0].into_iter()), Some((-1e-3, 1e-3)));
        assert_eq!(extent([f64::NAN].into_iter()), None);
    }

    #[test]
    fn tick_labels_have_the_decimals_of_the_step() {
        assert_eq!(tick_label(0.6000000000000001, 0.2), "0.6");
        assert_eq!(tick_label(0.25, 0.05), "0.25");
        assert_eq!(tick_label(2000.0, 1000.0), "2,000");
        assert_eq!(tick_label(-0.0, 0.1), "0");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 10015, 1234567].map(grouped), ["0", "999", "1,000", "10,015", "1,234,567"]);
    }

    #[test]
    fn a_single_value_is_in_the_middle() {
        assert_eq!(Scale::new((1.0, 1.0), (0.0, 100.0)).at(1.0), 50.0);
    }
}
