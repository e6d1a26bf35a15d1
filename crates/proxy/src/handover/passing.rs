//! Sockets in a message over another socket (`SCM_RIGHTS`): one message with all of them and their names.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::{Given, Named};

/// Sockets in one message; the kernel's own bound is 253.
const MAX_SOCKETS: usize = 128;
/// Bytes of the names.
const MAX_TEXT: usize = 16 * 1024;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_SOCKETS));

/// Sends `sockets`.
///
/// # Errors
/// They are too many, or the other end is gone.
pub(super) fn send(to: &UnixStream, sockets: &[Given]) -> io::Result<()> {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = serde_json::to_vec(&names)?;
    text.push(b'\n');
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = sockets.len() <= MAX_SOCKETS && text.len() <= MAX_TEXT;
    if !fits || !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other(format!("{} sockets are more than can be passed on", sockets.len())));
    }
    let sent = sendmsg(to, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == text.len() { Ok(()) } else { Err(io::Error::other("the sockets were passed on in part")) }
}

/// Receives what [`send`] sends.
///
/// # Errors
/// The other end sends nothing in time, or something else.
pub(super) fn receive(from: &UnixStream) -> io::Result<Vec<Named>> {
    let mut text = vec![0; MAX_TEXT];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let names: Vec<String> =
        serde_json::from_slice(&text[..received.bytes]).map_err(|_| bad("the running sidecar speaks otherwise"))?;
    if received.flags.contains(ReturnFlags::CTRUNC) || names.len() != descriptors.len() {
        return Err(bad("sockets are missing from what the running sidecar gave"));
    }
    Ok(names.into_iter().zip(descriptors).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn sockets_arrive_with_their_names_and_still_listen() {
        let (one, other) = UnixStream::pair().unwrap();
        let listeners: Vec<TcpListener> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<String> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let waiting = TcpStream::connect(&addresses[7]).unwrap();
        let sockets: Vec<Given> = addresses.iter().cloned().zip(listeners.into_iter().map(|one| Arc::new(one) as _)).collect();
        send(&one, &sockets).unwrap();
        drop(sockets);
        let received = receive(&other).unwrap();
        assert_eq!(received.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), addresses);
        for (name, socket) in received {
            let listener = TcpListener::from(socket);
            assert_eq!(listener.local_addr().unwrap().to_string(), name);
            if name == addresses[7] {
                assert_eq!(listener.accept().unwrap().1, waiting.local_addr().unwrap(), "what waited is still there");
            }
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for said in ["", "[]", "nonsense\n", "[\"inbound\"]\n", "{}\n"] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(said.as_bytes()).unwrap();
            drop(one);
            assert_eq!(receive(&other).map_or(true, |sockets| !sockets.is_empty()), said != "[]", "{said}");
        }
        let (one, _other) = UnixStream::pair().unwrap();
        let many = (0..=MAX_SOCKETS).map(|_| (String::new(), Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()) as _));
        assert!(send(&one, &many.collect::<Vec<Given>>()).is_err());
    }
}
