//! How much memory the current thread has asked for at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator with a count per thread; a test program makes it its own with `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// Begins to measure, and returns what there is.
pub fn begin() -> isize {
    let now = NOW.get();
    PEAK.set(now);
    now
}

/// The most that was held at once since `begin` returned `before`. 0 where [`Counting`] is not the allocator.
#[must_use]
pub fn most_since(before: isize) -> usize {
    usize::try_from(PEAK.get() - before).unwrap_or_default()
}

fn count(change: isize) {
    // A thread that ends has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells of the thread and allocate
// nothing.
#[allow(unsafe_code, reason = "the trait of allocators is unsafe; only so can the memory that one input costs be known")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        unsafe { System.realloc(place, layout, size) }
    }
}
