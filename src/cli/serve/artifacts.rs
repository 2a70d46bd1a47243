//! The artifacts of a run.

use maud::{Markup, html};

use super::page::Page;
use super::reply::{Reply, segment};
use super::site::Site;
use crate::exec::{RunRecord, StageRecord};
use crate::store::Tree;
use crate::ui::bytes;

/// Content types of files that a browser shows; others are downloaded.
const CONTENT_TYPES: [(&str, &str); 10] = [
    ("csv", "text/plain; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpg", "image/jpeg"),
    ("json", "text/plain; charset=utf-8"),
    ("jsonl", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webp", "image/webp"),
];

fn content_type(path: &str) -> &'static str {
    let end = path.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
    let known = CONTENT_TYPES.iter().find(|(known, _)| end.as_deref() == Some(known));
    known.map_or("application/octet-stream", |(_, content_type)| content_type)
}

/// Links to the artifacts of a stage.
pub fn links(stage: &StageRecord) -> Markup {
    html! {
        @for (name, digest) in &stage.outputs {
            a href={ "artifact/" (segment(&stage.stage)) "/" (segment(name)) "/" } title=(bytes(digest.size())) { (name) } " "
        }
    }
}

/// Answers a request for an artifact: for a folder a list of its files, else the file.
pub fn reply(site: &Site, record: &RunRecord, (stage, name): (&str, &str), path: &[&str]) -> Reply {
    let made = record.stages.iter().find(|found| found.stage == stage);
    let Some(digest) = made.and_then(|made| made.outputs.get(name)) else {
        return Reply::error(404, &format!("run {} has no artifact `{name}` of stage `{stage}`", record.run));
    };
    let Some(content) = site.store.content.read(digest) else {
        return Reply::error(404, &format!("the artifact `{name}` of stage `{stage}` is no longer in the cache"));
    };
    let tree = std::str::from_utf8(&content).ok().and_then(|text| Tree::parse(text).ok());
    match (tree, path) {
        (Some(tree), [""]) => Reply::page(list(record, stage, name, &tree)),
        (Some(tree), path) => {
            let path = path.join("/");
            let entry = tree.entries().iter().find(|entry| entry.path[..] == path);
            match entry.and_then(|entry| site.store.content.read(&entry.digest)) {
                Some(bytes) => Reply::file(content_type(&path), bytes),
                None => Reply::error(404, &format!("the artifact `{name}` of stage `{stage}` has no file `{path}`")),
            }
        }
        (None, [""]) => {
            let is_text = std::str::from_utf8(&content).is_ok();
            Reply::file(if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" }, content)
        }
        (None, _) => Reply::error(404, &format!("the artifact `{name}` of stage `{stage}` is a file")),
    }
}

/// The most files that are listed.
const MAX_LISTED: usize = 1000;

fn list(record: &RunRecord, stage: &str, name: &str, tree: &Tree) -> Markup {
    let link = |path: &str| path.split('/').map(segment).collect::<Vec<_>>().join("/");
    let files = tree.entries();
    let pictures = files.iter().filter(|entry| content_type(&entry.path).starts_with("image/")).take(24);
    let body = html! {
        p { "Run " a href="../../../" { (record.run) } ", " (files.len()) @if files.len() == 1 { " file" } @else { " files" } }
        div.pictures {
            @for entry in pictures { figure { img alt=(entry.path) src=(link(&entry.path)) loading="lazy"; figcaption { (entry.path) } } }
        }
        ul { @for entry in files.iter().take(MAX_LISTED) { li { a href=(link(&entry.path)) { (entry.path) } " " span.soft { (bytes(entry.digest.size())) } } } }
        @if files.len() > MAX_LISTED { p { "The first " (MAX_LISTED) " files are listed." } }
    };
    Page { title: &format!("{stage}: {name}"), root: "../../../../../", live: false, body }.render()
}
