//! Background uploads of results to a remote.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::Remote;
use crate::store::{ActionResult, Store};

/// Number of results that are uploaded at the same time. Each upload sends several blobs concurrently.
const UPLOAD_WORKERS: usize = 2;

/// A queue of results to upload, and its worker threads.
pub struct Uploads {
    remote: Arc<Remote>,
    queue: Option<Sender<ActionResult>>,
    senders: Vec<JoinHandle<()>>,
    results: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Uploads {
    /// Starts the threads; `None` if the remote is read-only.
    pub fn start(remote: &Arc<Remote>, store: &Store) -> Option<Self> {
        remote.can_write().ok()?;
        let (queue, results_to_send) = channel();
        let results_to_send = Arc::new(Mutex::new(results_to_send));
        let (results, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let send = || {
            let (remote, store, queue) = (Arc::clone(remote), store.clone(), Arc::clone(&results_to_send));
            let (results, bytes) = (Arc::clone(&results), Arc::clone(&bytes));
            std::thread::spawn(move || {
                while let Some(result) = next(&queue) {
                    if let Some(sent) = remote.push(&store, &result) {
                        results.fetch_add(1, Ordering::Relaxed);
                        bytes.fetch_add(sent, Ordering::Relaxed);
                    }
                }
            })
        };
        let senders = (0..UPLOAD_WORKERS).map(|_| send()).collect();
        Some(Self { remote: Arc::clone(remote), queue: Some(queue), senders, results, bytes })
    }

    /// Queues a result for upload.
    pub fn add(&self, result: &ActionResult) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(result.clone());
        }
    }

    /// Waits for all uploads, or aborts them if the run was interrupted. Returns the number of results and bytes that were uploaded.
    pub fn finish(mut self, interrupted: bool) -> (u64, u64) {
        if interrupted {
            self.remote.abort();
        }
        self.queue = None;
        for sender in self.senders.drain(..) {
            let _ = sender.join();
        }
        (self.results.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

fn next(queue: &Mutex<Receiver<ActionResult>>) -> Option<ActionResult> {
    queue.lock().ok()?.recv().ok()
}
