//! The remote cache of a pipeline, and the commands that use it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::CliError;
use super::guard::guard;
use super::project::Project;
use super::trust::scope;
use crate::config::RemoteOptions;
use crate::store::ActionKey;
use crate::store::remote::{self, Availability, Remote, SCOPE_VARIABLE, SigningKey, Trust, Uploads, is_scope};
use crate::ui::{self, Style, bytes, plural};

/// The variable that overrides `[cache.remote] url`; empty disables the remote.
const URL: &str = "HAMFLOW_REMOTE";
/// The variable with the secret key that signs uploaded results.
const SIGNING_KEY: &str = "HAMFLOW_SIGNING_KEY";

/// Opens the remote configured by the pipeline and the environment, if there is one.
pub fn open(opened: &Project) -> Result<Option<Remote>, CliError> {
    let pipeline = &opened.graph.pipeline;
    let url = std::env::var(URL).ok();
    let options = match (pipeline.cache.remote.clone(), url) {
        (_, Some(url)) if url.is_empty() => return Ok(None),
        (None, None) => return Ok(None),
        (Some(options), None) => options,
        (Some(options), Some(url)) => RemoteOptions { url, ..options },
        (None, Some(_)) => {
            let message = format!("`{URL}` is set, but the pipeline lists no trusted keys");
            return Err(CliError::user(message).hint("list the public keys to trust under `[cache.remote.keys]`"));
        }
    };
    let scope = scope(&options);
    if !is_scope(&scope) {
        return Err(CliError::user(format!("`{SCOPE_VARIABLE}`: a scope has only letters, digits, `-`, `_` and `.`")));
    }
    let key = std::env::var(SIGNING_KEY).ok().filter(|key| !key.is_empty());
    // The key is secret: it must never be part of a message.
    let key =
        key.map(|key| SigningKey::parse(&key).map_err(|error| CliError::user(format!("`{SIGNING_KEY}`: {error}"))));
    let backend = remote::open(&options.url, &pipeline.root)
        .map_err(|problem| CliError::user(format!("cannot use the remote: {problem}")))?;
    let key = key.transpose()?;
    let trust = Trust { shared: key.as_ref().and_then(|key| key.shared().cloned()), ..options.trust };
    Ok(Some(Remote::new(backend, &scope, &options.read, trust, key)))
}

/// The URL of the remote, if there is one; absolute if it is a folder.
pub fn url(opened: &Project) -> Option<String> {
    let pipeline = &opened.graph.pipeline;
    let of_pipeline = pipeline.cache.remote.as_ref().map(|options| options.url.clone());
    let url = std::env::var(URL).ok().or(of_pipeline).filter(|url| !url.is_empty())?;
    Some(if url.contains("://") { url } else { pipeline.root.join(url).display().to_string() })
}

fn required(opened: &Project) -> Result<Remote, CliError> {
    let none = || CliError::user("the pipeline has no remote").hint("add `[cache.remote]` with `url` and `keys`");
    Ok(open(opened)?.ok_or_else(none)?.background())
}

/// The keys of the results in the lock file, of these stages or of all.
fn keys(opened: &Project, stages: &BTreeSet<&str>) -> Vec<ActionKey> {
    let locked = opened.lock.stages.iter().filter(|(name, _)| stages.is_empty() || stages.contains(&name[..]));
    locked.filter_map(|(_, stage)| stage.key.parse().ok()).collect()
}

/// Generates a key pair, or a secret shared by all readers and writers.
pub fn keygen(shared: bool) -> Result<(), CliError> {
    let key = if shared { SigningKey::generate_shared() } else { SigningKey::generate() };
    let key = key.map_err(|error| CliError::bug(format!("the system has no random numbers: {error}")))?;
    let who = if shared { "everyone who may read and write" } else { "everyone who may write" };
    ui::say(&format!("secret key, to be set as `{SIGNING_KEY}` by {who}:"));
    ui::data(&key.secret_text());
    ui::say("public key, to be listed under `[cache.remote.keys]` in `pipeline.toml`:");
    ui::data(&key.verifying_key().to_string());
    Ok(())
}

