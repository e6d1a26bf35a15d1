//! Who may call the API over TCP: browsers that were lured elsewhere are turned away by the names they use.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::Failure;

/// The names under which the API may be called.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// Loopback addresses and `localhost` always; `configured` beside them.
    #[must_use]
    pub fn new(configured: &[String]) -> Self {
        Self(configured.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a Host header or the authority of an Origin, with or without a port, is one of the names.
    #[must_use]
    pub fn allow(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        loopback || host == "localhost" || self.0.contains(&host)
    }

    fn refuses(&self, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if !text(HOST).is_some_and(|host| self.allow(host)) {
            return Some("Host");
        }
        let origin = text(ORIGIN)?;
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        (!authority.is_some_and(|authority| self.allow(authority))).then_some("Origin")
    }
}

fn host_of(authority: &str) -> Option<String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return (port.is_empty() || port.starts_with(':')).then(|| address.to_ascii_lowercase());
    }
    let host = authority.split_once(':').map_or(authority, |(host, _port)| host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Middleware of the TCP listener: reads only, and only under a known name.
///
/// # Errors
/// 403 with the header that is wrong; 405 for anything but a read.
pub async fn check(State(names): State<Names>, request: Request, next: Next) -> Result<Response, Failure> {
    if let Some(header) = names.refuses(request.headers()) {
        let message = format!("the request's {header} is not a name of this control plane (--advertise adds names)");
        return Err(Failure::new(StatusCode::FORBIDDEN, message));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "changes are accepted on the socket api.sock in the state folder only";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, message.to_owned()));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_configured_names_are_allowed() {
        let names = Names::new(&["Mesh.example.com".to_owned()]);
        for good in ["localhost:20001", "127.0.0.1", "127.9.9.9:1", "[::1]:20001", "mesh.example.com", "MESH.EXAMPLE.COM:443"] {
            assert!(names.allow(good), "{good}");
        }
        for bad in ["", ":1", "evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "10.0.0.1", "[::1", "[::1]x"] {
            assert!(!names.allow(bad), "{bad}");
        }
    }

    #[test]
    fn a_foreign_origin_is_refused_under_a_good_host() {
        let names = Names::default();
        let mut headers = HeaderMap::new();
        assert_eq!(names.refuses(&headers), Some("Host"));
        headers.insert(HOST, "localhost:20001".parse().expect("valid"));
        assert_eq!(names.refuses(&headers), None);
        headers.insert(ORIGIN, "http://localhost:20001".parse().expect("valid"));
        assert_eq!(names.refuses(&headers), None);
        for origin in ["http://evil.example.com", "null", "file://localhost"] {
            headers.insert(ORIGIN, origin.parse().expect("valid"));
            assert_eq!(names.refuses(&headers), Some("Origin"), "{origin}");
        }
    }
}
