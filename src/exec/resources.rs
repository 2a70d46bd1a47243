//! The cores and the memory that all jobs of a run share.

/// What jobs may have together, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    cores: usize,
    free_cores: usize,
    free_memory: u64,
    /// How many grants are out.
    granted: usize,
}

/// What one job has; given back when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Cores that the job was told to use.
    pub threads: usize,
    cores: usize,
    memory: u64,
}

impl Resources {
    /// So many cores, and so many bytes of memory.
    pub fn new(cores: usize, memory: u64) -> Self {
        let cores = cores.max(1);
        Self { cores, free_cores: cores, free_memory: memory, granted: 0 }
    }

    /// All cores, free or not.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Cores that no job has.
    pub fn free_cores(&self) -> usize {
        self.free_cores
    }

    /// Takes cores and memory for a job; none where they are not free. A job that needs more than the machine has gets what there is as soon
    /// as it is alone: it may be slow or fail, but does not wait without end.
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

    /// Gives back what a job had.
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
