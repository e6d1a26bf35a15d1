//! Decisions as a person reads them: the verdict and its reason first, then each endpoint, then what the client's side and
//! each receiving side looked at, in order, with the lines that decided, and what can be done.

use std::collections::BTreeMap;

use anstyle::Style;
use mutua_model::read::Inputs;
use mutua_model::{ClientTlsMode, MtlsMode};
use mutua_policy::{ConnectionAnswer, ConnectionQuery, EndpointAnswer, Outcome, ServerFirst, WorkloadAnswer};

use super::steps;
use crate::output::{BAD, DIM, GOOD, HEAD, HINT, WARN, prose, table};

/// More endpoints than this are not listed one by one.
const MOST_ENDPOINTS: usize = 50;
/// How many names a sentence holds.
const FEW: usize = 3;

/// The answer about a connection; `inputs` holds the lines that the trace names.
pub fn connection(query: &ConnectionQuery, answer: &ConnectionAnswer, inputs: Option<&Inputs>) -> String {
    let style = style_of(answer.outcome);
    let subset = query.subset.as_ref().map(|subset| format!(" (subset {subset})")).unwrap_or_default();
    let mut text = format!("{HEAD}{} → {}{subset}{HEAD:#}: {style}{}{style:#}\n", query.from, query.to, answer.outcome.as_str());
    text.push_str(&reasons(answer));
    if !answer.endpoints.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["endpoint", "address", "sidecar", "sent", "accepts", "connection"],
            answer.endpoints.iter().take(MOST_ENDPOINTS).map(row).collect(),
        ));
        if let Some(more) = answer.endpoints.len().checked_sub(MOST_ENDPOINTS).filter(|more| *more > 0) {
            text.push_str(&format!("{HINT}… and {more} more; -o json shows all{HINT:#}\n"));
        }
    }
    text.push_str(&client(&query.from, answer));
    let of_servers = |at: &usize| answer.endpoints.iter().any(|endpoint| endpoint.because.contains(at));
    let of_client = (0..answer.trace.len()).filter(|at| !of_servers(at)).map(|at| &answer.trace[at]);
    text.push_str(&steps::show(of_client.filter(|step| step.rule != "connection"), inputs));
    for (mode, names, because) in servers(answer) {
        let style = mode_style(mode);
        let line = format!("{HEAD}{names}{HEAD:#} accepts {style}{mode}{style:#}: {}", accepted(mode));
        text.push_str(&format!("\n{}\n", prose(&line, 2)));
        text.push_str(&steps::show(because.iter().filter_map(|at| answer.trace.get(*at)), inputs));
    }
    for endpoint in &answer.endpoints {
        text.extend(endpoint.server_first.map(|first| speaks_first(&format!("{}:{}", name(endpoint), endpoint.port), first)));
    }
    text + &helped(&answer.help)
}

/// What the sidecar of a server that speaks first has learned.
fn speaks_first(place: &str, first: ServerFirst) -> String {
    let (greeted, known) = (first.callers, first.learned_callers);
    format!(
        "\n{place}: the server speaks first, as its sidecar has learned: {greeted} plaintext callers were greeted, {known} \
         of them are known for it and hardly waited for.\n"
    )
}

