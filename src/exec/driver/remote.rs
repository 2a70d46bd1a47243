//! What a run gets from a remote and gives to it, on threads of their own: other stages go on meanwhile.

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

/// The remote of a run, what is on its way from it, and what on its way to it.
pub struct Sharing {
    remote: Option<Arc<Remote>>,
    uploads: Option<Uploads>,
    fetching: BTreeMap<StageId, (Fetch, JoinHandle<()>)>,
    /// The results that were asked for, and whether they came.
    asked: BTreeMap<(StageId, ActionKey), bool>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Fetch {
    Result(ActionKey),
    Parts,
}

/// Sends its message when a thread ends, however it ends: nobody shall wait for it without end.
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
    /// Starts the uploads, where the remote may be written to.
    pub fn new(remote: Option<Arc<Remote>>, store: &Store) -> Self {
        let uploads = remote.as_ref().and_then(|remote| Uploads::start(remote, store));
        Self { remote, uploads, fetching: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// Sends a result when its turn comes.
    pub fn upload(&self, result: &ActionResult) {
        if let Some(uploads) = &self.uploads {
            uploads.add(result);
        }
    }

    /// Whether the result of a stage came from the remote.
    pub fn has_fetched(&self, stage: StageId, key: ActionKey) -> bool {
        self.asked.get(&(stage, key)) == Some(&true)
    }

    /// The remote may be asked for a stage again.
    pub fn forget(&mut self, stage: StageId) {
        self.asked.retain(|(asked, _), _| *asked != stage);
    }

    /// What went wrong with the remote, once.
    pub fn take_warning(&self) -> Option<String> {
        self.remote.as_ref().and_then(|remote| remote.take_warning())
    }

    /// Asks on a thread; false where none can be started.
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
            // All of it: what says that the thread has ended belongs to the thread.
            let mut ended = ended;
            ended.found = work(&remote);
        };
        match std::thread::Builder::new().spawn(work) {
            Ok(thread) => self.fetching.insert(stage, (fetch, thread)).is_none(),
            Err(_) => false,
        }
    }

    /// Waits for what is still asked, which the remote gives up at once.
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

    /// Waits for what is still on its way to the remote, and returns how many results were sent; where the user ended the run, waits for
    /// nothing.
    pub fn end_uploads(&mut self, interrupted: bool) -> usize {
        let (results, _) = self.uploads.take().map_or((0, 0), |uploads| uploads.finish(interrupted));
        usize::try_from(results).unwrap_or(usize::MAX)
    }
}

impl Driver<'_> {
    /// Asks the remote for the result of a key.
    pub(super) fn fetch(&mut self, id: StageId, key: ActionKey) -> Option<SchedulerEvent> {
        let store = self.setting.store.clone();
        self.sharing.asked.insert((id, key), false);
        let work = move |remote: &Remote| remote.fetch(&store, &key).is_some();
        let started = self.sharing.start(id, Fetch::Result(key), self.sender.clone(), work);
        (!started).then_some(SchedulerEvent::Fetched(id))
    }

    /// Asks the remote for the parts of a stage that the store does not have.
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

    /// Goes on with a stage that was asked about.
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

    /// Says what went wrong with the remote, once.
    pub(in crate::exec) fn tell_of_remote(&mut self) {
        if let Some(message) = self.sharing.take_warning() {
            let message = self.report.secrets.hide(message);
            self.warn(None, message);
        }
    }

    /// Says that a result is not what this machine would have made.
    pub(super) fn tell_of_device(&mut self, id: StageId, check: &Check) {
        if let Some(elsewhere) = self.planner.made_elsewhere(id, check) {
            self.warn(Some(id), format!("its result was {elsewhere} (`--force` makes one here)"));
        }
    }
}
