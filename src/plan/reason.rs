//! Reasons for running a stage: the difference of two fingerprints, down to the file, row, parameter or variable.

use std::collections::BTreeMap;
use std::fmt;

use hamflow_stage_api::{ReadKind, Redactor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::{Fingerprint, FingerprintInput, Reads};
use crate::digest::Digest;
use crate::lock::LockedStage;
use crate::store::Tree;

/// Maximum number of sample names in an explanation.
const SAMPLE: usize = 5;

/// The changes in a listing or a view: their counts and the first few names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Number of new names.
    pub added: usize,
    /// Number of removed names.
    pub removed: usize,
    /// Number of names whose content differs.
    pub modified: usize,
    /// The first few, each as `+ name`, `- name` or `~ name`, with old and new content where it is short.
    pub sample: Vec<String>,
}

impl Changes {
    fn between(old: &BTreeMap<&str, &str>, new: &BTreeMap<&str, &str>) -> Self {
        let mut changes = Self::default();
        let note = |count: &mut usize, line: String, sample: &mut Vec<String>| {
            *count += 1;
            if *count <= SAMPLE {
                sample.push(line);
            }
        };
        for (name, content) in old {
            match new.get(name) {
                None => note(&mut changes.removed, format!("- {name}"), &mut changes.sample),
                Some(now) if now != content => {
                    let line = if content.len() + now.len() < 60 && !content.contains(':') {
                        format!("~ {name}: {} → {}", content.replace('\t', " "), now.replace('\t', " "))
                    } else {
                        format!("~ {name}")
                    };
                    note(&mut changes.modified, line, &mut changes.sample);
                }
                Some(_) => {}
            }
        }
        for name in new.keys().filter(|name| !old.contains_key(*name)) {
            note(&mut changes.added, format!("+ {name}"), &mut changes.sample);
        }
        changes
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [(self.modified, "changed"), (self.added, "added"), (self.removed, "removed")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// One difference that makes a stage stale, with the old and the new value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum StaleReason {
    /// Neither the lock nor a record has a result.
    NeverBuilt,
    /// The user requested it.
    Forced,
    /// The lock names a result with the same key, but the store does not have it.
    ResultMissing,
    /// The lock names another result that is no longer in the store, so the difference cannot be fully explained.
    PreviousLost,
    /// The kind.
    Kind { old: String, new: String },
    /// The revision of the kind: its code now produces different outputs.
    Revision { kind: String, old: u32, new: u32 },
    /// A parameter.
    Param { name: String, old: Option<Value>, new: Option<Value> },
    /// The content of an input.
    Input { port: String, source: String, old: Option<Digest>, new: Option<Digest>, changes: Option<Changes> },
    /// The rows and columns that the stage reads.
    View { name: String, changes: Option<Changes> },
    /// An environment variable.
    Env { name: String, old: Option<String>, new: Option<String> },
    /// The version of a tool or of a package in an environment.
    Tool { name: String, old: Option<String>, new: Option<String> },
    /// The seed.
    Seed { old: Option<u64>, new: Option<u64> },
    /// A file that the program used without a declaration.
    Read { path: String, old: Option<String>, new: Option<String>, changes: Option<Changes> },
    /// The device class.
    Device { old: Option<String>, new: Option<String> },
}

impl StaleReason {
    /// The reason without secrets, which values of parameters and variables may contain.
    pub fn redacted(self, redactor: &Redactor) -> Self {
        let redact = |text: String| redactor.redact(&text).into_owned();
        let value = |value: Option<Value>| value.map(|value| redacted_value(value, redactor));
        match self {
            Self::Param { name, old, new } => Self::Param { name, old: value(old), new: value(new) },
            Self::Env { name, old, new } => Self::Env { name, old: old.map(redact), new: new.map(redact) },
            other => other,
        }
    }
}

fn redacted_value(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.redact(&text).into_owned()),
        Value::Array(values) => values.into_iter().map(|value| redacted_value(value, redactor)).collect(),
        Value::Object(values) => {
            values.into_iter().map(|(name, value)| (name, redacted_value(value, redactor))).collect()
        }
        other => other,
    }
}

