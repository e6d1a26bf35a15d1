//! `MeshConfig`, and the `Istio` resource (sailoperator.io) that holds it.

use super::super::types::{BOOLEAN, DURATION, INT32, LABELS, Object, TEXT, TEXTS, Type, UINT64, field, list, object, required};
use super::providers::EXTENSION_PROVIDERS;
use super::proxy_config::{DEFAULT_CONFIG, TCP_KEEPALIVE};
use super::traffic::{CONNECTION_POOL, LOCALITY_LB_SETTING, OUTLIER_DETECTION, TLS, ZONE_AWARE_LB_SETTING};

const CA: Object = Object::of(&[
    required("address", TEXT),
    field("istiodSide", BOOLEAN),
    field("requestTimeout", DURATION),
    field("tlsSettings", object(&TLS)),
]);

const CA_CERTIFICATES: Object =
    Object::of(&[field("certSigners", TEXTS), field("pem", TEXT), field("spiffeBundleUrl", TEXT), field("trustDomains", TEXTS)])
        .one_of(&[&["pem", "spiffeBundleUrl"]]);

const CERTIFICATES: Object = Object::of(&[field("dnsNames", TEXTS), field("secretName", TEXT)]);

const CONFIG_SOURCES: Object = Object::of(&[
    field("address", TEXT),
    field("subscribedResources", list(&Type::Words(&["SERVICE_REGISTRY"]))),
    field("tlsSettings", object(&TLS)),
]);

const DEFAULT_HTTP_RETRY_POLICY: Object = Object::of(&[
    field("attempts", INT32),
    field("backoff", DURATION),
    field("perTryTimeout", DURATION),
    field("retryIgnorePreviousHosts", BOOLEAN),
    field("retryOn", TEXT),
    field("retryRemoteLocalities", BOOLEAN),
]);

const DEFAULT_PROVIDERS: Object = Object::of(&[field("accessLogging", TEXTS), field("metrics", TEXTS), field("tracing", TEXTS)]);

const DEFAULT_TRAFFIC_POLICY: Object =
    Object::of(&[field("connectionPool", object(&CONNECTION_POOL)), field("outlierDetection", object(&OUTLIER_DETECTION))]);

const MATCH_EXPRESSIONS: Object = Object::of(&[required("key", TEXT), required("operator", TEXT), field("values", TEXTS)]);

const DISCOVERY_SELECTORS: Object =
    Object::of(&[field("matchExpressions", list(&object(&MATCH_EXPRESSIONS))), field("matchLabels", LABELS)]);

const INBOUND_TRAFFIC_POLICY: Object = Object::of(&[field("mode", Type::Words(&["PASSTHROUGH", "LOCALHOST"]))]);

const TLS_CONFIG: Object = Object::of(&[
    field("cipherSuites", TEXTS),
    field("ecdhCurves", TEXTS),
    field("minProtocolVersion", Type::Words(&["TLS_AUTO", "TLSV1_2", "TLSV1_3"])),
]);

const OUTBOUND_TRAFFIC_POLICY: Object = Object::of(&[
    field("mode", Type::Words(&["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"])),
    field("tls", object(&TLS)),
]);

