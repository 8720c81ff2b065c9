//! What stands between a source and its server, and cuts connections, or does something, at a chosen moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

type Hook = Arc<Mutex<dyn FnMut(&[u8]) -> bool + Send>>;

/// See the module.
pub struct Proxy {
    pub url: String,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of the server at `url`: drops every other answer to the commands in which `part` stands, as long
    /// as there are entries in it, `cuts` times, and the connection with it.
    pub fn cutting(url: &str, part: &'static str, cuts: usize) -> Self {
        let left = Arc::new(AtomicUsize::new(2 * cuts));
        let asked = Arc::new(AtomicBool::new(false));
        let (shared, asks) = (left.clone(), asked.clone());
        let on_command = move |words: &[u8]| {
            asks.store(holds(words, part), Ordering::Release);
            true
        };
        let on_answer = move |answer: &[u8]| {
            if !holds(answer, "payload") || !asked.swap(false, Ordering::AcqRel) {
                return true;
            }
            let step = |left: usize| left.checked_sub(1);
            let left = shared.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
            left.map_or(true, |left| left % 2 == 1)
        };
        let url = listen(url, Arc::new(Mutex::new(on_command)), Arc::new(Mutex::new(on_answer)));
        Self { url, left }
    }

    /// In front of the server at `url`: does something before command number `number` in which `part` stands
    /// is passed on.
    pub fn before(
        url: &str,
        part: &'static str,
        number: usize,
        mut action: impl FnMut() + Send + 'static,
    ) -> Self {
        let left = Arc::new(AtomicUsize::new(number));
        let shared = left.clone();
        let on_command = move |words: &[u8]| {
            let step = |left: usize| left.checked_sub(1);
            if holds(words, part)
                && shared.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) == Ok(1)
            {
                action();
            }
            true
        };
        let url =
            listen(url, Arc::new(Mutex::new(on_command)), Arc::new(Mutex::new(|_: &[u8]| true)));
        Self { url, left }
    }

    /// Whether all that was to happen has happened.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Passes on what clients and the server at `url` say, as long as the hooks say so.
fn listen(url: &str, on_command: Hook, on_answer: Hook) -> String {
    let server = url.strip_prefix("redis://").unwrap().to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&server) else { return };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (commands, answers) = (on_command.clone(), on_answer.clone());
            std::thread::spawn(move || pass(from, to, &commands));
            std::thread::spawn(move || pass(server, client, &answers));
        }
    });
    url
}

fn pass(mut from: TcpStream, mut to: TcpStream, hook: &Hook) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let may_pass = hook.lock()(&buffer[..count]);
        if !may_pass || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
