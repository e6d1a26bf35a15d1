//! Small documents that others publish at a URL: keys, roots. Every wait and every byte is bounded, and nothing but the URL
//! itself is asked: a redirection is not followed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use mutua_identity::stream::TlsStream;
use mutua_identity::tls::Roots;
use mutua_identity::{Algorithms, ClientConfig, Origination};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long an answer may take as a whole.
const PATIENCE: Duration = Duration::from_secs(10);

/// An `http` or `https` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    host: String,
    port: u16,
    authority: String,
    target: String,
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached or went away.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, std::io::Error),
    /// It could not prove that it is the one of the URL.
    #[error("TLS with {0}: {1}")]
    Tls(String, mutua_identity::TlsError),
    /// It does not speak HTTP.
    #[error("HTTP with {0}: {1}")]
    Http(String, hyper::Error),
    /// It answers something else than the document.
    #[error("{0} answers {1}; 200 is needed, and redirections are not followed")]
    Status(String, http::StatusCode),
    /// It answers more than is read.
    #[error("the answer of {0} is longer than the {1} bytes that are read")]
    TooLong(String, usize),
    /// It took too long.
    #[error("{0} did not answer within {seconds} s", seconds = PATIENCE.as_secs())]
    Slow(String),
}

/// Asks one URL.
#[derive(Clone, Debug)]
pub struct Fetcher {
    url: Url,
    roots: Roots,
    longest: usize,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{text:?} is no http or https URL")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{text:?} names no server"))?;
        if authority.as_str().contains('@') {
            return Err("a URL with a user or password is not taken".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let target = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Ok(Self { secure, host, port, authority: authority.to_string(), target })
    }
}

/// Without what stands behind the path, which may be meant for the server alone.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", if self.secure { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Url {
    /// Whether the server proves who it is.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

impl Fetcher {
    /// Asks `url`, whose server proves itself below `roots`, for at most `longest` bytes.
    #[must_use]
    pub fn new(url: Url, roots: Roots, longest: usize) -> Self {
        Self { url, roots, longest }
    }

    /// What is asked.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The document.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&self) -> Result<Vec<u8>, FetchError> {
        let answer = tokio::time::timeout(PATIENCE, self.ask()).await;
        answer.unwrap_or_else(|_| Err(FetchError::Slow(self.url.to_string())))
    }

    async fn ask(&self) -> Result<Vec<u8>, FetchError> {
        let Url { secure, host, port, .. } = &self.url;
        let name = || self.url.to_string();
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| FetchError::Unreachable(name(), error))?;
        if !secure {
            return self.exchange(tcp).await;
        }
        // Read anew each time, so that renewed roots of the operating system count.
        let config = ClientConfig::origination(&Origination {
            client: None,
            roots: self.roots.clone(),
            names: Vec::new(),
            verify_server_name: true,
            crl: None,
            insecure_skip_verify: false,
            algorithms: Algorithms::default(),
        });
        let config = config.map_err(|error| FetchError::Tls(name(), error))?;
        let tls = TlsStream::connect(&config, Some(host), tcp).await.map_err(|error| FetchError::Tls(name(), error))?;
        self.exchange(tls).await
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Vec<u8>, FetchError> {
        let fault = |error| FetchError::Http(self.url.to_string(), error);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(fault)?;
        // It ends with `sender` and the answer's body.
        tokio::spawn(connection);
        let mut request = http::Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = http::Uri::try_from(&self.url.target).unwrap_or_default();
        let headers = request.headers_mut();
        // What a URI took for an authority is a header's value.
        headers.extend(self.url.authority.parse().map(|value| (http::header::HOST, value)));
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("mutua"));
        let answer = sender.send_request(request).await.map_err(fault)?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(self.url.to_string(), answer.status()));
        }
        self.collect(answer.into_body()).await
    }

    async fn collect(&self, mut body: Incoming) -> Result<Vec<u8>, FetchError> {
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| FetchError::Http(self.url.to_string(), error))?;
            let data = frame.into_data().unwrap_or_default();
            if all.len() + data.len() > self.longest {
                return Err(FetchError::TooLong(self.url.to_string(), self.longest));
            }
            all.extend_from_slice(&data);
        }
        Ok(all)
    }
}
