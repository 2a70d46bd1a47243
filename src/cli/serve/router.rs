//! Which page an address names.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::page::LogText;
use super::reply::{Reply, Url};
use super::runs::RunState;
use super::site::Site;
use super::{artifacts, curves, page, run_page, runs_page};
use crate::cli::{compare, pages};
use crate::exec::{RunRecord, stage_log};
use crate::fs::{self, Symlinks};

/// How much of the end of a log is shown at once.
const LOG_TAIL: u64 = 256 * 1024;

const STYLE: &str = include_str!("serve.css");
const SCRIPT: &str = include_str!("serve.js");

/// Three stages and their dependencies.
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">\
                    <path d=\"M4 4L12 8L4 12\" fill=\"none\" stroke=\"#8a90a0\" stroke-width=\"1.5\"/>\
                    <g fill=\"#5b3fb0\"><circle cx=\"4\" cy=\"4\" r=\"2.5\"/><circle cx=\"4\" cy=\"12\" r=\"2.5\"/>\
                    <circle cx=\"12\" cy=\"8\" r=\"2.5\"/></g></svg>";

impl Site {
    /// Answers a request for a path below the site's root.
    pub fn reply(&mut self, url: &Url) -> Reply {
        let path: Vec<&str> = url.path.iter().map(String::as_str).collect();
        match &path[..] {
            [""] => Reply::page(runs_page::page(self, url)),
            ["serve.css"] => Reply::own("text/css; charset=utf-8", STYLE),
            ["serve.js"] => Reply::own("text/javascript; charset=utf-8", SCRIPT),
            ["icon.svg"] => Reply::svg(ICON),
            ["compare"] => self.compare(url),
            ["run", run, rest @ ..] => match self.runs.get(run) {
                Some(record) => self.of_run(&record, rest, url),
                None => Reply::error(404, &format!("no run `{run}` is recorded")),
            },
            _ => Reply::error(404, "no such page"),
        }
    }

    fn of_run(&mut self, record: &RunRecord, path: &[&str], url: &Url) -> Reply {
        match path {
            [""] => Reply::page(run_page::page(self, record)),
            ["graph.svg"] => run_page::graph(self, record).map_or_else(|error| Reply::error(404, &error), Reply::svg),
            ["curves.svg"] => {
                let stage = url.get("stage").unwrap_or_default();
                curves::of_run(self, record, stage)
                    .map_or_else(|| Reply::error(404, "this stage has no curves"), Reply::svg)
            }
            ["log"] => self.log(record, url),
            ["report"] => self.report(record, url.get("stage").unwrap_or_default()),
            ["artifact", stage, name, file @ ..] => artifacts::reply(self, record, (stage, name), file),
            _ => Reply::error(404, "no such page"),
        }
    }

    /// The log of a stage: a page, or with `from` the text after that many bytes.
    fn log(&mut self, record: &RunRecord, url: &Url) -> Reply {
        let stage = url.get("stage").unwrap_or_default();
        let is_plain = stage.split('/').all(|step| !step.is_empty() && ![".", ".."].contains(&step));
        let path = stage_log(&self.store.runs_dir(), &record.run, stage);
        let from = url.get("from").and_then(|from| from.parse::<u64>().ok());
        let Some((start, text)) = Some(path).filter(|_| is_plain).and_then(|path| read_from(&path, from).ok()) else {
            return Reply::error(404, &format!("stage `{stage}` has no log in run `{}`", record.run));
        };
        let live = matches!(self.runs.state(record), RunState::Running(_));
        let length = start + text.len() as u64;
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut reply = match from {
            Some(_) => Reply::own("text/plain; charset=utf-8", text),
            None => {
                let log = LogText { text: &text, is_tail: start > 0, length, live };
                Reply::page(page::log(record, stage, &log))
            }
        };
        (reply.next, reply.ended) = (Some(length), !live);
        reply
    }

    fn report(&mut self, record: &RunRecord, stage: &str) -> Reply {
        let run = record.clone();
        let project = match self.project(run.profile.as_deref()) {
            Ok(project) => project,
            Err(error) => return Reply::error(404, &error),
        };
        let artifact = pages::page_stages(project).into_iter().find(|(found, _)| found == stage);
        let made = run.stages.iter().find(|found| found.stage == stage);
        let digest = artifact.and_then(|(_, artifact)| made?.outputs.get(&artifact).copied());
        let Some(digest) = digest else {
            return Reply::error(404, &format!("run {} did not produce a page of `{stage}`", run.run));
        };
        match pages::read(project, stage, &digest) {
            Ok(page) => Reply::artifact_page(pages::with_facts(&page, &pages::run_facts(&run))),
            Err(error) => Reply::error(404, &error.to_string()),
        }
    }

    /// The comparison of the two runs in the query, the older one first.
    fn compare(&mut self, url: &Url) -> Reply {
        let mut names: Vec<&str> =
            url.query.iter().filter(|(name, _)| name == "run").map(|(_, run)| &run[..]).collect();
        names.sort_unstable();
        names.dedup();
        let [a, b] = names[..] else { return Reply::error(400, "choose two runs to compare") };
        let (Some(a), Some(b)) = (self.runs.get(a), self.runs.get(b)) else {
            return Reply::error(404, "one of the runs is not recorded");
        };
        match self.project(b.profile.as_deref()) {
            Ok(project) => Reply::artifact_page(compare::page(project, [&a, &b]).into_string()),
            Err(error) => Reply::error(404, &error),
        }
    }
}

/// The bytes of a log from `from`, or else its tail, with where they start.
fn read_from(path: &Path, from: Option<u64>) -> io::Result<(u64, Vec<u8>)> {
    let mut file = fs::open_regular(path, Symlinks::Refuse)?;
    let length = file.metadata()?.len();
    let start = from.unwrap_or(length.saturating_sub(LOG_TAIL)).min(length);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok((start, text))
}
