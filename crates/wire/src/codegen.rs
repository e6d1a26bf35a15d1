//! Rebuilds `src/generated` from `proto/`, without protoc. Feature `codegen` only.

use std::io;
use std::path::Path;

const FILES: [&str; 3] = ["discovery.proto", "certificate.proto", "mesh.proto"];

/// Writes the generated Rust for every file of `proto/` below `crate_dir` into `out`.
///
/// # Errors
/// A proto file that does not compile, or `out` that cannot be written.
pub fn generate(crate_dir: &Path, out: &Path) -> io::Result<()> {
    let descriptors = protox::compile(FILES, [crate_dir.join("proto")]).map_err(io::Error::other)?;
    tonic_prost_build::configure()
        .out_dir(out)
        .build_server(true)
        .build_client(true)
        .btree_map(".")
        .skip_debug([".mutua.mesh.v1.Credential"])
        .compile_fds(descriptors)
}
