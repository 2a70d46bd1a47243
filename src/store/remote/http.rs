//! Remotes on a web server that supports `PUT`, such as nginx with WebDAV.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use ureq::tls::{RootCerts, TlsConfig};

use super::backend::{Backend, RemoteError, sink_error};
use super::{OpenResult, RemoteKind, env_var};

/// The environment variable with the value of the `Authorization` header, such as `Bearer …`.
const AUTHORIZATION: &str = "HAMFLOW_REMOTE_AUTHORIZATION";

/// Remotes with URLs like `https://host/path`.
pub const KIND: RemoteKind = RemoteKind { schemes: &["http", "https"], example: "https://host/path", open };

fn open(url: &str, _root: &Path) -> OpenResult {
    Ok(Box::new(Http::new(url)?))
}

/// The timeout for connecting. Requests have no timeout of their own; the caller watches their progress.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Creates a client, which trusts the certificates that the system trusts.
pub fn agent() -> ureq::Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .http_status_as_error(false)
        // Following a redirect would turn a PUT into a GET.
        .max_redirects(0)
        .max_idle_connections_per_host(16)
        .tls_config(tls)
        .user_agent(concat!("hamflow/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

/// Objects below a URL, accessed with `GET`, `HEAD` and `PUT`.
pub struct Http {
    agent: ureq::Agent,
    /// Without credentials and trailing slash.
    url: String,
    authorization: Option<String>,
}

impl Http {
    /// Opens the objects below `url`. Credentials come from the URL or else from the environment.
    pub fn new(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
        // The URL is not part of the message because it may contain a secret.
        if rest.contains(['?', '#']) || rest.split('/').skip(1).any(|step| step.contains('@')) {
            return Err(
                "the URL must not contain `?` or `#`; in a password, write `/` as `%2F` and `@` as `%40`".to_owned()
            );
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err("the URL has no host".to_owned());
        }
        let basic = user.map(|user| {
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
            format!("Basic {}", BASE64_STANDARD.encode(decoded))
        });
        Ok(Self {
            agent: agent(),
            url: format!("{scheme}://{host}/{path}").trim_end_matches('/').to_owned(),
            authorization: basic.or_else(|| env_var(AUTHORIZATION)),
        })
    }

    fn with_authorization<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }
}

fn unreachable(error: &ureq::Error) -> RemoteError {
    RemoteError::Unreachable(reason(error))
}

/// Why a request failed, without its URL, which may be presigned, and with what helps against untrusted certificates.
pub fn reason(error: &ureq::Error) -> String {
    let text = match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::BadUri(_) => "invalid URL".to_owned(),
        error => error.to_string(),
    };
    if let Some((_, problem)) = text.split_once("invalid peer certificate: ") {
        return format!(
            "the server's certificate is not trusted ({problem}); add its issuer to the system's certificates, or set `SSL_CERT_FILE`"
        );
    }
    if text.contains("No CA certificates") {
        return "the system has no certificates; install them (`ca-certificates` on Debian), or set `SSL_CERT_FILE`"
            .to_owned();
    }
    text
}

/// Whether the object exists, according to the status of a response.
fn found(status: u16) -> Result<bool, RemoteError> {
    match status {
        200..=299 => Ok(true),
        404 | 410 => Ok(false),
        401 | 403 => {
            Err(RemoteError::Refused(format!("access denied (status {status}); set `{AUTHORIZATION}` to authenticate")))
        }
        300..=399 => Err(RemoteError::Refused("unexpected redirect; use the URL that it redirects to".to_owned())),
        _ => Err(RemoteError::Failed(format!("unexpected status {status}"))),
    }
}

impl Backend for Http {
    fn get(&self, name: &str, sink: &mut dyn Write) -> Result<bool, RemoteError> {
        let request = self.with_authorization(self.agent.get(format!("{}/{name}", self.url)));
        let mut response = request.call().map_err(|error| unreachable(&error))?;
        if !found(response.status().as_u16())? {
            return Ok(false);
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = body.read(&mut buffer).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => RemoteError::Corrupt(format!("`{name}` is truncated: {error}")),
                _ => RemoteError::Unreachable(error.to_string()),
            })?;
            if count == 0 {
                return Ok(true);
            }
            sink.write_all(&buffer[..count]).map_err(sink_error)?;
        }
    }

    fn has(&self, name: &str, size: u64) -> Result<bool, RemoteError> {
        let request = self.with_authorization(self.agent.head(format!("{}/{name}", self.url)));
        let response = request.call().map_err(|error| unreachable(&error))?;
        let announced = response.headers().get("Content-Length").and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(found(response.status().as_u16())? && announced.is_none_or(|announced: u64| announced == size))
    }

    fn put(&self, name: &str, mut body: &mut dyn Read, size: u64) -> Result<(), RemoteError> {
        let request = self.with_authorization(self.agent.put(format!("{}/{name}", self.url)));
        let request = request.header("Content-Length", size.to_string());
        let response = request.send(ureq::SendBody::from_reader(&mut body)).map_err(|error| unreachable(&error))?;
        match found(response.status().as_u16())? {
            true => Ok(()),
            false => Err(RemoteError::Refused("the server does not accept `PUT` here (status 404)".to_owned())),
        }
    }

    fn location(&self) -> String {
        self.url.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed_from_the_url() {
        let http = Http::new("https://ci:se%40cret@cache.example.org:8443/ham/").unwrap();
        assert_eq!(http.location(), "https://cache.example.org:8443/ham");
        assert_eq!(http.authorization.as_deref(), Some("Basic Y2k6c2VAY3JldA=="));
        assert!(Http::new("https:///ham").is_err());
        for url in ["https://ci:hor/se@host/x", "https://host/x?token=horse", "https://host/x#horse"] {
            assert!(!Http::new(url).err().unwrap().contains("hor"), "{url}");
        }
    }
}
