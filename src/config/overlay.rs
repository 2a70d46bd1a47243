//! Overrides: a profile and `--set` arguments, merged into the file's values before these are deserialized.

use hamflow_stage_api::near_miss::{did_you_mean, listed, there_is};

use super::axis::{VALUES, dotted};
use super::diagnostic::{Mistake, Mistakes, Sources, Span};
use super::pipeline::Overrides;
use super::value::{Entry, Node, Table, Value, parse_document, parse_value};

/// The sections that a profile may change.
pub(super) const PROFILE_KEYS: [&str; 5] = ["pipeline", "inputs", "stages", "cache", "executors"];

/// Removes `[profiles]` from `root` and merges the chosen profile into it.
pub(crate) fn apply_profile(root: &mut Table, chosen: Option<&str>, sources: &mut Sources, mistakes: &mut Mistakes) {
    let mut profiles = Table::default();
    if let Some(entry) = root.remove("profiles") {
        match entry.node.value {
            Value::Table(table) => profiles = table,
            _ => mistakes.push(
                Mistake::new(entry.key_span, format!("`profiles` is a table, not {}", entry.node.describe()))
                    .hint("write `[profiles.NAME]`".to_owned()),
            ),
        }
    }
    for profile in &profiles.entries {
        check_profile(profile, mistakes);
    }
    let Some(chosen) = chosen else { return };
    let Some(profile) = profiles.remove(chosen) else {
        let hint = did_you_mean(chosen, profiles.keys()).unwrap_or_else(|| there_is("profile", profiles.keys()));
        // A profile is named on the command line, so there is no line of the file to show.
        return mistakes.push(Mistake::placeless(format!("no profile `{chosen}`")).hint(hint));
    };
    if let Value::Table(table) = profile.node.value {
        refuse_hidden(root, &table, mistakes);
        let mut above = Node { value: Value::Table(table), span: profile.node.span };
        above.set_source(sources.add_profile());
        if let Value::Table(above) = above.value {
            merge(root, above);
        }
    }
}

fn check_profile(profile: &Entry, mistakes: &mut Mistakes) {
    let place = format!("profile `{}`", profile.key);
    // It becomes the name of a file.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if profile.key.is_empty() || profile.key.starts_with('.') || !profile.key.bytes().all(is_name) {
        let message = format!(
            "{place}: a profile's name has only letters of ASCII, digits, `_`, `-` and `.`, and does not begin with `.`"
        );
        return mistakes.push(Mistake::new(profile.key_span, message));
    }
    let Value::Table(table) = &profile.node.value else {
        let message = format!("{place}: a profile is a table, not {}", profile.node.describe());
        return mistakes.push(Mistake::new(profile.key_span, message));
    };
    for entry in &table.entries {
        if !PROFILE_KEYS.contains(&entry.key.as_str()) {
            let hint = did_you_mean(&entry.key, PROFILE_KEYS)
                .unwrap_or_else(|| format!("a profile changes {}", listed(PROFILE_KEYS)));
            mistakes.push(Mistake::new(entry.key_span, format!("{place}: unknown key `{}`", entry.key)).hint(hint));
        }
    }
}

/// Rejects values of a profile that an axis of the file's matrix would shadow.
fn refuse_hidden(root: &Table, profile: &Table, mistakes: &mut Mistakes) {
    for stage in table_at(profile, "stages").into_iter().flat_map(|stages| &stages.entries) {
        let (Some(below), Value::Table(above)) =
            (table_at(root, "stages").and_then(|stages| stages.get(&stage.key)), &stage.node.value)
        else {
            continue;
        };
        mistakes.extend(above.entries.iter().filter_map(|entry| hidden(below, &entry.key, entry.key_span)));
        let values = table_at(above, VALUES).map(|values| dotted(values, "")).unwrap_or_default();
        mistakes.extend(values.iter().filter_map(|entry| hidden(below, &entry.key, entry.key_span)));
    }
}

/// The mistake of setting `key` where it is an axis of the stage.
fn hidden(stage: &Entry, key: &str, span: Span) -> Option<Mistake> {
    let Value::Table(table) = &stage.node.value else { return None };
    let axes = dotted(table_at(table, "matrix")?, "");
    axes.iter().find(|axis| axis.key == key)?;
    let name = &stage.key;
    Some(
        Mistake::new(span, format!("stage `{name}`: `{key}` is an axis of the matrix"))
            .hint(format!("set its values: `stages.{name}.matrix.{key} = […]`")),
    )
}

fn table_at<'t>(table: &'t Table, key: &str) -> Option<&'t Table> {
    match &table.get(key)?.node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// Merges `over` into `base`: tables merge, other values replace. An equal value keeps its origin.
