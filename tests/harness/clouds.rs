//! Servers that speak the languages of the clouds.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::services::{Service, free_port, missing};

/// A file that a variable of the environment names.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists())
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
