use std::sync::Arc;

use hyper::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// An application that says `answer` to each connection; what it was told comes back.
async fn application(answer: &'static str) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let mut said = Vec::new();
            let mut piece = [0; 1024];
            while !said.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => said.extend_from_slice(&piece[..length]),
                }
            }
            let _ = told.send(format!("{} {}", peer.ip(), String::from_utf8_lossy(&said)));
            let answer = answer.replace("PORT", &port.to_string());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, heard)
}

fn probers(action: &str) -> Probers {
    format!(r#"{{"/app-health/web/livez": {{{action}, "timeoutSeconds": 20}}}}"#).parse().expect("probers")
}

async fn ask(probers: &Probers, headers: &[(&'static str, &'static str)]) -> (u16, String) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let answer = probers.answer("/app-health/web/livez", &map, &Application::default()).await;
    (answer.status, String::from_utf8(answer.body).unwrap())
}

#[tokio::test]
async fn an_http_probe_is_the_applications_own_answer() {
    let (port, mut heard) = application("HTTP/1.1 418 x\r\ncontent-length: 3\r\n\r\ntea").await;
    let probers = probers(&format!(r#""httpGet": {{"path": "ok?x=1", "port": {port}}}"#));
    let headers = [(HOST.as_str(), "10.0.0.7:15020"), ("x-key", "1"), ("connection", "close"), ("user-agent", "kube-probe/1.33")];
    assert_eq!(ask(&probers, &headers).await, (418, "tea".to_owned()));
    let told = heard.recv().await.unwrap();
    assert!(told.starts_with("127.0.0.6 GET /ok?x=1 HTTP/1.1\r\n"), "not captured, and the path: {told}");
    for line in [format!("host: 10.0.0.7:{port}\r\n"), "x-key: 1\r\n".to_owned(), "user-agent: kube-probe/1.33\r\n".to_owned()] {
        assert!(told.contains(&line), "{line} in {told}");
    }
    assert!(!told.contains("connection"), "{told}");
}

#[tokio::test]
async fn redirections_are_followed_within_the_pod_only() {
    let status = |answer| async move {
        let (port, mut heard) = application(answer).await;
        let said = ask(&probers(&format!(r#""httpGet": {{"path": "/a", "port": {port}}}"#)), &[]).await;
        heard.close();
        let mut requests = 0;
        while heard.recv().await.is_some() {
            requests += 1;
        }
        (said.0, requests)
    };
    let elsewhere = "HTTP/1.1 302 x\r\nlocation: http://10.9.9.9/b\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(status(elsewhere).await, (200, 1));
    assert_eq!(status("HTTP/1.1 301 x\r\ncontent-length: 0\r\n\r\n").await, (200, 1), "without a place");
    assert_eq!(status("HTTP/1.1 302 x\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n").await, (500, 11), "in a circle");
    let own = "HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:PORT/b\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(status(own).await, (500, 11), "by its full name");
}

#[tokio::test]
async fn a_tcp_probe_is_a_connection() {
    let (port, mut heard) = application("").await;
    assert_eq!(ask(&probers(&format!(r#""tcpSocket": {{"port": {port}}}"#)), &[]).await.0, 200);
    assert!(heard.recv().await.unwrap().starts_with("127.0.0.6 "));
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for action in ["tcpSocket", "httpGet", "grpc"] {
        assert_eq!(ask(&probers(&format!(r#""{action}": {{"port": {gone}}}"#)), &[]).await.0, 500, "{action}");
    }
}

/// A server of gRPC that answers every call with this message.
async fn health(message: &'static [u8]) -> (u16, Arc<std::sync::Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let hearing = Arc::clone(&hearing);
            tokio::spawn(async move {
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let path = request.uri().path().to_owned();
                    let mut body = request.into_body();
                    let hearing = Arc::clone(&hearing);
                    tokio::spawn(async move {
                        while let Some(Ok(data)) = body.data().await {
                            hearing.lock().unwrap().extend_from_slice(&data);
                        }
                        hearing.lock().unwrap().extend_from_slice(path.as_bytes());
                        let head = ::http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                        let mut stream = respond.send_response(head, false).unwrap();
                        stream.send_data(hyper::body::Bytes::from_static(message), false).unwrap();
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        stream.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    (port, heard)
}

#[tokio::test]
async fn a_grpc_probe_asks_for_the_health_of_a_service() {
    let (port, heard) = health(b"\0\0\0\0\x02\x08\x01").await;
    let (status, body) = ask(&probers(&format!(r#""grpc": {{"port": {port}, "service": "s"}}"#)), &[]).await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert_eq!(*heard.lock().unwrap(), b"\0\0\0\0\x03\x0a\x01s/grpc.health.v1.Health/Check");
    let (port, _) = health(b"\0\0\0\0\x02\x08\x02").await;
    let (status, body) = ask(&probers(&format!(r#""grpc": {{"port": {port}, "service": ""}}"#)), &[]).await;
    assert_eq!((status, body.as_str()), (500, "the application says status 2, not SERVING\n"));
}

#[tokio::test]
async fn the_application_has_as_long_as_the_probe_says() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let text = format!(
        r#"{{"/app-health/a/livez": {{"httpGet": {{"port": {port}}}, "timeoutSeconds": 7}},
             "/app-lifecycle/a/prestopz": {{"grpc": {{"port": {port}}}}}}}"#
    );
    let probers: Probers = text.parse().unwrap();
    assert_eq!(probers.longest(), Duration::from_secs(7));
    let start = std::time::Instant::now();
    let answer = probers.answer("/app-lifecycle/a/prestopz", &HeaderMap::new(), &Application::default()).await;
    assert_eq!((answer.status, &answer.body[..]), (500, &b"the application did not answer in time\n"[..]));
    assert!(start.elapsed() >= PATIENCE, "a second, Kubernetes' default");
    assert_eq!(probers.answer("/app-health/b/livez", &HeaderMap::new(), &Application::default()).await.status, 400);
}

#[test]
fn what_is_no_prober_is_refused() {
    assert_eq!("".parse(), Ok(Probers::default()));
    for wrong in [
        "x",
        r#"{"/other": {"tcpSocket": {"port": 1}}}"#,
        r#"{"/app-health/a/livez": {}}"#,
        r#"{"/app-health/a/livez": {"tcpSocket": {"port": 1}, "httpGet": {"port": 1}}}"#,
        r#"{"/app-health/a/livez": {"tcpSocket": {"port": "http"}}}"#,
    ] {
        assert!(wrong.parse::<Probers>().is_err(), "{wrong}");
    }
}
