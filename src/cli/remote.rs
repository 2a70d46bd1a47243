//! The remote of a pipeline, and the commands that ask it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::CliError;
use super::cache::guard;
use super::project::Project;
use crate::config::{Pipeline, RemoteOptions};
use crate::store::remote::{self, Availability, Remote, SCOPE_VARIABLE, SigningKey, Trust, Uploads, is_scope};
use crate::store::{ActionKey, TrustPolicy};
use crate::ui::{self, Style, bytes};

/// Overrides `[cache.remote] url`; empty for none.
const URL: &str = "HAMFLOW_REMOTE";
/// The secret key that signs what is written.
const SIGNING_KEY: &str = "HAMFLOW_SIGNING_KEY";

/// The scope of this machine: the environment's, else the pipeline's.
fn scope(options: &RemoteOptions) -> String {
    std::env::var(SCOPE_VARIABLE).ok().filter(|scope| !scope.is_empty()).unwrap_or_else(|| options.scope.clone())
}

/// Whose results are believed, whether or not the remote is asked now.
pub fn trust_policy(pipeline: &Pipeline) -> TrustPolicy {
    let Some(options) = &pipeline.cache.remote else { return TrustPolicy::default() };
    let scopes = std::iter::once(scope(options)).chain(options.read.iter().cloned()).collect();
    TrustPolicy { scopes, trust: options.trust.clone() }
}

/// The remote that the pipeline and the environment name, if they do.
pub fn open(opened: &Project) -> Result<Option<Remote>, CliError> {
    let pipeline = &opened.graph.pipeline;
    let url = std::env::var(URL).ok();
    let options = match (pipeline.cache.remote.clone(), url) {
        (_, Some(url)) if url.is_empty() => return Ok(None),
        (None, None) => return Ok(None),
        (Some(options), None) => options,
        (Some(options), Some(url)) => RemoteOptions { url, ..options },
        (None, Some(_)) => {
            let message = format!("`{URL}` names a remote, but the pipeline does not say whose results are believed");
            return Err(CliError::user(format!("{message}\nhint: `[cache.remote.keys]` lists their public keys")));
        }
    };
    let scope = scope(&options);
    if !is_scope(&scope) {
        return Err(CliError::user(format!("`{SCOPE_VARIABLE}`: a scope has letters, digits, `-`, `_` and `.`")));
    }
    let key = std::env::var(SIGNING_KEY).ok().filter(|key| !key.is_empty());
    // The text is a secret and no part of any message.
    let key =
        key.map(|key| SigningKey::parse(&key).map_err(|error| CliError::user(format!("`{SIGNING_KEY}`: {error}"))));
    let backend = remote::open(&options.url, &pipeline.root)
        .map_err(|problem| CliError::user(format!("the remote cannot be used: {problem}")))?;
    let key = key.transpose()?;
    let trust = Trust { shared: key.as_ref().and_then(|key| key.shared().cloned()), ..options.trust };
    Ok(Some(Remote::new(backend, &scope, &options.read, trust, key)))
}

fn must_be_there(opened: &Project) -> Result<Remote, CliError> {
    let none = || CliError::user("the pipeline has no remote\nhint: `[cache.remote]` with `url` and `keys` names one");
    Ok(open(opened)?.ok_or_else(none)?.background())
}

/// The keys of the lock's results and of their parts.
fn keys(opened: &Project, stages: &BTreeSet<&str>) -> Vec<ActionKey> {
    let locked = opened.lock.stages.iter().filter(|(name, _)| stages.is_empty() || stages.contains(&name[..]));
    locked.filter_map(|(_, stage)| stage.key.parse().ok()).collect()
}

/// Makes a pair of keys, or a secret that all who read and write share.
pub fn keygen(shared: bool) -> Result<(), CliError> {
    let key = if shared { SigningKey::generate_shared() } else { SigningKey::generate() };
    let key = key.map_err(|error| CliError::bug(format!("there are no random numbers: {error}")))?;
    let whose = if shared { "all who may read and write" } else { "those who may write" };
    ui::say(&format!("keep this one secret, as `{SIGNING_KEY}` of {whose}:"));
    ui::data(&key.secret_text());
    ui::say("list this one in `pipeline.toml`, under `[cache.remote.keys]`, as one that may write to a scope:");
    ui::data(&key.verifying_key().to_string());
    Ok(())
}

