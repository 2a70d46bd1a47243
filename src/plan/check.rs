//! A stage whose key is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use hamflow_stage_api::{Inputs, Port, StageError};

use super::fingerprint::Fingerprint;
use super::inputs::{Connected, Content, Declared};
use crate::digest::Digest;
use crate::store::{ActionKey, ActionResult, Files, Store};

/// A stage with all that its key is made of, and what is known of its result.
#[derive(Debug, Clone)]
pub struct Check {
    /// Everything that decides the outputs.
    pub fingerprint: Fingerprint,
    /// Its digest.
    pub key: ActionKey,
    /// What is connected, by port in the order of the fingerprint.
    pub inputs: Vec<(Port, Vec<Connected>)>,
    /// The result, if the store has it whole, with its files.
    pub result: Option<(Arc<ActionResult>, Files)>,
    /// Whether the store has a result under the key that is not one of this stage: it has other outputs. It counts as a miss.
    pub foreign: bool,
    /// Listings of names that are in the key.
    pub(super) names: Vec<String>,
    /// Inputs whose listings explain a later change.
    pub(super) listings: Vec<Arc<Declared>>,
}

impl Check {
    /// What the lock will say of the inputs.
    pub fn locked_inputs(&self) -> BTreeMap<(String, String), Digest> {
        let line = |(port, input): (&Port, &Connected)| {
            Some(((port.name.clone(), input.source.clone()), input.digest.known()?))
        };
        self.connected().filter_map(line).collect()
    }

    /// The ports and sources of which the lock cannot say anything yet: nobody has read all of their files.
    pub fn unhashed(&self) -> Vec<(String, String)> {
        let unread = self.connected().filter(|(_, input)| input.digest.is_unread());
        unread.map(|(port, input)| (port.name.clone(), input.source.clone())).collect()
    }

    /// The names of the files of a source that was listed and nowhere read.
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

    /// Listings that explain a later change; stored with the result.
    pub fn texts(&self) -> Vec<String> {
        self.names.iter().cloned().chain(self.listings.iter().filter_map(|declared| declared.manifest())).collect()
    }

    /// The inputs with all their files, as plans and jobs see them.
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
