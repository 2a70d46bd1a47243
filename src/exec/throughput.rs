//! Progress and throughput of a split stage, measured in the files that its parts read.

use std::time::Duration;

use hamflow_stage_api::{Inputs, Part, remaining_time};

/// A number of files and their total size in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Amount {
    /// The amount of work of a part.
    pub(super) fn of(part: &Part, inputs: &Inputs) -> Self {
        let mut amount = Self::default();
        for (port, indices) in &part.files {
            let Some(input) = inputs.0.get(port).and_then(|inputs| inputs.first()) else { continue };
            let files = indices.iter().filter_map(|index| input.files.get(*index as usize));
            amount = files.fold(amount, |sum, file| sum + Self { files: 1, bytes: file.digest.size() });
        }
        match part.amount {
            // Such parts read the same bytes again, so their size says nothing.
            Some(files) => Self { files, bytes: 0 },
            None => amount,
        }
    }
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { files: self.files + other.files, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |sum, amount| sum + amount)
    }
}

/// Formats the throughput and the estimated remaining time: `560 images/s, 154.0 MB/s, 15 s left`. Empty if nothing has run yet.
pub(super) fn rate(ran: Amount, files_left: u64, elapsed: Duration, unit: &str) -> String {
    let seconds = elapsed.as_secs_f64();
    if ran.files == 0 || seconds <= 0.0 {
        return String::new();
    }
    let per_second = ran.files as f64 / seconds;
    let left = remaining_time(files_left as f64 / per_second);
    let rate = match per_second {
        slow if slow < 10.0 => format!("{slow:.2} {unit}/s"),
        fast => format!("{fast:.0} {unit}/s"),
    };
    // Parts that count their own amounts of work have no bytes.
    match ran.bytes {
        0 => format!("{rate}, {left}"),
        bytes => format!("{rate}, {:.1} MB/s, {left}", bytes as f64 / 1e6 / seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_what_ran() {
        let ran = Amount { files: 1120, bytes: 308_000_000 };
        let said = rate(ran, 8895, Duration::from_secs(2), "images");
        assert_eq!(said, "560 images/s, 154.0 MB/s, 16 s left");
        assert!(rate(ran, 5_000_000, Duration::from_secs(2), "files").ends_with("2.5 h left"));
        let epochs = Amount { files: 3, bytes: 0 };
        assert_eq!(rate(epochs, 6, Duration::from_secs(10), "epochs"), "0.30 epochs/s, 20 s left");
        assert_eq!(rate(Amount::default(), 8895, Duration::from_secs(2), "images"), "");
    }
}
