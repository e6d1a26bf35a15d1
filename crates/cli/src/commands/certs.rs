//! `mutua certs`: every certificate of the mesh.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;
use crate::output::{BAD, DIM, Format, HEAD, note, print, print_value, table};
use crate::when;

/// Arguments of `mutua certs`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    api: Api,
    /// For monitoring: end with exit code 1 when a certificate has ended, fails to renew, or ends within --within
    #[arg(long)]
    check: bool,
    /// With --check: how long before its end a certificate that is not renewed by itself counts, such as 7d or 12h
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = when::duration, requires = "check")]
    within: i64,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificates {
    trust_domain: String,
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    kind: String,
    owner: String,
    workloads: Vec<String>,
    serial: String,
    not_after: String,
    remaining_seconds: i64,
    renew_at: Option<String>,
    renewals: u64,
    failed_renewals: u64,
    last_renewal_error: Option<String>,
    forecast: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let answer: Value = args.api.get("/api/v1/certificates")?;
    let certificates = Certificates::deserialize(&answer)?;
    match args.output {
        Format::Table => print(&text(&certificates))?,
        format => print_value(&answer, format)?,
    }
    if !args.check {
        return Ok(ExitCode::SUCCESS);
    }
    let alarms: Vec<String> = certificates.certificates.iter().filter_map(|one| alarm(one, args.within)).collect();
    alarms.iter().for_each(|alarm| note(&format!("{BAD}alarm{BAD:#}: {alarm}")));
    Ok(if alarms.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Why somebody should look at a certificate. Those that renew themselves count when they are late: half of their life
/// is over and a quarter more, or an attempt has failed.
fn alarm(certificate: &Certificate, within: i64) -> Option<String> {
    let Certificate { kind, owner, remaining_seconds: left, .. } = certificate;
    if kind == "token" {
        return None;
    }
    if *left <= 0 {
        return Some(format!("{kind} {owner} has ended"));
    }
    if let Some(error) = &certificate.last_renewal_error {
        return Some(format!("{kind} {owner} fails to renew and ends in {}: {error}", when::left(&certificate.not_after)));
    }
    let late = certificate.renew_at.as_deref().map(|at| (when::seconds_since(at), at));
    match late {
        Some((overdue, _)) if overdue > *left => {
            Some(format!("{kind} {owner} is not renewed though it is due, and ends in {}", when::left(&certificate.not_after)))
        }
        Some(_) => None,
        None if *left < within => Some(format!("{kind} {owner} ends in {}", when::left(&certificate.not_after))),
        None => None,
    }
}

fn text(answer: &Certificates) -> String {
    let mut text = format!("{HEAD}Trust domain {}{HEAD:#}\n\n", answer.trust_domain);
    let headings = ["kind", "owner", "serial", "ends in", "renewal in", "renewals", "workloads"];
    text.push_str(&table(&headings, answer.certificates.iter().map(row).collect()));
    for certificate in &answer.certificates {
        if let Some(error) = &certificate.last_renewal_error {
            let (owner, failed) = (&certificate.owner, certificate.failed_renewals);
            text.push_str(&format!("\n{BAD}{owner}: {failed} renewals failed:{BAD:#} {error}\n"));
        }
        if let Some(forecast) = &certificate.forecast {
            text.push_str(&format!("  {DIM}{forecast}{DIM:#}\n"));
        }
    }
    text
}

fn row(certificate: &Certificate) -> Vec<String> {
    let short: String = certificate.serial.chars().take(12).collect();
    vec![
        certificate.kind.clone(),
        certificate.owner.clone(),
        short,
        when::left(&certificate.not_after),
        certificate.renew_at.as_deref().map_or_else(|| "-".to_owned(), when::left),
        certificate.renewals.to_string(),
        if certificate.workloads.is_empty() { "-".to_owned() } else { certificate.workloads.join(", ") },
    ]
}
