//! The sidecar's admin pages: every request gets an answer that is whole, and pages are served only where they belong.

use std::sync::Arc;

use mutua_proxy::access_log::AccessLogger;
use mutua_proxy::admin::{Admin, Answer, Origin, Pages, serve_connection};
use mutua_proxy::capture::Dialer;
use mutua_proxy::settings::Workload;
use mutua_proxy::sidecar::Sidecar;
use mutua_proxy::world::{Change, World};
use mutua_testbed::{Wanted, wire};
use mutua_wire::discovery::Resource;
use mutua_wire::{MeshResource, mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{Random, Target, pieces};

/// The target.
pub const TARGET: Target = Target {
    name: "admin",
    run,
    grammar,
    words: &[
        b"GET /policy?port=",
        b"GET ",
        b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b" HTTP/1.0\r\n\r\n",
        b"/config",
        b"/connections",
        b"/certs",
        b"/stats/prometheus",
        b"/healthz/ready",
        b"%00",
        b"&port=",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: keep-alive\r\n",
    ],
    longest: 40 * 1024,
    memory: 512 * 1024,
    memory_per_byte: 8,
};

struct Place {
    admin: Admin,
    runtime: Runtime,
}

thread_local! {
    static PLACE: Place = Place {
        admin: admin(&Arc::new(configured())),
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
    };
}

/// The pages of a sidecar.
pub(super) fn admin(sidecar: &Arc<Sidecar>) -> Admin {
    let workload = Workload { namespace: "shop".to_owned(), name: "it".to_owned() };
    Admin { sidecar: Arc::clone(sidecar), origin: Origin::Static(workload), stopping: CancellationToken::new() }
}

fn configured() -> Sidecar {
    let world = Arc::new(World::default());
    let ports = [("127.0.0.1:80".parse().unwrap(), mesh::Protocol::Http)];
    let policy = wire::inbound(mesh::Mode::Strict, &ports);
    let resource = Resource { name: "shop/it".to_owned(), resource: Some(policy.pack()), ..Resource::default() };
    let change = Change { type_url: mesh::InboundPolicy::TYPE_URL, generation: "1", resources: &[resource], removed: &[] };
    world.apply(&change).unwrap();
    Sidecar::new(world, Dialer::default(), Box::new(Wanted::default()), AccessLogger::silent())
}

/// What must hold.
pub fn run(bytes: &[u8]) {
    PLACE.with(|place| {
        let (path, query) = path_and_query(bytes);
        for pages in [Pages::All, Pages::Metrics, Pages::Readiness] {
            belongs(pages, &path, &place.admin.answer(pages, &path, &query));
        }
        let said = place.runtime.block_on(converse(place.admin.clone(), bytes));
        let status = said.strip_prefix(b"HTTP/1.1 ").or_else(|| said.strip_prefix(b"HTTP/1.0 "));
        let status = status.and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok());
        let known = ["200", "400", "404", "405", "414", "431", "503", "100"];
        assert!(said.is_empty() || status.is_some_and(|status| known.contains(&status)), "{}", String::from_utf8_lossy(&said));
    });
}

/// What a request line asks for; all of it is the path where there is none.
fn path_and_query(bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(bytes);
    let target = text.split(' ').nth(1).unwrap_or(&text);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (path.to_owned(), query.to_owned())
}

fn belongs(pages: Pages, path: &str, answer: &Answer) {
    let served = match path {
        "/stats/prometheus" => pages != Pages::Readiness,
        "/healthz/ready" => pages != Pages::Metrics,
        "/config" | "/connections" | "/certs" | "/policy" => pages == Pages::All,
        _ => false,
    };
    assert_eq!(answer.status == 404, !served, "{path:?} of {pages:?}");
    whole(answer);
}

/// A page of JSON is JSON, and no text is without bound.
pub(super) fn whole(answer: &Answer) {
    if answer.content_type == "application/json" {
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap();
    } else {
        std::str::from_utf8(&answer.body).unwrap();
    }
}

/// What the server says to `bytes` and their end.
async fn converse(admin: Admin, bytes: &[u8]) -> Vec<u8> {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let server = serve_connection(admin, Pages::All, far);
    let client = async {
        for piece in pieces(bytes) {
            if near.write_all(piece).await.is_err() {
                break;
            }
        }
        let _ = near.shutdown().await;
        let mut said = Vec::new();
        let _ = near.read_to_end(&mut said).await;
        said
    };
    tokio::join!(client, server).0
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let paths = ["/policy", "/config", "/connections", "/certs", "/stats/prometheus", "/healthz/ready", "/", "//policy", "*", ""];
    let queries =
        ["", "?", "?port=80", "?port=99999", "?port=-1", "?port=%38%30", "?port=\u{202e}", "?a=b&port=80&port=81", "?port"];
    let methods = ["GET", "GET", "GET", "HEAD", "POST", "CONNECT", "PRI", "get"];
    let heads = [
        "Host: a\r\n",
        "",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X: \u{e9}\r\n",
        "Connection: upgrade\r\n",
    ];
    let (method, path, query) = (random.one_of(&methods), random.one_of(&paths), random.one_of(&queries));
    let version = random.one_of(&["1.1", "1.1", "1.0", "2.0"]);
    let (head, more) = (random.one_of(&heads), random.one_of(&heads));
    format!("{method} {path}{query} HTTP/{version}\r\n{head}{more}\r\nabc").into_bytes()
}
