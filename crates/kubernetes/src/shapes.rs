//! What is kept of objects, by kind. A folder's reader looks at no other fields.

use crate::object::{Keep, Shaped};

/// That an object exists.
#[derive(Clone, Debug)]
pub struct MetadataOnly;
/// All but the status.
#[derive(Clone, Debug)]
pub struct Configuration;
/// What makes a Service.
#[derive(Clone, Debug)]
pub struct Service;
/// Addresses and ports of an EndpointSlice.
#[derive(Clone, Debug)]
pub struct EndpointSlice;
/// Who a Pod runs as, its addresses and ports.
#[derive(Clone, Debug)]
pub struct Pod;

impl Shaped for MetadataOnly {
    const KEEP: &'static Keep = &METADATA_ONLY;
}

impl Shaped for Configuration {
    const KEEP: &'static Keep = &CONFIGURATION;
}

impl Shaped for Service {
    const KEEP: &'static Keep = &SERVICE;
}

impl Shaped for EndpointSlice {
    const KEEP: &'static Keep = &ENDPOINT_SLICE;
}

impl Shaped for Pod {
    const KEEP: &'static Keep = &POD;
}

const METADATA: Keep = Keep::Fields(&[
    ("name", &Keep::All),
    ("namespace", &Keep::All),
    ("labels", &Keep::All),
    ("annotations", &ANNOTATIONS),
    ("creationTimestamp", &Keep::All),
    ("ownerReferences", &Keep::Each(&Keep::Fields(&[("kind", &Keep::All), ("name", &Keep::All)]))),
    ("resourceVersion", &Keep::All),
]);
/// `kubectl apply` keeps the whole object once more in an annotation.
const ANNOTATIONS: Keep = Keep::Without(&["kubectl.kubernetes.io/last-applied-configuration"]);
const METADATA_ONLY: Keep = Keep::Fields(&[("metadata", &METADATA)]);
const CONFIGURATION: Keep = Keep::Fields(&[("metadata", &METADATA), ("spec", &Keep::All), ("data", &Keep::All)]);
const SERVICE: Keep = Keep::Fields(&[("metadata", &METADATA), ("spec", &Keep::All)]);
const ENDPOINT_SLICE: Keep = Keep::Fields(&[
    ("metadata", &METADATA),
    ("addressType", &Keep::All),
    ("ports", &Keep::All),
    (
        "endpoints",
        &Keep::Each(&Keep::Fields(&[
            ("addresses", &Keep::All),
            ("conditions", &Keep::All),
            ("hostname", &Keep::All),
            ("targetRef", &Keep::Fields(&[("kind", &Keep::All), ("namespace", &Keep::All), ("name", &Keep::All)])),
        ])),
    ),
]);
const POD: Keep = Keep::Fields(&[
    ("metadata", &METADATA),
    (
        "spec",
        &Keep::Fields(&[
            ("serviceAccountName", &Keep::All),
            ("serviceAccount", &Keep::All),
            ("hostNetwork", &Keep::All),
            ("containers", &Keep::Each(&CONTAINER)),
            ("initContainers", &Keep::Each(&CONTAINER)),
        ]),
    ),
    ("status", &Keep::Fields(&[("phase", &Keep::All), ("podIP", &Keep::All), ("podIPs", &Keep::All)])),
]);
const CONTAINER: Keep = Keep::Fields(&[("name", &Keep::All), ("ports", &Keep::All), ("restartPolicy", &Keep::All)]);
