//! The section about the dataset: its content, missing values and imputation.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::facts::{facts, text, words};
use super::layout::{percent, scroll};
use super::sources::Sources;

/// The parts of a summary with a dedicated presentation; everything else is shown generically.
const SHOWN: [&str; 4] = ["classes", "nulls", "counts", "age"];

/// Renders the section, if anything is known about the data.
pub fn section(sources: &Sources) -> Option<Markup> {
    if sources.metadata.is_none() && sources.clean.is_none() && sources.quarantine.is_none() {
        return None;
    }
    Some(html! {
        @if let Some(metadata) = &sources.metadata {
            (facts(metadata, &SHOWN))
            div.blocks {
                @if let Some(classes) = metadata.get("classes").and_then(Value::as_array) { (class_table(classes)) }
                @for (column, counts) in objects(metadata.get("counts")) {
                    // The classes have a separate table with their names.
                    @if column != "dx" { (count_table(column, counts)) }
                }
                @if let Some(Value::Object(nulls)) = metadata.get("nulls") { (missing_table(nulls)) }
                @if let Some(Value::Object(age)) = metadata.get("age") { (pair_table("Age", "value", age)) }
            }
        }
        @if let Some(clean) = &sources.clean {
            h3 { "Missing values filled in" }
            (imputation(clean))
        }
        @if let Some(quarantine) = &sources.quarantine {
            h3 { "Images that could not be read" }
            (quarantined(quarantine))
        }
    })
}

fn objects(value: Option<&Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    value.and_then(Value::as_object).into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_object()?)))
}

fn class_table(classes: &[Value]) -> Markup {
    let rows = |class: &Value| class.get("rows").and_then(Value::as_u64).unwrap_or(0);
    let total: u64 = classes.iter().map(rows).sum();
    let field = |class: &Value, name: &str| class.get(name).map(text).unwrap_or_default();
    let table = html! {
        table {
            caption { "Classes in index order" }
            thead {
                tr {
                    th.number scope="col" { "index" } th scope="col" { "class" } th scope="col" { "name" }
                    @for name in ["images", "share", "lesions"] { th.number scope="col" { (name) } }
                }
            }
            tbody {
                @for class in classes {
                    tr {
                        td.number { (field(class, "index")) }
                        th scope="row" { (field(class, "label")) }
                        td { (field(class, "name")) }
                        td.number { (field(class, "rows")) }
                        td.number { (share(rows(class), total)) }
                        td.number { (field(class, "lesions")) }
                    }
                }
            }
        }
    };
    html! { div.block { (scroll("Classes", &table)) } }
}

fn count_table(column: &str, counts: &Map<String, Value>) -> Markup {
    let mut counts: Vec<(&String, u64)> = counts.iter().map(|(name, n)| (name, n.as_u64().unwrap_or(0))).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let total: u64 = counts.iter().map(|(_, n)| n).sum();
    let title = format!("Images by {}", words(column));
    let table = html! {
        table {
            caption { (title) }
            thead { tr { th scope="col" { (words(column)) } th.number scope="col" { "images" } th.number scope="col" { "share" } } }
            tbody {
                @for (name, n) in counts {
                    tr { th scope="row" { (name) } td.number { (crate::plot::grouped(n)) } td.number { (share(n, total)) } }
                }
            }
        }
    };
    html! { div.block { (scroll(&title, &table)) } }
}

fn missing_table(nulls: &Map<String, Value>) -> Markup {
    let missing: Map<String, Value> =
        nulls.iter().filter(|(_, n)| n.as_u64() != Some(0)).map(|(name, n)| (name.clone(), n.clone())).collect();
    html! {
        @if missing.is_empty() {
            div.block { p { "No value is missing." } }
        } @else {
            (pair_table("Missing values by column", "missing", &missing))
        }
    }
}

fn pair_table(title: &str, heading: &str, pairs: &Map<String, Value>) -> Markup {
    let table = html! {
        table {
            caption { (title) }
            thead { tr { th scope="col" { "" } th.number scope="col" { (heading) } } }
            tbody { @for (name, value) in pairs { tr { th scope="row" { (words(name)) } td.number { (text(value)) } } } }
        }
    };
    html! { div.block { (scroll(title, &table)) } }
}

fn imputation(clean: &Value) -> Markup {
    let field = |name: &str| clean.get(name).map(text);
    html! {
        @if let (Some(column), Some(filled), Some(strategy)) = (field("column"), field("filled"), field("strategy")) {
            @let dropped = field("dropped").filter(|_| strategy == "drop");
            @if let Some(dropped) = dropped {
                p { (dropped) " rows without " code { (column) } " were left out." }
            } @else {
            p {
                (filled) " missing values of " code { (column) } " were filled in by the strategy " code { (strategy) }
                @if let Some(fit) = field("fit") { ", fitted on " code { (fit) } " rows" }
                "; the column " code { (column) "_imputed" } " marks them."
            }
            }
        }
        (facts(clean, &["column", "strategy", "fit"]))
    }
}

fn quarantined(quarantine: &Value) -> Markup {
    match quarantine.get("images").and_then(Value::as_array) {
        Some(images) if images.is_empty() => html! { p { "Every image could be read." } },
        Some(images) => quarantine_table(images),
        None => facts(quarantine, &[]),
    }
}

fn quarantine_table(images: &[Value]) -> Markup {
    let text = |image: &Value, name: &str| match image.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "–".to_owned(),
        Some(other) => other.to_string(),
    };
    let table = html! {
        table {
            caption { "Images that were left out" }
            thead {
                tr {
                    @for name in ["image", "file", "what is wrong"] { th scope="col" { (name) } }
                    th.number scope="col" { "byte" }
                }
            }
            tbody {
                @for image in images {
                    tr {
                        th scope="row" { (text(image, "image_id")) }
                        td { code { (text(image, "path")) } }
                        td { (text(image, "reason")) }
                        td.number { (text(image, "offset")) }
                    }
                }
            }
        }
    };
    let count = if images.len() == 1 {
        "1 image was left out.".to_owned()
    } else {
        format!("{} images were left out.", images.len())
    };
    html! { p { (count) } div.block { (scroll("Images that were left out", &table)) } }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) }
}
