//! Whose results are trusted on this machine.

use crate::config::{Pipeline, RemoteOptions};
use crate::store::TrustPolicy;
use crate::store::remote::SCOPE_VARIABLE;

/// The scope to use: that of the environment, or else that of the pipeline.
pub fn scope(options: &RemoteOptions) -> String {
    std::env::var(SCOPE_VARIABLE).ok().filter(|scope| !scope.is_empty()).unwrap_or_else(|| options.scope.clone())
}

/// Which results from remotes are trusted. It also applies to cached results while the remote is disabled.
pub fn trust_policy(pipeline: &Pipeline) -> TrustPolicy {
    let Some(options) = &pipeline.cache.remote else { return TrustPolicy::default() };
    let scopes = std::iter::once(scope(options)).chain(options.read.iter().cloned()).collect();
    TrustPolicy { scopes, trust: options.trust.clone() }
}
