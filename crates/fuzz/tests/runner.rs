//! The runner finds what is planted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::catch_unwind;
use std::path::Path;
use std::time::Duration;

use mutua_fuzz::memory::Counting;
use mutua_fuzz::runner::{Plan, processor_time, run};
use mutua_fuzz::{Target, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn planted(run: fn(&[u8])) -> Target {
    let Target { grammar, words, longest, memory, memory_per_byte, .. } = targets::first_bytes::TARGET;
    // With the corpus of a true target.
    Target { name: "first_bytes", run, grammar, words, longest, memory, memory_per_byte }
}

/// Runs until it fails or a minute has passed; returns the inputs that it left.
fn left_by(name: &str, target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    let plan = Plan { time: Duration::from_secs(60), seed: 1, patience: Duration::from_millis(100), only: None };
    assert!(catch_unwind(|| run(target, &plan, &folder)).is_err(), "nothing was found");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_none()).map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn a_panic_is_found_and_its_input_left() {
    fn breaks(bytes: &[u8]) {
        assert!(!bytes.ends_with(b"\x7f"));
    }
    let left = left_by("planted-panic", &planted(breaks));
    assert!(left.len() == 1 && left[0].ends_with(b"\x7f"), "{left:?}");
    let file = std::fs::read_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-panic")).unwrap().next().unwrap();
    let plan = Plan { time: Duration::ZERO, seed: 1, patience: Duration::MAX, only: Some(file.unwrap().path()) };
    assert!(catch_unwind(|| run(&planted(breaks), &plan, Path::new(""))).is_err(), "the input that is left fails again");
}

#[test]
fn memory_without_bound_is_found() {
    fn takes(bytes: &[u8]) {
        let count = bytes.iter().filter(|byte| **byte == 0xff).count();
        drop(std::hint::black_box(Vec::<u8>::with_capacity(count << 20)));
    }
    assert_eq!(left_by("planted-memory", &planted(takes)).len(), 1);
}

#[test]
fn time_without_bound_is_found() {
    fn spins(bytes: &[u8]) {
        let start = processor_time();
        while bytes.contains(&0xff) && processor_time() - start < Duration::from_millis(200) {}
    }
    assert_eq!(left_by("planted-time", &planted(spins)).len(), 1);
}
