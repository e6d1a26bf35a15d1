//! Who gets a certificate: the join tokens that prove it the first time.

pub mod tokens;
