//! Everything that reads hostile bytes.

pub mod admin;
pub mod certificates;
pub mod client_hello;
pub mod control_api;
pub mod discovery;
pub mod dns;
pub mod evaluator;
pub mod first_bytes;
pub mod http1;
mod http1_grammar;
pub mod http2;
mod http2_grammar;
pub mod jwt;
pub mod kept;
pub mod open_connections;
pub mod requests;
pub mod spiffe_id;
pub mod static_file;
pub mod tokens;
pub mod yaml;
mod yaml_grammar;

use crate::Target;

/// All targets.
pub const ALL: &[&Target] = &[
    &admin::TARGET,
    &certificates::TARGET,
    &client_hello::TARGET,
    &control_api::TARGET,
    &discovery::TARGET,
    &dns::TARGET,
    &evaluator::TARGET,
    &first_bytes::TARGET,
    &http1::TARGET,
    &http2::TARGET,
    &jwt::TARGET,
    &kept::TARGET,
    &open_connections::TARGET,
    &requests::TARGET,
    &spiffe_id::TARGET,
    &static_file::TARGET,
    &tokens::TARGET,
    &yaml::TARGET,
];
