//! Whether an application's first bytes prove HTTP, and which.

/// The connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Headers of one request that are looked at.
const MAX_HEADERS: usize = 100;

/// A version of HTTP that the first bytes prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What the bytes prove: a whole request line with `HTTP/1.1`, or the whole preface of HTTP/2. `None` for anything
/// else, and for less.
#[must_use]
pub fn http_version(bytes: &[u8]) -> Option<HttpVersion> {
    if bytes.starts_with(PREFACE) {
        return Some(HttpVersion::Http2);
    }
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &bytes[..end];
    let method = line.iter().position(|byte| *byte == b' ')?;
    let is_token = method > 0 && line[..method].iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
    let has_target = line.len() > method + 1 + b" HTTP/1.1".len() && line[method + 1] != b' ';
    (is_token && has_target && line.ends_with(b" HTTP/1.1")).then_some(HttpVersion::Http1)
}

/// The `Host` of an HTTP/1.1 request whose head is complete, without its port. `Ok(None)`: the head is complete and has
/// none; `Err(())`: more bytes are needed.
///
/// # Errors
/// The head is not complete.
#[allow(clippy::result_unit_err, reason = "there is nothing to say but that more is needed")]
pub fn host(bytes: &[u8]) -> Result<Option<String>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Err(()),
        Err(_) => Ok(None),
        Ok(httparse::Status::Complete(_)) => {
            let value = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
            let text = value.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim);
            Ok(text.map(without_port).filter(|host| !host.is_empty()).map(str::to_owned))
        }
    }
}

fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_proves_http() {
        let proves = |text: &str| http_version(text.as_bytes());
        assert_eq!(proves("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(HttpVersion::Http1));
        assert_eq!(proves("OPTIONS * HTTP/1.1\r\n"), Some(HttpVersion::Http1));
        assert_eq!(proves("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"), Some(HttpVersion::Http2));
        for other in [
            "",
            "GET",
            "GET / HTTP/1.1",
            "GET / HTTP/1.0\r\n",
            "GET  HTTP/1.1\r\n",
            "HELO a\r\n",
            "\x16\x03\x01",
            "PRI * HTTP/2.0\r\n",
        ] {
            assert_eq!(proves(other), None, "{other:?}");
        }
    }

    #[test]
    fn host_comes_without_its_port() {
        let head = |value: &str| format!("GET / HTTP/1.1\r\nhost: {value}\r\n\r\n");
        let read = |text: String| host(text.as_bytes());
        assert_eq!(read(head("example.com:8443")), Ok(Some("example.com".to_owned())));
        assert_eq!(read(head("[::1]:80")), Ok(Some("::1".to_owned())));
        assert_eq!(read("GET / HTTP/1.1\r\n\r\n".to_owned()), Ok(None));
        assert_eq!(read("GET / HTTP/1.1\r\nhost: exa".to_owned()), Err(()));
        assert_eq!(read("not http at all\r\n\r\n".to_owned()), Ok(None));
    }
}
