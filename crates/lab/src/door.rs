//! A way into a namespace from outside: what listens on a loopback address inside is reached at an address of the machine.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use crate::{LabError, Namespace};

/// Connections at once; a browser opens six.
const MAX_CONNECTIONS: usize = 64;

/// An open door. It stays open until the process ends.
#[derive(Debug)]
pub struct Door {
    /// Where it is reached.
    pub address: SocketAddr,
}

impl Door {
    /// Listens at `address`, outside, and passes each connection on to `inside` in the namespace.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn open(address: SocketAddr, namespace: Arc<Namespace>, inside: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let open = Arc::new(AtomicUsize::new(0));
        let accept = move || {
            for outer in listener.incoming().flatten() {
                if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (namespace, open) = (Arc::clone(&namespace), Arc::clone(&open));
                let pass = move || {
                    // Whoever waits sees the connection closed.
                    let _ = connect(&namespace, inside).map(|inner| relay(&outer, &inner));
                    open.fetch_sub(1, Ordering::Relaxed);
                };
                let _ = Builder::new().name("door".to_owned()).spawn(pass);
            }
        };
        Builder::new().name("door".to_owned()).spawn(accept)?;
        Ok(Self { address })
    }
}

fn connect(namespace: &Namespace, inside: SocketAddr) -> Result<TcpStream, LabError> {
    let connected = namespace.enter(|| TcpStream::connect(inside))?;
    connected.map_err(crate::error::doing(format!("connecting to {inside} in {}", namespace.name())))
}

/// Copies both ways until both have ended.
fn relay(outer: &TcpStream, inner: &TcpStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| copy(outer, inner));
        copy(inner, outer);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
