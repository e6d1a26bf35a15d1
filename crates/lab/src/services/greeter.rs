//! A TCP service whose server speaks first, then gives back each line.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What it says before it has read anything.
pub const GREETING: &str = "220 ledger ready\r\n";

/// Serves until the process ends.
///
/// # Errors
/// The port cannot be listened on.
pub fn greet(listen: SocketAddr) -> io::Result<()> {
    for stream in TcpListener::bind(listen)?.incoming().flatten() {
        // A machine that cannot start a thread drops this caller and goes on.
        let _ = thread::Builder::new().spawn(move || talk(&stream));
    }
    Ok(())
}

fn talk(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(GREETING.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        stream.write_all(format!("250 {line}").as_bytes())?;
        line.clear();
    }
    Ok(())
}
