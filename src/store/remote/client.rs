//! Lets `object_store` use the HTTP client of the other remotes. It counts the bytes that it sends, so that a slow connection
//! can be told apart from a dead one.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::header::CONTENT_LENGTH;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use tokio::task::{JoinHandle, spawn_blocking};
use ureq::{BodyReader, SendBody};

use super::http::{agent, reason};

/// The largest size of the pieces of a response, in bytes.
const PIECE: usize = 64 * 1024;

/// An HTTP client for cloud storage; its clones share connections and one counter.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    sent: Arc<AtomicU64>,
}

impl Client {
    /// Creates a client whose counter is zero.
    pub fn new() -> Self {
        Self { agent: agent(), sent: Arc::default() }
    }

    /// The number of bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends `request` and reads the head of the response; waits for both.
    fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let has_body = !body.is_empty() || matches!(parts.method.as_str(), "POST" | "PUT");
        if has_body {
            // Without a length, the body would be sent in chunks, which S3 rejects.
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| body.content_length().into());
        }
        let outgoing = Outgoing { body, frame: Bytes::new(), sent: Arc::clone(&self.sent) };
        let body = if has_body { SendBody::from_owned_reader(outgoing) } else { SendBody::none() };
        let response = self.agent.run(ureq::http::Request::from_parts(parts, body)).map_err(failed)?;
        let (parts, body) = response.into_parts();
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Incoming::Idle(Some(body.into_reader())))))
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
        let client = self.clone();
        let sent = spawn_blocking(move || client.send(request)).await;
        sent.unwrap_or_else(|error| Err(HttpError::new(HttpErrorKind::Unknown, error)))
    }
}

/// Converts an error.
fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) => HttpErrorKind::Connect,
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, io::Error::other(reason(&error)))
}

/// Reads a request body, counting its bytes. The client asks for more when it has sent what it had.
struct Outgoing {
    body: HttpRequestBody,
    frame: Bytes,
    sent: Arc<AtomicU64>,
}

impl Read for Outgoing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.frame.is_empty() {
            // The bodies of `object_store` are in memory, so the next frame is there at once.
            match self.body.frame().now_or_never().flatten() {
                Some(frame) => self.frame = frame.map_err(io::Error::other)?.into_data().unwrap_or_default(),
                None => return Ok(0),
            }
        }
        let count = self.frame.len().min(buffer.len());
        self.frame.copy_to_slice(&mut buffer[..count]);
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

type Reader = BodyReader<'static>;

/// The body of a response: read in pieces, by a thread that may wait.
enum Incoming {
    /// Between two pieces; `None` at the end.
    Idle(Option<Reader>),
    Reading(JoinHandle<(Reader, io::Result<Bytes>)>),
}

/// Reads what has arrived, or waits for more. Without bytes, the body has ended.
fn read_piece(mut reader: Reader) -> (Reader, io::Result<Bytes>) {
    let mut piece = vec![0; PIECE];
    let read = reader.read(&mut piece);
    let piece = read.map(|count| {
        piece.truncate(count);
        piece.into()
    });
    (reader, piece)
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        loop {
            match &mut *self {
                Self::Idle(reader) => match reader.take() {
                    Some(reader) => *self = Self::Reading(spawn_blocking(|| read_piece(reader))),
                    None => return Poll::Ready(None),
                },
                Self::Reading(task) => {
                    let (reader, piece) = match ready!(task.poll_unpin(context)) {
                        Ok((reader, piece)) => (Some(reader), piece.map_err(interrupted)),
                        Err(error) => (None, Err(HttpError::new(HttpErrorKind::Unknown, error))),
                    };
                    let is_more = piece.as_ref().is_ok_and(|piece| !piece.is_empty());
                    *self = Self::Idle(reader.filter(|_| is_more));
                    return Poll::Ready((is_more || piece.is_err()).then(|| piece.map(Frame::data)));
                }
            }
        }
    }
}

/// Converts an error while a body is read.
fn interrupted(error: io::Error) -> HttpError {
    let kind = match error.kind() {
        io::ErrorKind::UnexpectedEof => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Request,
    };
    HttpError::new(kind, error)
}
