//! The five states of a port's lock.

use crate::Lock;

use super::engine;

const MODES: &str = r"
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: bar}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ports, namespace: bar}
spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {90: {mode: DISABLE}}}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: bar}
spec:
  clusterIP: 10.96.0.8
  selector: {both: 'yes'}
  ports: [{name: http, port: 80, targetPort: 80}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: bar}
spec: {clusterIP: 10.96.0.9, selector: {app: nobody}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: sleep, namespace: foo}
spec: {clusterIP: 10.96.0.10, selector: {app: sleep}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: bar, labels: {both: 'yes', security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: bar, labels: {both: 'yes'}}
status: {podIP: 10.0.1.2}
";

#[test]
fn a_lock_is_what_all_endpoints_enforce_on_the_port_behind_it() {
    let locks = engine(MODES).service_locks();
    let port = |host: &str, port: u16| {
        let service = locks.iter().find(|one| one.host.starts_with(host)).expect("listed");
        service.ports.iter().find(|one| one.port == port).expect("declared").clone()
    };
    let strict = port("web.bar", 8000);
    assert_eq!((strict.lock, strict.endpoints, strict.without_sidecar), (Lock::Locked, 1, 0));
    assert_eq!((strict.target_ports, strict.decided_by), ([80].into(), ["PeerAuthentication bar/default".to_owned()].into()));
    let open = port("web.bar", 9000);
    assert_eq!((open.lock, open.decided_by), (Lock::Open, ["PeerAuthentication bar/ports".to_owned()].into()));
    let bare = port("old.bar", 8000);
    assert_eq!((bare.lock, bare.without_sidecar, bare.decided_by.len()), (Lock::Open, 1, 0), "no sidecar enforces anything");
    let mixed = port("both.bar", 80);
    assert_eq!((mixed.lock, mixed.endpoints, mixed.without_sidecar), (Lock::Mixed, 2, 1));
    assert_eq!((port("both.bar", 53).lock, port("nobody.bar", 80).lock), (Lock::NoEndpoints, Lock::NoEndpoints));
    let default = port("sleep.foo", 80);
    assert_eq!((default.lock, default.decided_by), (Lock::Hollow, ["default".to_owned()].into()));
}

#[test]
fn a_namespace_accepts_what_no_selector_changes() {
    let engine = engine(MODES);
    let (mode, by) = engine.namespace_mode("bar");
    assert_eq!((mode.as_str(), by.as_str()), ("STRICT", "PeerAuthentication bar/default"));
    assert_eq!(engine.namespace_mode("foo").0.as_str(), "PERMISSIVE");
}
