//! What stands between a source and its server, and cuts connections at a chosen moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Answers are dropped that the server has given, and the connection with them.
pub struct Proxy {
    pub url: String,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of the server at `url`: drops every other answer to the commands in which `part` stands, as long
    /// as there are entries in it, `cuts` times.
    pub fn cutting(url: &str, part: &'static str, cuts: usize) -> Self {
        let server = url.strip_prefix("redis://").unwrap().to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let left = Arc::new(AtomicUsize::new(2 * cuts));
        let shared = left.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { return };
                between(client, server, part, &shared);
            }
        });
        Self { url, left }
    }

    pub fn has_cut_all(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

/// Passes on what both say.
fn between(client: TcpStream, server: TcpStream, part: &'static str, left: &Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let asks = asked.clone();
    std::thread::spawn(move || {
        pass(&mut from, &mut to, |words| {
            let is_it = words.windows(part.len()).any(|window| window == part.as_bytes());
            asks.store(is_it, Ordering::Release);
            true
        });
    });
    let (mut from, mut to, left) = (server, client, left.clone());
    std::thread::spawn(move || {
        pass(&mut from, &mut to, |answer| {
            let has_entries = answer.windows(7).any(|window| window == b"payload");
            if !has_entries || !asked.swap(false, Ordering::AcqRel) {
                return true;
            }
            let step = |left: usize| left.checked_sub(1);
            let left = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
            left.map_or(true, |left| left % 2 == 1)
        });
    });
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !may_pass(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
