//! Remotes in Azure Blob Storage.

use std::path::Path;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::client::Client;
use super::cloud::{Cloud, bucket_and_prefix, no_retries};
use super::{OpenResult, RemoteKind, env_var, env_vars};

/// Remotes with URLs like `az://container/prefix`.
pub const KIND: RemoteKind = RemoteKind { schemes: &["az"], example: "az://container/prefix", open };

const CREDENTIALS: &str = "credentials are read from `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN`, `AZURE_CLIENT_ID` with `AZURE_CLIENT_SECRET` and `AZURE_TENANT_ID`, or the managed identity";

/// Like the builder's `from_env`, but ignores empty variables.
fn from_environment() -> MicrosoftAzureBuilder {
    let settings = env_vars("AZURE_")
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse::<AzureConfigKey>().ok()?, value)));
    // The managed identity of machines in Azure.
    let identity = env_var("IDENTITY_ENDPOINT").map(|endpoint| (AzureConfigKey::MsiEndpoint, endpoint));
    let settings = settings.chain(identity);
    settings.fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
}

fn open(url: &str, _root: &Path) -> OpenResult {
    let (container, prefix) = bucket_and_prefix(url)?;
    let client = Client::new();
    let mut builder =
        from_environment().with_container_name(container).with_retry(no_retries()).with_http_connector(client.clone());
    if env_var("AZURE_STORAGE_ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    // The client's own message may contain values of environment variables.
    let store = builder.build().map_err(|_| format!("inconsistent settings; {CREDENTIALS}"))?;
    Cloud::open(store, client, prefix, url.to_owned(), CREDENTIALS)
}
