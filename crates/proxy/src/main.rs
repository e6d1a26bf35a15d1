//! mutua
fn main() {}
