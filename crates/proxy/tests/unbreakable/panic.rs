//! Of group Process: a fault of ours.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mutua_proxy::capture::Capture;
use tokio::net::TcpStream;

use crate::bench::Bench;

/// The answer of the capture rules, with a fault for the next connections.
#[derive(Clone)]
struct Faulty {
    to: SocketAddr,
    faults: Arc<AtomicUsize>,
}

impl Capture for Faulty {
    fn original_destination(&self, _: &TcpStream) -> io::Result<SocketAddr> {
        let left = self.faults.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "a fault of the sidecar, made by this test");
        Ok(self.to)
    }
}

#[tokio::test]
async fn panic_in_one_connection() {
    let faults = Arc::new(AtomicUsize::new(0));
    let bench = Bench::faulty(|to| Box::new(Faulty { to, faults: Arc::clone(&faults) })).await;
    let attack = async |bench: &Bench| {
        faults.fetch_add(1, Ordering::SeqCst);
        assert!(bench.send(b"EVIL").await.is_empty());
    };
    bench.survives("panic_in_one_connection", attack).await;
}
