//! Remotes in Google Cloud Storage.

use std::path::Path;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::client::Client;
use super::cloud::{Cloud, bucket_and_prefix, no_retries};
use super::{OpenResult, RemoteKind, env_var, env_vars};

/// Remotes with URLs like `gs://bucket/prefix`.
pub const KIND: RemoteKind = RemoteKind { schemes: &["gs"], example: "gs://bucket/prefix", open };

const CREDENTIALS: &str = "credentials are read from `GOOGLE_APPLICATION_CREDENTIALS`, `gcloud auth application-default login` or the machine's service account";

/// Like the builder's `from_env`, but ignores empty variables.
fn from_environment() -> GoogleCloudStorageBuilder {
    let settings = env_vars("GOOGLE_")
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse::<GoogleConfigKey>().ok()?, value)));
    let service_account = env_var("SERVICE_ACCOUNT").map(|path| (GoogleConfigKey::ServiceAccount, path));
    let settings = service_account.into_iter().chain(settings);
    settings.fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
}

fn open(url: &str, _root: &Path) -> OpenResult {
    let (bucket, prefix) = bucket_and_prefix(url)?;
    let client = Client::new();
    let mut builder =
        from_environment().with_bucket_name(bucket).with_retry(no_retries()).with_http_connector(client.clone());
    // Google's client libraries use the same variable. An emulator accepts any credentials.
    if let Some(emulator) = env_var("STORAGE_EMULATOR_HOST") {
        let address = if emulator.contains("://") { emulator } else { format!("http://{emulator}") };
        builder = builder
            .with_config(GoogleConfigKey::BaseUrl, address)
            .with_config(GoogleConfigKey::BearerToken, "emulator")
            .with_config(GoogleConfigKey::Client(object_store::ClientConfigKey::AllowHttp), "true");
    }
    // The client's own message may contain values of environment variables.
    let store = builder.build().map_err(|_| format!("inconsistent settings; {CREDENTIALS}"))?;
    Cloud::open(store, client, prefix, url.to_owned(), CREDENTIALS)
}
