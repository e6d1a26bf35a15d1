//! A web server for one document, over TCP or TLS, that answers what the test says and counts how often it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mutua_identity::ServerConfig;
use mutua_identity::stream::TlsStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A running server.
pub struct Documents {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Documents {
    /// Starts one that answers `document`.
    pub async fn start(document: &str, tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(found(document))), Arc::new(AtomicUsize::new(0)));
        let (given, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, given, count) = (tls.clone(), Arc::clone(&given), Arc::clone(&count));
                tokio::spawn(async move {
                    let give = || {
                        count.fetch_add(1, Ordering::SeqCst);
                        given.lock().unwrap().clone()
                    };
                    match tls {
                        None => answer_to(tcp, give).await,
                        // A client that does not like the certificate goes away.
                        Some(tls) => {
                            if let Ok(stream) = TlsStream::accept(&tls, tcp).await {
                                answer_to(stream, give).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, answer, asked, task }
    }

    /// From now on it answers another document.
    pub fn set(&self, document: &str) {
        *self.answer.lock().unwrap() = found(document);
    }

    /// From now on it answers these bytes, headers and all.
    pub fn set_answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn found(document: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{document}", document.len())
}

async fn answer_to(mut stream: impl AsyncRead + AsyncWrite + Unpin, give: impl FnOnce() -> String) {
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|part| part == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    // A client that has heard enough may be gone.
    if stream.write_all(give().as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}
