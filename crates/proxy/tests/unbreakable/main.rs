//! What a sidecar survives: the cases of `docs/faults.md` that need no process of their own. Each runs alone, because
//! memory is measured.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod ca;
mod certificates;
mod floods;
mod handshake;
mod mismatch;
mod panic;
mod time;

/// The allocator of the product, so that memory behaves as there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
