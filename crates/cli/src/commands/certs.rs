//! `mutua certs`: every certificate of the mesh.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;
use crate::output::{BAD, DIM, Format, HEAD, print, print_value, table};
use crate::when;

/// Arguments of `mutua certs`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    api: Api,
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
    renew_at: Option<String>,
    renewals: u64,
    failed_renewals: u64,
    last_renewal_error: Option<String>,
    forecast: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let answer: Value = args.api.get("/api/v1/certificates")?;
    if args.output != Format::Table {
        print_value(&answer, args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&text(&serde_json::from_value(answer)?))?;
    Ok(ExitCode::SUCCESS)
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
