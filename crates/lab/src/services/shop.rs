//! An HTTP service that answers with JSON; a storefront calls its back ends first, once for each request.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use super::http::{MARKER_HEADER, Url, read_message, write_request, write_response};
use crate::Marker;

/// An HTTP service.
#[derive(Clone, Debug)]
pub struct Shop {
    /// What it says who it is.
    pub name: String,
    /// URLs that it calls for each request; it answers 502 when one of them fails.
    pub calls: Vec<String>,
}

impl Shop {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// The port cannot be listened on.
    pub fn serve(&self, listen: SocketAddr) -> io::Result<()> {
        for stream in TcpListener::bind(listen)?.incoming().flatten() {
            let shop = self.clone();
            // A machine that cannot start a thread drops this caller and goes on.
            let _ = thread::Builder::new().spawn(move || shop.answer(&stream));
        }
        Ok(())
    }

    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?.to_string();
        let mut reader = BufReader::new(stream);
        if reader.fill_buf()?.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
            // TLS, most likely. Servers say so in plain HTTP.
            return write_response(&mut &*stream, 400, &json!({ "error": "this is a plain HTTP port" }));
        }
        while let Some(request) = read_message(&mut reader)? {
            let marker = request.header(MARKER_HEADER).and_then(|value| Marker::at_start(value.as_bytes()));
            let calls: Vec<Value> = self.calls.iter().map(|url| self.ask(url, marker.as_ref())).collect();
            let failed = calls.iter().any(|call| call["status"] != 200);
            let body =
                json!({ "service": self.name, "peer": peer, "marker": marker.as_ref().map(Marker::as_str), "calls": calls });
            write_response(&mut &*stream, if failed { 502 } else { 200 }, &body)?;
            if request.wants_close() {
                break;
            }
        }
        Ok(())
    }

    fn ask(&self, url: &str, marker: Option<&Marker>) -> Value {
        let exchange = || -> io::Result<Value> {
            let url = Url::parse(url).map_err(io::Error::other)?;
            let stream = url.connect()?;
            let local = stream.local_addr()?.to_string();
            write_request(&mut &stream, &url, marker)?;
            let Some(response) = read_message(&mut BufReader::new(&stream))? else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
            };
            let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            Ok(json!({ "status": response.status(), "service": body["service"], "local": local }))
        };
        let mut answer = exchange().unwrap_or_else(|error| json!({ "error": error.to_string() }));
        answer["url"] = json!(url);
        answer
    }
}
