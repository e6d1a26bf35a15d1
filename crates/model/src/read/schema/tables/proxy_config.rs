//! `ProxyConfig`: `MeshConfig.defaultConfig`.

use super::super::types::{
    BOOLEAN, DURATION, EMPTY, INT32, INT64, LABELS, NUMBER, Object, TEXT, TEXTS, Type, field, list, object, required,
};
use super::traffic::TLS;

const CONNECTION_SETTINGS: Object = Object::of(&[
    field("clusterPerConnectionBufferLimitBytes", INT32),
    field("globalDownstreamConnectionLimit", INT32),
    field("http2InitialConnectionWindowSize", INT32),
    field("http2InitialStreamWindowSize", INT32),
    field("httpDrainTimeout", TEXT),
    field(
        "httpHeadersWithUnderscoresAction",
        Type::Words(&[
            "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
            "HEADERS_WITH_UNDERSCORES_ALLOW",
            "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
            "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
        ]),
    ),
    field("httpIdleTimeout", TEXT),
    field("httpMaxConcurrentStreams", INT32),
    field("httpMaxConnectionDuration", TEXT),
    field("httpMaxStreamDuration", TEXT),
    field("httpMergeSlashes", BOOLEAN),
    field(
        "httpPathWithEscapedSlashesAction",
        Type::Words(&[
            "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
            "KEEP_UNCHANGED",
            "REJECT_REQUEST",
            "UNESCAPE_AND_REDIRECT",
            "UNESCAPE_AND_FORWARD",
        ]),
    ),
    field("httpRequestHeadersTimeout", TEXT),
    field("httpRequestTimeout", TEXT),
    field("httpStreamIdleTimeout", TEXT),
    field("listenerConnectionLimit", INT32),
    field("listenerPerConnectionBufferLimitBytes", INT32),
    field("profile", Type::Words(&["SIDECAR", "EDGE"])),
]);

/// `TcpKeepalive`.
pub const TCP_KEEPALIVE: Object = Object::of(&[field("interval", DURATION), field("probes", INT32), field("time", DURATION)]);

const ENVOY_ACCESS_LOG_SERVICE: Object =
    Object::of(&[field("address", TEXT), field("tcpKeepalive", object(&TCP_KEEPALIVE)), field("tlsSettings", object(&TLS))]);

