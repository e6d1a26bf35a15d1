//! What a sidecar survives as a process: the cases of `docs/faults.md` on resources and on the life of processes, with the
//! true capture rules, in network namespaces.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
mod manager;
#[path = "../common/mesh.rs"]
mod mesh;
mod process;
mod resources;
mod revocation;
mod rotation;
mod secrets;

use mesh::Mesh;
use mutua_lab::Process;

/// What must hold after every case: the process lives, the connection that was open all the time goes on, a new call is
/// served by mutual TLS, and memory is what it was. The case is done in rounds: tables fill in the first ones, and a round
/// has to come that leaves memory as it was before.
fn survives(mesh: &Mesh, of: &mut Process, bystander: &mut std::net::TcpStream, case: impl Fn(&mut std::net::TcpStream)) {
    for _ in 0..ROUNDS {
        let before = mesh::memory(of);
        case(bystander);
        assert_eq!(of.ended(), None, "{}", mesh.said(of.name()));
        mesh::echo(bystander, b"going on").expect("the bystander goes on");
        mesh.is_served();
        if mesh::memory(of) <= before + before / 20 {
            return;
        }
    }
    panic!("memory goes up from round to round, to {}", mesh::memory(of));
}

/// Rounds within which memory has to be steady.
const ROUNDS: usize = 6;
