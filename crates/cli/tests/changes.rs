//! Changes of policy under load lose no request: HTTP keep-alive, HTTP and raw TCP through all ordered pairs of modes, a
//! DestinationRule, `enableAutoMtls` and the minimum version, while configuration reaches every sidecar late and the
//! control plane is killed in the middle of a stage. The same with staging switched off loses some, so the test can fail.
//!
//! `MUTUA_SOAK_DELAY_MS` is the longest delay of the long form (8000 unless given):
//! `cargo test --release -p mutua-cli --test changes -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that tells how it goes")]

mod common;
#[path = "changes/load.rs"]
mod load;
#[path = "common/mesh.rs"]
mod mesh;
#[path = "changes/relay.rs"]
mod relay;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use load::Load;
use mesh::{Mesh, in_lab, peer_authentication, until};
use relay::Delays;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ISTIO: &str = "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {name: default}\n";
const RULE: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: back, namespace: shop}\n";

/// Each ordered pair of modes once: a closed walk over UNSET, DISABLE, PERMISSIVE and STRICT.
const MODES: [&str; 13] =
    ["", "DISABLE", "", "PERMISSIVE", "", "STRICT", "DISABLE", "PERMISSIVE", "DISABLE", "STRICT", "PERMISSIVE", "STRICT", ""];

/// One change of the policies: what it is, the new text, whether plaintext is accepted once it is in force.
struct Change {
    name: String,
    rules: String,
    plaintext: bool,
}

fn change(name: &str, rules: String, plaintext: bool) -> Change {
    Change { name: name.to_owned(), rules, plaintext }
}

fn mode_changes() -> Vec<Change> {
    let named = |mode: &str| if mode.is_empty() { "UNSET".to_owned() } else { mode.to_owned() };
    let rules = |mode: &str| if mode.is_empty() { String::new() } else { peer_authentication(mode) };
    let pairs = MODES.windows(2);
    pairs.map(|pair| change(&format!("{} to {}", named(pair[0]), named(pair[1])), rules(pair[1]), pair[1] != "STRICT")).collect()
}

/// Changes of what else both ends must agree on, and the deletion of each. Begins and ends without any policy.
fn other_changes() -> Vec<Change> {
    let auto = |on: bool| format!("{ISTIO}spec: {{values: {{meshConfig: {{enableAutoMtls: {on}}}}}}}\n");
    let floor =
        |version: &str| format!("{ISTIO}spec: {{values: {{meshConfig: {{meshMTLS: {{minProtocolVersion: {version}}}}}}}}}\n");
    let rule =
        |mode: &str| format!("{RULE}spec: {{host: back.shop.svc.cluster.local, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n");
    let strict = |more: &str| format!("{}---\n{more}", peer_authentication("STRICT"));
    let disable = |more: &str| format!("{}---\n{more}", peer_authentication("DISABLE"));
    vec![
        change("rule DISABLE comes", rule("DISABLE"), true),
        change("rule DISABLE becomes ISTIO_MUTUAL, and STRICT comes", strict(&rule("ISTIO_MUTUAL")), false),
        change("rule ISTIO_MUTUAL becomes DISABLE, and STRICT becomes DISABLE", disable(&rule("DISABLE")), true),
        change("rule and DISABLE go", String::new(), true),
        change("auto mTLS goes", auto(false), true),
        change("auto mTLS comes back, with STRICT", strict(&auto(true)), false),
        change("the floor becomes TLS 1.3", strict(&floor("TLSV1_3")), false),
        change("STRICT goes, and auto mTLS with it", auto(false), true),
        change("all goes", String::new(), true),
    ]
}

/// How a run is made.
struct Run {
    options: &'static [&'static str],
    /// The longest delay on the way of configuration to a sidecar.
    delay: Duration,
    /// After which changes the control plane is killed in mid-stage.
    kills: &'static [usize],
}

