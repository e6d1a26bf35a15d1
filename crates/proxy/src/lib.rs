#![doc = env!("CARGO_PKG_DESCRIPTION")]

pub mod redirect;
