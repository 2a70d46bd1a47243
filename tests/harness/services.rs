//! Real servers on the loopback interface; `tests/check.sh` installs them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

/// A server process that is killed on drop.
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

/// A free port that is not returned twice, outside of the kernel's range of ephemeral ports.
pub(super) fn free_port() -> u16 {
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
    pub(super) fn start(mut command: Command, port: u16) -> Self {
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process =
            process.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; tests/check.sh installs it"));
        let mut service = Self { process, port };
        let deadline = SystemTime::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = service.process.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(SystemTime::now() < deadline, "{command:?} never listened");
            std::thread::yield_now();
        }
        let ended = service.process.try_wait().unwrap();
        assert!(ended.is_none(), "another process listens on port {port}: {command:?} ended");
        service
    }
}

/// nginx with WebDAV, as packaged by Debian, with its objects below `folder/objects`.
pub fn nginx(folder: &Path) -> Service {
    nginx_with(folder, "")
}

/// The same, encrypted, with the new certificate `folder/certificate.pem`, which nobody has signed.
pub fn nginx_with_tls(folder: &Path) -> Service {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]);
    openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let made = openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let tls = format!(" ssl; ssl_certificate {}; ssl_certificate_key {}", certificate.display(), key.display());
    nginx_with(folder, &tls)
}

fn nginx_with(folder: &Path, listen: &str) -> Service {
    let port = free_port();
    let at = folder.display();
    std::fs::create_dir_all(folder.join("objects")).unwrap();
    std::fs::create_dir_all(folder.join("tmp")).unwrap();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\nhttp {{ access_log off; client_body_temp_path {at}/tmp; client_max_body_size 0;\nproxy_temp_path {at}/t1; fastcgi_temp_path {at}/t2; uwsgi_temp_path {at}/t3; scgi_temp_path {at}/t4;\nserver {{ listen 127.0.0.1:{port}{listen}; root {at}/objects; dav_methods PUT; create_full_put_path on; }} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    Service::start(command, port)
}
