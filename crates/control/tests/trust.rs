//! Trust domains: a mesh that gets another one, and roots of others, each for its trust domains.

mod common;

use common::discovery::Client;
use common::{FRONT, Mesh, credentials};
use mutua_identity::{Ca, PrivateKey, TrustDomain};
use mutua_wire::MeshResource;
use mutua_wire::mesh::TrustBundle;
use tonic::Code;

fn key() -> PrivateKey {
    PrivateKey::generate().expect("a key")
}

fn mesh_config(text: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n{text}")
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("        {line}\n")).collect()
}

/// A root of somebody else's.
fn other() -> (tempfile::TempDir, Ca) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("other.example").expect("a name")).expect("made");
    (folder, ca)
}

#[tokio::test]
async fn a_former_trust_domain_renews_while_it_is_an_alias() {
    let mesh = Mesh::start().await;
    let old = mesh.join("shop/front").await;
    assert_eq!(old.id().expect("an identity").to_string(), FRONT);
    mesh.write("mesh.yaml", &mesh_config("    trustDomain: new.example\n    trustDomainAliases: [cluster.local]\n"));
    let generation = mesh.until("/api/v1/status", |status| status["generation"] != 1).await["generation"].clone();
    let (first, second) = (key(), key());
    let own = "spiffe://new.example/ns/istio-system/sa/istiod";
    let answer = mesh.create_as(own, &first, Some(&old)).await.expect("an alias renews");
    let new = credentials(&first, &answer);
    assert_eq!(new.id().expect("an identity").to_string(), "spiffe://new.example/ns/shop/sa/front");

    mesh.write("mesh.yaml", &mesh_config("    trustDomain: new.example\n"));
    mesh.until("/api/v1/status", |status| status["generation"] != generation).await;
    let refused = mesh.create_as(own, &second, Some(&old)).await.expect_err("no alias any more");
    assert_eq!(refused.code(), Code::Unauthenticated);
    for words in ["cluster.local", "new.example", "trustDomainAliases"] {
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    mesh.create_as(own, &second, Some(&new)).await.expect("the new one renews");
}

#[tokio::test]
async fn roots_of_others_reach_every_proxy_for_their_trust_domains() {
    let mesh = Mesh::start().await;
    let ((_one, first), (_two, second)) = (other(), other());
    let text = format!(
        "    caCertificates:\n    - trustDomains: [other.example]\n      pem: |\n{}    - pem: |\n{}",
        indented(&first.bundle().to_pem()),
        indented(&second.bundle().to_pem())
    );
    mesh.write("mesh.yaml", &mesh_config(&text));
    mesh.until("/api/v1/status", |status| status["generation"] != 1).await;
    let leaf = mesh.join("shop/front").await;
    let mut client = Client::open(&mesh, Some(&leaf), "shop/front").await.expect("opens");
    client.subscribe_all(TrustBundle::TYPE_URL).await;
    let response = client.next().await.expect("a bundle");
    client.ack(&response).await;
    let bundle = TrustBundle::unpack(response.resources[0].resource.as_ref().expect("content")).expect("a bundle");
    let pem = |ca: &Ca| ca.bundle().to_pem();
    assert!(bundle.roots.len() == 2 && bundle.roots.contains(&pem(&second)) && !bundle.roots.contains(&pem(&first)));
    let [domain] = &bundle.domains[..] else { panic!("{:?}", bundle.domains) };
    assert_eq!(domain.trust_domain, "other.example");
    assert!(domain.roots.contains(&pem(&first)) && domain.roots.contains(&pem(&second)) && domain.roots.len() == 2);
    assert!(!domain.roots.contains(&mesh.roots().to_pem()), "the mesh's own CA says nothing of a domain that is no alias");

    // Foreign roots are not those by which the control plane knows its callers.
    let stranger_key = key();
    let csr = mutua_identity::certificate_request(&stranger_key).expect("a request");
    let issued = second.sign(&csr, &FRONT.parse().expect("an id"), std::time::Duration::from_secs(60)).expect("signed");
    let stranger = mutua_identity::Credentials::new(&stranger_key, &issued.chain_pem[..1]).expect("a leaf");
    assert!(mesh.create(&key(), None, Some(&stranger)).await.is_err());

    mesh.write("mesh.yaml", &mesh_config("    caCertificates: [{pem: nothing}]\n"));
    let status = mesh.until("/api/v1/status", |status| !status["rejected"].is_null()).await;
    assert!(status["rejected"].as_str().is_some_and(|text| text.contains("caCertificates[0]/pem")), "{status:#}");
    assert!(client.quiet().await, "what ran keeps running");
}

/// A root of somebody else's that is so old; it lives for ten years.
fn aged(name: &str, age: std::time::Duration) -> (tempfile::TempDir, Ca) {
    let folder = tempfile::tempdir().expect("a folder");
    let made = std::time::SystemTime::now() - age;
    let ca = Ca::load_or_create_at(folder.path(), &TrustDomain::new(name).expect("a name"), made).expect("made");
    (folder, ca)
}

#[tokio::test]
async fn roots_of_others_that_end_are_forecast_and_told_of() {
    let mesh = Mesh::start().await;
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let ((_one, dead), (_two, old), (_three, young)) =
        (aged("dead.example", 11 * year), aged("old.example", 9 * year), aged("young.example", year));
    let text = format!(
        "    caCertificates:\n    - trustDomains: [dead.example]\n      pem: |\n{}    - pem: |\n{}    - trustDomains: [a.example, b.example]\n      pem: |\n{}",
        indented(&dead.bundle().to_pem()),
        indented(&old.bundle().to_pem()),
        indented(&young.bundle().to_pem())
    );
    mesh.write("mesh.yaml", &mesh_config(&text));
    let decided = |status: &serde_json::Value| status["generation"] != 1 || !status["rejected"].is_null();
    let status = mesh.until("/api/v1/status", decided).await;
    assert!(status["rejected"].is_null(), "a root that has ended changes nothing for the others: {status}");
    let answer = mesh.get("/api/v1/certificates").await;
    let rows = answer["certificates"].as_array().expect("rows");
    let forecasts = |name: &str| -> Vec<String> {
        let of_name = rows.iter().filter(|row| row["kind"] == "root" && row["owner"] == format!("O={name}"));
        of_name.map(|row| row["forecast"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let [told] = &forecasts("dead.example")[..] else { panic!("{answer:#}") };
    assert!(told.starts_with("it has ended: whoever is below it is refused since 20"), "{told}");
    let [told] = &forecasts("old.example")[..] else { panic!("{answer:#}") };
    assert!(told.starts_with("nothing here renews it; put its successor where it came from"), "{told}");
    assert!(!told.contains("whole mesh"), "{told}");
    assert_eq!(forecasts("young.example"), [""], "once, though for two trust domains");
    assert_eq!(forecasts("cluster.local"), [""]);
    let (status, ready) = mesh.http("GET", "/readyz", "localhost", &[]).await;
    assert_eq!(status, 200, "our own CA lives: {ready}");
    let (_, metrics) = mesh.http("GET", "/metrics", "localhost", &[]).await;
    let line =
        |line: &&str| line.starts_with("mutua_certificate_expiry_timestamp_seconds{kind=\"root\",owner=\"O=dead.example\"} ");
    let end: f64 = metrics.lines().find(line).and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a time");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!(end > 0.0 && end < now, "{end}");
}