fn is_digest(text: &str) -> bool {
    text.parse::<Digest>().is_ok()
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

impl fmt::Display for StaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("never built"),
            Self::Forced => f.write_str("forced"),
            Self::ResultMissing => f.write_str("its result is no longer in the cache"),
            Self::PreviousLost => f.write_str("something changed, and the earlier result is no longer in the cache"),
            Self::Kind { old, new } => write!(f, "kind changed from `{old}` to `{new}`"),
            Self::Revision { kind, old, new } => write!(f, "revision of kind `{kind}` changed from {old} to {new}"),
            Self::Param { name, old, new } => {
                write!(f, "`{name}` changed from {} to {}", shown(old.as_ref()), shown(new.as_ref()))
            }
            Self::Input { port, source, old, new, changes } => {
                let subject = if source.is_empty() { format!("`{port}`") } else { format!("`{port}` ({source})") };
                match (old, new, changes) {
                    (None, _, _) => write!(f, "{subject} is a new input"),
                    (_, None, _) => write!(f, "{subject} is no longer an input"),
                    (_, _, Some(changes)) => {
                        write!(f, "{subject} changed: {changes}")?;
                        write_sample(f, changes)
                    }
                    (Some(old), Some(new), None) => {
                        write!(f, "{subject} changed from {} to {}", old.short(), new.short())
                    }
                }
            }
            Self::View { name, changes: Some(changes) } => {
                write!(f, "{name}: {changes}")?;
                write_sample(f, changes)
            }
            Self::View { name, changes: None } => write!(f, "{name}: changed"),
            Self::Env { name, old, new } => {
                let shown =
                    |value: &Option<String>| value.as_ref().map_or("unset".into(), |value| format!("`{value}`"));
                write!(f, "environment `{name}` changed from {} to {}", shown(old), shown(new))
            }
            Self::Tool { name, old, new } => match (old, new) {
                (Some(old), Some(new)) if is_digest(old) && is_digest(new) => write!(f, "`{name}` changed"),
                (Some(old), Some(new)) => write!(f, "`{name}`: {old} → {new}"),
                (None, Some(new)) if is_digest(new) => write!(f, "`{name}` is new"),
                (None, Some(new)) => write!(f, "`{name}` {new} is new"),
                (Some(old), None) if !is_digest(old) => write!(f, "`{name}` {old} is gone"),
                (_, None) => write!(f, "`{name}` is gone"),
            },
            Self::Seed { old, new } => {
                let shown = |value: &Option<u64>| value.map_or("none".into(), |value| value.to_string());
                write!(f, "seed changed from {} to {}", shown(old), shown(new))
            }
            Self::Read { path, old, new, changes } => {
                let state = |side: &Option<String>| side.clone().unwrap_or_default();
                match (&state(old)[..], &state(new)[..], changes) {
                    ("", _, _) => write!(f, "`{path}` is read now"),
                    (_, "", _) => write!(f, "`{path}` is no longer read"),
                    ("absent", _, _) => write!(f, "`{path}` was not there when it was looked for"),
                    (_, "absent", _) => write!(f, "`{path}`, which is read, is gone"),
                    (_, _, Some(changes)) => {
                        write!(f, "the entries of `{path}` changed: {changes}")?;
                        write_sample(f, changes)
                    }
                    _ => write!(f, "`{path}`, which is read, changed"),
                }
            }
            Self::Device { old, new } => {
                let shown = |value: &Option<String>| value.clone().unwrap_or("none".into());
                write!(f, "device changed from {} to {}", shown(old), shown(new))
            }
        }
    }
}

