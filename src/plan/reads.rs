//! Files that programs used without a declaration.
//!
//! A program shows only by running which files it uses, so the key of its result holds the states of these files, and the paths are
//! remembered: in the lock file, and for each command in a memo. A lookup computes the states of the remembered paths now. If a result has
//! that key, the program would use the same files in the same states, and so make the same outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use hamflow_stage_api::{ReadKind, StageError, UndeclaredRead};

use super::{Check, Fingerprint, Planner, Reads, canonical};
use crate::config::Stage;
use crate::graph::StageId;
use crate::store::{ActionKey, ActionResult, Files};

/// The paths that a program used, and what it depends on.
type Paths = BTreeMap<String, ReadKind>;

/// Where a set of paths is from.
#[derive(Clone, Copy)]
enum Source {
    Lock,
    Memo,
    /// A program that uses nothing that is not declared, or that was not observed.
    Nothing,
}

/// The state of a path at which there is nothing.
const ABSENT: &str = "absent";

/// How many sets of paths are remembered for a command, whose use of files may depend on its inputs.
const MAX_SETS: usize = 8;

/// A result in the store, and whether one with other outputs was found.
type Found = (Option<(Arc<ActionResult>, Files)>, bool);

impl Planner<'_> {
    /// Looks up the result of a stage. For a program, adds to the fingerprint the files that it used the last time, or that time when it
    /// made a result that is still right.
    ///
    /// A result of a program that was not observed counts only if it would not be observed now either, or could not be on this machine.
    pub(super) fn look_up(&mut self, stage: &Stage, fingerprint: &mut Fingerprint) -> (ActionKey, Found) {
        if !stage.spec.observed {
            let key = fingerprint.key();
            return (key, self.world.result(stage, &key));
        }
        let observes = stage.kind.observes(&stage.params);
        let mut tried: Vec<Option<Paths>> = Vec::new();
        let mut last = None;
        // The memo is only read if what the lock says does not lead to a result.
        for source in [Source::Lock, Source::Memo, Source::Nothing] {
            for set in self.sets(stage, source) {
                let counts = set.is_some() || !observes || self.remembered_paths(stage).contains(&set);
                if tried.contains(&set) || !counts {
                    continue;
                }
                let candidate = Fingerprint { reads: set.as_ref().map(|set| self.states(set)), ..fingerprint.clone() };
                let key = candidate.key();
                let found = self.world.result(stage, &key);
                if found.0.is_some() {
                    *fingerprint = candidate;
                    return (key, found);
                }
                last.get_or_insert((candidate, key, found));
                tried.push(set);
            }
        }
        let (candidate, key, missing) = last.expect("the last source has a set that counts");
        *fingerprint = candidate;
        (key, missing)
    }

    fn sets(&self, stage: &Stage, source: Source) -> Vec<Option<Paths>> {
        match source {
            Source::Lock => {
                let locked = self.lock.stages.get(&stage.name);
                locked.map(|locked| locked.reads.as_ref().map(paths)).into_iter().collect()
            }
            Source::Memo => self.remembered_paths(stage),
            Source::Nothing => vec![Some(Paths::new()), None],
        }
    }

    fn remembered_paths(&self, stage: &Stage) -> Vec<Option<Paths>> {
        self.world.answer(&question(stage)).unwrap_or_default()
    }

    /// Returns the check of a stage whose program has run and used these files, and the paths that were not known before.
    ///
    /// Fails if one of the files is not what the program read.
    pub fn with_reads(
        &mut self,
        id: StageId,
        check: &Check,
        reads: Option<&[UndeclaredRead]>,
    ) -> Result<(Check, Vec<String>), StageError> {
        let stage = self.graph.stage(id);
        // The program may have changed files that others use.
        self.states.clear();
        for read in reads.into_iter().flatten() {
            self.world.require_unchanged(read, &self.graph.pipeline.root)?;
        }
        let set: Option<Paths> = reads.map(|reads| reads.iter().map(|read| (read.path.clone(), read.kind)).collect());
        let mut states = set.as_ref().map(|set| self.states(set));
        for read in reads.into_iter().flatten().filter(|read| read.was_absent) {
            // It may have appeared in the meantime: the result is that of a program which did not find it.
            states.iter_mut().for_each(|states| drop(states.insert(read.path.clone(), (read.kind, ABSENT.to_owned()))));
        }
        let fingerprint = Fingerprint { reads: states, ..check.fingerprint.clone() };
        let mut sets = self.remembered_paths(stage);
        if sets.first() != Some(&set) {
            sets.retain(|known| *known != set);
            sets.insert(0, set);
            sets.truncate(MAX_SETS);
            self.world.remember(question(stage), &sets);
        }
        let is_known = |path: &String| check.fingerprint.reads.as_ref().is_some_and(|known| known.contains_key(path));
        let all = reads.into_iter().flatten().map(|read| read.path.clone());
        let new = all.filter(|path| !is_known(path)).collect();
        Ok((Check { key: fingerprint.key(), fingerprint, result: None, ..check.clone() }, new))
    }

    fn states(&mut self, set: &Paths) -> Reads {
        let state = |(path, kind): (&String, &ReadKind)| {
            if let Some(known) = self.states.get(&(path.clone(), *kind)) {
                return (path.clone(), (*kind, known.clone()));
            }
            let state = self.world.state(path, *kind, &self.graph.pipeline.root);
            self.states.insert((path.clone(), *kind), state.clone());
            (path.clone(), (*kind, state))
        };
        set.iter().map(state).collect()
    }
}

fn paths(reads: &Reads) -> Paths {
    reads.iter().map(|(path, (kind, _))| (path.clone(), *kind)).collect()
}

fn question(stage: &Stage) -> String {
    let params = canonical(&serde_json::Value::Object(stage.keyed_params()));
    format!("reads 1 {} {} {params}", stage.spec.name, stage.spec.revision)
}