/// What came of it.
struct Outcome {
    calls: u64,
    failures: Vec<String>,
    /// Refusals of the caller's and of the application's sidecar.
    refusals: [BTreeMap<String, u64>; 2],
}

/// Leads the mesh through all `changes` under load.
fn run(test: &'static str, run: &Run, changes: &[Change], judge: impl FnOnce(&Outcome)) {
    in_lab(test, |folder| {
        let delays = Delays::default();
        let mut mesh = Mesh::start(folder, run.options);
        load::add_http(&mesh);
        for name in ["front", "back"] {
            let port = relay::start(&mesh, delays.of(name));
            mesh.relays.insert(name.to_owned(), port);
        }
        let (_back, _front) = (mesh.sidecar("back", &[], &[]), mesh.sidecar("front", &[], &[]));
        for name in ["back", "front"] {
            mesh.until_ready(name);
        }
        until("everything is in force", || newest(&mesh).is_some_and(|(_, enforced)| enforced));
        let load = Load::default();
        let outcome = std::thread::scope(|scope| {
            load.start(scope, &mesh);
            // Also when something below panics.
            let _ending = load.ends_with_this();
            for (at, change) in changes.iter().enumerate() {
                let told = Instant::now();
                delays.roll(at, run.delay);
                make(&mesh, &load, change, run.kills.contains(&at));
                println!("{:<60} {:>6} ms, {}", change.name, told.elapsed().as_millis(), load.line());
            }
            load.outcome(["front", "back"].map(|name| mesh.all_refusals(name)))
        });
        judge(&outcome);
    });
}

/// Makes a change and waits until it is enforced; then looks that nothing in clear comes through where none may.
fn make(mesh: &Mesh, load: &Load, change: &Change, kill: bool) {
    let (before, _) = newest(mesh).expect("the control plane answers");
    load.may_take_plaintext(true);
    mesh.rules(&change.rules);
    if kill {
        until("the change begins", || newest(mesh).is_some_and(|(generation, _)| generation > before));
        mesh.kill_control_plane();
        mesh.start_control_plane();
    }
    until(&format!("{} is in force; {:?}", change.name, mesh.api("/api/v1/rollouts")), || {
        newest(mesh).is_some_and(|(generation, enforced)| generation > before && enforced)
    });
    load.may_take_plaintext(change.plaintext);
    load.goes_on();
}

/// The newest change: its generation, and whether it is enforced everywhere.
fn newest(mesh: &Mesh) -> Option<(u64, bool)> {
    let rollouts = mesh.api("/api/v1/rollouts")?;
    let first = rollouts.as_array()?.first()?;
    Some((first["generation"].as_u64()?, enforced(first)))
}

fn enforced(rollout: &Value) -> bool {
    rollout["phase"] == "complete" && !rollout["enforced"].is_null()
}

/// Nothing fails, and what is cut at the end of the drain is what lived longer.
fn nothing_is_lost(outcome: &Outcome) {
    assert!(outcome.failures.is_empty(), "{} of {} calls: {:#?}", outcome.failures.len(), outcome.calls, outcome.failures);
    assert!(outcome.calls > 1000, "{} calls are no load", outcome.calls);
    let [front, back] = &outcome.refusals;
    let reasons = |refusals: &BTreeMap<String, u64>| refusals.keys().cloned().collect::<Vec<_>>();
    assert!(reasons(front).iter().all(|reason| reason == "POLICY_CHANGED"), "{front:?}");
    assert!(reasons(back).iter().all(|reason| reason == "POLICY_CHANGED" || reason == "PLAINTEXT_ON_STRICT_PORT"), "{back:?}");
}

const STAGED: &[&str] = &["--stage-timeout", "60s", "--drain-duration", "2s"];

#[test]
fn no_request_is_lost_to_a_change_of_mode() {
    let how = Run { options: STAGED, delay: Duration::from_millis(150), kills: &[5, 9] };
    run("no_request_is_lost_to_a_change_of_mode", &how, &mode_changes(), nothing_is_lost);
}

