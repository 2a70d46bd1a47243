//! The HTTP client for cloud storage. It counts the bytes that it sends, so that a slow connection can be told apart from a dead one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};

/// The timeout for connecting. Requests have no timeout of their own; the caller watches their progress.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An HTTP client; its clones share one counter.
#[derive(Debug, Clone)]
pub struct Client {
    client: reqwest::Client,
    sent: Arc<AtomicU64>,
}

impl Client {
    /// Creates a client whose counter is zero.
    pub fn new() -> Result<Self, String> {
        // rustls does not choose between two providers by itself. An error means that one is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        let builder = builder.user_agent(concat!("hamflow/", env!("CARGO_PKG_VERSION")));
        let client = builder.build().map_err(|error| format!("cannot create the HTTP client: {error}"))?;
        Ok(Self { client, sent: Arc::default() })
    }

    /// The number of bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl HttpConnector for Client {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(reqwest::Body::wrap(Outgoing { body, sent: Arc::clone(&self.sent) }));
        let response = self.client.execute(request).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut answer = HttpResponse::new(HttpResponseBody::new(reqwest::Body::from(response).map_err(failed)));
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}

/// Converts an error without its URL, which may be presigned.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = match &error {
        error if error.is_connect() => HttpErrorKind::Connect,
        error if error.is_timeout() => HttpErrorKind::Timeout,
        error if error.is_decode() || error.is_body() => HttpErrorKind::Interrupted,
        error if error.is_request() => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error.without_url())
}

/// A request body that counts the bytes sent. The client polls for the next frame when the previous one has been sent.
struct Outgoing {
    body: HttpRequestBody,
    sent: Arc<AtomicU64>,
}

impl Body for Outgoing {
    type Data = <HttpRequestBody as Body>::Data;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.sent.fetch_add(frame.data_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
