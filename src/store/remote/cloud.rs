//! The common implementation of cloud remotes on top of `object_store`.

use std::error::Error as _;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig, WriteMultipart};
use tokio::runtime::{Builder, Runtime};

use super::OpenResult;
use super::backend::{Backend, RemoteError, sink_error};
use super::client::Client;

/// Larger objects, in bytes, are uploaded in parts, so that they are not held in memory as a whole.
const MULTIPART_THRESHOLD: u64 = 32 * 1024 * 1024;

/// The size of a part, in bytes.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// Number of parts that are uploaded at the same time.
const MULTIPART_CONCURRENCY: usize = 2;

/// The size of the chunks of a request body, in bytes. Progress is counted per chunk.
const CHUNK_SIZE: usize = 64 * 1024;

/// Disables the retries of the client: hamflow retries itself.
pub fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// The objects of a bucket below a prefix.
pub struct Cloud {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    location: String,
    /// Where its credentials come from, for messages.
    credentials: &'static str,
    runtime: &'static Runtime,
    client: Client,
}

/// Splits `scheme://bucket/prefix` into bucket and prefix.
pub fn bucket_and_prefix(url: &str) -> Result<(&str, &str), String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // The URL is not part of the message because it may contain a secret.
    if rest.contains(['@', '?', '#', ':']) {
        return Err(
            "a bucket URL must not contain `@`, `:`, `?` or `#`; credentials are read from the environment".into()
        );
    }
    if bucket.is_empty() {
        return Err("the URL has no bucket".to_owned());
    }
    Ok((bucket, prefix))
}

impl Cloud {
    /// Opens the objects of `store` below `prefix`.
    pub fn open(
        store: impl ObjectStore,
        client: Client,
        prefix: &str,
        location: String,
        credentials: &'static str,
    ) -> OpenResult {
        let prefix = ObjectPath::parse(prefix.trim_matches('/')).map_err(|error| error.to_string())?;
        Ok(Box::new(Self { store: Arc::new(store), prefix, location, credentials, runtime: runtime()?, client }))
    }

    fn path(&self, name: &str) -> ObjectPath {
        name.split('/').fold(self.prefix.clone(), |path, step| path.join(step))
    }

    /// Translates an error. The client's own message is not included because it may contain a presigned URL.
    fn failed(&self, name: &str, error: &Error) -> RemoteError {
        let text = error.to_string();
        // `<Code>NoSuchBucket</Code>`: the same format in S3, Google Cloud Storage and Azure.
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
        let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let said = code.map_or(String::new(), |code| format!(", {code}"));
        if text.contains("169.254.169.254") || text.contains("metadata.google.internal") {
            return RemoteError::Refused(format!("no credentials found; {}", self.credentials));
        }
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                return RemoteError::Refused(format!("access denied{said}; {}", self.credentials));
            }
            Error::NotFound { .. } => {
                return RemoteError::Refused(format!("no such bucket{said}"));
            }
            _ => {}
        }
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(http) = cause.downcast_ref::<HttpError>() {
                let what = innermost(http);
                return match http.kind() {
                    HttpErrorKind::Interrupted | HttpErrorKind::Decode => {
                        RemoteError::Corrupt(format!("`{name}` is truncated: {what}"))
                    }
                    _ => RemoteError::Unreachable(format!("cannot connect: {what}")),
                };
            }
            source = cause.source();
        }
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
        match status {
            Some(status @ 500..) => RemoteError::Failed(format!("unexpected status {status}{said}")),
            Some(status) => RemoteError::Refused(format!("unexpected status {status}{said}")),
            None if text.contains("redirect") => {
                RemoteError::Refused("unexpected redirect; check the region".to_owned())
            }
            None => RemoteError::Failed(format!("unexpected response{said}")),
        }
    }
}

/// Whether the bucket itself does not exist, by the error codes of S3, Google Cloud Storage and Azure.
fn is_missing_bucket(error: &Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound"].iter().any(|code| text.contains(code))
}

/// The root cause, such as "connection refused". It contains no URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The runtime shared by all clients.
fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let make = || Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| error.to_string());
    RUNTIME.get_or_init(make).as_ref().map_err(|problem| format!("cannot create the HTTP client: {problem}"))
}

