//! What a service manager hears of a sidecar and of its successor, over a NOTIFY_SOCKET of the test's own.

use std::os::unix::net::UnixDatagram;

use mutua_lab::Ending;

use crate::common::PATIENCE;
use crate::mesh::{Mesh, in_lab};

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let count = socket.recv(&mut buffer).expect("it is told in time");
    String::from_utf8(buffer[..count].to_vec()).unwrap()
}

/// Waits until a process has ended by itself, in order.
fn in_order(process: mutua_lab::Process) {
    let ending = crate::process::wait(process);
    assert!(matches!(ending, Ending::Asked(status) if status.success()), "{ending:?}");
}

#[test]
fn the_service_manager_follows_a_replacement() {
    in_lab("manager::the_service_manager_follows_a_replacement", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let variable = format!("NOTIFY_SOCKET={}", path.display());
        let wrapper = ["env", &variable];
        let serving = |id: u32| format!("READY=1\nMAINPID={id}\nSTATUS=serving shop/back");
        let first = mesh.sidecar("back", &wrapper, &["--take-over"]);
        assert_eq!(heard(&socket), serving(first.id()), "{}", mesh.said("back"));
        mesh.until_ready("back");
        // The successor is the main process as soon as it accepts; that the other ends is no end of the service.
        let second = mesh.sidecar("back", &wrapper, &["--take-over"]);
        assert_eq!(heard(&socket), serving(second.id()), "{}", mesh.said("back"));
        in_order(first);
        second.ask_to_end();
        assert!(heard(&socket).starts_with("STOPPING=1\n"));
        in_order(second);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err(), "nothing else was said");
    });
}
