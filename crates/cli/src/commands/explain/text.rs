//! Decisions as a person reads them: the verdict first, then what it means, then why.

use std::collections::BTreeMap;

use anstyle::Style;
use mutua_policy::ConnectionQuery;
use serde::Deserialize;
use serde_json::Value;

use crate::output::{BAD, DIM, GOOD, HEAD, HINT, WARN, table};

#[derive(Deserialize)]
struct Connection {
    client: Client,
    endpoints: Vec<Endpoint>,
    outcome: String,
    trace: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    sidecar: bool,
    tls: String,
    auto: bool,
    sni: Option<String>,
    subject_alt_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    workload: Option<String>,
    address: Option<String>,
    port: u16,
    sidecar: bool,
    server_mode: Option<String>,
    connection: String,
}

#[derive(Deserialize)]
struct Workload {
    workload: String,
    sidecar: bool,
    mode: String,
    ports: BTreeMap<u16, String>,
    trace: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    rule: String,
    object: String,
    file: String,
    line: u32,
    effect: String,
}

/// The answer about a connection.
pub fn connection(query: &ConnectionQuery, answer: &Value) -> anyhow::Result<String> {
    let answer = Connection::deserialize(answer)?;
    let (style, said) = verdict(&answer.outcome);
    let mut text = format!("{HEAD}{} → {}{HEAD:#}: {style}{}{style:#} ({said})\n\n", query.from, query.to, answer.outcome);
    text.push_str(&client(&answer.client));
    if !answer.endpoints.is_empty() {
        let rows = answer.endpoints.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["endpoint", "address", "sidecar", "server mode", "connection"], rows));
    }
    text.push_str(&why(&answer.trace));
    Ok(text)
}

/// The answer about a workload.
pub fn workload(answer: &Value) -> anyhow::Result<String> {
    let answer = Workload::deserialize(answer)?;
    let sidecar = if answer.sidecar { String::new() } else { format!("  {WARN}no sidecar: nothing enforces it{WARN:#}") };
    let mut text = format!("{HEAD}{}{HEAD:#} accepts {HEAD}{}{HEAD:#}{sidecar}\n", answer.workload, answer.mode);
    if !answer.ports.is_empty() {
        text.push('\n');
        let rows = answer.ports.iter().map(|(port, mode)| vec![port.to_string(), mode.clone()]).collect();
        text.push_str(&table(&["port", "mode"], rows));
    }
    text.push_str(&why(&answer.trace));
    Ok(text)
}

fn verdict(outcome: &str) -> (Style, &'static str) {
    match outcome {
        "mtls" => (GOOD, "encrypted, both ends proven"),
        "tls" => (WARN, "encrypted, without an identity of the mesh"),
        "plaintext" => (WARN, "in clear"),
        "refused" => (BAD, "the connection fails"),
        _ => (WARN, "it depends on the endpoint"),
    }
}

fn client(client: &Client) -> String {
    if !client.sidecar {
        return "The client has no sidecar.\n".to_owned();
    }
    let by = if client.auto { ", chosen by auto mTLS" } else { "" };
    let mut text = format!("The client's sidecar: {}{by}\n", client.tls);
    if let Some(sni) = &client.sni {
        text.push_str(&format!("  {DIM}server name{DIM:#}  {sni}\n"));
    }
    for name in &client.subject_alt_names {
        text.push_str(&format!("  {DIM}accepts{DIM:#}      {name}\n"));
    }
    text
}

fn row(endpoint: &Endpoint) -> Vec<String> {
    let address = endpoint.address.as_deref().unwrap_or("(pods)");
    vec![
        endpoint.workload.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{address}:{}", endpoint.port),
        if endpoint.sidecar { "yes" } else { "no" }.to_owned(),
        endpoint.server_mode.clone().unwrap_or_else(|| "-".to_owned()),
        endpoint.connection.clone(),
    ]
}

fn why(trace: &[Step]) -> String {
    let mut text = format!("\n{HEAD}Why{HEAD:#}\n");
    for step in trace {
        let place = match (step.file.as_str(), step.line) {
            ("", _) => String::new(),
            (file, 0) => format!("  {HINT}{file}{HINT:#}"),
            (file, line) => format!("  {HINT}{file}:{line}{HINT:#}"),
        };
        let object = if step.object.is_empty() { String::new() } else { format!("{}: ", step.object) };
        text.push_str(&format!("  {object}{}{place}  {DIM}{}{DIM:#}\n", step.effect, step.rule));
    }
    text
}
