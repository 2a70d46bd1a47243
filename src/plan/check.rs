//! A stage whose key is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use hamflow_stage_api::{Inputs, Port, StageError};

use super::fingerprint::Fingerprint;
use super::inputs::{Connected, Content, Declared};
use crate::digest::Digest;
use crate::store::{ActionKey, ActionResult, Files, Store};

/// A stage with everything that its key is computed from, and its result if one is stored.
#[derive(Debug, Clone)]
pub struct Check {
    /// Everything that determines the outputs.
    pub fingerprint: Fingerprint,
    /// The key: the digest of the fingerprint.
    pub key: ActionKey,
    /// The connected inputs by port, in the order of the fingerprint.
    pub inputs: Vec<(Port, Vec<Connected>)>,
    /// The result with its files, if it is complete in the store.
    pub result: Option<(Arc<ActionResult>, Files)>,
    /// Whether the store has a result under the key whose outputs are not those of this stage. It counts as a cache miss.
    pub foreign: bool,
    /// Listings of names that are part of the key.
    pub(super) names: Vec<String>,
    /// Inputs whose listings explain later changes.
    pub(super) listings: Vec<Arc<Declared>>,
}

impl Check {
    /// Returns the digests of the inputs for the lock.
    pub fn locked_inputs(&self) -> BTreeMap<(String, String), Digest> {
        let line = |(port, input): (&Port, &Connected)| {
            Some(((port.name.clone(), input.source.clone()), input.digest.known()?))
        };
        self.connected().filter_map(line).collect()
    }

    /// Returns the ports and sources that the lock cannot record yet, because not all of their files are hashed.
    pub fn unhashed(&self) -> Vec<(String, String)> {
        let unread = self.connected().filter(|(_, input)| input.digest.is_unread());
        unread.map(|(port, input)| (port.name.clone(), input.source.clone())).collect()
    }

    /// Returns the names of the files of a source that is listed and nowhere hashed.
    pub(super) fn unhashed_names(&self, source: &str) -> Option<String> {
        let mut connected = self.connected().map(|(_, input)| input).filter(|input| input.source == source);
        let input = connected.next()?;
        if !input.digest.is_unread() || connected.any(|other| !other.digest.is_unread()) {
            return None;
        }
        match &input.content {
            Content::Declared(declared) => Some(declared.names()),
            Content::Artifact(_) => None,
        }
    }

    fn connected(&self) -> impl Iterator<Item = (&Port, &Connected)> {
        self.inputs.iter().flat_map(|(port, connected)| connected.iter().map(move |input| (port, input)))
    }

    /// Returns the listings that explain later changes; they are stored with the result.
    pub fn texts(&self) -> Vec<String> {
        self.names.iter().cloned().chain(self.listings.iter().filter_map(|declared| declared.manifest())).collect()
    }

    /// Returns the inputs with all their files, as plans and jobs see them.
    pub fn read_inputs(&self, store: &Store) -> Result<Inputs, StageError> {
        read_inputs(&self.inputs, store)
    }
}

pub(super) fn read_inputs(inputs: &[(Port, Vec<Connected>)], store: &Store) -> Result<Inputs, StageError> {
    let mut read = Inputs::default();
    for (port, connected) in inputs {
        let connected = connected.iter().map(|input| input.input(store)).collect::<Result<Vec<_>, _>>()?;
        read.0.insert(port.name.clone(), connected);
    }
    Ok(read)
}
