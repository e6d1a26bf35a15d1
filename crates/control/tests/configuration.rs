//! Hot reload, restarts, bad starts, and the API's two doors.

mod common;

use common::{Mesh, SHOP, settings};
use mutua_control::StartError;

const WRONG: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRCT}}\n";

#[tokio::test]
async fn an_invalid_change_keeps_the_last_good_state_and_says_so() {
    let mesh = Mesh::start().await;
    mesh.write("wrong.yaml", WRONG);
    let status = mesh.until("/api/v1/status", |status| !status["rejected"].is_null()).await;
    assert_eq!(status["generation"], 1);
    let told = &status["diagnostics"][0];
    assert!(told["file"].as_str().expect("a file").ends_with("wrong.yaml"), "{told}");
    assert_eq!((&told["line"], &told["severity"]), (&4.into(), &"error".into()), "{told}");
    assert!(told["message"].as_str().expect("a text").contains("STRCT"), "{told}");
    let (_, metrics) = mesh.api("GET", "/metrics", "").await;
    let metrics = metrics.as_str().expect("text").to_owned();
    assert!(metrics.contains("mutua_config_rejected 1") && metrics.contains("mutua_config_errors_total 1"), "{metrics}");
    mesh.token("shop/front").await;

    mesh.write("wrong.yaml", &WRONG.replace("STRCT", "STRICT"));
    let status = mesh.until("/api/v1/status", |status| status["generation"] == 2).await;
    assert!(status["rejected"].is_null() && status["diagnostics"] == serde_json::json!([]), "{status}");
    let kept = std::fs::read_to_string(mesh.folder.path().join("state/status.json")).expect("the status file");
    assert!(kept.contains("\"generation\": 2"), "{kept}");
}

#[tokio::test]
async fn a_restart_over_an_invalid_folder_goes_on_with_the_last_good_state() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    mesh.until("/api/v1/status", |_| mesh.folder.path().join("state/last-good.json").exists()).await;
    mesh.write("wrong.yaml", WRONG);
    mesh.until("/api/v1/status", |status| !status["rejected"].is_null()).await;
    let roots = mesh.roots();
    let mesh = mesh.restart().await;
    let status = mesh.get("/api/v1/status").await;
    assert!(status["generation"] == 1 && !status["rejected"].is_null(), "{status}");
    assert_eq!(mesh.roots(), roots);
    let key = mutua_identity::PrivateKey::generate().expect("a key");
    mesh.create(&key, None, Some(&front)).await.expect("its workloads renew");
    mesh.remove("wrong.yaml");
    mesh.until("/api/v1/status", |status| status["rejected"].is_null()).await;
    assert_eq!(mesh.get("/api/v1/status").await["generation"], 1, "the same content as before");
}

#[tokio::test]
async fn a_change_while_the_state_cannot_be_written_waits() {
    let mesh = Mesh::start().await;
    let file = mesh.folder.path().join("state/generation.json");
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir_all(file.join("in the way")).expect("a folder in its place");
    mesh.write("strict.yaml", &WRONG.replace("STRCT", "STRICT"));
    let status = mesh.until("/api/v1/status", |status| !status["rejected"].is_null()).await;
    assert_eq!(status["generation"], 1);
    assert!(status["rejected"].as_str().expect("a text").contains("generation.json cannot be written"), "{status}");
    std::fs::remove_dir_all(&file).expect("out of the way");
    mesh.until("/api/v1/status", |status| status["generation"] == 2 && status["rejected"].is_null()).await;
}

async fn refused(change: impl FnOnce(&tempfile::TempDir, &mut mutua_control::settings::Settings)) -> StartError {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("config")).expect("made");
    std::fs::write(folder.path().join("config/shop.yaml"), SHOP).expect("written");
    let mut settings = settings(folder.path());
    change(&folder, &mut settings);
    Mesh::over(folder, settings).await.err().expect("does not start")
}

