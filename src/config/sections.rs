//! The small sections of the file: `[pipeline]`, `[inputs]` and `[cache]`.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::diagnostic::{Mistake, Mistakes};
use super::near::{did_you_mean, listed};
use super::remote::read_remote;
use super::stage::parse_size;
use super::value::{Entry, Node, Table, Value};
use super::{CacheOptions, DEFAULT_CACHE_DIR, InputDeclaration, LinkMode};
use crate::policy::Limits;

/// `[pipeline]`: the name and the seed.
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) missing_inputs: Option<String>,
}

/// Whether a stage or an input may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The table at `key`, empty where it is missing or (said as a mistake) no table.
pub(crate) fn section(root: &mut Table, key: &str, mistakes: &mut Mistakes) -> Table {
    match root.remove(key) {
        None => Table::default(),
        Some(Entry { node: Node { value: Value::Table(table), .. }, .. }) => table,
        Some(entry) => {
            let message = format!("`{key}` takes a table, not {}", entry.node.describe());
            mistakes.push(Mistake::new(entry.key_span, message).hint(format!("write `[{key}]`")));
            Table::default()
        }
    }
}

/// Says of each entry that is not in `known` that it is unknown.
pub(crate) fn refuse_unknown(place: &str, table: &Table, known: &[&str], mistakes: &mut Mistakes) {
    for entry in table.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let hint = did_you_mean(&entry.key, known.iter().copied())
            .unwrap_or_else(|| format!("known are {}", listed(known.iter().copied())));
        mistakes.push(Mistake::new(entry.key_span, format!("{place}: unknown key `{}`", entry.key)).hint(hint));
    }
}

/// The text of `entry`, or a mistake.
pub(crate) fn text<'t>(place: &str, entry: &'t Entry, mistakes: &mut Mistakes) -> Option<&'t str> {
    if let Value::String(text) = &entry.node.value {
        return Some(text);
    }
    let message = format!("{place}: `{}` takes a string, not {}", entry.key, entry.node.describe());
    mistakes.push(Mistake::new(entry.node.span, message));
    None
}

/// A seed: a whole number from 0.
pub(crate) fn seed(place: &str, node: &Node, mistakes: &mut Mistakes) -> Option<u64> {
    if let Value::Integer(number) = node.value
        && let Ok(seed) = u64::try_from(number)
    {
        return Some(seed);
    }
    mistakes.push(Mistake::new(node.span, format!("{place}: `seed` takes a whole number from 0")));
    None
}

/// Reads `[pipeline]`.
pub(crate) fn read_header(root: &mut Table, mistakes: &mut Mistakes) -> Header {
    let table = section(root, "pipeline", mistakes);
    refuse_unknown("pipeline", &table, &["name", "seed", "missing_inputs"], mistakes);
    let mut header = Header { name: "pipeline".to_owned(), seed: 0, missing_inputs: None };
    if let Some(entry) = table.get("name")
        && let Some(name) = text("pipeline", entry, mistakes)
    {
        if name.trim().is_empty() {
            mistakes.push(Mistake::new(entry.node.span, "pipeline: `name` is empty"));
        }
        name.clone_into(&mut header.name);
    }
    if let Some(seed) = table.get("seed").and_then(|entry| seed("pipeline", &entry.node, mistakes)) {
        header.seed = seed;
    }
    header.missing_inputs =
        table.get("missing_inputs").and_then(|entry| text("pipeline", entry, mistakes)).map(str::to_owned);
    header
}

/// Reads `[inputs]`, sorted by name.
pub(crate) fn read_inputs(root: &mut Table, mistakes: &mut Mistakes) -> Vec<InputDeclaration> {
    let table = section(root, "inputs", mistakes);
    let mut inputs: Vec<InputDeclaration> =
        table.entries.iter().filter_map(|entry| read_input(entry, mistakes)).collect();
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    inputs
}

