//! Transfers from and to a remote. They run on separate threads, so that other stages can proceed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use super::Driver;
use crate::exec::Message;
use crate::exec::event::SchedulerEvent;
use crate::graph::StageId;
use crate::plan::Check;
use crate::store::remote::{Remote, Uploads};
use crate::store::{ActionKey, ActionResult, Store};

/// The remote of a run, with its pending fetches and uploads.
pub struct Sharing {
    remote: Option<Arc<Remote>>,
    uploads: Option<Uploads>,
    fetching: BTreeMap<StageId, (Fetch, JoinHandle<()>)>,
    /// The results that were requested, and whether they were fetched.
    asked: BTreeMap<(StageId, ActionKey), bool>,
}

/// The target of a fetch.
#[derive(Debug, Clone, Copy)]
enum Fetch {
    Result(ActionKey),
    Parts,
}

/// Sends its message when a thread ends, however it ends, so that the driver never waits forever.
struct WhenEnded {
    sender: Sender<Message>,
    stage: StageId,
    found: bool,
}

impl Drop for WhenEnded {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Fetched { stage: self.stage, found: self.found });
    }
}

impl Sharing {
    /// Starts the uploads if the remote is writable.
    pub fn new(remote: Option<Arc<Remote>>, store: &Store) -> Self {
        let uploads = remote.as_ref().and_then(|remote| Uploads::start(remote, store));
        Self { remote, uploads, fetching: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Queues a result for upload.
    pub fn upload(&self, result: &ActionResult) {
        if let Some(uploads) = &self.uploads {
            uploads.add(result);
        }
    }

    /// Whether the result of a stage was fetched from the remote.
    pub fn has_fetched(&self, stage: StageId, key: ActionKey) -> bool {
        self.asked.get(&(stage, key)) == Some(&true)
    }

    /// Forgets the requests for a stage, so that it can be fetched again.
    pub fn forget(&mut self, stage: StageId) {
        self.asked.retain(|(asked, _), _| *asked != stage);
    }

    /// Returns the warning about a failed remote; only once.
    pub fn take_warning(&self) -> Option<String> {
        self.remote.as_ref().and_then(|remote| remote.take_warning())
    }

    /// Starts a fetch on a new thread; returns false if no thread can be started.
    fn start(
        &mut self,
        stage: StageId,
        fetch: Fetch,
        sender: Sender<Message>,
        work: impl FnOnce(&Remote) -> bool + Send + 'static,
    ) -> bool {
        let Some(remote) = self.remote.clone() else { return false };
        let ended = WhenEnded { sender, stage, found: false };
        let work = move || {
            // Move the whole guard into the thread: it reports the thread's end when dropped.
            let mut ended = ended;
            ended.found = work(&remote);
        };
        match std::thread::Builder::new().spawn(work) {
            Ok(thread) => self.fetching.insert(stage, (fetch, thread)).is_none(),
            Err(_) => false,
        }
    }

    /// Whether results are being fetched.
    pub fn is_fetching(&self) -> bool {
        !self.fetching.is_empty()
    }

    /// Makes the remote abort pending fetches and waits for their threads.
    pub fn end_fetches(&mut self) {
        if let Some(remote) = &self.remote
            && !self.fetching.is_empty()
        {
            remote.stop_reading();
        }
        for (_, (_, thread)) in std::mem::take(&mut self.fetching) {
            let _ = thread.join();
        }
    }

    /// Waits for pending uploads and returns the number of results sent. Does not wait if the user interrupted the run.
    pub fn end_uploads(&mut self, interrupted: bool) -> usize {
        let (results, _) = self.uploads.take().map_or((0, 0), |uploads| uploads.finish(interrupted));
        usize::try_from(results).unwrap_or(usize::MAX)
    }
}

impl Driver<'_> {
    /// Fetches the result of a key from the remote.
    pub(super) fn fetch(&mut self, id: StageId, key: ActionKey) -> Option<SchedulerEvent> {
        let store = self.setting.store.clone();
        self.sharing.asked.insert((id, key), false);
        let work = move |remote: &Remote| remote.fetch(&store, &key).is_some();
        let started = self.sharing.start(id, Fetch::Result(key), self.sender.clone(), work);
        (!started).then_some(SchedulerEvent::Fetched(id))
    }

    /// Fetches the parts of a stage that are not in the store.
    pub(super) fn fetch_parts(&mut self, id: StageId) -> Option<SchedulerEvent> {
        let mut work = self.stages.remove(&id)?;
        let absent = self.find_parts(id, &mut work);
        self.stages.insert(id, work);
        let absent = match absent {
            Ok(absent) => absent,
            Err(error) => return Some(SchedulerEvent::Prepared(id, Err(error))),
        };
        let store = self.setting.store.clone();
        let ask = move |remote: &Remote| {
            remote.fetch_all(&store, &absent);
            false
        };
        let started = self.sharing.start(id, Fetch::Parts, self.sender.clone(), ask);
        if started { None } else { self.parts_fetched(id) }
    }

    fn parts_fetched(&mut self, id: StageId) -> Option<SchedulerEvent> {
        let mut work = self.stages.remove(&id)?;
        let prepared = self.find_parts(id, &mut work).map(|_| work.prepared());
        self.stages.insert(id, work);
        Some(SchedulerEvent::Prepared(id, prepared))
    }

    /// Continues with a stage whose fetch has ended.
    pub(super) fn fetched(&mut self, id: StageId, found: bool) -> Option<SchedulerEvent> {
        self.tell_of_remote();
        let (fetch, thread) = self.sharing.fetching.remove(&id)?;
        let _ = thread.join();
        match fetch {
            Fetch::Parts => self.parts_fetched(id),
            Fetch::Result(key) => {
                self.sharing.asked.insert((id, key), found);
                Some(SchedulerEvent::Fetched(id))
            }
        }
    }

    /// Emits the warning about a failed remote; only once.
    pub(in crate::exec) fn tell_of_remote(&mut self) {
        if let Some(message) = self.sharing.take_warning() {
            let message = self.report.redactor.redact(&message).into_owned();
            self.warn(None, message);
        }
    }

    /// Warns that a result differs from what this machine would have built.
    pub(super) fn tell_of_device(&mut self, id: StageId, check: &Check) {
        if let Some(elsewhere) = self.planner.made_elsewhere(id, check) {
            self.warn(Some(id), format!("its result was {elsewhere} (`--force` recomputes it here)"));
        }
    }
}