#[tokio::test]
async fn bad_starts_are_one_clear_error() {
    let error = refused(|folder, settings| settings.config = Some(folder.path().join("nowhere"))).await;
    assert!(matches!(error, StartError::Config(_)) && error.to_string().contains("nowhere"), "{error}");
    let error = refused(|folder, _| std::fs::write(folder.path().join("config/wrong.yaml"), WRONG).expect("written")).await;
    assert!(error.to_string().contains("wrong.yaml:4") && error.to_string().contains("STRCT"), "{error}");
    let istio = |name: &str| {
        format!(
            "---\napiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: {name}}}\nspec: {{namespace: istio-system, version: v1.27.0}}\n"
        )
    };
    let two = format!("{}{}", istio("one"), istio("two"));
    let error = refused(|folder, _| std::fs::write(folder.path().join("config/two.yaml"), two).expect("written")).await;
    assert!(error.to_string().contains("Istio"), "{error}");
    let error = refused(|folder, _| std::fs::write(folder.path().join("state"), "").expect("written")).await;
    assert!(matches!(error, StartError::State(_)) && error.to_string().contains("state"), "{error}");
    let error = refused(|folder, settings| settings.ca_dir = Some(folder.path().join("config"))).await;
    assert!(matches!(error, StartError::Ca(_)) && error.to_string().contains("ca-cert.pem"), "{error}");
    let error = refused(|_, settings| settings.leaf_ttl = Some(std::time::Duration::ZERO)).await;
    assert!(matches!(error, StartError::LeafTtl), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let error = refused(|_, settings| settings.listen = address).await;
    assert!(error.to_string().contains(&address.to_string()) && error.to_string().contains("--listen"), "{error}");
    let error = refused(|_, settings| settings.api = address).await;
    assert!(error.to_string().contains(&address.to_string()) && error.to_string().contains("--api"), "{error}");
}

#[tokio::test]
async fn over_tcp_the_api_reads_only_and_under_known_names_only() {
    let mesh = Mesh::start().await;
    for host in ["localhost:20001", "127.0.0.1", "mesh.example.com"] {
        assert_eq!(mesh.http("GET", "/api/v1/status", host, &[]).await.0, 200, "{host}");
    }
    assert_eq!(mesh.http("GET", "/api/v1/status", "evil.example.com", &[]).await.0, 403);
    let lured = [("origin", "http://evil.example.com")];
    assert_eq!(mesh.http("GET", "/api/v1/status", "localhost", &lured).await.0, 403);
    let (status, answer) = mesh.http("POST", "/api/v1/tokens", "localhost", &[]).await;
    assert!(status == 405 && answer.contains("api.sock"), "{answer}");
    assert_eq!(mesh.http("GET", "/readyz", "localhost", &[]).await, (200, "ready\n".to_owned()));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(mesh.socket()).expect("there"));
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn wrong_calls_are_told_why() {
    let mesh = Mesh::start().await;
    for (body, status, says) in [
        (r#"{"workload":"front"}"#, 400, "NAMESPACE/NAME"),
        (r#"{"workload":"shop/nobody"}"#, 404, "shop/nobody"),
        (r#"{"workload":"shop/front","ttl_seconds":0}"#, 400, "30 days"),
        (r"{", 400, ""),
    ] {
        let (code, answer) = mesh.api("POST", "/api/v1/tokens", body).await;
        assert!(code == status && answer["error"].as_str().expect("an error").contains(says), "{body}: {code} {answer}");
    }
    assert_eq!(mesh.api("GET", "/api/v1/nothing", "").await.0, 404);
    assert_eq!(mesh.api("GET", "/api/v1/explain?from=shop/front", "").await.0, 400);
}

#[tokio::test]
async fn the_running_mesh_explains_itself() {
    let mesh = Mesh::start().await;
    let answer = mesh.get("/api/v1/explain?from=shop/front&to=back:9000").await;
    assert_eq!((&answer["outcome"], &answer["client"]["auto"]), (&"mtls".into(), &true.into()), "{answer}");
    let answer = mesh.get("/api/v1/explain?workload=shop/back").await;
    assert_eq!((&answer["workload"], &answer["mode"]), (&"shop/back".into(), &"PERMISSIVE".into()), "{answer}");
    assert_eq!(mesh.api("GET", "/api/v1/explain?workload=shop/nobody", "").await.0, 404);
}

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/front").await;
    mesh.join("shop/back").await;
    for path in ["status", "proxies", "certificates", "tokens"] {
        let text = mesh.get(&format!("/api/v1/{path}")).await.to_string();
        assert!(!text.contains(&token) && !text.contains("PRIVATE KEY"), "{path}");
    }
    let (_, metrics) = mesh.api("GET", "/metrics", "").await;
    assert!(!metrics.to_string().contains(&token));
}
