//! Divides the jobs of a batch among its tasks.

use crate::config::ExecutorOptions;
use crate::exec::executor::Placement;

/// How many jobs a task has: as few as the limit of tasks allows, but enough for the time that a task should take.
pub fn per_task(jobs: usize, limit: usize, placement: &Placement, options: &ExecutorOptions) -> usize {
    let least = jobs.div_ceil(limit.max(1)).max(1);
    let estimate = placement.estimate.filter(|estimate| !estimate.is_zero());
    let wanted = estimate.map_or(1, |estimate| (options.task_time.as_millis() / estimate.as_millis().max(1)) as usize);
    let wanted = match placement.requests.time {
        // A task must end before its time is over: half of it, since jobs differ.
        Some(time) => {
            wanted.min(estimate.map_or(1, |estimate| (time.as_millis() / 2 / estimate.as_millis().max(1)) as usize))
        }
        None => wanted,
    };
    least.max(wanted).min(jobs.max(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Requests;

    #[test]
    fn tasks_take_minutes_and_not_seconds() {
        let options: ExecutorOptions = toml::from_str("kind = \"slurm\"\ntask_time = \"1m\"").unwrap();
        let placement = |estimate: Option<u64>, limit: Option<u64>| Placement {
            estimate: estimate.map(Duration::from_millis),
            requests: Requests { time: limit.map(Duration::from_secs), ..Requests::default() },
            ..Placement::default()
        };
        let per_task = |jobs, limit, placement| per_task(jobs, limit, &placement, &options);
        assert_eq!(per_task(500, 100, placement(None, None)), 5, "nothing is known");
        assert_eq!(per_task(50, 100, placement(None, None)), 1);
        assert_eq!(per_task(500, 100, placement(Some(1000), None)), 60);
        assert_eq!(per_task(500, 2, placement(Some(1000), None)), 250, "as many as there must be");
        assert_eq!(per_task(30, 100, placement(Some(1000), None)), 30, "no more than there are");
        assert_eq!(per_task(500, 100, placement(Some(90_000), None)), 5);
        assert_eq!(per_task(500, 500, placement(Some(1000), Some(60))), 30, "half of the time limit");
    }
}
