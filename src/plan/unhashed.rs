//! Inputs whose files are not hashed yet.
//!
//! A key needs the digests of all bytes, so planning normally hashes unknown files. If nothing in the cache can match the output of a
//! stage, no key will be found, and hashing first would only read every file twice: once for its key, once for its part. So a run
//! first only lists such folders. Parts need no more than names to be planned; they hash the files that they decode, and the keys
//! are computed once everything is read. Every result is stored under its usual key, computed from the bytes that were decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use hamflow_stage_api::{Access, InputFile, Inputs, Plan, Planning, StageError};
use serde_json::Value;

use super::{Check, Planner, Results, canonical, read_inputs};
use crate::digest::Digest;
use crate::graph::{Source, StageId};

impl Planner<'_> {
    /// Lists, without hashing, the content inputs of those `stages` that read their files once and whose result cannot be in the cache.
    /// A caller that needs a digest still gets it.
    pub fn postpone_hashing(&mut self, stages: &[StageId]) {
        for id in stages.iter().filter(|id| self.graph.stage(**id).spec.reads_once) {
            for number in self.read_as(*id, |access| access == Access::Content) {
                if self.declared[number].is_some() {
                    continue;
                }
                let (declaration, root) = (&self.graph.pipeline.inputs[number], &self.graph.pipeline.root);
                // Listing errors are reported when the input is hashed.
                let listed = self.world.list(declaration, root);
                if let Ok(listed) = listed
                    && listed.digest.is_unread()
                    && !self.may_be_known(*id, listed.unread().count())
                {
                    self.declared[number] = Some(Arc::new(listed));
                }
            }
        }
    }

    /// Returns the declared inputs whose bytes the stage reads and that are not hashed yet.
    pub fn unhashed(&self, id: StageId) -> Vec<usize> {
        let unread = |number: &usize| self.declared[*number].as_ref().is_some_and(|known| known.digest.is_unread());
        self.read_as(id, |access| access != Access::Names).into_iter().filter(unread).collect()
    }

    /// Returns the inputs of a stage, whose files may be [unread](crate::digest::FileDigest::Unread), and its split into parts. Returns
    /// `None` if the parts have to wait for their keys.
    pub fn plan_unhashed(&mut self, id: StageId, results: &Results) -> Result<Option<(Inputs, Plan)>, StageError> {
        let unread = self.unhashed(id).into_iter().filter_map(|number| self.declared[number].as_ref());
        let count = unread.map(|declared| declared.unread().count()).sum();
        let graph = self.graph;
        let stage = graph.stage(id);
        if !stage.spec.reads_once || self.may_be_known(id, count) {
            return Ok(None);
        }
        let mut connected = Vec::new();
        for binding in &graph.edges[id.index()] {
            let access = match binding.port.access {
                Access::Content => Access::Names,
                other => other,
            };
            let sources = binding.sources.iter().map(|source| self.connect(source, access, results));
            connected.push((binding.port.clone(), sources.collect::<Result<Vec<_>, _>>()?));
        }
        let inputs = read_inputs(&connected, self.world.store())?;
        let seed = stage.spec.seeded.then_some(stage.seed);
        let plan = stage.kind.plan(&stage.params, Planning { inputs: &inputs, seed })?;
        Ok(Some((inputs, plan)))
    }

    /// Returns the device class that a stage would run on.
    pub fn device(&self, id: StageId) -> Result<Option<String>, StageError> {
        self.world.device_class(self.graph.stage(id))
    }

    /// Returns the lock entries for inputs of which the stage read only the names. Returns `None` if one is still not hashed or if its
    /// names have changed since.
    pub fn read_at_last(&self, id: StageId, check: &Check) -> Option<BTreeMap<(String, String), Digest>> {
        let mut lines = BTreeMap::new();
        for number in self.read_as(id, |access| access == Access::Names) {
            let name = format!("inputs.{}", self.graph.pipeline.inputs[number].name);
            let Some(names) = check.unhashed_names(&name) else { continue };
            let declared = self.declared[number].as_ref()?;
            let digest = declared.digest.known().filter(|_| declared.names() == names)?;
            // The listing stands in for missing data.
            self.world.keep_listing(declared);
            let unread = check.unhashed().into_iter().filter(|(_, source)| *source == name);
            lines.extend(unread.map(|line| (line, digest)));
        }
        Some(lines)
    }

    /// Records the digest of a file that a part of a stage has read.
    pub fn learn(&mut self, id: StageId, port: &str, file: &InputFile, digest: Digest) {
        let binding = self.graph.edges[id.index()].iter().find(|binding| binding.port.name == port);
        let Some(Source::Declared { index }) = binding.and_then(|binding| binding.sources.first()) else { return };
        let listed = self.declared[*index].as_ref().and_then(|declared| declared.listed(file.root, &file.path));
        if let Some(listed) = listed {
            self.world.record_hash(&file.source, listed, digest);
        }
    }

    /// Returns the declared inputs that a stage reads with a matching access.
    fn read_as(&self, id: StageId, wanted: impl Fn(Access) -> bool) -> Vec<usize> {
        let bindings = self.graph.edges[id.index()].iter().filter(|binding| wanted(binding.port.access));
        let sources = bindings.flat_map(|binding| &binding.sources);
        sources.filter_map(|source| if let Source::Declared { index } = source { Some(*index) } else { None }).collect()
    }

    /// Whether the cache may hold a result or a part made with the stage's kind, revision and parameters, whatever its inputs. Reading a
    /// result takes about as long as hashing a file, so with more results than `unread` files this returns `true` without a search.
    fn may_be_known(&self, id: StageId, unread: usize) -> bool {
        let stage = self.graph.stage(id);
        let (kind, revision) = (stage.spec.name, stage.spec.revision);
        // Round-tripped through JSON like the parameters of a stored result: a parsed number may differ from the written one.
        let params = canonical(&Value::Object(stage.keyed_params()));
        let params: Value = serde_json::from_str(&params).expect("what was just written is JSON");
        let alike = |of: &Value| of["kind"] == kind && of["revision"] == revision && of["params"] == params;
        let Some(keys) = self.world.keys() else { return true };
        keys.len() > unread
            || keys
                .iter()
                .any(|key| self.world.store().actions.get(key).is_some_and(|result| alike(&result.fingerprint)))
    }
}
