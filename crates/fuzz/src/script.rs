//! One end of a connection that says what it is told to, and writes down what passes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What passed, in order: `true` for what the script said.
pub type Heard = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// How often the other end may look for more in vain before it is told that there is none: it may have much to say itself.
const PATIENCE: u32 = 64;

/// The connection, as the other end has it.
pub struct Script {
    pieces: VecDeque<Vec<u8>>,
    vain: u32,
    heard: Heard,
}

impl Script {
    /// One that says these pieces.
    pub fn new(pieces: &[&[u8]]) -> (Self, Heard) {
        let heard = Heard::default();
        let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
        (Self { pieces, vain: 0, heard: Arc::clone(&heard) }, heard)
    }

    fn hear(&self, said: bool, bytes: &[u8]) {
        self.heard.lock().unwrap().push((said, bytes.to_vec()));
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else {
            self.vain += 1;
            if self.vain > PATIENCE {
                return Poll::Ready(Ok(()));
            }
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        buffer.put_slice(&piece);
        self.hear(true, &piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hear(false, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
