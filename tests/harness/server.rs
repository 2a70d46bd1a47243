//! A web server that keeps objects in a directory and can simulate faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A simulated fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// Accepts connections without responding.
    NoResponse,
    /// Responds with this status.
    Status(u16),
    /// Closes the connection in the middle of a body.
    Truncated,
    /// Changes a byte of every body.
    CorruptByte,
    /// Announces a longer body than it sends.
    WrongLength,
    /// Sends one byte, then nothing.
    Stalled,
    /// Sends one byte per second.
    OneBytePerSecond,
    /// Responds after two seconds.
    Delayed,
    /// Works for this many requests, then stops responding.
    NoResponseAfter(usize),
}

pub struct Server {
    address: String,
    fault: Arc<Mutex<(Fault, &'static str)>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Serves the objects of `folder`.
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (fault, requests) = (Arc::new(Mutex::new((Fault::None, ""))), Arc::new(AtomicUsize::new(0)));
        let (shared_fault, shared_requests, folder) = (Arc::clone(&fault), Arc::clone(&requests), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (fault, requests, folder) =
                    (Arc::clone(&shared_fault), Arc::clone(&shared_requests), folder.clone());
                std::thread::spawn(move || serve(stream, &fault, &requests, &folder));
            }
        });
        Self { address, fault, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/ham", self.address)
    }

    pub fn set_fault(&self, fault: Fault) {
        self.set_fault_for(fault, "");
    }

    /// Simulates a fault for objects whose path contains `part`.
    pub fn set_fault_for(&self, fault: Fault, part: &'static str) {
        *self.fault.lock().unwrap() = (fault, part);
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(stream: TcpStream, fault: &Mutex<(Fault, &'static str)>, requests: &AtomicUsize, folder: &Path) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let (mut fault, part) = *fault.lock().unwrap();
        if !head[0].contains(part) {
            fault = Fault::None;
        }
        let number = requests.fetch_add(1, Ordering::Relaxed);
        if let Fault::NoResponseAfter(good) = fault {
            fault = if number < good { Fault::None } else { Fault::NoResponse };
        }
        let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let path = folder.join(path.trim_start_matches("/ham/"));
        if answer(&mut writer, fault, method, &path, &body).is_none() {
            return;
        }
    }
}

/// Sends a response; returns `None` to close the connection.
fn answer(writer: &mut TcpStream, fault: Fault, method: &str, path: &PathBuf, sent: &[u8]) -> Option<()> {
    let mut status = 200;
    let mut body = Vec::new();
    if fault == Fault::Delayed {
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    match (fault, method) {
        (Fault::NoResponse, _) => {
            // Wait until the client closes the connection.
            let _ = writer.read(&mut [0]);
            return None;
        }
        (Fault::Status(given), _) => status = given,
        (_, "PUT") => {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, sent).unwrap();
            status = 201;
        }
        _ => match std::fs::read(path) {
            Ok(bytes) => body = bytes,
            Err(_) => status = 404,
        },
    }
    let announced = if fault == Fault::WrongLength { body.len() + 10 } else { body.len() };
    let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {announced}\r\n\r\n");
    writer.write_all(head.as_bytes()).ok()?;
    if method == "HEAD" || status != 200 || body.is_empty() {
        return Some(());
    }
    let middle = body.len() / 2;
    match fault {
        Fault::CorruptByte => body[middle] ^= 1,
        Fault::Truncated => body.truncate(middle),
        Fault::Stalled => body.truncate(1),
        _ => {}
    }
    if fault == Fault::OneBytePerSecond {
        for byte in &body {
            writer.write_all(&[*byte]).ok()?;
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        return Some(());
    }
    writer.write_all(&body).ok()?;
    match fault {
        Fault::Truncated | Fault::WrongLength => None,
        Fault::Stalled => {
            let _ = writer.read(&mut [0]);
            None
        }
        _ => Some(()),
    }
}
