//! A slow way between a sidecar and its control plane.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::mesh::{CONTROL, CONTROL_PORT, Mesh};

/// How late each sidecar gets what the control plane sends, milliseconds.
#[derive(Default)]
pub struct Delays(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Delays {
    /// The delay of one sidecar; none at first.
    pub fn of(&self, name: &str) -> Arc<AtomicU64> {
        Arc::clone(self.0.lock().unwrap().entry(name.to_owned()).or_default())
    }

    /// New delays up to `longest`: one sidecar is always much later than the other, by turns.
    pub fn roll(&self, turn: usize, longest: Duration) {
        let longest = u64::try_from(longest.as_millis()).unwrap();
        let all = self.0.lock().unwrap();
        let mut names: Vec<&String> = all.keys().collect();
        names.sort();
        for (at, name) in names.into_iter().enumerate() {
            let part = if (turn + at).is_multiple_of(2) { longest } else { longest * (turn as u64 * 7 % 5) / 10 };
            all[name].store(part, Ordering::Relaxed);
        }
    }
}

/// Starts a relay to the control plane. Returns its port at [`CONTROL`].
pub fn start(mesh: &Mesh, delay: Arc<AtomicU64>) -> u16 {
    let namespace = &mesh.network.host("shop/control").unwrap().namespace;
    let begin = || {
        let listener = TcpListener::bind((CONTROL, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // A thread begins in the namespace of the one that made it.
        std::thread::spawn(move || accept(&listener, &delay));
        port
    };
    namespace.enter(begin).unwrap()
}

fn accept(listener: &TcpListener, delay: &Arc<AtomicU64>) {
    for near in listener.incoming().map_while(Result::ok) {
        // Away for as long as the control plane is.
        let Ok(far) = TcpStream::connect((CONTROL, CONTROL_PORT)) else { continue };
        pass(near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::default());
        pass(far, near, Arc::clone(delay));
    }
}

/// Passes on what comes, each piece as late as the delay says when it comes, in order.
fn pass(from: TcpStream, to: TcpStream, delay: Arc<AtomicU64>) {
    let (send, receive) = channel();
    std::thread::spawn(move || take(from, &delay, &send));
    std::thread::spawn(move || give(to, &receive));
}

fn take(mut from: TcpStream, delay: &AtomicU64, pieces: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        let due = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
        if count == 0 || pieces.send((due, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn give(mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, piece)) = pieces.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
