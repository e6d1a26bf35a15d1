//! `MeshConfig.extensionProviders`.

use super::super::types::{
    BOOLEAN, DURATION, EMPTY, INT32, INT64, LABELS, Object, TEXT, TEXTS, Type, field, list, object, required,
};

const DATADOG: Object = Object::of(&[field("maxTagLength", INT32), required("port", INT32), required("service", TEXT)]);

const INCLUDE_REQUEST_BODY_IN_CHECK: Object =
    Object::of(&[field("allowPartialMessage", BOOLEAN), field("maxRequestBytes", INT32), field("packAsBytes", BOOLEAN)]);

const ENVOY_EXT_AUTHZ_GRPC: Object = Object::of(&[
    field("clearRouteCache", BOOLEAN),
    field("failOpen", BOOLEAN),
    field("includeRequestBodyInCheck", object(&INCLUDE_REQUEST_BODY_IN_CHECK)),
    required("port", INT32),
    required("service", TEXT),
    field("statusOnError", TEXT),
    field("timeout", DURATION),
]);

const ENVOY_EXT_AUTHZ_HTTP: Object = Object::of(&[
    field("clearRouteCache", BOOLEAN),
    field("failOpen", BOOLEAN),
    field("headersToDownstreamOnAllow", TEXTS),
    field("headersToDownstreamOnDeny", TEXTS),
    field("headersToUpstreamOnAllow", TEXTS),
    field("includeAdditionalHeadersInCheck", LABELS),
    field("includeHeadersInCheck", TEXTS),
    field("includeRequestBodyInCheck", object(&INCLUDE_REQUEST_BODY_IN_CHECK)),
    field("includeRequestHeadersInCheck", TEXTS),
    field("pathPrefix", TEXT),
    required("port", INT32),
    required("service", TEXT),
    field("statusOnError", TEXT),
    field("timeout", DURATION),
]);

const LOG_FORMAT: Object = Object::of(&[field("labels", LABELS), field("text", TEXT)]).one_of(&[&["text", "labels"]]);

const ENVOY_FILE_ACCESS_LOG: Object =
    Object::of(&[field("logFormat", object(&LOG_FORMAT)), field("omitEmptyValues", BOOLEAN), field("path", TEXT)]);

const ENVOY_HTTP_ALS: Object = Object::of(&[
    field("additionalRequestHeadersToLog", TEXTS),
    field("additionalResponseHeadersToLog", TEXTS),
    field("additionalResponseTrailersToLog", TEXTS),
    field("filterStateObjectsToLog", TEXTS),
    field("logName", TEXT),
    required("port", INT32),
    required("service", TEXT),
]);

const ENVOY_OTEL_ALS: Object = Object::of(&[
    field("logFormat", object(&LOG_FORMAT)),
    field("logName", TEXT),
    required("port", INT32),
    required("service", TEXT),
]);

const ENVOY_TCP_ALS: Object = Object::of(&[
    field("filterStateObjectsToLog", TEXTS),
    field("logName", TEXT),
    required("port", INT32),
    required("service", TEXT),
]);

const LIGHTSTEP: Object =
    Object::of(&[field("accessToken", TEXT), field("maxTagLength", INT32), required("port", INT32), required("service", TEXT)]);

const OPENCENSUS: Object = Object::of(&[
    field("context", list(&Type::Words(&["UNSPECIFIED", "W3C_TRACE_CONTEXT", "GRPC_BIN", "CLOUD_TRACE_CONTEXT", "B3"]))),
    field("maxTagLength", INT32),
    required("port", INT32),
    required("service", TEXT),
]);

const HEADERS: Object =
    Object::of(&[field("envName", TEXT), required("name", TEXT), field("value", TEXT)]).one_of(&[&["value", "envName"]]);

const HTTP_EXPORT: Object =
    Object::of(&[field("headers", list(&object(&HEADERS))), required("path", TEXT), field("timeout", DURATION)]);

