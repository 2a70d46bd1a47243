//! The kinds of stage, each queried only once however many stages use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hamflow_stage_api::{AnyKind, KindSpec};
use serde_json::Value as Json;

use super::pipeline::Kinds;

/// A kind with its specification and the names of its parameters.
#[derive(Clone)]
pub(crate) struct KnownKind {
    pub(crate) kind: &'static dyn AnyKind,
    pub(crate) spec: Arc<KindSpec>,
    /// The parameters that the schema names; none where it leaves the names open.
    properties: Option<Arc<Vec<String>>>,
}

impl KnownKind {
    /// The parameters that the schema names; none where it leaves the names open.
    pub(crate) fn properties(&self) -> Option<&[String]> {
        self.properties.as_ref().map(|names| &names[..])
    }
}

/// The kinds of this build, and those that were found so far by name.
pub(crate) struct KnownKinds {
    kinds: Kinds,
    known: BTreeMap<String, KnownKind>,
}

impl KnownKinds {
    pub(crate) fn new(kinds: Kinds) -> Self {
        Self { kinds, known: BTreeMap::new() }
    }

    /// The names of all kinds.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.kinds.iter().map(|kind| kind.spec().name).collect()
    }

    /// The kind of this name.
    pub(crate) fn find(&mut self, name: &str) -> Option<KnownKind> {
        if let Some(known) = self.known.get(name) {
            return Some(known.clone());
        }
        let (kind, spec) = self.kinds.iter().map(|kind| (*kind, kind.spec())).find(|(_, spec)| spec.name == name)?;
        let known = KnownKind { kind, spec: Arc::new(spec), properties: property_names(kind).map(Arc::new) };
        self.known.insert(name.to_owned(), known.clone());
        Some(known)
    }
}

/// The parameters that a kind's schema names; none where the schema leaves the names open.
fn property_names(kind: &dyn AnyKind) -> Option<Vec<String>> {
    let schema = kind.schema();
    match schema.get("properties") {
        Some(Json::Object(properties)) => Some(properties.keys().cloned().collect()),
        _ if schema.get("additionalProperties") == Some(&Json::Bool(false)) => Some(Vec::new()),
        _ => None,
    }
}
