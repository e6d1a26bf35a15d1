//! Every target with its corpus and, for some seconds, with changes of it.
//!
//! `MUTUA_FUZZ_SECONDS=600` runs each longer, `MUTUA_FUZZ_SEED=N` with other inputs, `MUTUA_FUZZ_INPUT=FILE` a single one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use mutua_fuzz::memory::Counting;
use mutua_fuzz::runner::{Plan, run};
use mutua_fuzz::targets;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                let target = &targets::$name::TARGET;
                assert_eq!(target.name, stringify!($name));
                run(target, &Plan::from_env(), Path::new(env!("CARGO_TARGET_TMPDIR")));
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets!(
    admin,
    certificates,
    client_hello,
    control_api,
    discovery,
    dns,
    evaluator,
    first_bytes,
    http1,
    http2,
    jwt,
    kept,
    open_connections,
    requests,
    spiffe_id,
    static_file,
    tokens,
    yaml,
);

#[test]
fn every_target_is_tested_and_has_a_corpus() {
    let tested: BTreeSet<String> = TESTED.iter().map(|name| (*name).to_owned()).collect();
    let all: BTreeSet<String> = targets::ALL.iter().map(|target| target.name.to_owned()).collect();
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    let folders: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(tested, all);
    assert_eq!(folders, all);
}
