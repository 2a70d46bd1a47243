//! A web server that keeps objects in a folder and, where it is told to, behaves badly: what a real one does on its worst days.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Good,
    /// It takes connections and says nothing.
    Silent,
    /// It answers with this status.
    Status(u16),
    /// It ends bodies half-way.
    Cut,
    /// It changes a byte of bodies.
    Flip,
    /// It announces more bytes than there are, and closes.
    Long,
    /// It sends one byte and then nothing for as long as it lives.
    Drip,
    /// It sends a byte in a second.
    Trickle,
    /// It thinks for two seconds before each answer.
    Slow,
    /// It is good for so many requests, then silent.
    LostAfter(usize),
}

pub struct Server {
    address: String,
    mood: Arc<Mutex<(Mood, &'static str)>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Serves the objects of `folder`.
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mood, requests) = (Arc::new(Mutex::new((Mood::Good, ""))), Arc::new(AtomicUsize::new(0)));
        let (shared_mood, shared_requests, folder) = (Arc::clone(&mood), Arc::clone(&requests), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, requests, folder) = (Arc::clone(&shared_mood), Arc::clone(&shared_requests), folder.clone());
                std::thread::spawn(move || serve(stream, &mood, &requests, &folder));
            }
        });
        Self { address, mood, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/ham", self.address)
    }

    pub fn be(&self, mood: Mood) {
        self.be_with(mood, "");
    }

    /// Behaves so where the path of an object contains `part`.
    pub fn be_with(&self, mood: Mood, part: &'static str) {
        *self.mood.lock().unwrap() = (mood, part);
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(stream: TcpStream, mood: &Mutex<(Mood, &'static str)>, requests: &AtomicUsize, folder: &Path) {
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
        let (mut mood, part) = *mood.lock().unwrap();
        if !head[0].contains(part) {
            mood = Mood::Good;
        }
        let number = requests.fetch_add(1, Ordering::Relaxed);
        if let Mood::LostAfter(good) = mood {
            mood = if number < good { Mood::Good } else { Mood::Silent };
        }
        let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let path = folder.join(path.trim_start_matches("/ham/"));
        if answer(&mut writer, mood, method, &path, &body).is_none() {
            return;
        }
    }
}

/// None where the connection is over.
fn answer(writer: &mut TcpStream, mood: Mood, method: &str, path: &PathBuf, sent: &[u8]) -> Option<()> {
    let mut status = 200;
    let mut body = Vec::new();
    if mood == Mood::Slow {
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    match (mood, method) {
        (Mood::Silent, _) => {
            // Until the other side has had enough.
            let _ = writer.read(&mut [0]);
            return None;
        }
        (Mood::Status(given), _) => status = given,
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
    let announced = if mood == Mood::Long { body.len() + 10 } else { body.len() };
    let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {announced}\r\n\r\n");
    writer.write_all(head.as_bytes()).ok()?;
    if method == "HEAD" || status != 200 || body.is_empty() {
        return Some(());
    }
    let middle = body.len() / 2;
    match mood {
        Mood::Flip => body[middle] ^= 1,
        Mood::Cut => body.truncate(middle),
        Mood::Drip => body.truncate(1),
        _ => {}
    }
    if mood == Mood::Trickle {
        for byte in &body {
            writer.write_all(&[*byte]).ok()?;
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        return Some(());
    }
    writer.write_all(&body).ok()?;
    match mood {
        Mood::Cut | Mood::Long => None,
        Mood::Drip => {
            let _ = writer.read(&mut [0]);
            None
        }
        _ => Some(()),
    }
}