impl Backend for Cloud {
    fn get(&self, name: &str, sink: &mut dyn Write) -> Result<bool, RemoteError> {
        self.runtime.block_on(async {
            let found = match self.store.get(&self.path(name)).await {
                Err(error @ Error::NotFound { .. }) if !is_missing_bucket(&error) => return Ok(false),
                found => found.map_err(|error| self.failed(name, &error))?,
            };
            let mut body = found.into_stream();
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|error| self.failed(name, &error))?;
                sink.write_all(&piece).map_err(sink_error)?;
            }
            Ok(true)
        })
    }

    fn has(&self, name: &str, size: u64) -> Result<bool, RemoteError> {
        match self.runtime.block_on(self.store.head(&self.path(name))) {
            Ok(found) => Ok(found.size == size),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    fn put(&self, name: &str, body: &mut dyn Read, size: u64) -> Result<(), RemoteError> {
        let path = self.path(name);
        let cut = |bytes: u64| RemoteError::Local(std::io::Error::other(format!("read {bytes} of {size} bytes")));
        if size <= MULTIPART_THRESHOLD {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            body.read_to_end(&mut bytes).map_err(RemoteError::Local)?;
            if bytes.len() as u64 != size {
                return Err(cut(bytes.len() as u64));
            }
            let bytes = Bytes::from(bytes);
            let pieces = (0..bytes.len()).step_by(CHUNK_SIZE);
            let payload: PutPayload = pieces.map(|at| bytes.slice(at..bytes.len().min(at + CHUNK_SIZE))).collect();
            let sent = self.runtime.block_on(self.store.put(&path, payload));
            return sent.map(drop).map_err(|error| self.failed(name, &error));
        }
        self.runtime.block_on(async {
            let upload = self.store.put_multipart(&path).await.map_err(|error| self.failed(name, &error))?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_SIZE);
            let (mut buffer, mut sent) = (vec![0; 1024 * 1024], 0);
            loop {
                upload.wait_for_capacity(MULTIPART_CONCURRENCY).await.map_err(|error| self.failed(name, &error))?;
                match body.read(&mut buffer) {
                    Ok(0) if sent == size => break,
                    Ok(0) => {
                        let _ = upload.abort().await;
                        return Err(cut(sent));
                    }
                    Ok(count) => {
                        upload.write(&buffer[..count]);
                        sent += count as u64;
                    }
                    Err(error) => {
                        let _ = upload.abort().await;
                        return Err(RemoteError::Local(error));
                    }
                }
            }
            // The object becomes visible atomically.
            upload.finish().await.map(drop).map_err(|error| self.failed(name, &error))
        })
    }

    fn sent(&self) -> u64 {
        self.client.sent()
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn cloud() -> Box<dyn Backend> {
        Cloud::open(InMemory::new(), Client::new(), "/ham/", "mem://ham".into(), "").unwrap()
    }

    #[test]
    fn objects_of_all_sizes_round_trip_and_missing_ones_are_missing() {
        let cloud = cloud();
        for size in [0, 1, 100_000, MULTIPART_THRESHOLD as usize + 12_345] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            cloud.put("cas/ab/x", &mut &bytes[..], size as u64).unwrap();
            let mut found = Vec::new();
            assert!(cloud.get("cas/ab/x", &mut found).unwrap());
            assert!(found == bytes, "{size}");
            assert!(cloud.has("cas/ab/x", size as u64).unwrap() && !cloud.has("cas/ab/x", size as u64 + 1).unwrap());
        }
        assert!(!cloud.get("cas/ab/y", &mut Vec::new()).unwrap() && !cloud.has("cas/ab/y", 1).unwrap());
    }

    #[test]
    fn a_body_of_the_wrong_length_is_not_stored() {
        let cloud = cloud();
        for size in [5, MULTIPART_THRESHOLD + 5] {
            assert!(matches!(cloud.put("x", &mut &b"1234"[..], size), Err(RemoteError::Local(_))), "{size}");
            assert!(!cloud.get("x", &mut Vec::new()).unwrap());
        }
    }

    #[test]
    fn urls_have_a_bucket_and_prefix_but_no_secret() {
        assert_eq!(bucket_and_prefix("s3://ham/a/b"), Ok(("ham", "a/b")));
        assert_eq!(bucket_and_prefix("s3://ham"), Ok(("ham", "")));
        assert!(bucket_and_prefix("s3:///a").unwrap_err().contains("has no bucket"));
        for url in ["s3://key:horse@ham/a", "s3://ham/a?sig=horse", "s3://horse:80/a"] {
            assert!(!bucket_and_prefix(url).unwrap_err().contains("horse"), "{url}");
        }
    }
}