/// Names a single change inline; `why` lists several below the message.
fn write_sample(f: &mut fmt::Formatter<'_>, changes: &Changes) -> fmt::Result {
    match &changes.sample[..] {
        [only] => write!(f, " ({only})"),
        _ => Ok(()),
    }
}

impl StaleReason {
    /// The names behind the counts, for `why`.
    pub fn details(&self) -> &[String] {
        match self {
            Self::Input { changes: Some(changes), .. }
            | Self::View { changes: Some(changes), .. }
            | Self::Read { changes: Some(changes), .. }
                if changes.sample.len() > 1 =>
            {
                &changes.sample
            }
            _ => &[],
        }
    }
}

/// Returns the differences between the fingerprint of the last result and the current one.
///
/// `source_of` maps an input to its name in the pipeline.
pub fn difference(
    read: &dyn Fn(&Digest) -> Option<String>,
    old: &Fingerprint,
    new: &Fingerprint,
    source_of: &dyn Fn(&FingerprintInput) -> String,
) -> Vec<StaleReason> {
    // Destructured so that a new field does not compile until it is explained as well.
    let Fingerprint { kind, revision, params, inputs, views, env, tools, seed, device, reads } = new;
    let mut reasons = Vec::new();
    if *kind != old.kind {
        reasons.push(StaleReason::Kind { old: old.kind.clone(), new: kind.clone() });
    } else if *revision != old.revision {
        reasons.push(StaleReason::Revision { kind: kind.clone(), old: old.revision, new: *revision });
    }
    let mut names: Vec<&String> = old.params.keys().chain(params.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        push_param(name, old.params.get(name), params.get(name), &mut reasons);
    }
    for (was, is) in pair_inputs(&old.inputs, inputs) {
        let Some(any) = is.or(was) else { continue };
        if was.map(|input| input.digest) == is.map(|input| input.digest) {
            continue;
        }
        let changes = was.zip(is).filter(|(was, is)| was.listing && is.listing);
        reasons.push(StaleReason::Input {
            port: any.port.clone(),
            source: is.map(source_of).unwrap_or_default(),
            old: was.map(|input| input.digest),
            new: is.map(|input| input.digest),
            changes: changes.and_then(|(was, is)| text_changes(read, &was.digest, &is.digest)),
        });
    }
    for view in views {
        let was = old.views.iter().find(|was| was.name == view.name);
        if was.is_none_or(|was| was.digest != view.digest) {
            let changes = was.and_then(|was| text_changes(read, &was.digest, &view.digest));
            reasons.push(StaleReason::View { name: view.name.clone(), changes });
        }
    }
    for name in old.env.keys().chain(env.keys().filter(|name| !old.env.contains_key(*name))) {
        let (was, is) = (old.env.get(name).cloned().flatten(), env.get(name).cloned().flatten());
        if was != is || old.env.contains_key(name) != env.contains_key(name) {
            reasons.push(StaleReason::Env { name: name.clone(), old: was, new: is });
        }
    }
    for name in old.tools.keys().chain(tools.keys().filter(|name| !old.tools.contains_key(*name))) {
        let (was, is) = (old.tools.get(name).cloned(), tools.get(name).cloned());
        if was != is {
            reasons.push(StaleReason::Tool { name: name.clone(), old: was, new: is });
        }
    }
    if *seed != old.seed {
        reasons.push(StaleReason::Seed { old: old.seed, new: *seed });
    }
    let none = Reads::new();
    push_reads(read, old.reads.as_ref().unwrap_or(&none), reads.as_ref().unwrap_or(&none), &mut reasons);
    if *device != old.device {
        reasons.push(StaleReason::Device { old: old.device.clone(), new: device.clone() });
    }
    reasons
}