fn read_input(entry: &Entry, mistakes: &mut Mistakes) -> Option<InputDeclaration> {
    let name = &entry.key;
    let place = format!("input `{name}`");
    if !is_name(name) {
        let message = format!("`{name}` cannot be the name of an input");
        mistakes.push(Mistake::new(entry.key_span, message).hint("use letters, digits, `_` and `-`".to_owned()));
        return None;
    }
    let (nodes, list) = match &entry.node.value {
        Value::String(_) => (std::slice::from_ref(&entry.node), false),
        Value::Array(items) => (&items[..], true),
        _ => {
            let message = format!("{place}: a path or a list of folders is wanted, not {}", entry.node.describe());
            mistakes.push(Mistake::new(entry.node.span, message));
            return None;
        }
    };
    if nodes.is_empty() {
        mistakes.push(Mistake::new(entry.node.span, format!("{place}: the list of folders is empty")));
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for node in nodes {
        let path = match &node.value {
            Value::String(path) if !path.is_empty() => PathBuf::from(path),
            Value::String(_) => {
                mistakes.push(Mistake::new(node.span, format!("{place}: the path is empty")));
                continue;
            }
            _ => {
                let message = format!("{place}: a path is a string, not {}", node.describe());
                mistakes.push(Mistake::new(node.span, message));
                continue;
            }
        };
        if paths.iter().any(|other| normal(other) == normal(&path)) {
            let message = format!("{place}: the folder `{}` is listed twice", path.display());
            mistakes.push(Mistake::new(node.span, message));
        }
        paths.push(path);
    }
    Some(InputDeclaration { name: name.clone(), paths, list, overridden: false, set: false, span: entry.node.span })
}

/// The path without `.` and with `..` taken back, as far as its text allows.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// Reads `[cache]`.
pub(crate) fn read_cache(root: &mut Table, mistakes: &mut Mistakes) -> CacheOptions {
    let table = section(root, "cache", mistakes);
    refuse_unknown("cache", &table, &["dir", "link", "max_size", "max_age", "remote"], mistakes);
    let remote = read_remote(&table, mistakes);
    let Limits { max_bytes, max_age } = Limits::default();
    let limits = Limits {
        max_bytes: limit(&table, "max_size", parse_size, "`\"20GB\"`", mistakes).unwrap_or(max_bytes),
        max_age: limit(&table, "max_age", parse_age, "`\"30d\"` or `\"12h\"`", mistakes).unwrap_or(max_age),
    };
    let dir = PathBuf::from(DEFAULT_CACHE_DIR);
    let mut options = CacheOptions { dir, link: LinkMode::Copy, limits, remote };
    if let Some(entry) = table.get("dir")
        && let Some(dir) = text("cache", entry, mistakes)
    {
        if dir.is_empty() {
            mistakes.push(Mistake::new(entry.node.span, "cache: `dir` is empty"));
        }
        if normal(Path::new(dir)).starts_with("out") {
            let message = "cache: `dir` lies in `out`, where outputs are laid out";
            mistakes.push(Mistake::new(entry.node.span, message).hint("name a folder of its own".to_owned()));
        }
        options.dir = PathBuf::from(dir);
    }
    if let Some(entry) = table.get("link")
        && let Some(link) = text("cache", entry, mistakes)
    {
        match link {
            "copy" => options.link = LinkMode::Copy,
            "hard" => options.link = LinkMode::Hard,
            other => mistakes.push(
                Mistake::new(entry.node.span, format!("cache: `link` cannot be `{other}`"))
                    .hint("`copy` (reflinks where the file system has them) or `hard`".to_owned()),
            ),
        }
    }
    options
}

/// A limit of the cache: `"none"` for no limit; none outside where it is not said.
fn limit<T>(
    table: &Table,
    key: &str,
    parse: fn(&str) -> Option<T>,
    example: &str,
    mistakes: &mut Mistakes,
) -> Option<Option<T>> {
    let entry = table.get(key)?;
    let limit = match &entry.node.value {
        Value::String(text) if text == "none" => return Some(None),
        Value::String(text) => parse(text),
        _ => None,
    };
    if limit.is_none() {
        let message = match &entry.node.value {
            Value::String(text) => format!("cache: `{key}` cannot be `{text}`"),
            _ => format!("cache: `{key}` takes a string, not {}", entry.node.describe()),
        };
        mistakes.push(Mistake::new(entry.node.span, message).hint(format!("write it as {example}, or `\"none\"`")));
    }
    limit.map(Some)
}

/// Reads `30d`, `12h` or `2w`.
pub fn parse_age(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return None,
    };
    digits.parse::<u32>().ok().map(|count| Duration::from_secs(u64::from(count) * hours * 60 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_hours_days_and_weeks() {
        let hours = |text| parse_age(text).map(|age| age.as_secs() / 3600);
        assert_eq!([hours("30d"), hours("12h"), hours("2w"), hours("0d")], [Some(720), Some(12), Some(336), Some(0)]);
        assert!(["", "d", "3", "3m", "-1d", "1.5d", "3 d", "3ä"].iter().all(|text| parse_age(text).is_none()));
    }

    #[test]
    fn a_path_is_normalised_by_its_text() {
        assert_eq!(normal(Path::new("./a/../b/./c")), Path::new("b/c"));
        assert_eq!(normal(Path::new("../a")), Path::new("../a"));
        assert_eq!(normal(Path::new("/a/../../b")), Path::new("/../b"));
    }
}
