//! What a service manager is told: systemd's `sd_notify(3)`, datagrams of `KEY=VALUE` lines to the socket that the variable
//! `NOTIFY_SOCKET` names. Without it nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager(Option<SocketAddr>);

impl Manager {
    /// The one that started this process. A variable that names no socket is warned of, no more.
    pub fn of_this_process() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        Self::at(&name).unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager is not told how this sidecar does");
            Self::default()
        })
    }

    /// The one that listens at this path, or, behind `@`, under this abstract name.
    ///
    /// # Errors
    /// It is neither.
    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET: neither an absolute path nor @NAME")),
        };
        Ok(Self(Some(address)))
    }

    /// This process serves, and is the service's main one: it may have taken over from another.
    pub fn ready(&self, workload: &str) {
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS=serving {workload}", std::process::id()));
    }

    /// The service is being stopped. Not said by a process whose successor goes on.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=open connections go on for a while, new ones are refused");
    }

    fn say(&self, text: &str) {
        let Some(address) = &self.0 else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(text.as_bytes(), address));
        if let Err(error) = sent {
            tracing::warn!(%error, "the service manager at NOTIFY_SOCKET is not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn both_kinds_of_names_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("mutua-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, at) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let manager = Manager::at(&at).unwrap();
            manager.ready("shop/back");
            assert_eq!(heard(&socket), format!("READY=1\nMAINPID={}\nSTATUS=serving shop/back", std::process::id()));
            manager.stopping();
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
        }
        assert!(Manager::at(OsStr::new("relative")).is_err());
        // Nobody there: a warning, no more.
        Manager::at(OsStr::new("/nowhere/at/all")).unwrap().ready("shop/back");
    }
}
