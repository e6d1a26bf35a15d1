//! What a pod asks of its sidecar, by annotations.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mutua_model::Labels;
use mutua_model::read::manifests;
use serde_json::{Map, Value};

use super::InjectError;
use super::settings::{STATUS_PORT, Settings};

/// How inbound connections are captured (`sidecar.istio.io/interceptionMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// They come from 127.0.0.6.
    Redirect,
    /// They keep the caller's address.
    Tproxy,
    /// Not at all.
    None,
}

/// The wishes of one pod, checked.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// How connections are captured.
    pub interception: Interception,
    /// Arguments of `mutua redirect`, from the annotations of capture.
    pub capture: Vec<String>,
    /// The port of metrics and rewritten probes; `None`: neither they nor probes of the sidecar itself.
    pub status_port: Option<u16>,
    /// Whether the application's probes are rewritten.
    pub rewrite_probes: bool,
    /// As an init container that restarts always.
    pub native: bool,
    /// The image, when the pod names one.
    pub image: Option<String>,
    /// `concurrency` of the proxy's configuration.
    pub concurrency: Option<u64>,
    /// `proxyMetadata`: environment of both containers.
    pub environment: BTreeMap<String, String>,
    /// `holdApplicationUntilProxyStarts`.
    pub hold: bool,
    /// `terminationDrainDuration`.
    pub drain: Option<String>,
    /// `resources` of both containers.
    pub resources: Value,
    /// `sidecar.istio.io/userVolume`.
    pub volumes: Vec<Value>,
    /// `sidecar.istio.io/userVolumeMount`.
    pub mounts: Vec<Value>,
    /// Numbers of the readiness probe.
    pub readiness: Readiness,
    /// What is asked for and not done.
    pub warnings: Vec<String>,
}

/// Numbers of the sidecar's readiness probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// `initialDelaySeconds`.
    pub initial_delay: u32,
    /// `periodSeconds`.
    pub period: u32,
    /// `failureThreshold`.
    pub failures: u32,
}

impl Wishes {
    /// Reads the annotations of a pod.
    ///
    /// # Errors
    /// A value that its annotation cannot have.
    pub fn read(annotations: &Labels, settings: &Settings) -> Result<Self, InjectError> {
        let from = Annotations(annotations);
        let config = from.proxy_config()?;
        let number = |name, default| from.number(name).map(|number| number.unwrap_or(default));
        let status = number("status.sidecar.istio.io/port", config.status_port.unwrap_or(STATUS_PORT.into()))?;
        let status = u16::try_from(status).map_err(|_| from.wrong("status.sidecar.istio.io/port", "a port, or 0 for none"))?;
        Ok(Self {
            interception: from.interception(config.interception.as_deref())?,
            capture: from.capture()?,
            status_port: (status != 0).then_some(status),
            rewrite_probes: from.boolean("sidecar.istio.io/rewriteAppHTTPProbers").unwrap_or(settings.rewrite_app_http_probers),
            native: from.boolean("sidecar.istio.io/nativeSidecar").unwrap_or(settings.native_sidecar),
            image: from.text("sidecar.istio.io/proxyImage").map(str::to_owned),
            concurrency: config.concurrency,
            environment: config.environment,
            hold: config.hold,
            drain: config.drain,
            resources: from.resources()?,
            volumes: from.named("sidecar.istio.io/userVolume")?,
            mounts: from.named("sidecar.istio.io/userVolumeMount")?,
            readiness: Readiness {
                initial_delay: number("readiness.status.sidecar.istio.io/initialDelaySeconds", 0)?,
                period: number("readiness.status.sidecar.istio.io/periodSeconds", 15)?,
                failures: number("readiness.status.sidecar.istio.io/failureThreshold", 4)?,
            },
            warnings: from.ignored().chain(config.ignored).collect(),
        })
    }
}

/// What counts of `proxy.istio.io/config`.
#[derive(Default)]
struct ProxyConfig {
    status_port: Option<u32>,
    interception: Option<String>,
    concurrency: Option<u64>,
    environment: BTreeMap<String, String>,
    hold: bool,
    drain: Option<String>,
    ignored: Vec<String>,
}

struct Annotations<'a>(&'a Labels);

