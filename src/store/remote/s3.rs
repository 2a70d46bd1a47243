//! Remotes in Amazon S3 and S3-compatible servers.

use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::client::Client;
use super::cloud::{Cloud, bucket_and_prefix, no_retries};
use super::{OpenResult, RemoteKind, env_var, env_vars};
use crate::fs::{self, Symlinks};

/// Remotes with URLs like `s3://bucket/prefix`.
pub const KIND: RemoteKind = RemoteKind { schemes: &["s3"], example: "s3://bucket/prefix", open };

const CREDENTIALS: &str = "credentials are read from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, the profile `AWS_PROFILE` or the instance role";

/// Like the builder's `from_env`, but ignores empty variables.
fn from_environment() -> AmazonS3Builder {
    let settings = env_vars("AWS_")
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>().ok()?, value)));
    settings.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
}

fn open(url: &str, _root: &Path) -> OpenResult {
    let (bucket, prefix) = bucket_and_prefix(url)?;
    let client = Client::new();
    let mut builder =
        from_environment().with_bucket_name(bucket).with_retry(no_retries()).with_http_connector(client.clone());
    let ours = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    let is_given = ours.iter().any(|name| env_var(name).is_some());
    // With credentials in the environment, the profile is optional, such as one that requires single sign-on.
    let profile = Profile::find().or_else(|problem| if is_given { Ok(Profile::default()) } else { Err(problem) })?;
    if !is_given {
        builder = profile.keys.iter().fold(builder, |builder, (key, value)| builder.with_config(*key, value));
    }
    if env_var("AWS_REGION").or_else(|| env_var("AWS_DEFAULT_REGION")).is_none()
        && let Some(region) = &profile.region
    {
        builder = builder.with_region(region);
    }
    let endpoint = env_var("AWS_ENDPOINT_URL_S3").or_else(|| env_var("AWS_ENDPOINT_URL"));
    if let Some(endpoint) = endpoint.or(profile.endpoint) {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err("the endpoint (`AWS_ENDPOINT_URL` or the profile's `endpoint_url`) is not a URL".to_owned());
        }
        // An explicit `http://` endpoint is intended, for example for a local server.
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    // The client's own message may contain values of environment variables.
    let store = builder.build().map_err(|_| format!("inconsistent settings; {CREDENTIALS}"))?;
    Cloud::open(store, client, prefix, url.to_owned(), CREDENTIALS)
}

/// A profile from the AWS credentials and config files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Profile {
    /// Empty, or access key, secret key and optionally a session token.
    keys: Vec<(AmazonS3ConfigKey, String)>,
    region: Option<String>,
    endpoint: Option<String>,
}

impl Profile {
    /// The profile in `AWS_PROFILE`, or the default one.
    fn find() -> Result<Self, String> {
        let home = env_var("HOME").map(PathBuf::from).unwrap_or_default();
        let place =
            |variable: &str, file: &str| env_var(variable).map_or_else(|| home.join(".aws").join(file), Into::into);
        let credentials = read(&place("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        let config = read(&place("AWS_CONFIG_FILE", "config"))?;
        Self::of(&credentials, &config, env_var("AWS_PROFILE").as_deref())
    }

    fn of(credentials: &Ini, config: &Ini, requested: Option<&str>) -> Result<Self, String> {
        let name = requested.unwrap_or("default");
        let long = format!("profile {name}");
        let sections = [credentials.section(Some(name)), config.section(Some(&long)), config.section(Some(name))];
        if requested.is_some() && sections.iter().all(Option::is_none) {
            return Err(format!("the AWS credentials and config files have no profile `{name}` (`AWS_PROFILE`)"));
        }
        let value = |key: &str| sections.iter().flatten().find_map(|section| section.get(key)).map(str::to_owned);
        let keys = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                let token = value("aws_session_token").map(|token| (AmazonS3ConfigKey::Token, token));
                let pair = [(AmazonS3ConfigKey::AccessKeyId, id), (AmazonS3ConfigKey::SecretAccessKey, secret)];
                pair.into_iter().chain(token).collect()
            }
            _ if requested.is_some()
                && value("sso_session").or(value("sso_start_url")).or(value("role_arn")).is_some() =>
            {
                return Err(format!(
                    "the profile `{name}` has no access keys; export its credentials to the environment with `eval \"$(aws configure export-credentials --profile {name} --format env)\"`"
                ));
            }
            _ => Vec::new(),
        };
        Ok(Self { keys, region: value("region"), endpoint: value("endpoint_url") })
    }
}

/// Reads an INI file; a missing file is empty.
fn read(path: &Path) -> Result<Ini, String> {
    let text = match fs::read_text(path, Symlinks::Follow) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ini::new()),
        Err(error) => return Err(format!("cannot read `{}`: {error}", path.display())),
    };
    parse(&text).map_err(|line| format!("invalid syntax in `{}`, line {line}", path.display()))
}

fn parse(text: &str) -> Result<Ini, usize> {
    // Secrets may contain quotes and backslashes, which must not be interpreted.
    let verbatim = ParseOption { enabled_escape: false, enabled_quote: false, ..ParseOption::default() };
    Ini::load_from_str_opt(text, verbatim).map_err(|error| error.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS_FILE: &str = "[default]\naws_access_key_id = AKIA1\naws_secret_access_key = a\\b+/=#c\n\n[ci]\naws_access_key_id=AKIA2\naws_secret_access_key=s\naws_session_token=t\n";
    const CONFIG_FILE: &str = "[default]\nregion = eu-central-1\n[profile ci]\nregion = us-west-2\nendpoint_url = http://127.0.0.1:9000\n[profile people]\nsso_session = x\n";

    fn profile(requested: Option<&str>) -> Result<Profile, String> {
        Profile::of(&parse(CREDENTIALS_FILE).unwrap(), &parse(CONFIG_FILE).unwrap(), requested)
    }

    #[test]
    fn profiles_are_merged_from_both_files_with_verbatim_secrets() {
        let default = profile(None).unwrap();
        assert_eq!(default.keys[1].1, "a\\b+/=#c");
        assert_eq!((default.region.as_deref(), default.endpoint), (Some("eu-central-1"), None));
        let ci = profile(Some("ci")).unwrap();
        assert_eq!(ci.keys.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(), ["AKIA2", "s", "t"]);
        assert_eq!((ci.region.as_deref(), ci.endpoint.as_deref()), (Some("us-west-2"), Some("http://127.0.0.1:9000")));
    }

    #[test]
    fn unusable_profiles_are_rejected() {
        assert!(profile(Some("cj")).unwrap_err().contains("no profile `cj`"));
        assert!(profile(Some("people")).unwrap_err().contains("export-credentials --profile people"));
        assert_eq!(Profile::of(&Ini::new(), &Ini::new(), None), Ok(Profile::default()));
    }
}
