//! Stages with `foreach` or `matrix`: one for each item.

use crate::config::{Entry, Node, Table, Value};

use super::template::scalar;

/// A stage as written, and the values of the item that it is for.
pub(super) struct Expanded<'t> {
    /// The name of the stage, with the item behind it.
    pub(super) name: String,
    pub(super) stage: &'t Table,
    /// `item`, and for a table `key`.
    pub(super) values: Table,
}

/// The stages that an entry of `stages` stands for; `resolve` gives the list or table behind a name such as `${items}`.
pub(super) fn expand<'t>(
    name: &str,
    stage: &'t Table,
    resolve: &dyn Fn(&Node) -> Option<Node>,
) -> Result<Vec<Expanded<'t>>, String> {
    if let (Some(items), Some(inner)) = (stage.get("foreach"), stage.get("do")) {
        let Value::Table(inner) = &inner.node.value else { return Err("`do` is not a table".to_owned()) };
        let items = resolve(&items.node).ok_or("the items of `foreach` are not known")?;
        return Ok(foreach(name, inner, &items));
    }
    if let Some(Value::Table(axes)) = stage.get("matrix").map(|entry| &entry.node.value) {
        return matrix(name, stage, axes, resolve);
    }
    Ok(vec![Expanded { name: plain(name), stage, values: Table::default() }])
}

fn foreach<'t>(name: &str, stage: &'t Table, items: &Node) -> Vec<Expanded<'t>> {
    let named = |label: &str, values| Expanded { name: plain(&format!("{name}-{label}")), stage, values };
    match &items.value {
        Value::Table(items) => items
            .entries
            .iter()
            .map(|entry| {
                let key = Node { value: Value::String(entry.key.clone()), span: entry.key_span };
                named(&entry.key, table([("key", key), ("item", entry.node.clone())]))
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(place, item)| {
                let label = scalar(item).unwrap_or_else(|| place.to_string());
                named(&label, table([("item", item.clone())]))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn matrix<'t>(
    name: &str,
    stage: &'t Table,
    axes: &Table,
    resolve: &dyn Fn(&Node) -> Option<Node>,
) -> Result<Vec<Expanded<'t>>, String> {
    let mut combinations = vec![(String::new(), Table::default())];
    for axis in &axes.entries {
        let node = resolve(&axis.node).ok_or_else(|| format!("the values of `{}` are not known", axis.key))?;
        let Value::Array(items) = &node.value else { return Err(format!("`{}` is not a list", axis.key)) };
        let mut longer = Vec::new();
        for (label, values) in &combinations {
            for (place, item) in items.iter().enumerate() {
                let of_item = scalar(item).unwrap_or_else(|| format!("{}{place}", axis.key));
                let mut values = values.clone();
                values.insert(Entry { key: axis.key.clone(), key_span: axis.key_span, node: item.clone() });
                longer.push((format!("{label}-{of_item}"), values));
            }
        }
        combinations = longer;
    }
    let expanded = combinations.into_iter().map(|(label, values)| {
        let item = Node { value: Value::Table(values), span: Default::default() };
        Expanded { name: plain(&format!("{name}{label}")), stage, values: table([("item", item)]) }
    });
    Ok(expanded.collect())
}

fn table<const N: usize>(entries: [(&str, Node); N]) -> Table {
    let entry = |(key, node): (&str, Node)| Entry { key: key.to_owned(), key_span: node.span, node };
    Table { entries: entries.into_iter().map(entry).collect() }
}

/// A name with letters, digits, `_` and `-` only.
pub(super) fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    plain.trim_matches('_').to_owned()
}
