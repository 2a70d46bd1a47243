//! Local servers with the APIs of cloud storage.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::python;
use super::services::{Service, free_port};

/// Proxies connections to `port`, limited to 1 MB/s in that direction. Returns the port of the proxy.
pub fn slow_line(port: u16) -> u16 {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // A small receive buffer, so that the sender sees the limit at once, like on a long-distance connection.
    listener.set_recv_buffer_size(16 * 1024).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(64).unwrap();
    let listener = TcpListener::from(listener);
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from_far, mut to_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_far, &mut to_near);
                let _ = to_near.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || carry(near, far));
        }
    });
    own
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 8 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(8));
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The file that an environment variable points to.
fn named(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    path.unwrap_or_else(|| panic!("`${variable}` names no file; tests/check.sh installs it"))
}

/// s3s-fs, an S3 server from crates.io, with the bucket `ham` in `folder`.
pub fn s3(folder: &Path, key: &str, secret: &str) -> Service {
    let program = named("HAMFLOW_S3_SERVER");
    let port = free_port();
    std::fs::create_dir_all(folder.join("ham")).unwrap();
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--access-key", key, "--secret-key", secret]).arg(folder);
    Service::start(command, port)
}

/// Azurite, Microsoft's emulator of Azure Blob Storage from npm, with its data in `folder`.
pub fn azurite(folder: &Path) -> Service {
    let program = named("HAMFLOW_AZURITE");
    let port = free_port();
    let mut command = Command::new("node");
    command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--skipApiVersionCheck"]);
    command.arg("--location").arg(folder);
    Service::start(command, port)
}

/// Starts gcp-storage-emulator on the port given as its argument, and adds what it lacks: the headers `ETag` and `Last-Modified`, and
/// `HEAD` requests.
const GOOGLE: &str = r#"
import sys
from gcp_storage_emulator import server
class Headers:
    def __init__(self, file):
        self.file, self.over = file, False
    def write(self, data):
        head, end, _ = data.partition(b"\r\n\r\n")
        if not self.over:
            self.file.write(head + end)
        self.over = self.over or bool(end)
        return len(data)
    def __getattr__(self, name):
        return getattr(self.file, name)
def head(handler):
    handler.wfile = Headers(handler.wfile)
    handler.do_GET()
def end_headers(handler, plain=server.RequestHandler.end_headers):
    handler.send_header("ETag", '"1"')
    handler.send_header("Last-Modified", handler.date_time_string())
    plain(handler)
server.RequestHandler.do_HEAD, server.RequestHandler.end_headers = head, end_headers
server.Server("127.0.0.1", int(sys.argv[1]), True, "ham").run()
"#;

/// gcp-storage-emulator from PyPI, with the bucket `ham` in memory.
pub fn google() -> Service {
    let python = python("gcp_storage_emulator");
    let port = free_port();
    let mut command = Command::new(python);
    command.args(["-c", GOOGLE, &port.to_string()]);
    Service::start(command, port)
}