const PATH_NORMALIZATION: Object =
    Object::of(&[field("normalization", Type::Words(&["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]))]);

const MATCHING_RULES: Object = Object::of(&[field("namespaceSelector", object(&DISCOVERY_SELECTORS))]);

const POLICIES: Object = Object::of(&[
    field("matchingRules", list(&object(&MATCHING_RULES))),
    field("visibility", Type::Words(&["VISIBILITY_UNSPECIFIED", "NONE", "NAMESPACE", "PUBLIC"])),
]);

const SERVICE_ENTRY_VISIBILITY: Object = Object::of(&[
    field("applyToSidecars", BOOLEAN),
    field("defaultVisibility", Type::Words(&["VISIBILITY_UNSPECIFIED", "NONE", "NAMESPACE", "PUBLIC"])),
    field("policies", list(&object(&POLICIES))),
]);

const SERVICE_SCOPE_CONFIGS: Object = Object::of(&[
    field("namespaceSelector", object(&DISCOVERY_SELECTORS)),
    field("scope", Type::Words(&["LOCAL", "GLOBAL"])),
    field("servicesSelector", object(&DISCOVERY_SELECTORS)),
]);

const SETTINGS: Object = Object::of(&[field("clusterLocal", BOOLEAN)]);

const SERVICE_SETTINGS: Object = Object::of(&[field("hosts", TEXTS), field("settings", object(&SETTINGS))]);

/// `MeshConfig`.
pub const MESH_CONFIG: Object = Object::of(&[
    field("accessLogEncoding", Type::Words(&["TEXT", "JSON"])),
    field("accessLogFile", TEXT),
    field("accessLogFormat", TEXT),
    field("ca", object(&CA)),
    field("caCertificates", list(&object(&CA_CERTIFICATES))),
    field("certificates", list(&object(&CERTIFICATES))),
    field("configSources", list(&object(&CONFIG_SOURCES))),
    field("connectTimeout", DURATION),
    field("defaultConfig", object(&DEFAULT_CONFIG)),
    field("defaultDestinationRuleExportTo", TEXTS),
    field("defaultHttpRetryPolicy", object(&DEFAULT_HTTP_RETRY_POLICY)),
    field("defaultInboundHttpRetryPolicy", object(&DEFAULT_HTTP_RETRY_POLICY)),
    field("defaultProviders", object(&DEFAULT_PROVIDERS)),
    field("defaultServiceExportTo", TEXTS),
    field("defaultTrafficPolicy", object(&DEFAULT_TRAFFIC_POLICY)),
    field("defaultVirtualServiceExportTo", TEXTS),
    field("disableEnvoyListenerLog", BOOLEAN),
    field("discoverySelectors", list(&object(&DISCOVERY_SELECTORS))),
    field("dnsRefreshRate", DURATION),
    field("enableAutoMtls", BOOLEAN),
    field("enableEnvoyAccessLogService", BOOLEAN),
    field("enablePrometheusMerge", BOOLEAN),
    field("enableTracing", BOOLEAN),
    field("extensionProviders", Type::List(&object(&EXTENSION_PROVIDERS), 1000)),
    field("h2UpgradePolicy", Type::Words(&["DO_NOT_UPGRADE", "UPGRADE"])),
    field("hboneIdleTimeout", DURATION),
    field("inboundClusterStatName", TEXT),
    field("inboundTrafficPolicy", object(&INBOUND_TRAFFIC_POLICY)),
    field("ingressClass", TEXT),
    field("ingressControllerMode", Type::Words(&["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"])),
    field("ingressSelector", TEXT),
    field("ingressService", TEXT),
    field("localityLbSetting", object(&LOCALITY_LB_SETTING)),
    field("meshMTLS", object(&TLS_CONFIG)),
    field("outboundClusterStatName", TEXT),
    field("outboundTrafficPolicy", object(&OUTBOUND_TRAFFIC_POLICY)),
    field("pathNormalization", object(&PATH_NORMALIZATION)),
    field("protocolDetectionTimeout", DURATION),
    field("proxyHttpPort", INT32),
    field("proxyInboundListenPort", INT32),
    field("proxyListenPort", INT32),
    field("rootNamespace", TEXT),
    field("serviceEntryVisibility", object(&SERVICE_ENTRY_VISIBILITY)),
    field("serviceScopeConfigs", list(&object(&SERVICE_SCOPE_CONFIGS))),
    field("serviceSettings", list(&object(&SERVICE_SETTINGS))),
    field("tcpKeepalive", object(&TCP_KEEPALIVE)),
    field("tlsDefaults", object(&TLS_CONFIG)),
    field("trustDomain", TEXT),
    field("trustDomainAliases", TEXTS),
    field("verifyCertificateAtClient", BOOLEAN),
    field("zoneAwareLbSetting", object(&ZONE_AWARE_LB_SETTING)),
]);

const UPDATE_STRATEGY: Object = Object::of(&[
    field("inactiveRevisionDeletionGracePeriodSeconds", UINT64),
    field("type", Type::Words(&["InPlace", "RevisionBased"])),
    field("updateWorkloads", BOOLEAN),
]);

/// Helm values: only the mesh configuration is checked.
const VALUES: Object = Object::open(&[field("meshConfig", object(&MESH_CONFIG))]);

/// `Istio.spec`.
pub const ISTIO: Object = Object::of(&[
    field("namespace", TEXT),
    field(
        "profile",
        Type::Words(&[
            "ambient",
            "default",
            "demo",
            "empty",
            "external",
            "openshift",
            "openshift-ambient",
            "preview",
            "remote",
            "stable",
        ]),
    ),
    field("updateStrategy", object(&UPDATE_STRATEGY)),
    field("values", object(&VALUES)),
    field("version", TEXT),
]);
