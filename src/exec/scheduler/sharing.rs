//! What a run has of a remote, and gives to it.

use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use hamflow_stage_api::{Output, StageError};

use super::{Active, KnownPart, Scheduler, State, job};
use crate::exec::{Heard, RunEvent};
use crate::graph::StageId;
use crate::plan::Check;
use crate::store::remote::Remote;
use crate::store::{ActionKey, Store};

/// A stage that the remote is asked about, on a thread of its own: the others go on.
pub(super) struct Fetching {
    /// The stage's key.
    pub(super) key: ActionKey,
    /// The stage, where its parts are asked for.
    active: Option<Active>,
    thread: JoinHandle<()>,
}

/// So many stages are asked for at the same time.
const MOST_FETCHING: usize = 8;

/// What a thread says when it ends, however it ends: nobody shall wait for it for ever.
struct Word {
    heard: Sender<Heard>,
    stage: StageId,
    found: bool,
}

impl Drop for Word {
    fn drop(&mut self) {
        let _ = self.heard.send(Heard::Fetched { stage: self.stage, found: self.found });
    }
}

impl Scheduler<'_> {
    /// Asks the remote for the result of a key of a stage, once in a run; false where nobody is asked.
    pub(super) fn ask_for_result(&mut self, id: StageId, check: &Check) -> bool {
        if self.options.remote.is_none() || self.asked.contains_key(&(id, check.key)) {
            return false;
        }
        if self.fetching.len() >= MOST_FETCHING {
            // It is looked at again when something was fetched.
            self.twins.insert(self.rank[id.index()]);
            return true;
        }
        self.asked.insert((id, check.key), false);
        let key = check.key;
        self.ask(id, key, None, move |remote, store| remote.fetch(store, &key).is_some()).is_ok()
    }

    /// Looks the parts of a stage up in the store, then asks the remote for those that it lacks; launches the stage where nobody is asked.
    pub(super) fn look_up_parts(&mut self, id: StageId, mut active: Active) -> Result<(), StageError> {
        let absent = self.find_parts(id, &mut active)?;
        if self.options.remote.is_none() || absent.is_empty() {
            self.launch(id, active);
            return Ok(());
        }
        let key = active.check()?.key;
        let asked = self.ask(id, key, Some(active), move |remote, store| {
            remote.fetch_all(store, &absent);
            false
        });
        if let Err(Some(active)) = asked {
            self.launch(id, *active);
        }
        Ok(())
    }

    /// Notes what the store has of a stage's parts; returns the keys of the others.
    fn find_parts(&self, id: StageId, active: &mut Active) -> Result<Vec<ActionKey>, StageError> {
        let outputs = &self.graph.pipeline.stages[id.index()].outputs;
        let mut absent = Vec::new();
        for number in 0..active.parts.len() {
            if active.made[number].is_some() {
                continue;
            }
            let part = &active.parts[number];
            let digests = job::digests(&job::part_inputs(&active.inputs, part)?, part);
            let (key, _) = self.part_key(id, active.device.clone(), part, digests);
            active.made[number] = match active.ahead.remove_entry(&key) {
                Some(made) => Some(made),
                None => self.known_part(&key, outputs),
            };
            if active.made[number].is_none() {
                absent.push(key);
            }
        }
        Ok(absent)
    }

    /// Asks on a thread; gives the stage back where nobody can be asked.
    fn ask(
        &mut self,
        id: StageId,
        key: ActionKey,
        active: Option<Active>,
        work: impl FnOnce(&Remote, &Store) -> bool + Send + 'static,
    ) -> Result<(), Option<Box<Active>>> {
        let Some(remote) = self.options.remote.clone() else { return Err(active.map(Box::new)) };
        let store = self.store.clone();
        let word = Word { heard: self.sender.clone(), stage: id, found: false };
        let work = move || {
            // All of it: what says that the thread has ended belongs to the thread.
            let mut word = word;
            word.found = work(&remote, &store);
        };
        let Ok(thread) = std::thread::Builder::new().spawn(work) else { return Err(active.map(Box::new)) };
        self.states[id.index()] = State::Fetching;
        self.fetching.insert(id, Fetching { key, active, thread });
        Ok(())
    }

    /// Goes on with a stage that was asked about.
    pub(super) fn fetched(&mut self, id: StageId, found: bool) {
        self.tell_of_remote();
        let Some(Fetching { key, active, thread }) = self.fetching.remove(&id) else { return };
        let _ = thread.join();
        match active {
            // What was begun would not be finished.
            _ if self.stopping => {}
            Some(mut active) => match self.find_parts(id, &mut active) {
                Ok(_) => self.launch(id, active),
                Err(error) => self.job_failed(id, error),
            },
            None => {
                self.asked.insert((id, key), found);
                self.states[id.index()] = State::Waiting;
                self.candidates.insert(self.rank[id.index()]);
            }
        }
        self.candidates.append(&mut self.twins);
    }

    /// Waits for what is still asked, which the remote gives up at once.
    pub(super) fn end_fetching(&mut self) {
        if let Some(remote) = &self.options.remote
            && !self.fetching.is_empty()
        {
            remote.stop_reading();
        }
        for (_, fetching) in std::mem::take(&mut self.fetching) {
            let _ = fetching.thread.join();
        }
    }

    /// Counts a stage that is done if its result came from the remote.
    pub(super) fn count_fetched(&mut self, id: StageId, key: ActionKey) {
        self.summary.fetched += usize::from(self.asked.get(&(id, key)) == Some(&true));
    }

    /// Says that a result is not what this machine would have made.
    pub(super) fn tell_of_device(&mut self, id: StageId, check: &Check) {
        if let Some(elsewhere) = self.planner.made_elsewhere(id, check) {
            let message = format!("its result was {elsewhere} (`--force` makes one here)");
            let stage = Some(self.name(id).to_owned());
            (self.events)(RunEvent::Warning { stage, message });
        }
    }

    /// A part that the cache has. The side files are checked now, because `merge` reads them without their digests.
    fn known_part(&self, key: &ActionKey, outputs: &[Output]) -> Option<KnownPart> {
        let result = self.store.actions.get(key)?;
        let files = super::commit::part_files(self.store, &result)?;
        let mut side = files.iter().filter(|(path, _)| !super::commit::is_assembled(outputs, path));
        side.all(|(_, digest)| self.store.content.check(digest)).then(|| (*key, files.clone()))
    }

    /// Says what went wrong with the remote, once.
    pub(super) fn tell_of_remote(&mut self) {
        if let Some(message) = self.options.remote.as_ref().and_then(|remote| remote.take_warning()) {
            (self.events)(RunEvent::Warning { stage: None, message: self.secrets.hide(message) });
        }
    }

    /// Waits for what is still on its way to the remote, and returns how many results were given to it; where the user ended the run,
    /// waits for nothing.
    pub(super) fn end_uploads(&mut self, interrupted: bool) -> usize {
        let (results, _) = self.uploads.take().map_or((0, 0), |uploads| uploads.finish(interrupted));
        self.tell_of_remote();
        usize::try_from(results).unwrap_or(usize::MAX)
    }
}
