//! Buffers of the thread: taken to read, given back when everything is written. An idle connection holds none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use mutua_identity::Session;
use mutua_identity::tls::FRAGMENT;

/// Plaintext that is read at once, in records.
pub(super) const FRAGMENTS: usize = 8;
/// Bytes that are read at once.
pub(super) const CAPACITY: usize = FRAGMENTS * FRAGMENT;
/// Buffers that a thread keeps; more are needed only while many readers are slow.
const KEPT: usize = 4;

thread_local! {
    static KEPT_BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that goes back to its thread when it is dropped. It holds a full read also when sealed.
#[derive(Debug)]
pub(super) struct Buffer(Box<[u8]>);

impl Buffer {
    /// A buffer of this thread. What it holds is of no meaning.
    pub fn take() -> Self {
        let kept = KEPT_BUFFERS.with_borrow_mut(Vec::pop);
        Self(kept.unwrap_or_else(|| vec![0; Session::sealed_size(FRAGMENTS)].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        // While a thread ends its place may be gone.
        let _ = KEPT_BUFFERS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT {
                kept.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_few_buffers() {
        let many: Vec<_> = (0..2 * KEPT).map(|_| Buffer::take()).collect();
        drop(many);
        assert_eq!(KEPT_BUFFERS.with_borrow(Vec::len), KEPT);
        let one = Buffer::take();
        assert_eq!(KEPT_BUFFERS.with_borrow(Vec::len), KEPT - 1);
        assert!(one.len() >= CAPACITY);
    }
}
