//! Decisions as a person reads them: the verdict and its reason first, then what is sent and accepted, then what decided,
//! with the lines it is written in.

use std::collections::BTreeMap;

use anstyle::Style;
use mutua_model::MtlsMode;
use mutua_model::read::Inputs;
use mutua_policy::{ClientAnswer, ConnectionAnswer, ConnectionQuery, EndpointAnswer, Outcome, Step, WorkloadAnswer};

use crate::output::{BAD, DIM, GOOD, HEAD, HINT, WARN, table};

/// Longer lines are not shown.
const WIDEST: usize = 120;
/// More endpoints than this are not listed one by one.
const MOST_ENDPOINTS: usize = 50;

/// The answer about a connection; `inputs` holds the lines that the trace names.
pub fn connection(query: &ConnectionQuery, answer: &ConnectionAnswer, inputs: Option<&Inputs>) -> String {
    let style = style_of(answer.outcome);
    let subset = query.subset.as_ref().map(|subset| format!(" (subset {subset})")).unwrap_or_default();
    let mut text = format!("{HEAD}{} → {}{subset}{HEAD:#}: {style}{}{style:#}\n", query.from, query.to, answer.outcome.as_str());
    text.push_str(&reasons(answer));
    text.push('\n');
    text.push_str(&client(&answer.client, &answer.trace));
    if !answer.endpoints.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["endpoint", "address", "sidecar", "accepts", "connection"],
            answer.endpoints.iter().take(MOST_ENDPOINTS).map(row).collect(),
        ));
        if let Some(more) = answer.endpoints.len().checked_sub(MOST_ENDPOINTS).filter(|more| *more > 0) {
            text.push_str(&format!("{HINT}… and {more} more; -o json shows all{HINT:#}\n"));
        }
    }
    text + &why(&answer.trace, inputs)
}

/// The answer about a workload.
pub fn workload(answer: &WorkloadAnswer, inputs: Option<&Inputs>) -> String {
    let style = mode_style(answer.mode);
    let mut text = format!("{HEAD}{}{HEAD:#} accepts {style}{}{style:#}\n", answer.workload, answer.mode);
    text.push_str(&match (answer.sidecar, answer.mode) {
        (false, _) => format!("{WARN}It has no sidecar: nothing enforces this, whatever is sent reaches it.{WARN:#}\n"),
        (true, MtlsMode::Strict) => "Mutual TLS only; plaintext is refused.\n".to_owned(),
        (true, MtlsMode::Permissive) => "Mutual TLS and plaintext.\n".to_owned(),
        (true, MtlsMode::Disable) => "Plaintext only; TLS is not terminated.\n".to_owned(),
    });
    if !answer.ports.is_empty() {
        text.push('\n');
        let rows = answer.ports.iter().map(|(port, mode)| vec![port.to_string(), mode.to_string()]).collect();
        text.push_str(&table(&["port", "mode"], rows));
    }
    text + &why(&answer.trace, inputs)
}

pub fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Mtls => GOOD,
        Outcome::Refused => BAD,
        Outcome::Tls | Outcome::Plaintext | Outcome::Mixed => WARN,
    }
}

fn mode_style(mode: MtlsMode) -> Style {
    if mode == MtlsMode::Strict { GOOD } else { WARN }
}

fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Mtls => "encrypted, both ends proven",
        Outcome::Tls => "encrypted, without an identity of the mesh",
        Outcome::Plaintext => "in clear",
        Outcome::Refused => "the connection fails",
        Outcome::Mixed => "it depends on the endpoint",
    }
}

/// What the outcome means and why; for several outcomes one line each.
fn reasons(answer: &ConnectionAnswer) -> String {
    let mut groups: BTreeMap<(Outcome, &str), Vec<&EndpointAnswer>> = BTreeMap::new();
    for endpoint in &answer.endpoints {
        groups.entry((endpoint.connection, &endpoint.reason)).or_default().push(endpoint);
    }
    let said = meaning(answer.outcome);
    let mut groups_said = groups.iter();
    match (groups_said.next(), groups_said.next()) {
        (Some(((_, reason), _)), None) => format!("{}: {reason}.\n", capital(said)),
        (None, _) => match answer.trace.last() {
            Some(step) => format!("{}: {}.\n", capital(said), step.effect),
            None => format!("{}.\n", capital(said)),
        },
        _ => groups.iter().map(|((outcome, reason), members)| group(*outcome, reason, members)).collect(),
    }
}