/// Shows which results the remote has.
pub fn info(opened: &Project, as_json: bool) -> Result<(), CliError> {
    let remote = required(opened)?;
    let keys = keys(opened, &BTreeSet::new());
    let Availability { available, missing } = remote.availability(&keys);
    let problem = remote.take_warning();
    let writes = remote.can_write();
    if as_json {
        let value = json!({"remote": remote.location(), "scopes": remote.scopes(), "writes": writes.is_ok(), "there": available,
            "absent": missing, "problem": problem});
        ui::data(&value.to_string());
        return Ok(());
    }
    ui::data(&format!("remote   {}", remote.location()));
    ui::data(&format!("scopes   {}", remote.scopes().join(", then ")));
    let writing = match writes {
        Ok(()) => format!("to `{}`", remote.scopes()[0]),
        Err(reason) => format!("no: {reason}"),
    };
    ui::data(&format!("writes   {writing}"));
    ui::data(&format!("results  {available} of {} in the lock file", keys.len()));
    warn(problem);
    Ok(())
}

fn warn(problem: Option<String>) {
    if let Some(problem) = problem {
        ui::say(&format!("{} {problem}", Style::of(&std::io::stderr()).label("warning")));
    }
}

/// Uploads the results in the lock file.
pub fn push(opened: &Project) -> Result<u8, CliError> {
    let remote = Arc::new(required(opened)?);
    let _guard = guard(opened)?;
    if let Err(reason) = remote.can_write() {
        return Err(CliError::user(format!("cannot write to the remote: {reason}")));
    }
    let store = &opened.store;
    let wanted = keys(opened, &BTreeSet::new());
    let results: Vec<_> = wanted.iter().filter_map(|key| store.actions.get(key)).collect();
    let absent = wanted.len() - results.len();
    if wanted.is_empty() || absent > 0 {
        ui::say(&format!(
            "{absent} of {} in the lock file are not in the cache; create them with `hamflow run`",
            plural(wanted.len(), "result")
        ));
    }
    // Only results made on this machine are uploaded.
    let (results, foreign): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.origins.is_empty());
    if !foreign.is_empty() {
        ui::say(&format!("skipped {} that came from a remote", plural(foreign.len(), "result")));
    }
    let parts = results.iter().flat_map(|result| &result.parts).filter_map(|key| store.actions.get(key));
    let parts = parts.filter(|part| part.origins.is_empty());
    let all: Vec<_> = parts.chain(results.iter().cloned()).collect();
    let uploads =
        Uploads::start(&remote, store).ok_or_else(|| CliError::bug("internal error: uploads did not start"))?;
    all.iter().for_each(|result| uploads.add(result));
    let (given, size) = uploads.finish(false);
    ui::data(&format!(
        "{given} of {} available at `{}` ({} uploaded)",
        plural(all.len(), "result"),
        remote.location(),
        bytes(size)
    ));
    warn(remote.take_warning());
    Ok(u8::from(given < all.len() as u64 || absent > 0 || wanted.is_empty()))
}

/// Downloads the results in the lock file.
pub fn pull(opened: &Project, stages: &[String]) -> Result<u8, CliError> {
    let remote = required(opened)?;
    let names: Vec<&str> = if stages.is_empty() {
        Vec::new()
    } else {
        opened.graph.select(stages)?.iter().map(|id| &opened.graph.stage(*id).name[..]).collect()
    };
    let keys = keys(opened, &names.into_iter().collect());
    if keys.is_empty() {
        return Err(CliError::user("the lock file lists no results of these stages"));
    }
    opened.store.create().map_err(CliError::cache)?;
    let _guard = guard(opened)?;
    let is_here = |key: &&ActionKey| {
        let known = opened.store.actions.get(key);
        known.is_some_and(|result| opened.store.files(&result).is_some())
    };
    let (here, missing): (Vec<&ActionKey>, Vec<&ActionKey>) = keys.iter().partition(is_here);
    let missing: Vec<ActionKey> = missing.into_iter().copied().collect();
    remote.fetch_all(&opened.store, &missing);
    let (here, taken) = (here.len(), missing.iter().filter(is_here).count());
    let absent = keys.len() - here - taken;
    ui::data(&format!(
        "downloaded {} from `{}` ({here} already present, {absent} not available)",
        plural(taken, "result"),
        remote.location()
    ));
    warn(remote.take_warning());
    Ok(u8::from(absent > 0))
}
