//! The HTTP server: checks requests and sends the site's replies.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::reply::{Reply, Url};
use super::site::Site;

/// The time that a client has to send a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a connection that could not be accepted, as when the process has too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every request is checked against.
struct Server {
    address: SocketAddr,
    /// The first segment of every path.
    token: String,
    site: Mutex<Site>,
}

/// Serves until the process ends.
pub fn serve(listener: TcpListener, token: String, site: Site) -> io::Result<()> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let server = Arc::new(Server { address, token, site: Mutex::new(site) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let reply = service_fn(move |request| {
                    let response = server.respond(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut connection = http1::Builder::new();
                connection.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT);
                // An error is the client's: it has gone, or does not speak HTTP.
                let _ = connection.serve_connection(TokioIo::new(stream), reply).await;
            });
        }
    })
}

impl Server {
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let reply = self.reply(request);
        let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = if request.method() == Method::HEAD { Bytes::new() } else { Bytes::from(reply.body) };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, reply.content_type),
            (header::CONTENT_SECURITY_POLICY, reply.policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(next) = reply.next {
            headers.insert("x-next", HeaderValue::from(next));
            headers.insert("x-ended", HeaderValue::from_static(if reply.ended { "yes" } else { "no" }));
        }
        response
    }

    fn reply<B>(&self, request: &Request<B>) -> Reply {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Reply::error(405, "this server only reads");
        }
        // A page of another site whose name resolves to this machine would send its own name.
        if !is_own_host(request.headers(), self.address) {
            return Reply::error(421, "this server does not have that name");
        }
        let path = request.uri().path();
        let Some((token, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return Reply::error(404, "not found; the address that `hamflow serve` printed has a secret part");
        };
        if !is_equal(token.as_bytes(), self.token.as_bytes()) {
            return Reply::error(404, "not found; the address that `hamflow serve` printed has a secret part");
        }
        let Some(url) = Url::parse(rest, request.uri().query().unwrap_or_default()) else {
            return Reply::error(400, "the address is not UTF-8");
        };
        self.site.lock().unwrap_or_else(PoisonError::into_inner).reply(&url)
    }
}

/// Whether the header `Host` names this server by an address, or by a name of loopback. A server that is reachable from other machines
/// may have any name.
fn is_own_host(headers: &HeaderMap, address: SocketAddr) -> bool {
    if !address.ip().is_loopback() {
        return true;
    }
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Compares in a time that does not depend on where the texts differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        let is_own = |host: &str, address: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            is_own_host(&headers, address.parse().unwrap())
        };
        for host in ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", "127.0.0.1"] {
            assert!(is_own(host, "127.0.0.1:8000"), "{host}");
        }
        for host in ["example.com", "example.com:8000", "127.0.0.1.example.com", "10.0.0.1:8000", ""] {
            assert!(!is_own(host, "127.0.0.1:8000"), "{host}");
        }
        assert!(!is_own_host(&HeaderMap::new(), "127.0.0.1:8000".parse().unwrap()));
        assert!(is_own("workstation:8000", "192.168.0.2:8000"));
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(is_equal(b"abc", b"abc"));
        assert!(!is_equal(b"abd", b"abc") && !is_equal(b"ab", b"abc") && !is_equal(b"", b"abc"));
    }
}