fn group(outcome: Outcome, reason: &str, members: &[&EndpointAnswer]) -> String {
    let style = style_of(outcome);
    let names: Vec<String> = members.iter().take(3).map(|one| name(one)).collect();
    let more = if members.len() > names.len() { format!(" and {} more", members.len() - names.len()) } else { String::new() };
    format!("  {style}{}{style:#} at {}{more}: {reason}\n", outcome.as_str(), names.join(", "))
}

fn name(endpoint: &EndpointAnswer) -> String {
    endpoint.workload.clone().or_else(|| endpoint.address.clone()).unwrap_or_else(|| "an endpoint".to_owned())
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn client(client: &ClientAnswer, trace: &[Step]) -> String {
    if !client.sidecar {
        return format!("{HEAD}client{HEAD:#}    no sidecar\n");
    }
    let by = match trace.iter().find(|step| step.rule == "destination-rule.tls") {
        Some(step) => format!(", by {}", step.object),
        None if client.auto => ", by auto mTLS".to_owned(),
        None => String::new(),
    };
    let mut text = format!("{HEAD}client{HEAD:#}    {}{by}\n", client.tls);
    if let Some(sni) = &client.sni {
        text.push_str(&format!("          {DIM}server name{DIM:#}  {sni}\n"));
    }
    for (at, name) in client.subject_alt_names.iter().enumerate() {
        let word = if at == 0 { "peer must be" } else { "or" };
        text.push_str(&format!("          {DIM}{word:<12}{DIM:#} {name}\n"));
    }
    text
}

fn row(endpoint: &EndpointAnswer) -> Vec<String> {
    let address = endpoint.address.as_deref().unwrap_or("(pods)");
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let style = style_of(endpoint.connection);
    vec![
        endpoint.workload.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{address}:{}", endpoint.port),
        if endpoint.sidecar { "yes" } else { "no" }.to_owned(),
        endpoint.server_mode.map_or_else(|| "-".to_owned(), |mode| mode.to_string()),
        format!("{style}{}{style:#}", endpoint.connection.as_str()),
    ]
}

/// What decided, with its lines; then what was looked at and does not count.
fn why(trace: &[Step], inputs: Option<&Inputs>) -> String {
    let (not_used, used): (Vec<&Step>, Vec<&Step>) =
        trace.iter().filter(|step| step.rule != "connection").partition(|step| step.effect.starts_with("not used"));
    // The default is worth a line only when nothing else decided.
    let policies = used.iter().filter(|step| step.rule.starts_with("peer-authentication.")).count();
    let used: Vec<&Step> = used.into_iter().filter(|step| step.rule != "peer-authentication.default" || policies == 1).collect();
    let margin = used.iter().map(|step| step.line.to_string().len()).max().unwrap_or(1);
    let mut text = format!("\n{HEAD}because{HEAD:#}\n");
    for step in used {
        text.push_str(&decided(step, inputs, margin));
    }
    if !not_used.is_empty() {
        text.push_str(&format!("\n{HEAD}looked at, not used{HEAD:#}\n"));
    }
    for step in not_used {
        let why = step.effect.trim_start_matches("not used: ");
        text.push_str(&format!("  {} {HINT}{}{HINT:#}\n      {why}\n", step.object, place(step)));
    }
    text
}

fn decided(step: &Step, inputs: Option<&Inputs>, margin: usize) -> String {
    let (object, gap) = if step.object.is_empty() { ("", "") } else { (step.object.as_str(), ": ") };
    let mut text = format!("  {HEAD}{object}{HEAD:#}{gap}{}  {DIM}[{}]{DIM:#}\n", step.effect, step.rule);
    if step.file.is_empty() {
        return text;
    }
    let space = " ".repeat(margin);
    text.push_str(&format!("  {space}{HINT}-->{HINT:#} {}\n", place(step)));
    let line = inputs.and_then(|inputs| inputs.line(&step.file, step.line)).filter(|line| line.chars().count() <= WIDEST);
    if let Some(line) = line {
        text.push_str(&format!("  {HINT}{:>margin$} |{HINT:#} {}\n", step.line, line.replace('\t', " ")));
    }
    text
}

fn place(step: &Step) -> String {
    match (step.file.as_str(), step.line) {
        ("", _) => String::new(),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    }
}