impl Annotations<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn wrong(&self, name: &str, allowed: &str) -> InjectError {
        let value = self.text(name).unwrap_or_default().to_owned();
        InjectError::Annotation { name: name.to_owned(), value, allowed: allowed.to_owned() }
    }

    fn number(&self, name: &str) -> Result<Option<u32>, InjectError> {
        self.text(name).map(|text| text.parse().map_err(|_| self.wrong(name, "a number"))).transpose()
    }

    /// As Go reads booleans; other values count as unset, as in Istio.
    fn boolean(&self, name: &str) -> Option<bool> {
        match self.text(name)? {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }

    fn interception(&self, configured: Option<&str>) -> Result<Interception, InjectError> {
        const NAME: &str = "sidecar.istio.io/interceptionMode";
        match self.text(NAME).or(configured).unwrap_or("REDIRECT") {
            "REDIRECT" => Ok(Interception::Redirect),
            "TPROXY" => Ok(Interception::Tproxy),
            "NONE" => Ok(Interception::None),
            _ => Err(self.wrong(NAME, "REDIRECT, TPROXY or NONE")),
        }
    }

    /// The annotations of capture as arguments of `mutua redirect`, with what it would refuse refused here.
    fn capture(&self) -> Result<Vec<String>, InjectError> {
        let mut arguments = Vec::new();
        for (name, argument, allowed, fits) in CAPTURE {
            let name = format!("traffic.sidecar.istio.io/{name}");
            let Some(text) = self.text(&name) else { continue };
            let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
            if !(text == "*" && allowed.starts_with('*') || words.iter().all(|word| fits(word))) {
                return Err(self.wrong(&name, allowed));
            }
            // An empty list says something only where all is the default.
            if !words.is_empty() || allowed.starts_with('*') {
                arguments.push(format!("--{argument}={}", words.join(",")));
            }
        }
        Ok(arguments)
    }

    /// `resources`: those of the annotations, and of nothing else, when one is given (as in Istio's template).
    fn resources(&self) -> Result<Value, InjectError> {
        let mut resources = Value::Null;
        for (name, kind, resource) in RESOURCES {
            let name = format!("sidecar.istio.io/{name}");
            let Some(text) = self.text(&name) else { continue };
            if !is_quantity(text) {
                return Err(self.wrong(&name, "a quantity such as 100m or 64Mi"));
            }
            resources[kind][resource] = Value::from(text);
        }
        Ok(resources)
    }

    /// A JSON mapping from names to volumes or mounts.
    fn named(&self, name: &str) -> Result<Vec<Value>, InjectError> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        let entries: BTreeMap<String, Map<String, Value>> =
            serde_json::from_str(text).map_err(|_| self.wrong(name, "JSON: a mapping from names to objects"))?;
        Ok(entries
            .into_iter()
            .map(|(name, mut object)| {
                object.insert("name".to_owned(), Value::from(name));
                Value::Object(object)
            })
            .collect())
    }

    fn proxy_config(&self) -> Result<ProxyConfig, InjectError> {
        const NAME: &str = "proxy.istio.io/config";
        let Some(text) = self.text(NAME) else { return Ok(ProxyConfig::default()) };
        let wrong = |allowed: &str| self.wrong(NAME, allowed);
        let read = manifests(NAME, text).map_err(|error| wrong(&format!("YAML ({error})")))?;
        let mut config = ProxyConfig::default();
        let values = read.into_iter().filter_map(|document| document.value);
        for (field, value) in values.filter_map(|value| value.as_object().cloned()).flatten() {
            match (&*field, &value) {
                ("concurrency", Value::Number(_)) => config.concurrency = value.as_u64(),
                ("statusPort", Value::Number(_)) => {
                    config.status_port = Some(value.as_u64().and_then(|port| port.try_into().ok()).unwrap_or(u32::MAX));
                }
                ("interceptionMode", Value::String(mode)) => config.interception = Some(mode.clone()),
                ("holdApplicationUntilProxyStarts", Value::Bool(hold)) => config.hold = *hold,
                ("terminationDrainDuration", Value::String(drain)) => config.drain = Some(drain.clone()),
                ("proxyMetadata", Value::Object(metadata)) => {
                    config.environment.extend(metadata.iter().map(|(name, value)| (name.clone(), scalar(value))));
                }
                ("concurrency" | "statusPort" | "interceptionMode" | "holdApplicationUntilProxyStarts", _)
                | ("terminationDrainDuration" | "proxyMetadata", _) => return Err(wrong(&format!("a fitting `{field}`"))),
                _ => config.ignored.push(format!("annotation {NAME}: `{field}` does nothing here")),
            }
        }
        Ok(config)
    }

    /// Annotations that Istio's injector knows and that have no effect here.
    fn ignored(&self) -> impl Iterator<Item = String> {
        IGNORED.iter().filter(|name| self.0.contains_key(**name)).map(|name| format!("annotation {name} does nothing here"))
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_port(word: &str) -> bool {
    word.parse::<u16>().is_ok()
}

fn is_range(word: &str) -> bool {
    word.parse::<IpNet>().is_ok() || word.parse::<IpAddr>().is_ok()
}

fn is_interface(word: &str) -> bool {
    word.len() < 16 && !word.starts_with('-') && word.bytes().all(|one| one.is_ascii_alphanumeric() || b"-_.@:".contains(&one))
}

/// A quantity of Kubernetes: a decimal number with a suffix.
fn is_quantity(text: &str) -> bool {
    let end = text.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    number.parse::<f64>().is_ok() && suffixes.contains(&suffix)
}

type Fits = fn(&str) -> bool;

/// Annotations `traffic.sidecar.istio.io/…`, arguments of `mutua redirect`, what they allow.
const CAPTURE: &[(&str, &str, &str, Fits)] = &[
    ("includeOutboundIPRanges", "include-outbound-ip-ranges", "* or prefixes with commas", is_range),
    ("excludeOutboundIPRanges", "exclude-outbound-ip-ranges", "prefixes with commas", is_range),
    ("includeInboundPorts", "include-inbound-ports", "* or ports with commas", is_port),
    ("excludeInboundPorts", "exclude-inbound-ports", "ports with commas", is_port),
    ("includeOutboundPorts", "include-outbound-ports", "ports with commas", is_port),
    ("excludeOutboundPorts", "exclude-outbound-ports", "ports with commas", is_port),
    ("excludeInterfaces", "exclude-interfaces", "names of network interfaces with commas", is_interface),
];

/// Annotations `sidecar.istio.io/…` and what they set.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("proxyCPU", "requests", "cpu"),
    ("proxyMemory", "requests", "memory"),
    ("proxyCPULimit", "limits", "cpu"),
    ("proxyMemoryLimit", "limits", "memory"),
];

const IGNORED: &[&str] = &[
    "istio.io/reroute-virtual-interfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "sidecar.istio.io/bootstrapOverride",
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/capNetBindService",
    "sidecar.istio.io/discoveryAddress",
    "sidecar.istio.io/enableCoreDump",
    "k8s.v1.cni.cncf.io/networks",
];
