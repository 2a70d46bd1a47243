//! The cores and memory shared by all jobs of a run.

/// The total cores, and the cores and memory that are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    cores: usize,
    free_cores: usize,
    free_memory: u64,
    /// The number of outstanding grants.
    granted: usize,
}

/// The resources of one job; released when the job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The number of threads that the job was told to use.
    pub threads: usize,
    cores: usize,
    memory: u64,
}

impl Resources {
    /// Creates a pool of cores and of memory in bytes.
    pub fn new(cores: usize, memory: u64) -> Self {
        let cores = cores.max(1);
        Self { cores, free_cores: cores, free_memory: memory, granted: 0 }
    }

    /// Returns the total number of cores.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Returns the number of free cores.
    pub fn free_cores(&self) -> usize {
        self.free_cores
    }

    /// Acquires cores and memory for a job; `None` if they are not free. A job that needs more than the machine has gets what is available
    /// once no other job runs: it may be slow or fail, but never waits forever.
    pub fn acquire(&mut self, threads: usize, memory: u64) -> Option<Grant> {
        let fits = threads <= self.free_cores && memory <= self.free_memory;
        if !fits && self.granted > 0 {
            return None;
        }
        let grant = Grant { threads, cores: threads.min(self.free_cores), memory: memory.min(self.free_memory) };
        self.free_cores -= grant.cores;
        self.free_memory -= grant.memory;
        self.granted += 1;
        Some(grant)
    }

    /// Releases the resources of a job.
    pub fn release(&mut self, grant: Grant) {
        self.free_cores += grant.cores;
        self.free_memory += grant.memory;
        self.granted -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_share_cores_and_memory() {
        let mut resources = Resources::new(4, 100);
        let first = resources.acquire(3, 40).unwrap();
        assert_eq!(resources.acquire(2, 0), None, "no cores");
        assert_eq!(resources.acquire(1, 61), None, "no memory");
        let second = resources.acquire(1, 60).unwrap();
        resources.release(first);
        assert_eq!(resources.acquire(1, 41), None);
        assert!(resources.acquire(3, 40).is_some());
        resources.release(second);
    }

    #[test]
    fn a_job_that_needs_more_than_there_is_runs_alone_and_gives_back_what_it_had() {
        let mut resources = Resources::new(2, 100);
        let small = resources.acquire(1, 10).unwrap();
        assert_eq!(resources.acquire(8, 1000), None);
        resources.release(small);
        let large = resources.acquire(8, 1000).unwrap();
        assert_eq!(large.threads, 8);
        assert_eq!(resources.acquire(1, 0), None, "nothing runs beside it");
        resources.release(large);
        assert_eq!(resources, Resources::new(2, 100));
    }
}
