//! Listens to every frame on the bridge, and looks for markers.
//!
//! A packet socket over all interfaces of the bridge's namespace sees each frame as it enters the bridge, before it is
//! forwarded. Hosts hand over large segments (GSO), so a frame may be up to 64 KiB.

mod frame;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::doing;
use crate::{LabError, Marker, Namespace};

pub use frame::Flow;
use stream::Streams;

/// Where a marker passed in clear, and how often.
pub type Sightings = BTreeMap<Flow, u64>;

/// The listener on the bridge; it ends when dropped.
#[derive(Debug)]
pub struct Sniffer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<BTreeMap<Marker, Sightings>>,
    frames: AtomicU64,
    /// Frames that the kernel threw away because we were too slow.
    lost: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<Marker, Sightings>> {
        // A map of counters is whole after any panic.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for what arrives while this thread does not run.
const RECEIVE_BUFFER: libc::c_int = 32 * 1024 * 1024;
const LARGEST_FRAME: usize = 256 * 1024;
/// How often the thread looks whether it should end.
const TICK: Duration = Duration::from_millis(100);

impl Sniffer {
    pub(crate) fn start(bridge: &Namespace) -> Result<Self, LabError> {
        let socket = bridge.enter(open)?.map_err(doing("opening a packet socket on the bridge"))?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("sniffer".to_owned()).spawn(move || listen(&socket, &for_thread));
        Ok(Self { shared, thread: Some(thread.map_err(doing("starting the listener"))?) })
    }

    /// Where a marker was seen in clear among the frames heard so far; empty when it was not.
    #[must_use]
    pub fn sightings(&self, marker: &Marker) -> Sightings {
        self.shared.seen().get(marker).cloned().unwrap_or_default()
    }

    /// Waits until a marker was seen; false when it was not within `patience`.
    #[must_use]
    pub fn wait_for(&self, marker: &Marker, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if !self.sightings(marker).is_empty() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Frames heard so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed)
    }

    /// Frames that passed unheard; while it is not zero, that a marker was not seen proves nothing.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A listener that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &OwnedFd, shared: &Shared) {
    let mut buffer = vec![0_u8; LARGEST_FRAME];
    let mut streams = Streams::default();
    while !shared.stop.load(Ordering::Relaxed) {
        match receive(socket, &mut buffer) {
            Ok(Some(length)) => {
                shared.frames.fetch_add(1, Ordering::Relaxed);
                if length > buffer.len() {
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                }
                let frame = &buffer[..length.min(LARGEST_FRAME)];
                if let Some(packet) = frame::parse(frame) {
                    streams.take(&packet, |marker| note(shared, marker, packet.flow));
                }
            }
            Ok(None) => {}
            Err(_) => break,
        }
        shared.lost.fetch_add(lost_since_last_asked(socket), Ordering::Relaxed);
    }
}

fn note(shared: &Shared, marker: Marker, flow: Flow) {
    *shared.seen().entry(marker).or_default().entry(flow).or_default() += 1;
}

/// Opened inside the bridge's namespace; it stays there.
#[allow(unsafe_code)]
fn open() -> io::Result<OwnedFd> {
    let protocol = libc::c_int::from(u16::try_from(libc::ETH_P_ALL).unwrap_or(3).to_be());
    // SAFETY: a plain system call; the result is checked before it is used.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // The larger buffer needs CAP_NET_ADMIN in the first user namespace; elsewhere the machine's limit has to do.
    if set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER).is_err() {
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER)?;
    }
    let tick = libc::timeval { tv_sec: 0, tv_usec: libc::suseconds_t::try_from(TICK.as_micros()).unwrap_or(100_000) };
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &tick)?;
    // What leaves the bridge has entered it before: once is enough.
    set::<libc::c_int>(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
    Ok(socket)
}

#[allow(unsafe_code)]
fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `value`, a plain C value that lives through the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One frame; `None` when none came within a tick. The length is the frame's own, even when the buffer was shorter.
#[allow(unsafe_code)]
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the pointer and the length describe `buffer`, which is writable.
    let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC) };
    if let Ok(length) = usize::try_from(length) {
        return Ok(Some(length));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(None),
        // Interfaces of the bridge come and go.
        _ if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
        _ => Err(error),
    }
}

/// The kernel's count of frames for which there was no room; reading it sets it to zero.
#[allow(unsafe_code)]
fn lost_since_last_asked(socket: &OwnedFd) -> u64 {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let Ok(mut length) = libc::socklen_t::try_from(size_of::<libc::tpacket_stats>()) else { return 0 };
    // SAFETY: pointer and length describe `statistics`, which is writable and a plain C value.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            std::ptr::from_mut(&mut statistics).cast(),
            &mut length,
        )
    };
    if done == 0 { u64::from(statistics.tp_drops) } else { 0 }
}
