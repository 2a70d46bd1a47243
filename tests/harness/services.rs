//! Real servers that tests talk to, on loopback; `tests/check.sh` installs them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use super::in_ci;

/// A server that ends with its test.
pub struct Service {
    process: Child,
    pub port: u16,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago and that nobody here is given again: below those that the kernel gives to whoever asks for any.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = (std::process::id() % 600) as u16 * 16;
    loop {
        let port = 20_000 + (process + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Service {
    /// Starts a server and waits until it listens.
    fn start(mut command: Command, port: u16) -> Self {
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut service = Self { process, port };
        let deadline = SystemTime::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = service.process.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(SystemTime::now() < deadline, "{command:?} never listened");
            std::thread::yield_now();
        }
        service
    }
}

/// Says loudly that a test checked nothing, and fails on CI.
fn missing<T>(what: &str) -> Option<T> {
    assert!(!in_ci(), "CI must have {what}");
    println!("SKIPPED: there is no {what}, so this test checked nothing; tests/check.sh installs it");
    None
}

/// A file that a variable of the environment names.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists())
}

/// nginx with WebDAV, as Debian has it, with its objects below `folder/objects`.
pub fn nginx(folder: &Path) -> Option<Service> {
    if Command::new("nginx").arg("-v").output().is_err() {
        return missing("nginx");
    }
    let port = free_port();
    let at = folder.display();
    std::fs::create_dir_all(folder.join("objects")).unwrap();
    std::fs::create_dir_all(folder.join("tmp")).unwrap();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\nhttp {{ access_log off; client_body_temp_path {at}/tmp; client_max_body_size 0;\nproxy_temp_path {at}/t1; fastcgi_temp_path {at}/t2; uwsgi_temp_path {at}/t3; scgi_temp_path {at}/t4;\nserver {{ listen 127.0.0.1:{port}; root {at}/objects; dav_methods PUT; create_full_put_path on; }} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    Some(Service::start(command, port))
}

/// s3s-fs, a server of S3 from the Rust registry, with the bucket `ham` in `folder`.
pub fn s3(folder: &Path, key: &str, secret: &str) -> Option<Service> {
    let Some(program) = named("HAMFLOW_S3_SERVER") else { return missing("s3s-fs (`$HAMFLOW_S3_SERVER`)") };
    let port = free_port();
    std::fs::create_dir_all(folder.join("ham")).unwrap();
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--access-key", key, "--secret-key", secret]).arg(folder);
    Some(Service::start(command, port))
}

/// Azurite, Microsoft's own emulator of Azure Blob Storage from the npm registry, with its data in `folder`.
pub fn azurite(folder: &Path) -> Option<Service> {
    let Some(program) = named("HAMFLOW_AZURITE") else { return missing("Azurite (`$HAMFLOW_AZURITE`)") };
    let port = free_port();
    let mut command = Command::new("node");
    command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--skipApiVersionCheck"]);
    command.arg("--location").arg(folder);
    Some(Service::start(command, port))
}

/// Starts gcp-storage-emulator on the port of its argument, with what it leaves out of Google's answers: the headers `ETag` and
/// `Last-Modified`, and `HEAD`, which is the answer to `GET` without its body.
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
pub fn google() -> Option<Service> {
    let python = std::env::var("HAMFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import gcp_storage_emulator"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return missing("gcp-storage-emulator (in `$HAMFLOW_PYTHON`)");
    }
    let port = free_port();
    let mut command = Command::new(python);
    command.args(["-c", GOOGLE, &port.to_string()]);
    Some(Service::start(command, port))
}
