//! `TrafficPolicy` and its parts, which other kinds use too.

use super::super::types::{
    BOOLEAN, DURATION, INT32, Object, POSITIVE_DURATION, TEXT, TEXTS, Type, UINT32, UINT64, field, list, object, required,
};

const HTTP2_KEEP_ALIVE: Object = Object::of(&[field("interval", POSITIVE_DURATION), field("timeout", POSITIVE_DURATION)]);

const HTTP: Object = Object::of(&[
    field("h2UpgradePolicy", Type::Words(&["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"])),
    field("http1MaxPendingRequests", INT32),
    field("http2KeepAlive", object(&HTTP2_KEEP_ALIVE)),
    field("http2MaxRequests", INT32),
    field("idleTimeout", POSITIVE_DURATION),
    field("maxConcurrentStreams", INT32),
    field("maxRequestsPerConnection", INT32),
    field("maxRetries", INT32),
    field("useClientProtocol", BOOLEAN),
]);

const TCP_KEEPALIVE: Object =
    Object::of(&[field("interval", POSITIVE_DURATION), field("probes", UINT32), field("time", POSITIVE_DURATION)]);

const TCP: Object = Object::of(&[
    field("connectTimeout", POSITIVE_DURATION),
    field("idleTimeout", DURATION),
    field("maxConnectionDuration", POSITIVE_DURATION),
    field("maxConnections", INT32),
    field("tcpKeepalive", object(&TCP_KEEPALIVE)),
]);

/// `ConnectionPoolSettings`.
pub const CONNECTION_POOL: Object = Object::of(&[field("http", object(&HTTP)), field("tcp", object(&TCP))]);

const ATTRIBUTES: Object = Object::of(&[required("name", TEXT), field("value", TEXT)]);

const HTTP_COOKIE: Object = Object::of(&[
    field("attributes", list(&object(&ATTRIBUTES))),
    required("name", TEXT),
    field("path", TEXT),
    field("ttl", DURATION),
]);

const MAGLEV: Object = Object::of(&[field("tableSize", UINT64)]);

const RING_HASH: Object = Object::of(&[field("minimumRingSize", UINT64)]);

const CONSISTENT_HASH: Object = Object::of(&[
    field("httpCookie", object(&HTTP_COOKIE)),
    field("httpHeaderName", TEXT),
    field("httpQueryParameterName", TEXT),
    field("maglev", object(&MAGLEV)),
    field("minimumRingSize", UINT64),
    field("ringHash", object(&RING_HASH)),
    field("useSourceIp", BOOLEAN),
])
.one_of(&[&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"], &["ringHash", "maglev"]]);

const DISTRIBUTE: Object = Object::of(&[field("from", TEXT), field("to", Type::Map(&UINT32, usize::MAX))]);

const FAILOVER: Object = Object::of(&[field("from", TEXT), field("to", TEXT)]);

/// `LocalityLoadBalancerSetting`.
pub const LOCALITY_LB_SETTING: Object = Object::of(&[
    field("distribute", list(&object(&DISTRIBUTE))),
    field("enabled", BOOLEAN),
    field("failover", list(&object(&FAILOVER))),
    field("failoverPriority", TEXTS),
]);

const WARMUP: Object = Object::of(&[
    field("aggression", Type::Number(0.0, f64::MAX)),
    required("duration", POSITIVE_DURATION),
    field("minimumPercent", Type::Number(0.0, 100.0)),
]);

/// `ZoneAwareLoadBalancerSetting`.
pub const ZONE_AWARE_LB_SETTING: Object = Object::of(&[
    field("enabled", BOOLEAN),
    field("failover", list(&object(&FAILOVER))),
    field("failoverPriority", TEXTS),
    field("minClusterSize", Type::Integer(1, u32::MAX as i64)),
]);

const BACKEND_UTILIZATION: Object = Object::of(&[
    field("errorUtilizationPenaltyPercent", UINT32),
    field("metricNamesForComputingUtilization", TEXTS),
    field("weightExpirationPeriod", DURATION),
    field("weightStabilizationPeriod", DURATION),
    field("weightUpdatePeriod", DURATION),
]);

const LOAD_BALANCER: Object = Object::of(&[
    field("backendUtilization", object(&BACKEND_UTILIZATION)),
    field("consistentHash", object(&CONSISTENT_HASH)),
    field("localityLbSetting", object(&LOCALITY_LB_SETTING)),
    field("simple", Type::Words(&["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"])),
    field("warmup", object(&WARMUP)),
    field("warmupDurationSecs", POSITIVE_DURATION),
    field("zoneAwareLbSetting", object(&ZONE_AWARE_LB_SETTING)),
])
.one_of(&[&["simple", "consistentHash", "backendUtilization"]]);

/// `OutlierDetection`.
pub const OUTLIER_DETECTION: Object = Object::of(&[
    field("baseEjectionTime", POSITIVE_DURATION),
    field("consecutive5xxErrors", UINT32),
    field("consecutiveErrors", INT32),
    field("consecutiveGatewayErrors", UINT32),
    field("consecutiveLocalOriginFailures", UINT32),
    field("interval", POSITIVE_DURATION),
    field("maxEjectionPercent", INT32),
    field("minHealthPercent", INT32),
    field("outlierDetectionHttpErrorCodes", list(&Type::Integer(100, 599))),
    field("splitExternalLocalOriginErrors", BOOLEAN),
]);

/// `PortSelector`.
pub const PORT_SELECTOR: Object = Object::of(&[field("number", UINT32)]);

/// `ClientTLSSettings`.
pub const TLS: Object = Object::of(&[
    field("caCertificates", TEXT),
    field("caCrl", TEXT),
    field("clientCertificate", TEXT),
    field("credentialName", TEXT),
    field("insecureSkipVerify", BOOLEAN),
    field("mode", Type::Words(&["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])),
    field("privateKey", TEXT),
    field("sni", TEXT),
    field("subjectAltNames", TEXTS),
]);

const PORT_LEVEL_SETTINGS: Object = Object::of(&[
    field("connectionPool", object(&CONNECTION_POOL)),
    field("loadBalancer", object(&LOAD_BALANCER)),
    field("outlierDetection", object(&OUTLIER_DETECTION)),
    field("port", object(&PORT_SELECTOR)),
    field("tls", object(&TLS)),
]);

const PROXY_PROTOCOL: Object = Object::of(&[field("version", Type::Words(&["V1", "V2"]))]);

const RETRY_BUDGET: Object = Object::of(&[
    field("budgetInterval", DURATION),
    field("minRetryConcurrency", UINT32),
    field("percent", Type::Number(0.0, 100.0)),
]);

const TUNNEL: Object = Object::of(&[field("protocol", TEXT), required("targetHost", TEXT), required("targetPort", UINT32)]);

/// `TrafficPolicy`.
pub const TRAFFIC_POLICY: Object = Object::of(&[
    field("connectionPool", object(&CONNECTION_POOL)),
    field("loadBalancer", object(&LOAD_BALANCER)),
    field("outlierDetection", object(&OUTLIER_DETECTION)),
    field("portLevelSettings", Type::List(&object(&PORT_LEVEL_SETTINGS), 4096)),
    field("proxyProtocol", object(&PROXY_PROTOCOL)),
    field("retryBudget", object(&RETRY_BUDGET)),
    field("tls", object(&TLS)),
    field("tunnel", object(&TUNNEL)),
]);
