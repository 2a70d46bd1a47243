//! The estimated remaining time of a job, as text.

/// Formats a number of seconds, rounded up: `90 s left`, `38 min left`, `2.5 h left`.
pub fn remaining_time(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        seconds @ 0..120 => format!("{seconds} s left"),
        seconds @ 120..7200 => format!("{} min left", seconds.div_ceil(60)),
        seconds => format!("{:.1} h left", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_depend_on_the_magnitude() {
        let texts = [0.0, 119.5, 120.5, 7199.5, 9000.0].map(remaining_time);
        assert_eq!(texts, ["0 s left", "2 min left", "3 min left", "2.0 h left", "2.5 h left"]);
    }
}
