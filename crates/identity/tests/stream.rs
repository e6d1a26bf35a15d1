//! The stream that carries gRPC: optional client certificates, the control plane's identity, `h2`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CART, Mesh, domain};
use mutua_identity::stream::TlsStream;
use mutua_identity::{ClientConfig, ServerConfig, SpiffeId, TlsErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn istiod() -> SpiffeId {
    SpiffeId::new(domain(), "istio-system", "istiod").unwrap()
}

#[tokio::test]
async fn the_control_plane_is_known_by_its_id_and_callers_by_theirs() {
    let mesh = Mesh::new();
    let own = mesh.ca.sign_server(&istiod(), &["localhost".to_owned()], std::time::Duration::from_secs(600)).unwrap();
    let server = ServerConfig::control_plane(&own, mesh.bundle()).unwrap();
    for leaf in [None, Some(mesh.leaf(CART))] {
        let client = ClientConfig::control_plane(leaf.as_ref(), mesh.bundle(), &[istiod()]).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (accepted, connected) = tokio::join!(TlsStream::accept(&server, far), TlsStream::connect(&client, None, near));
        let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
        assert_eq!(accepted.peer_id().map(ToString::to_string), leaf.as_ref().map(|_| CART.to_owned()));
        assert_eq!(accepted.peer_not_after(), leaf.as_ref().map(|leaf| leaf.not_after()));
        connected.write_all(b"ping").await.unwrap();
        connected.flush().await.unwrap();
        let mut read = [0; 4];
        accepted.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
    }
}

#[tokio::test]
async fn a_workload_cannot_play_control_plane() {
    let mesh = Mesh::new();
    let server = ServerConfig::control_plane(&mesh.leaf(CART), mesh.bundle()).unwrap();
    let client = ClientConfig::control_plane(None, mesh.bundle(), &[istiod()]).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (_, connected) = tokio::join!(TlsStream::accept(&server, far), TlsStream::connect(&client, None, near));
    let Err(error) = connected else { panic!("accepted") };
    assert_eq!((error.kind, error.peer.as_deref()), (TlsErrorKind::WrongIdentity, Some(CART)));
}