#[test]
fn no_request_is_lost_to_a_change_of_rules_or_mesh() {
    let how = Run { options: STAGED, delay: Duration::from_millis(150), kills: &[1] };
    run("no_request_is_lost_to_a_change_of_rules_or_mesh", &how, &other_changes(), nothing_is_lost);
}

#[test]
fn without_stages_requests_are_lost() {
    let how =
        Run { options: &["--stage-timeout", "0s", "--drain-duration", "2s"], delay: Duration::from_millis(600), kills: &[] };
    let changes: Vec<Change> = mode_changes().into_iter().skip(4).take(3).collect();
    run("without_stages_requests_are_lost", &how, &changes, |outcome| {
        println!("without stages {} of {} calls failed", outcome.failures.len(), outcome.calls);
        assert!(!outcome.failures.is_empty(), "this test cannot tell staged changes from others");
    });
}

#[test]
fn a_change_is_watched_taken_back_and_completed_by_hand() {
    in_lab("a_change_is_watched_taken_back_and_completed_by_hand", |folder| {
        let (mesh, _front, back) = Mesh::whole(folder, STAGED);
        let rollout = |arguments: &[&str]| {
            let state = folder.join("control");
            let output = common::mutua(&[&["rollout"], arguments, &["--state", state.to_str().unwrap()]].concat());
            (output.status.code().unwrap(), common::said(&output))
        };
        let (code, said) = rollout(&["status", "--watch", "--timeout", "30s"]);
        assert!(code == 0 && said.contains("is in force"), "{said}");
        let (code, said) = rollout(&["abort"]);
        assert!(code == 2 && said.contains("no change is under way"), "{said}");

        stop(&back, Signal::STOP);
        mesh.policy("STRICT");
        until("the change waits", || rollout(&["status"]).1.contains("waiting for shop/back\n"));
        let (code, said) = rollout(&["status", "--watch", "--timeout", "1s"]);
        assert!(code == 1 && said.contains("(1 of 3)"), "{said}");
        let (code, said) = rollout(&["abort"]);
        assert_eq!(code, 0, "{said}");
        stop(&back, Signal::CONT);
        let (code, said) = rollout(&["status", "--watch", "--timeout", "30s"]);
        assert_eq!(code, 0, "{said}");
        let (_, all) = rollout(&["list"]);
        assert!(all.contains("taken back") && all.contains("in force"), "{all}");
        mesh.is_served();

        stop(&back, Signal::STOP);
        mesh.policy("DISABLE");
        until("the change waits", || rollout(&["status"]).1.contains("waiting for shop/back\n"));
        assert_eq!(rollout(&["complete"]).0, 2, "it has to be meant");
        let (code, said) = rollout(&["complete", "--immediate"]);
        assert!(code == 0 && said.contains("(3 of 3)"), "{said}");
        stop(&back, Signal::CONT);
        assert_eq!(rollout(&["status", "--watch", "--timeout", "30s"]).0, 0);
    });
}

fn stop(process: &mutua_lab::Process, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

#[test]
#[ignore = "takes some minutes; run by make soak"]
fn no_request_is_lost_with_long_delays() {
    let longest = std::env::var("MUTUA_SOAK_DELAY_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(8000);
    let how = Run { options: STAGED, delay: Duration::from_millis(longest), kills: &[2, 5, 9, 14] };
    let changes: Vec<Change> = mode_changes().into_iter().chain(other_changes()).collect();
    let began = SystemTime::now();
    run("no_request_is_lost_with_long_delays", &how, &changes, |outcome| {
        nothing_is_lost(outcome);
        let forced: u64 = outcome.refusals.iter().filter_map(|refusals| refusals.get("POLICY_CHANGED")).sum();
        println!("connections that lived longer than the drain, and were cut: {forced}");
        assert!(forced > 0, "the long connection is drained by force");
    });
    println!("took {} s", began.elapsed().unwrap_or_default().as_secs());
}
