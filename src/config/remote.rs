//! `[cache.remote]`: where results are shared, and whose results are believed.

use super::diagnostic::{Mistake, Mistakes};
use super::sections::{refuse_unknown, text};
use super::value::{Entry, Node, Table, Value};
use crate::policy::{Trust, VerifyingKey, is_scope};

/// A place that is shared with other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// A URL or a folder.
    pub url: String,
    /// Where results are written, and looked up first.
    pub scope: String,
    /// Where results are looked up after that, in this order.
    pub read: Vec<String>,
    /// Whose results are believed.
    pub trust: Trust,
}

const PLACE: &str = "cache.remote";

/// Reads `[cache.remote]`; none where it is missing.
pub(crate) fn read_remote(cache: &Table, mistakes: &mut Mistakes) -> Option<RemoteOptions> {
    let entry = cache.get("remote")?;
    let Value::Table(table) = &entry.node.value else {
        let message = format!("`remote` takes a table, not {}", entry.node.describe());
        mistakes.push(Mistake::new(entry.node.span, message).hint("write `[cache.remote]`".to_owned()));
        return None;
    };
    refuse_unknown(PLACE, table, &["url", "scope", "read", "keys"], mistakes);
    let url = match table.get("url") {
        Some(url) => text(PLACE, url, mistakes)?.to_owned(),
        None => {
            mistakes.push(
                Mistake::new(entry.key_span, format!("{PLACE}: `url` is missing"))
                    .hint("a folder such as `/mnt/cache`, or `https://…`".to_owned()),
            );
            return None;
        }
    };
    let scope = table.get("scope").and_then(|entry| scope(&entry.node, mistakes));
    let read = table.get("read").map(|entry| texts(entry, mistakes, scope_of)).unwrap_or_default();
    let mut trust = Trust::default();
    if let Some(Entry { node: Node { value: Value::Table(keys), .. }, .. }) = table.get("keys") {
        for entry in &keys.entries {
            if !is_scope(entry.key.strip_suffix('*').filter(|start| !start.is_empty()).unwrap_or(&entry.key))
                && entry.key != "*"
            {
                let message = format!("{PLACE}.keys: `{}` is no pattern of a scope", entry.key);
                mistakes.push(Mistake::new(entry.key_span, message).hint("such as `main` or `pr-*`".to_owned()));
            }
            trust.keys.push((entry.key.clone(), texts(entry, mistakes, key_of)));
        }
    } else if let Some(entry) = table.get("keys") {
        mistakes.push(Mistake::new(entry.node.span, format!("{PLACE}: `keys` takes a table of lists")));
    }
    let scope = scope.unwrap_or_else(|| "main".to_owned());
    Some(RemoteOptions { url, scope, read, trust })
}

fn scope(node: &Node, mistakes: &mut Mistakes) -> Option<String> {
    scope_of(node).map_err(|mistake| mistakes.push(mistake)).ok()
}

fn scope_of(node: &Node) -> Result<String, Mistake> {
    match &node.value {
        Value::String(text) if is_scope(text) => Ok(text.clone()),
        _ => Err(Mistake::new(node.span, format!("{PLACE}: a scope has letters, digits, `-`, `_` and `.`"))),
    }
}

fn key_of(node: &Node) -> Result<VerifyingKey, Mistake> {
    let Value::String(text) = &node.value else {
        return Err(Mistake::new(node.span, format!("{PLACE}.keys: a key is a string, not {}", node.describe())));
    };
    VerifyingKey::parse(text).map_err(|error| Mistake::new(node.span, format!("{PLACE}.keys: {error}")))
}

/// The items of a list.
fn texts<T>(entry: &Entry, mistakes: &mut Mistakes, read: fn(&Node) -> Result<T, Mistake>) -> Vec<T> {
    let Value::Array(items) = &entry.node.value else {
        mistakes.push(Mistake::new(entry.node.span, format!("{PLACE}: `{}` takes a list of strings", entry.key)));
        return Vec::new();
    };
    items.iter().filter_map(|node| read(node).map_err(|mistake| mistakes.push(mistake)).ok()).collect()
}
