//! What `mutua control-plane` is told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mutua_identity::Compliance;

use crate::sign::jwks::JwtSettings;

/// The arguments of a control plane.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// The folder of YAML that describes a standalone mesh; it is watched, and a valid change is in force at once
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// The folder for everything that must survive a restart: root key, generation, join tokens; made with mode 0700
    #[arg(long, env = "MUTUA_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// Where proxies join and get their configuration, over mutual TLS
    #[arg(long, default_value = "127.0.0.1:15012", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// A folder with a signing CA under Istio's file names (ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem, and
    /// ca-crl.pem with revocation lists) instead of a self-signed root in the state folder
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Where the API answers reads over HTTP; writes go to the socket api.sock in the state folder
    #[arg(long, default_value = "127.0.0.1:20001", value_name = "ADDR:PORT")]
    pub api: SocketAddr,
    /// A further DNS name or IP address of this control plane, for its certificate and for the API's Host check
    #[arg(long, value_name = "NAME")]
    pub advertise: Vec<String>,
    /// How long a workload's certificate lives at most, such as 30m or 20s; without it 24h unless the workload asks for
    /// another life of up to 90 days
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub leaf_ttl: Option<Duration>,
    /// JWT callers
    #[command(flatten)]
    pub jwt: JwtSettings,
    /// How long connections that a new policy no longer allows may live on, such as 45s
    #[arg(long, default_value = "45s", value_name = "DURATION", value_parser = duration)]
    pub drain_duration: Duration,
    /// How long each stage of a change waits for proxies that do not acknowledge; 0s changes both ends at once, at the
    /// price of requests that fail meanwhile
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration)]
    pub stage_timeout: Duration,
    /// What every connection of a sidecar to a peer is held to, over all other TLS settings: fips-140-2, fips-140-3
    /// (algorithms only, the module is not a validated one) or pqc (requires X25519MLKEM768 of every peer); another value
    /// changes nothing. The port for proxies (--listen) is not restricted
    #[arg(long, env = "COMPLIANCE_POLICY", value_name = "POLICY", default_value = "", hide_default_value = true)]
    pub compliance_policy: String,
}

impl Settings {
    /// The compliance policy in force. As in Istio a value that is not known is warned of and restricts nothing.
    #[must_use]
    pub fn compliance(&self) -> Compliance {
        Compliance::from_name(&self.compliance_policy).unwrap_or_else(|| {
            tracing::warn!(
                "COMPLIANCE_POLICY {:?} is not known and restricts nothing; known are {}",
                self.compliance_policy,
                Compliance::NAMED.map(|(name, _)| name).join(", ")
            );
            Compliance::None
        })
    }
}

/// The shortest life of a workload's certificate: below, renewals come faster than they can be made.
pub const MIN_LEAF_TTL: Duration = Duration::from_secs(2);
/// The longest life of a workload's certificate (Istio's `MAX_WORKLOAD_CERT_TTL`).
pub const MAX_LEAF_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

/// Reads a duration as Istio writes it: numbers with the units h, m, s and ms, such as `1h30m`.
///
/// # Errors
/// A text that is no such duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it like 24h, 1h30m, 45s or 500ms");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let milliseconds: u64 = match &rest[digits..digits + letters] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A command line of nothing but settings.
#[cfg(test)]
#[derive(clap::Parser)]
pub(crate) struct Command {
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_istio_writes_them() {
        let seconds = |text| duration(text).map(|value| value.as_millis());
        assert_eq!(seconds("24h"), Ok(86_400_000));
        assert_eq!(seconds("1h30m5s250ms"), Ok(5_405_250));
        assert_eq!(seconds("0s"), Ok(0));
        for wrong in ["", "s", "10", "1d", "-1s", "1 s", "99999999999999999999h", "18446744073709551615h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn defaults_stay_on_loopback() {
        let command = <Command as clap::Parser>::try_parse_from(["control-plane", "--config", "c", "--state", "s"]);
        let settings = command.expect("nothing else is needed").settings;
        assert!(settings.listen.ip().is_loopback() && settings.api.ip().is_loopback());
        assert_eq!(settings.leaf_ttl, None);
        assert!(<Command as clap::Parser>::try_parse_from(["c", "--config", "c", "--state", "s", "--leaf-ttl", "x"]).is_err());
    }
}