const HTTP_SERVICE: Object =
    Object::of(&[required("http", object(&HTTP_EXPORT)), required("port", INT32), required("service", TEXT)]);

const DYNATRACE_SAMPLER: Object = Object::of(&[
    required("clusterId", INT32),
    field("httpService", object(&HTTP_SERVICE)),
    field("rootSpansPerMinute", INT32),
    required("tenant", TEXT),
]);

const GRPC_EXPORT: Object = Object::of(&[field("initialMetadata", list(&object(&HEADERS))), field("timeout", DURATION)]);

const RESOURCE_DETECTORS: Object = Object::of(&[field("dynatrace", object(&EMPTY)), field("environment", object(&EMPTY))]);

const OPENTELEMETRY: Object = Object::of(&[
    field("dynatraceSampler", object(&DYNATRACE_SAMPLER)),
    field("grpc", object(&GRPC_EXPORT)),
    field("http", object(&HTTP_EXPORT)),
    field("maxTagLength", INT32),
    required("port", INT32),
    field("resourceDetectors", object(&RESOURCE_DETECTORS)),
    required("service", TEXT),
    field("serviceAttributeEnrichment", Type::Words(&["ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"])),
]);

const SDS: Object = Object::of(&[required("name", TEXT), required("port", INT32), required("service", TEXT)]);

const SKYWALKING: Object = Object::of(&[field("accessToken", TEXT), required("port", INT32), required("service", TEXT)]);

const LOGGING: Object = Object::of(&[field("labels", LABELS)]);

const STACKDRIVER: Object = Object::of(&[
    field("debug", BOOLEAN),
    field("logging", object(&LOGGING)),
    field("maxNumberOfAnnotations", INT64),
    field("maxNumberOfAttributes", INT64),
    field("maxNumberOfMessageEvents", INT64),
    field("maxTagLength", INT32),
]);

const ZIPKIN: Object = Object::of(&[
    field("enable64bitTraceId", BOOLEAN),
    field("headers", list(&object(&HEADERS))),
    field("maxTagLength", INT32),
    field("path", TEXT),
    required("port", INT32),
    required("service", TEXT),
    field("timeout", DURATION),
    field("traceContextOption", Type::Words(&["USE_B3", "USE_B3_WITH_W3C_PROPAGATION"])),
]);

/// `ExtensionProvider`.
pub const EXTENSION_PROVIDERS: Object = Object::of(&[
    field("datadog", object(&DATADOG)),
    field("envoyExtAuthzGrpc", object(&ENVOY_EXT_AUTHZ_GRPC)),
    field("envoyExtAuthzHttp", object(&ENVOY_EXT_AUTHZ_HTTP)),
    field("envoyFileAccessLog", object(&ENVOY_FILE_ACCESS_LOG)),
    field("envoyHttpAls", object(&ENVOY_HTTP_ALS)),
    field("envoyOtelAls", object(&ENVOY_OTEL_ALS)),
    field("envoyTcpAls", object(&ENVOY_TCP_ALS)),
    field("lightstep", object(&LIGHTSTEP)),
    required("name", TEXT),
    field("opencensus", object(&OPENCENSUS)),
    field("opentelemetry", object(&OPENTELEMETRY)),
    field("prometheus", object(&EMPTY)),
    field("sds", object(&SDS)),
    field("skywalking", object(&SKYWALKING)),
    field("stackdriver", object(&STACKDRIVER)),
    field("zipkin", object(&ZIPKIN)),
])
.one_of(&[&[
    "envoyExtAuthzHttp",
    "envoyExtAuthzGrpc",
    "zipkin",
    "lightstep",
    "datadog",
    "stackdriver",
    "opencensus",
    "skywalking",
    "opentelemetry",
    "prometheus",
    "envoyFileAccessLog",
    "envoyHttpAls",
    "envoyTcpAls",
    "envoyOtelAls",
    "sds",
]]);
