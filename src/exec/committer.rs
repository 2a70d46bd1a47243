//! Stores the outputs of parts, and copies them for `out/`, while other parts run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hamflow_stage_api::StageError;

use super::Message;
use super::commit::{self, FinishedPart, StagedPart};
use crate::fs::{self, disk_error};
use crate::store::Store;

/// Maximum number of parts that are stored together.
const TOGETHER: usize = 16;

/// Maximum time a part waits for others. Parts that are not stored are lost if the run is killed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A thread that stores finished parts in batches with shared syncs, and sends the outcomes to the run.
///
/// Syncing may take longer than running a part, so workers must not wait for it.
pub struct Committer {
    queue: Option<Sender<Word>>,
    thread: Option<JoinHandle<()>>,
    copying: Arc<AtomicBool>,
}

/// A request to the thread.
enum Word {
    /// Store a part.
    Part(Box<FinishedPart>),
    /// Store the pending parts now.
    Now,
}

impl Committer {
    /// Starts the thread, which sends the outcomes to `heard`.
    pub fn start(store: &Store, heard: Sender<Message>) -> Self {
        let (queue, words) = channel();
        let store = store.clone();
        let copying = Arc::new(AtomicBool::new(true));
        let wanted = Arc::clone(&copying);
        let thread = std::thread::spawn(move || work(&store, &words, &heard, &wanted));
        Self { queue: Some(queue), thread: Some(thread), copying }
    }

    /// Stops making copies for `out/`; parts are still stored.
    pub fn stop_copying(&self) {
        self.copying.store(false, Ordering::Relaxed);
    }

    /// Queues a part.
    pub fn add(&self, part: FinishedPart) {
        self.say(Word::Part(Box::new(part)));
    }

    /// Stores the queued parts without waiting for more.
    pub fn flush(&self) {
        self.say(Word::Now);
    }

    fn say(&self, word: Word) {
        let queue = self.queue.as_ref().expect("the queue is there until the committer is dropped");
        queue.send(word).expect("the thread ends after the queue");
    }
}

impl Drop for Committer {
    /// Waits until all queued parts are stored.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(store: &Store, words: &Receiver<Word>, heard: &Sender<Message>, copying: &AtomicBool) {
    let stage = |mut part: FinishedPart| -> Waiting {
        part.copies = part.copies.filter(|_| copying.load(Ordering::Relaxed));
        (part.job, part.work.clone(), StagedPart::new(part))
    };
    while let Ok(word) = words.recv() {
        let Word::Part(first) = word else { continue };
        let until = Instant::now() + LONGEST_WAIT;
        let mut staged = vec![stage(*first)];
        while staged.len() < TOGETHER
            && let Ok(Word::Part(part)) = words.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            // Hash and copy immediately, while the files are in the page cache.
            staged.push(stage(*part));
        }
        for (job, outcome) in store_all(store, staged) {
            // The receiver is gone if the run has ended.
            let _ = heard.send(Message::PartStored { job, outcome: outcome.map(Box::new) });
        }
    }
}

/// The job of a part, its work directory, and the staged part or its error.
type Waiting = (u64, PathBuf, Result<StagedPart, StageError>);

/// Stores the parts together, or one by one if that fails, so that those that fit on a full disk are stored.
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

#[cfg(test)]
mod tests {
    use hamflow_stage_api::{ArtifactType, Output};
    use serde_json::Value;

    use super::*;
    use crate::digest::Digest;
    use crate::out::PartCopies;
    use crate::store::ActionKey;

    #[test]
    fn what_parts_add_to_an_output_is_copied_until_nothing_more_will_be_laid_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.create().unwrap();
        let (sender, heard) = channel();
        let committer = Committer::start(&store, sender);
        let outputs = vec![Output {
            name: "pieces".to_owned(),
            artifact_type: ArtifactType::FOLDER,
            path: "pieces".to_owned(),
            from_parts: true,
            measured: false,
            headline: &[],
        }];
        let below = folder.path();
        std::fs::write(below.join("probe"), "bytes").unwrap();
        let can_share = fs::share(&below.join("probe"), &below.join("shared")).unwrap();
        for (job, sharing) in [(0, false), (1, true), (2, false)] {
            let work = below.join(format!("job-{job}"));
            std::fs::create_dir_all(work.join("output/pieces")).unwrap();
            std::fs::write(work.join("output/pieces/file"), "bytes").unwrap();
            std::fs::write(work.join("output/other"), "for the merge").unwrap();
            let copies =
                Some(PartCopies { folder: below.join(format!("copies-{job}")), sharing, outputs: outputs.clone() });
            let (key, flaws) = (ActionKey::of(&job.to_string()), Vec::new());
            committer.add(FinishedPart { job, key, fingerprint: Value::Null, work, copies, flaws, cost_ms: 1 });
            committer.flush();
            let Ok(Message::PartStored { outcome: Ok(part), .. }) = heard.recv() else { panic!("the part is sound") };
            let is_copied = job == 0 || (job == 1 && can_share);
            let copy = (crate::fs::RelativePath::new("pieces/file").unwrap(), Digest::of(b"bytes"));
            assert_eq!(part.copied, is_copied.then_some(copy).into_iter().collect());
            assert_eq!(below.join(format!("copies-{job}/pieces/file")).exists(), is_copied);
            assert_eq!(part.files["other"], Digest::of(b"for the merge"));
            if job == 1 {
                committer.stop_copying();
            }
        }
        assert_eq!(std::fs::read(below.join("copies-0/pieces/file")).unwrap(), b"bytes");
        assert!(!below.join("copies-0/other").exists());
    }

    #[test]
    fn of_several_parts_only_the_bad_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.create().unwrap();
        let key = |job: u64| ActionKey::of(&job.to_string());
        let work = |job: u64| folder.path().join(format!("job-{job}"));
        let (sender, heard) = channel();
        let committer = Committer::start(&store, sender);
        for job in 0..5 {
            // One part has no output directory.
            if job != 1 {
                std::fs::create_dir_all(work(job).join("output")).unwrap();
                std::fs::write(work(job).join("output/file"), job.to_string()).unwrap();
            }
            let (key, work, flaws) = (key(job), work(job), Vec::new());
            committer.add(FinishedPart { job, key, fingerprint: Value::Null, work, copies: None, flaws, cost_ms: 1 });
        }
        committer.flush();
        drop(committer);
        let mut jobs = Vec::new();
        for word in heard {
            let Message::PartStored { job, outcome } = word else { panic!("nobody else speaks") };
            assert_eq!(outcome.is_ok(), job != 1, "{outcome:?}");
            jobs.push(job);
            let Ok(part) = outcome else { continue };
            assert_eq!(store.content.read(&part.files["file"]), Some(job.to_string().into_bytes()));
            assert_eq!(store.actions.get(&key(job)), Some(part.result));
            assert!(!work(job).exists());
        }
        assert_eq!(jobs, [0, 1, 2, 3, 4]);
    }
}
