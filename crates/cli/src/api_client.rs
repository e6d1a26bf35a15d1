//! Asks the running control plane: over its socket in the state folder, or over HTTP on loopback.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the control plane is asked: `--api`, else the socket of the state folder, else 127.0.0.1:20001.
#[derive(clap::Args, Clone, Debug)]
pub struct Api {
    /// The control plane's API: a URL (http://127.0.0.1:20001) or the path of its socket
    #[arg(long, env = "MUTUA_API", value_name = "URL|PATH")]
    pub api: Option<String>,
    /// The control plane's state folder, whose socket is asked
    #[arg(long, env = "MUTUA_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// The address the control plane's API and console listen on unless told otherwise.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:20001";

enum Target {
    Socket(PathBuf),
    Http(Uri),
}

impl Api {
    /// Reads one resource of the API.
    ///
    /// # Errors
    /// No control plane answers there, or its answer is an error.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// Writes to the API; only the socket takes writes.
    ///
    /// # Errors
    /// As [`Api::get`]; also when the API is asked over HTTP.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.call(Method::POST, path, Bytes::from(serde_json::to_vec(body)?))
    }

    fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let target = self.target()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(send(&target, method, path, body))?;
        if !status.is_success() {
            bail!("{}", refusal(status, &body));
        }
        serde_json::from_slice(&body).context("the control plane's answer is not what this version of mutua expects")
    }

    fn target(&self) -> anyhow::Result<Target> {
        if let Some(api) = &self.api {
            if api.starts_with("http://") {
                return Ok(Target::Http(api.parse().with_context(|| format!("--api {api}: no URL"))?));
            }
            return Ok(Target::Socket(PathBuf::from(api)));
        }
        if let Some(state) = &self.state {
            return Ok(Target::Socket(state.join("api.sock")));
        }
        Ok(Target::Http(Uri::from_static(DEFAULT_ADDRESS)))
    }
}

/// The control plane's own words when it sent some.
fn refusal(status: http::StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    match said.as_ref().and_then(|value| value.get("error")).and_then(serde_json::Value::as_str) {
        Some(error) => error.to_owned(),
        None => format!("the control plane answered {status}"),
    }
}

async fn send(target: &Target, method: Method, path: &str, body: Bytes) -> anyhow::Result<(http::StatusCode, Bytes)> {
    match target {
        Target::Socket(socket) => {
            let stream = tokio::net::UnixStream::connect(socket).await.with_context(|| no_answer(socket))?;
            exchange(TokioIo::new(stream), "localhost", method, path, body).await
        }
        Target::Http(uri) => {
            let authority = uri.authority().context("--api: a URL like http://127.0.0.1:20001 is needed")?.as_str();
            let address = if uri.port().is_some() { authority.to_owned() } else { format!("{authority}:80") };
            let stream = tokio::net::TcpStream::connect(&address)
                .await
                .with_context(|| format!("no control plane answers at http://{address} (--state DIR or --api names another)"))?;
            exchange(TokioIo::new(stream), authority, method, path, body).await
        }
    }
}

fn no_answer(socket: &Path) -> String {
    format!("no control plane answers at {} (is it running with this --state?)", socket.display())
}

async fn exchange<S>(
    io: TokioIo<S>,
    host: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(http::StatusCode, Bytes)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", host).header("content-type", "application/json");
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
