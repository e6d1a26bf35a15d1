//! `mutua certs`: every certificate of the mesh.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;
use crate::output::{BAD, Format, HEAD, note, print, print_value, table};
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
    issuer: String,
    not_after: String,
    remaining_seconds: i64,
    renew_at: Option<String>,
    renew_in_seconds: Option<i64>,
    renewals: u64,
    failed_renewals: u64,
    last_attempt: Option<String>,
    last_renewal_error: Option<String>,
    clock_skew_ms: Option<i64>,
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
    let ends = when::left(&certificate.not_after);
    match certificate.renew_in_seconds {
        Some(due) if -due > *left => Some(format!("{kind} {owner} is not renewed though it is due, and ends in {ends}")),
        None if *left < within => Some(format!("{kind} {owner} ends in {ends}")),
        _ => None,
    }
}

fn text(answer: &Certificates) -> String {
    let mut text = format!("{HEAD}Trust domain {}{HEAD:#}\n\n", answer.trust_domain);
    let headings = ["kind", "owner", "serial", "issuer", "ends in", "renewal in", "last attempt", "clock", "workloads"];
    text.push_str(&table(&headings, answer.certificates.iter().map(row).collect()));
    for certificate in &answer.certificates {
        let Certificate { kind, owner, failed_renewals: failed, .. } = certificate;
        if certificate.last_renewal_error.is_none() && certificate.forecast.is_none() {
            continue;
        }
        text.push_str(&format!("\n{BAD}{kind} {owner}{BAD:#}"));
        if let Some(error) = &certificate.last_renewal_error {
            let times = if *failed > 1 {
                format!("{failed} attempts failed, the last one")
            } else {
                "the last attempt failed".to_owned()
            };
            text.push_str(&format!(": {times}: {error}"));
        }
        if let Some(forecast) = &certificate.forecast {
            text.push_str(&format!("\n  {forecast}"));
        }
        text.push('\n');
    }
    text
}

/// How far a clock is from the CA's. Certificates tell it to a second only.
fn clock(milliseconds: i64) -> String {
    match milliseconds {
        -1999..=1999 => "as the CA's".to_owned(),
        ahead @ 2000.. => format!("{}s ahead", ahead / 1000),
        behind => format!("{}s behind", -(behind / 1000)),
    }
}

fn row(certificate: &Certificate) -> Vec<String> {
    let short: String = certificate.serial.chars().take(12).collect();
    vec![
        certificate.kind.clone(),
        certificate.owner.clone(),
        or_dash(&short),
        or_dash(&certificate.issuer),
        when::left(&certificate.not_after),
        match certificate.renew_in_seconds {
            Some(..=0) => "overdue".to_owned(),
            _ => certificate.renew_at.as_deref().map_or_else(|| "-".to_owned(), when::left),
        },
        attempt(certificate),
        certificate.clock_skew_ms.map_or_else(|| "-".to_owned(), clock),
        if certificate.workloads.is_empty() { "-".to_owned() } else { certificate.workloads.join(", ") },
    ]
}

/// How the last attempt to renew went, and how many worked.
fn attempt(certificate: &Certificate) -> String {
    match (certificate.last_attempt.as_deref(), certificate.renewals) {
        (None, _) => "-".to_owned(),
        (Some("ok"), 0) => "issued".to_owned(),
        (Some("ok"), 1) => "ok, once".to_owned(),
        (Some("ok"), count) => format!("ok, {count} times"),
        (Some(other), _) => other.to_owned(),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: i64 = 7 * 86_400;

    fn certificate(kind: &str, left: i64, due: Option<i64>, error: Option<&str>) -> Certificate {
        Certificate {
            kind: kind.to_owned(),
            owner: "it".to_owned(),
            workloads: Vec::new(),
            serial: String::new(),
            issuer: String::new(),
            not_after: "2020-01-01T00:00:00Z".to_owned(),
            remaining_seconds: left,
            renew_at: None,
            renew_in_seconds: due,
            renewals: 0,
            failed_renewals: 0,
            last_attempt: None,
            last_renewal_error: error.map(str::to_owned),
            clock_skew_ms: None,
            forecast: None,
        }
    }

    #[test]
    fn monitoring_is_alarmed_by_what_needs_somebody() {
        for (kind, left, due, error, expected) in [
            ("workload", 3600, Some(1800), None, None),
            ("workload", 3600, Some(-60), None, None),
            ("workload", 600, Some(-700), None, Some("is not renewed though it is due")),
            ("workload", 3600, Some(1800), Some("no answer"), Some("no answer")),
            ("workload", 0, Some(-1800), None, Some("has ended")),
            ("workload", 3600, None, None, Some("ends in")),
            ("root", WEEK - 1, None, None, Some("ends in")),
            ("root", WEEK, None, None, None),
            ("root", WEEK - 1, Some(WEEK / 2), None, None),
            ("issuer", WEEK - 1, None, None, Some("ends in")),
            ("control-plane", -5, Some(-10), None, Some("has ended")),
            ("token", 5, None, None, None),
        ] {
            let alarm = alarm(&certificate(kind, left, due, error), WEEK);
            let fits = match (&alarm, expected) {
                (Some(alarm), Some(expected)) => alarm.contains(expected),
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{kind} {left} {due:?}: {alarm:?}");
        }
    }

    #[test]
    fn clocks_are_told_in_words() {
        for (skew, words) in [(0, "as the CA's"), (-1500, "as the CA's"), (61_000, "61s ahead"), (-3_600_400, "3600s behind")] {
            assert_eq!(clock(skew), words);
        }
    }
}