fn merge(base: &mut Table, over: Table) {
    for entry in over.entries {
        match (base.get_mut(&entry.key), entry.node.value) {
            (Some(Entry { node: Node { value: Value::Table(below), .. }, .. }), Value::Table(above)) => {
                merge(below, above);
            }
            (Some(below), value) if below.node.value == value => {}
            (_, value) => base.insert(Entry { node: Node { value, ..entry.node }, ..entry }),
        }
    }
}

/// Applies the `--set` arguments in their order.
pub(crate) fn apply_set(root: &mut Table, overrides: &Overrides, sources: &mut Sources, mistakes: &mut Mistakes) {
    for argument in &overrides.set {
        let source = sources.add_argument("--set", argument);
        if let Err(mistake) = set_one(root, source, argument) {
            mistakes.push(mistake);
        }
    }
}

fn set_one(root: &mut Table, source: usize, argument: &str) -> Result<(), Mistake> {
    let whole = Span { source, start: 0, end: argument.len() };
    let shape = || {
        Mistake::new(whole, format!("`{argument}` does not set anything"))
            .hint("write a path and a value, such as `stages.train.epochs=5`".to_owned())
    };
    let equals = unquoted_equals(argument).ok_or_else(shape)?;
    let path = parse_path(source, &argument[..equals]).ok_or_else(shape)?;
    check_path(root, &path)?;
    let text = argument[equals + 1..].trim();
    let offset = argument.trim_end().len() - text.len();
    let node = parse_value(source, offset, text).unwrap_or_else(|| Node {
        value: Value::String(text.to_owned()),
        span: Span { source, start: offset, end: offset + text.len() },
    });
    let (last, parents) = path.split_last().ok_or_else(shape)?;
    let mut table = root;
    for (depth, key) in parents.iter().enumerate() {
        if table.get(&key.name).is_none() {
            let node = Node { value: Value::Table(Table::default()), span: key.span };
            table.insert(Entry { key: key.name.clone(), key_span: key.span, node });
        }
        match table.get_mut(&key.name) {
            Some(Entry { node: Node { value: Value::Table(inner), .. }, .. }) => table = inner,
            _ => {
                let names: Vec<&str> = path[..=depth].iter().map(|key| key.name.as_str()).collect();
                return Err(Mistake::new(key.span, format!("`{}` is not a table", names.join("."))));
            }
        }
    }
    if table.get(&last.name).is_none_or(|below| below.node.value != node.value) {
        table.insert(Entry { key: last.name.clone(), key_span: last.span, node });
    }
    Ok(())
}

struct Key {
    name: String,
    span: Span,
}

/// The first `=` outside quotes.
fn unquoted_equals(argument: &str) -> Option<usize> {
    let mut quote = None;
    argument.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (None, '=') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

/// The keys of a dotted path, read as TOML reads them.
fn parse_path(source: usize, text: &str) -> Option<Vec<Key>> {
    if text.contains('\n') {
        return None;
    }
    let mut mistakes = Mistakes::default();
    let mut table = parse_document(source, &format!("{text} = 0"), &mut mistakes);
    let mut path = Vec::new();
    loop {
        let entry = table.entries.pop()?;
        path.push(Key { name: entry.key, span: entry.key_span });
        match entry.node.value {
            Value::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// Rejects a path to a stage or input that does not exist: `--set` does not add any.
fn check_path(root: &Table, path: &[Key]) -> Result<(), Mistake> {
    let [section, name, rest @ ..] = path else { return Ok(()) };
    if section.name == "profiles" {
        let way = match rest {
            [] => "name the profile with `--profile`".to_owned(),
            _ => format!("set `{}`", rest.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(".")),
        };
        return Err(Mistake::new(section.span, "`--set` does not change profiles, it comes after them").hint(way));
    }
    let noun = match section.name.as_str() {
        "stages" => "stage",
        "inputs" => "input",
        _ => return Ok(()),
    };
    let empty = Table::default();
    let table = table_at(root, &section.name).unwrap_or(&empty);
    let Some(entry) = table.get(&name.name) else {
        let hint = did_you_mean(&name.name, table.keys()).unwrap_or_else(|| there_is(noun, table.keys()));
        return Err(Mistake::new(name.span, format!("no {noun} `{}`", name.name)).hint(hint));
    };
    // The axis would shadow the value; report that instead of ignoring the argument.
    match rest {
        [key] => hidden(entry, &key.name, key.span).map_or(Ok(()), Err),
        [table, names @ .., last] if table.name == VALUES => {
            let name: Vec<&str> = names.iter().chain([last]).map(|key| &key.name[..]).collect();
            hidden(entry, &name.join("."), last.span).map_or(Ok(()), Err)
        }
        _ => Ok(()),
    }
}