/// What can be done.
fn helped(help: &[String]) -> String {
    let lines: String = help.iter().map(|help| prose(&format!("{HINT}help:{HINT:#} {help}"), 6) + "\n").collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// The receiving sides with a sidecar, those with the same reasons together.
fn servers(answer: &ConnectionAnswer) -> Vec<(MtlsMode, String, &[usize])> {
    let mut groups: Vec<(MtlsMode, Vec<String>, &[usize])> = Vec::new();
    for endpoint in &answer.endpoints {
        let Some(mode) = endpoint.server_mode else { continue };
        let label = format!("{}:{}", name(endpoint), endpoint.port);
        match groups.iter_mut().find(|group| group.0 == mode && group.2 == endpoint.because) {
            Some(group) => group.1.push(label),
            None => groups.push((mode, vec![label], &endpoint.because)),
        }
    }
    groups.into_iter().map(|(mode, names, because)| (mode, some_of(&names), because)).collect()
}

/// The first few names, and how many more there are.
fn some_of(names: &[String]) -> String {
    let more = if names.len() > FEW { format!(" and {} more", names.len() - FEW) } else { String::new() };
    format!("{}{more}", names[..names.len().min(FEW)].join(", "))
}

/// The answer about a workload.
pub fn workload(answer: &WorkloadAnswer, inputs: Option<&Inputs>) -> String {
    let style = mode_style(answer.mode);
    let mut text = format!("{HEAD}{}{HEAD:#} accepts {style}{}{style:#}\n", answer.workload, answer.mode);
    text.push_str(&match answer.sidecar {
        false => format!("{WARN}It has no sidecar: nothing enforces this, whatever is sent reaches it.{WARN:#}\n"),
        true => capital(accepted(answer.mode)) + ".\n",
    });
    if !answer.ports.is_empty() {
        text.push('\n');
        let rows = answer.ports.iter().map(|(port, mode)| vec![port.to_string(), mode.to_string()]).collect();
        text.push_str(&table(&["port", "mode"], rows));
    }
    for (port, first) in &answer.server_first {
        text.push_str(&speaks_first(&format!("Port {port}"), *first));
    }
    text + &format!("\n{HEAD}because{HEAD:#}\n") + &steps::show(answer.trace.iter(), inputs) + &helped(&answer.help)
}

fn accepted(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Strict => "mutual TLS only, plaintext is refused",
        MtlsMode::Permissive => "mutual TLS and plaintext",
        MtlsMode::Disable => "plaintext only, TLS is not terminated",
    }
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
        (Some(((_, reason), _)), None) => prose(&format!("{}: {reason}.", capital(said)), 0) + "\n",
        (None, _) => match answer.trace.last() {
            Some(step) => prose(&format!("{}: {}.", capital(said), step.effect), 0) + "\n",
            None => format!("{}.\n", capital(said)),
        },
        _ => groups.iter().map(|((outcome, reason), members)| group(*outcome, reason, members)).collect(),
    }
}

fn group(outcome: Outcome, reason: &str, members: &[&EndpointAnswer]) -> String {
    let style = style_of(outcome);
    let names: Vec<String> = members.iter().map(|one| name(one)).collect();
    prose(&format!("  {style}{}{style:#} at {}: {reason}", outcome.as_str(), some_of(&names)), 4) + "\n"
}

fn name(endpoint: &EndpointAnswer) -> String {
    endpoint.workload.clone().or_else(|| endpoint.address.clone()).unwrap_or_else(|| "an endpoint".to_owned())
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// What the client's side sends.
fn client(from: &str, answer: &ConnectionAnswer) -> String {
    let client = &answer.client;
    let in_clear = answer.endpoints.iter().filter(|endpoint| endpoint.sent == Outcome::Plaintext).count();
    let by = if client.auto { ", by auto mTLS" } else { "" };
    let some = if in_clear > 0 { " to the endpoints that take it" } else { "" };
    let what = match client.tls {
        _ if !client.sidecar => "whatever its application writes".to_owned(),
        ClientTlsMode::Disable => "plaintext".to_owned(),
        tls if in_clear == answer.endpoints.len() && in_clear > 0 => format!("plaintext, though {tls} is what is decided{by}"),
        ClientTlsMode::Simple => "TLS without a certificate of its own (SIMPLE)".to_owned(),
        ClientTlsMode::Mutual => "TLS with the certificate of a file or a Secret (MUTUAL)".to_owned(),
        ClientTlsMode::IstioMutual => format!("mutual TLS{some} (ISTIO_MUTUAL{by})"),
    };
    let mut text = format!("\n{HEAD}{from}{HEAD:#} sends {what}\n");
    let mut line = |word: &str, value: &str| text.push_str(&format!("  {DIM}{word:<13}{DIM:#} {value}\n"));
    if let Some(sni) = &client.sni {
        line("server name", sni);
    }
    if let Some(identity) = &answer.client_identity {
        line("it shows", identity);
    }
    for (at, name) in client.subject_alt_names.iter().enumerate() {
        line(if at == 0 { "peer must be" } else { "or" }, name);
    }
    let versions = answer.endpoints.iter().find_map(|endpoint| endpoint.minimum_version.as_deref());
    if let Some(least) = versions {
        line("TLS version", if least == "TLSV1_3" { "1.3" } else { "1.3, or 1.2 with peers that know no better" });
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
        endpoint.sent.as_str().to_owned(),
        endpoint.server_mode.map_or_else(|| "-".to_owned(), |mode| mode.to_string()),
        format!("{style}{}{style:#}", endpoint.connection.as_str()),
    ]
}
