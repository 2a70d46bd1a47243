//! Puts what parts made into the store while other parts are made.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hamflow_stage_api::StageError;

use super::Heard;
use super::commit::{self, FinishedPart, StagedPart, disk_error};
use crate::fs;
use crate::store::Store;

/// A thread that stores finished parts, all that wait with the same few syncs, and says so to whoever hears the workers.
///
/// Waiting for the disk takes longer than making a part, and nobody who could work shall wait for it.
pub struct Committer {
    queue: Option<Sender<FinishedPart>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread; what becomes of the parts goes to `heard`.
    pub fn start(store: &Store, heard: Sender<Heard>) -> Self {
        let (queue, finished) = channel();
        let store = store.clone();
        let thread = std::thread::spawn(move || work(&store, &finished, &heard));
        Self { queue: Some(queue), thread: Some(thread) }
    }

    /// Stores a part soon.
    pub fn add(&self, part: FinishedPart) {
        let queue = self.queue.as_ref().expect("the queue is there until the committer is dropped");
        queue.send(part).expect("the thread ends after the queue");
    }
}

impl Drop for Committer {
    /// Waits until all is stored.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(store: &Store, queue: &Receiver<FinishedPart>, heard: &Sender<Heard>) {
    while let Ok(first) = queue.recv() {
        let waiting = std::iter::once(first).chain(queue.try_iter());
        let staged = waiting.map(|part| (part.job, part.work.clone(), StagedPart::new(part))).collect();
        for (job, outcome) in store_all(store, staged) {
            // Nobody hears it any more where the run has ended.
            let _ = heard.send(Heard::Committed { job, outcome: outcome.map(Box::new) });
        }
    }
}

/// A part of some job, its folder, and what became of it so far.
type Waiting = (u64, PathBuf, Result<StagedPart, StageError>);

/// Stores the parts together, or one by one where that fails: on a full disk, those that fit.
fn store_all(store: &Store, waiting: Vec<Waiting>) -> Vec<(u64, Result<StagedPart, StageError>)> {
    let sound: Vec<&StagedPart> = waiting.iter().filter_map(|(_, _, part)| part.as_ref().ok()).collect();
    let together = commit::parts(store, &sound);
    let stored = |(job, work, part): Waiting| {
        let stored = part.and_then(|part| {
            if together.is_err() {
                commit::parts(store, &[&part])?;
            }
            fs::remove(&work).map_err(|error| disk_error(&error))?;
            Ok(part)
        });
        (job, stored)
    };
    waiting.into_iter().map(stored).collect()
}
