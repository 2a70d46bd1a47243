//! The time in which a stage was worked on, without the time that it waited for cores, memory or other stages.

use std::time::{Duration, Instant};

/// The union of the times of a stage's jobs, which may run concurrently.
#[derive(Debug, Clone, Default)]
pub struct BusyTime {
    jobs: Vec<(Instant, Instant)>,
}

impl BusyTime {
    /// Adds a job that took `duration` and ended at `end`.
    pub fn add(&mut self, end: Instant, duration: Duration) {
        self.jobs.push((end.checked_sub(duration).unwrap_or(end), end));
    }

    /// The time in which at least one job ran.
    pub fn total(&self) -> Duration {
        let mut jobs = self.jobs.clone();
        jobs.sort_unstable();
        let mut total = Duration::ZERO;
        let mut busy_until = None;
        for (start, end) in jobs {
            let start = busy_until.map_or(start, |until| start.max(until));
            total += end.saturating_duration_since(start);
            busy_until = Some(busy_until.map_or(end, |until: Instant| until.max(end)));
        }
        total
    }

    /// The same in milliseconds.
    pub fn milliseconds(&self) -> u64 {
        milliseconds(self.total())
    }
}

/// A duration in whole milliseconds.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_jobs_count_once_and_pauses_not_at_all() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut time = BusyTime::default();
        assert_eq!(time.total(), Duration::ZERO);
        for (from, to) in [(102, 103), (100, 110), (105, 112), (120, 125), (124, 124)] {
            time.add(at(to), Duration::from_secs(to - from));
        }
        assert_eq!(time.total(), Duration::from_secs(12 + 5));
        assert_eq!(time.milliseconds(), 17_000);
    }
}