/// Says what the remote has.
pub fn info(opened: &Project, as_json: bool) -> Result<(), CliError> {
    let remote = must_be_there(opened)?;
    let keys = keys(opened, &BTreeSet::new());
    let Availability { there, absent } = remote.availability(&keys);
    let problem = remote.take_warning();
    let writes = remote.can_write();
    if as_json {
        let value = json!({"remote": remote.place(), "scopes": remote.scopes(), "writes": writes.is_ok(), "there": there,
            "absent": absent, "problem": problem});
        ui::data(&value.to_string());
        return Ok(());
    }
    ui::data(&format!("remote   {}", remote.place()));
    ui::data(&format!("scopes   {}", remote.scopes().join(", then ")));
    let writing = match writes {
        Ok(()) => format!("to `{}`", remote.scopes()[0]),
        Err(reason) => format!("no: {reason}"),
    };
    ui::data(&format!("writes   {writing}"));
    ui::data(&format!("results  {there} of the {} of this pipeline's lock", keys.len()));
    say_problem(problem);
    Ok(())
}

fn say_problem(problem: Option<String>) {
    if let Some(problem) = problem {
        ui::say(&format!("{} {problem}", Style::of(&std::io::stderr()).label("warning")));
    }
}

/// Gives the results of the lock to the remote.
pub fn push(opened: &Project) -> Result<u8, CliError> {
    let remote = Arc::new(must_be_there(opened)?);
    let _guard = guard(opened)?;
    if let Err(reason) = remote.can_write() {
        return Err(CliError::user(format!("nothing can be written to the remote: {reason}")));
    }
    let store = &opened.store;
    let wanted = keys(opened, &BTreeSet::new());
    let results: Vec<_> = wanted.iter().filter_map(|key| store.actions.get(key)).collect();
    let absent = wanted.len() - results.len();
    if wanted.is_empty() || absent > 0 {
        ui::say(&format!(
            "{absent} of the {} results of this pipeline's lock are not in the cache; `hamflow run` makes them",
            wanted.len()
        ));
    }
    // What others made is theirs to give.
    let (results, foreign): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.origins.is_empty());
    if !foreign.is_empty() {
        ui::say(&format!("{} results came from a remote and are not given on", foreign.len()));
    }
    let parts = results.iter().flat_map(|result| &result.parts).filter_map(|key| store.actions.get(key));
    let parts = parts.filter(|part| part.origins.is_empty());
    let all: Vec<_> = parts.chain(results.iter().cloned()).collect();
    let uploads =
        Uploads::start(&remote, store).ok_or_else(|| CliError::bug("a remote that can be written to cannot"))?;
    all.iter().for_each(|result| uploads.add(result));
    let (given, size) = uploads.finish(false);
    ui::data(&format!("{given} of {} results are at `{}` ({} sent)", all.len(), remote.place(), bytes(size)));
    say_problem(remote.take_warning());
    Ok(u8::from(given < all.len() as u64 || absent > 0 || wanted.is_empty()))
}

/// Takes the results of the lock from the remote.
pub fn pull(opened: &Project, stages: &[String]) -> Result<u8, CliError> {
    let remote = must_be_there(opened)?;
    let names: Vec<&str> = if stages.is_empty() {
        Vec::new()
    } else {
        opened.graph.select(stages)?.iter().map(|id| &opened.graph.stage(*id).name[..]).collect()
    };
    let keys = keys(opened, &names.into_iter().collect());
    if keys.is_empty() {
        return Err(CliError::user(
            "the lock of this pipeline names no such result\nhint: `pipeline.lock` says which there are",
        ));
    }
    opened.store.create().map_err(CliError::cache)?;
    let _guard = guard(opened)?;
    let is_here = |key: &&ActionKey| {
        let known = opened.store.actions.get(key);
        known.is_some_and(|result| crate::plan::expected_files(&opened.store, &result).is_some())
    };
    let (here, missing): (Vec<&ActionKey>, Vec<&ActionKey>) = keys.iter().partition(is_here);
    let missing: Vec<ActionKey> = missing.into_iter().copied().collect();
    remote.fetch_all(&opened.store, &missing);
    let (here, taken) = (here.len(), missing.iter().filter(is_here).count());
    let absent = keys.len() - here - taken;
    ui::data(&format!("{taken} results taken from `{}`, {here} were here, {absent} are not there", remote.place()));
    say_problem(remote.take_warning());
    Ok(u8::from(absent > 0))
}
