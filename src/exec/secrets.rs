//! The secrets that hamflow knows of.

use hamflow_stage_api::Redactor;

use crate::config::Stage;

/// Variables with credentials: of hamflow, and of the programs of the clouds.
const CREDENTIALS: [&str; 9] = [
    "HAMFLOW_SIGNING_KEY",
    "HAMFLOW_REMOTE_AUTHORIZATION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
];

/// Hides the values of `secret_env` of all stages, because a worker may run jobs of several stages, and all credentials.
pub fn redactor(stages: &[Stage]) -> Redactor {
    let names = stages.iter().flat_map(|stage| &stage.secret_env).map(String::as_str).chain(CREDENTIALS);
    Redactor::new(names.filter_map(|name| std::env::var(name).ok()))
}