const GATEWAY_TOPOLOGY: Object = Object::of(&[
    field(
        "forwardClientCertDetails",
        Type::Words(&["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]),
    ),
    field("numTrustedProxies", INT32),
    field("proxyProtocol", object(&EMPTY)),
]);

const IMAGE: Object = Object::of(&[field("imageType", TEXT)]);

const CRYPTOMB: Object = Object::of(&[field("fallback", BOOLEAN), field("pollDelay", DURATION)]);

const PRIVATE_KEY_PROVIDER: Object =
    Object::of(&[field("cryptomb", object(&CRYPTOMB)), field("qat", object(&CRYPTOMB))]).one_of(&[&["cryptomb", "qat"]]);

const ATTEMPT_COUNT: Object = Object::of(&[field("disabled", BOOLEAN)]);

const METADATA_EXCHANGE_HEADERS: Object = Object::of(&[field("mode", Type::Words(&["UNDEFINED", "IN_MESH"]))]);

const SERVER: Object = Object::of(&[field("disabled", BOOLEAN), field("value", TEXT)]);

const SET_CURRENT_CLIENT_CERT_DETAILS: Object = Object::of(&[
    field("cert", BOOLEAN),
    field("chain", BOOLEAN),
    field("dns", BOOLEAN),
    field("subject", BOOLEAN),
    field("uri", BOOLEAN),
]);

const X_FORWARDED_HOST: Object = Object::of(&[field("enabled", BOOLEAN)]);

const PROXY_HEADERS: Object = Object::of(&[
    field("attemptCount", object(&ATTEMPT_COUNT)),
    field("envoyDebugHeaders", object(&ATTEMPT_COUNT)),
    field(
        "forwardedClientCert",
        Type::Words(&["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]),
    ),
    field("metadataExchangeHeaders", object(&METADATA_EXCHANGE_HEADERS)),
    field("preserveHttp1HeaderCase", BOOLEAN),
    field("requestId", object(&ATTEMPT_COUNT)),
    field("server", object(&SERVER)),
    field("setCurrentClientCertDetails", object(&SET_CURRENT_CLIENT_CERT_DETAILS)),
    field("xForwardedHost", object(&X_FORWARDED_HOST)),
    field("xForwardedPort", object(&X_FORWARDED_HOST)),
]);

const PROXY_STATS_MATCHER: Object =
    Object::of(&[field("inclusionPrefixes", TEXTS), field("inclusionRegexps", TEXTS), field("inclusionSuffixes", TEXTS)]);

const EXEC: Object = Object::of(&[field("command", TEXTS)]);

const GRPC: Object = Object::of(&[required("port", INT32), field("service", TEXT)]);

const HTTP_HEADERS: Object = Object::of(&[required("name", TEXT), required("value", TEXT)]);

const HTTP_GET: Object = Object::of(&[
    field("host", TEXT),
    field("httpHeaders", list(&object(&HTTP_HEADERS))),
    field("path", TEXT),
    required("port", Type::NumberOrName),
    field("scheme", TEXT),
]);

const TCP_SOCKET: Object = Object::of(&[field("host", TEXT), required("port", Type::NumberOrName)]);

const READINESS_PROBE: Object = Object::of(&[
    field("exec", object(&EXEC)),
    field("failureThreshold", INT32),
    field("grpc", object(&GRPC)),
    field("httpGet", object(&HTTP_GET)),
    field("initialDelaySeconds", INT32),
    field("periodSeconds", INT32),
    field("successThreshold", INT32),
    field("tcpSocket", object(&TCP_SOCKET)),
    field("terminationGracePeriodSeconds", INT64),
    field("timeoutSeconds", INT32),
]);

const SDS: Object = Object::of(&[field("enabled", BOOLEAN), field("k8sSaJwtPath", TEXT)]);

const ENVIRONMENT: Object = Object::of(&[field("defaultValue", TEXT), field("name", TEXT)]);

const LITERAL: Object = Object::of(&[field("value", TEXT)]);

const CUSTOM_TAGS: Object = Object::of(&[
    field("environment", object(&ENVIRONMENT)),
    field("header", object(&ENVIRONMENT)),
    field("literal", object(&LITERAL)),
])
.one_of(&[&["literal", "environment", "header"]]);

const DATADOG: Object = Object::of(&[field("address", TEXT)]);

const LIGHTSTEP: Object = Object::of(&[field("accessToken", TEXT), field("address", TEXT)]);

const OPEN_CENSUS_AGENT: Object = Object::of(&[
    field("address", TEXT),
    field("context", list(&Type::Words(&["UNSPECIFIED", "W3C_TRACE_CONTEXT", "GRPC_BIN", "CLOUD_TRACE_CONTEXT", "B3"]))),
]);

const STACKDRIVER: Object = Object::of(&[
    field("debug", BOOLEAN),
    field("maxNumberOfAnnotations", INT64),
    field("maxNumberOfAttributes", INT64),
    field("maxNumberOfMessageEvents", INT64),
]);

const TRACING: Object = Object::of(&[
    field("customTags", Type::Map(&object(&CUSTOM_TAGS), usize::MAX)),
    field("datadog", object(&DATADOG)),
    field("enableIstioTags", BOOLEAN),
    field("lightstep", object(&LIGHTSTEP)),
    field("maxPathTagLength", INT32),
    field("openCensusAgent", object(&OPEN_CENSUS_AGENT)),
    field("sampling", NUMBER),
    field("stackdriver", object(&STACKDRIVER)),
    field("tlsSettings", object(&TLS)),
    field("zipkin", object(&DATADOG)),
])
.one_of(&[&["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"]]);

/// `ProxyConfig`.
pub const DEFAULT_CONFIG: Object = Object::of(&[
    field("availabilityZone", TEXT),
    field("binaryPath", TEXT),
    field("caCertificatesPem", TEXTS),
    field("concurrency", INT32),
    field("configPath", TEXT),
    field("connectionSettings", object(&CONNECTION_SETTINGS)),
    field("controlPlaneAuthPolicy", Type::Words(&["NONE", "MUTUAL_TLS", "INHERIT"])),
    field("customConfigFile", TEXT),
    field("discoveryAddress", TEXT),
    field("discoveryRefreshDelay", DURATION),
    field("drainDuration", DURATION),
    field("envoyAccessLogService", object(&ENVOY_ACCESS_LOG_SERVICE)),
    field("envoyMetricsService", object(&ENVOY_ACCESS_LOG_SERVICE)),
    field("envoyMetricsServiceAddress", TEXT),
    field("extraStatTags", TEXTS),
    field("fileFlushInterval", DURATION),
    field("fileFlushMinSizeKb", INT32),
    field("gatewayTopology", object(&GATEWAY_TOPOLOGY)),
    field("holdApplicationUntilProxyStarts", BOOLEAN),
    field("image", object(&IMAGE)),
    field("interceptionMode", Type::Words(&["REDIRECT", "TPROXY", "NONE"])),
    field("meshId", TEXT),
    field("privateKeyProvider", object(&PRIVATE_KEY_PROVIDER)),
    field("proxyAdminPort", INT32),
    field("proxyBootstrapTemplatePath", TEXT),
    field("proxyHeaders", object(&PROXY_HEADERS)),
    field("proxyMetadata", LABELS),
    field("proxyStatsMatcher", object(&PROXY_STATS_MATCHER)),
    field("readinessProbe", object(&READINESS_PROBE)),
    field("runtimeValues", LABELS),
    field("sds", object(&SDS)),
    field("serviceCluster", TEXT),
    field("statNameLength", INT32),
    field("statsCompression", BOOLEAN),
    field("statsdUdpAddress", TEXT),
    field("statusPort", INT32),
    field("terminationDrainDuration", DURATION),
    field("tracing", object(&TRACING)),
    field("tracingServiceName", Type::Words(&["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"])),
    field("zipkinAddress", TEXT),
])
.one_of(&[&["serviceCluster", "tracingServiceName"]]);
