//! A probe by HTTP, or HTTPS with any certificate, as the kubelet does it.

use std::io;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, LOCATION};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use mutua_identity::stream::TlsStream;
use mutua_identity::tls::Roots;
use mutua_identity::{Algorithms, ClientConfig, Origination};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::{Application, HttpGet};
use crate::admin::Answer;

/// How many redirections to the same host are followed.
const MAX_REDIRECTIONS: usize = 10;
/// How much of the application's answer is passed on.
const MAX_BODY: usize = 10 * 1024;
/// Headers of a connection, not of a request.
const OF_CONNECTION: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "upgrade", "content-length", "host"];

/// What is asked for, once redirections have been followed.
struct Target {
    secure: bool,
    port: u16,
    path: String,
}

/// Asks, follows redirections within the pod, and passes status and body on. A redirection elsewhere is a success.
pub(super) async fn ask(get: &HttpGet, headers: &HeaderMap, application: &Application) -> io::Result<Answer> {
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let mut target = Target { secure: get.scheme.eq_ignore_ascii_case("HTTPS"), port: get.port, path };
    for _ in 0..=MAX_REDIRECTIONS {
        let request = request(&target, headers, application)?;
        let stream = application.connect(target.port).await?;
        let (answer, location) = if target.secure {
            let config = ClientConfig::origination(&any_certificate()).map_err(io::Error::other)?;
            exchange(TlsStream::connect(&config, None, stream).await.map_err(io::Error::other)?, request).await?
        } else {
            exchange(stream, request).await?
        };
        if !(300..400).contains(&answer.status) {
            return Ok(answer);
        }
        match location.and_then(|location| within(&location, &target, application)) {
            Some(next) => target = next,
            // A redirection needs a place, which the kubelet would be led to: it is told of the success alone.
            None => return Ok(Answer { status: 200, ..answer }),
        }
    }
    Err(io::Error::other(format!("stopped after {MAX_REDIRECTIONS} redirections")))
}

fn any_certificate() -> Origination {
    Origination {
        client: None,
        roots: Roots::System,
        names: Vec::new(),
        verify_server_name: false,
        crl: None,
        insecure_skip_verify: true,
        algorithms: Algorithms::default(),
    }
}

/// The kubelet's request, addressed to the application.
fn request(target: &Target, headers: &HeaderMap, application: &Application) -> io::Result<Request<Empty<Bytes>>> {
    let mut request = Request::get(&*target.path).body(Empty::new()).map_err(io::Error::other)?;
    let own = headers.iter().filter(|(name, _)| !OF_CONNECTION.contains(&name.as_str()));
    for (name, value) in own {
        request.headers_mut().append(HeaderName::clone(name), value.clone());
    }
    let address = SocketAddr::new(application.address, target.port).to_string();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map_or(address, |host| {
        let own_port = format!(":{}", application.status_port);
        host.strip_suffix(&own_port).map_or_else(|| host.to_owned(), |host| format!("{host}:{}", target.port))
    });
    request.headers_mut().insert(HOST, host.parse().map_err(io::Error::other)?);
    Ok(request)
}

/// One request on one connection: status with the beginning of the body, and where the answer leads.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> io::Result<(Answer, Option<String>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let (mut incoming, mut body) = (response.into_body(), Vec::new());
    while body.len() < MAX_BODY
        && let Some(Ok(frame)) = incoming.frame().await
    {
        body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
    }
    body.truncate(MAX_BODY);
    Ok((Answer { status, content_type: "text/plain; charset=utf-8", body }, location))
}

/// Where a redirection leads, when that is this pod.
fn within(location: &str, from: &Target, application: &Application) -> Option<Target> {
    let uri: Uri = location.parse().ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Some(host) = uri.host() else {
        return Some(Target { path, ..*from });
    };
    let here = host.trim_matches(['[', ']']).parse() == Ok(application.address);
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    here.then_some(Target { secure, port, path })
}