fn push_reads(read: &dyn Fn(&Digest) -> Option<String>, old: &Reads, new: &Reads, reasons: &mut Vec<StaleReason>) {
    for path in old.keys().chain(new.keys().filter(|path| !old.contains_key(*path))) {
        let (was, is) = (old.get(path), new.get(path));
        if was == is {
            continue;
        }
        let names = |side: Option<&(ReadKind, String)>| {
            let (kind, state) = side?;
            matches!(kind, ReadKind::Names | ReadKind::Modules).then(|| state.parse::<Digest>().ok())?
        };
        let changes = names(was).zip(names(is)).and_then(|(was, is)| text_changes(read, &was, &is));
        let state = |side: Option<&(ReadKind, String)>| side.map(|(_, state)| state.clone());
        reasons.push(StaleReason::Read { path: path.clone(), old: state(was), new: state(is), changes });
    }
}

/// Returns the differences between the fingerprints of two results, independent of the current pipeline.
pub fn fingerprint_difference(
    read: &dyn Fn(&Digest) -> Option<String>,
    old: &Fingerprint,
    new: &Fingerprint,
) -> Vec<StaleReason> {
    difference(read, old, new, &|_| String::new())
}

/// Returns the differences that can be determined from the lock alone: the inputs with other bytes.
pub fn difference_from_lock(old: &LockedStage, new: &BTreeMap<(String, String), Digest>) -> Vec<StaleReason> {
    let mut reasons = vec![StaleReason::PreviousLost];
    for ((port, source), digest) in new {
        let was = old.inputs.get(&(port.clone(), source.clone())).copied();
        if was != Some(*digest) {
            let (port, source) = (port.clone(), source.clone());
            reasons.push(StaleReason::Input { port, source, old: was, new: Some(*digest), changes: None });
        }
    }
    reasons
}

fn push_param(name: &str, old: Option<&Value>, new: Option<&Value>, reasons: &mut Vec<StaleReason>) {
    if old == new {
        return;
    }
    // A table of parameters is compared member by member, so that the message names the one that changed.
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let mut members: Vec<&String> = old.keys().chain(new.keys()).collect();
        members.sort_unstable();
        members.dedup();
        for member in members {
            push_param(&format!("{name}.{member}"), old.get(member), new.get(member), reasons);
        }
        return;
    }
    reasons.push(StaleReason::Param { name: name.to_owned(), old: old.cloned(), new: new.cloned() });
}

type InputPair<'a> = (Option<&'a FingerprintInput>, Option<&'a FingerprintInput>);

fn pair_inputs<'a>(old: &'a [FingerprintInput], new: &'a [FingerprintInput]) -> Vec<InputPair<'a>> {
    let mut pairs: BTreeMap<(String, String, usize), InputPair<'a>> = BTreeMap::new();
    let place = |inputs: &[FingerprintInput], index: usize| {
        let input = &inputs[index];
        let labels = format!("{:?}", input.labels);
        let before = inputs[..index].iter().filter(|other| other.port == input.port && other.labels == input.labels);
        (input.port.clone(), labels, before.count())
    };
    for (index, input) in old.iter().enumerate() {
        pairs.entry(place(old, index)).or_default().0 = Some(input);
    }
    for (index, input) in new.iter().enumerate() {
        pairs.entry(place(new, index)).or_default().1 = Some(input);
    }
    pairs.into_values().collect()
}

/// Compares two texts in the store: trees, listings of names or views. Returns `None` if either is missing.
fn text_changes(read: &dyn Fn(&Digest) -> Option<String>, old: &Digest, new: &Digest) -> Option<Changes> {
    let (old, new) = (read(old)?, read(new)?);
    Some(Changes::between(&rows(&old), &rows(&new)))
}

/// The rows of a view by name, or the digests of a tree by path (lines of a tree start with the digest).
fn rows(text: &str) -> BTreeMap<&str, &str> {
    let tree = Tree::is_tree(text);
    let row = |line| match str::split_once(line, '\t') {
        Some((digest, path)) if tree => (path, digest),
        Some((name, content)) => (name, content),
        None => (line, ""),
    };
    text.lines().skip(usize::from(tree)).map(row).collect()
}
