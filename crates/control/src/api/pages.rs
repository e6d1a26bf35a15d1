//! The console: the files that `npm run build` makes of `console/`, carried by the binary. A program that is built without
//! Node.js says how to have it.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;

use super::Failure;

/// Read from the folder by programs with debug assertions, embedded by others.
#[derive(Embed)]
#[folder = "../../console/dist"]
struct Console;

/// Nothing is loaded from elsewhere, nothing is sent elsewhere, and nobody shows the console within a page of theirs.
/// PatternFly sets styles in attributes, hence `unsafe-inline` for these alone.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The names of these files hold a hash of what is in them.
const HASHED: &str = "assets/";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Mutua</title>\
    <h1>This program was built without its console</h1>\
    <p>Build it with <code>make</code>, which needs Node.js and npm, or <code>make console</code> and then the program.</p>\
    <p>The API is below <a href=\"/api/v1/status\">/api/v1</a>.</p></html>";

/// The console's page and its files; everything else is not there.
pub async fn page(method: Method, uri: Uri) -> Response {
    let name = uri.path().trim_start_matches('/');
    let name = if name.is_empty() { "index.html" } else { name };
    if !matches!(method, Method::GET | Method::HEAD) || name.starts_with("api/") || name.starts_with('.') {
        return unknown().into_response();
    }
    let plain = Console::get(name).map(|file| (file, false));
    let Some((file, compressed)) = plain.or_else(|| Console::get(&format!("{name}.gz")).map(|file| (file, true))) else {
        return if name == "index.html" { answer("text/html; charset=utf-8", NOT_BUILT) } else { unknown().into_response() };
    };
    let mut response = answer(kind(name), file.data.into_owned());
    let cached = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cached));
    if compressed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "there is nothing at this path; the API is below /api/v1".to_owned())
}

fn answer(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(method: Method, path: &'static str) -> Response {
        page(method, Uri::from_static(path)).await
    }

    #[tokio::test]
    async fn nothing_but_the_console_is_served_and_it_loads_nothing_from_elsewhere() {
        let index = ask(Method::GET, "/").await;
        assert_eq!(index.status(), StatusCode::OK);
        assert_eq!(index.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(index.headers()[CONTENT_SECURITY_POLICY].to_str().is_ok_and(|policy| policy.starts_with("default-src 'self';")));
        for path in ["/api/v1/nothing", "/../Cargo.toml", "/assets/../../../Cargo.toml", "/%2e%2e/package.json", "/.gitkeep"] {
            assert_eq!(ask(Method::GET, path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(ask(Method::POST, "/").await.status(), StatusCode::NOT_FOUND);
    }
}
