//! One file per command. A command returns its exit code: 0 fine, 1 the answer is "no"; an error means that the
//! call or its input is wrong (2).

use std::process::ExitCode;

use clap::Subcommand;

mod analyze;
mod ca;
mod certs;
mod check;
mod control_plane;
mod demo;
mod diff;
mod explain;
mod inject;
mod install;
mod lab;
mod proxy;
mod proxy_status;
mod redirect;
mod rollout;
mod token;
mod validate;

/// What `mutua` can do.
#[derive(Subcommand)]
pub enum Command {
    /// The whole mesh on this machine: walks through the modes and proves each on the wire
    Demo(demo::Args),
    /// Run the control plane of a mesh, from a folder of YAML or a Kubernetes cluster
    ControlPlane(control_plane::Args),
    /// Run the sidecar of one workload
    Proxy(proxy::Args),
    /// Apply, check or remove the capture rules of this network namespace
    Redirect(redirect::Args),
    /// One-time tokens with which workloads join a standalone mesh
    Token(token::Args),
    /// Check each resource by itself: schema and Istio's semantic rules
    Validate(validate::Args),
    /// Check resources against each other: what contradicts, does nothing, or weakens protection silently
    Analyze(analyze::Args),
    /// The decision for one connection, or the effective mode of a workload, and why
    Explain(explain::Args),
    /// Policy tests: hold expectations against manifests
    Check(check::Args),
    /// What a change of manifests does to every connection and port, weaker ones first
    Diff(diff::Args),
    /// Put the sidecar into pods and what makes pods, as the webhook would; prints the changed manifests
    Inject(inject::Args),
    /// The manifests of a control plane on Kubernetes, for kubectl apply
    Install(install::Args),
    /// What every proxy runs: connected, generation acknowledged, certificate
    ProxyStatus(proxy_status::Args),
    /// Every certificate of the mesh: owner, serial, when it ends, when renewal is due
    Certs(certs::Args),
    /// Where changes of the configuration stand; take one back, or put it into force at once
    Rollout(rollout::Args),
    /// The mesh's root certificate: change it without a moment without trust
    Ca(ca::Args),
    /// Processes of the laboratory, started by the demo and by tests
    #[command(hide = true)]
    Lab(lab::Args),
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Demo(args) => demo::run(&args),
            Self::ControlPlane(args) => control_plane::run(args),
            Self::Proxy(args) => proxy::run(args),
            Self::Redirect(args) => redirect::run(args),
            Self::Token(args) => token::run(args),
            Self::Validate(args) => validate::run(args),
            Self::Analyze(args) => analyze::run(&args),
            Self::Check(args) => check::run(&args),
            Self::Diff(args) => diff::run(&args),
            Self::Explain(args) => explain::run(args),
            Self::Inject(args) => inject::run(&args),
            Self::Install(args) => install::run(&args),
            Self::ProxyStatus(args) => proxy_status::run(&args),
            Self::Certs(args) => certs::run(&args),
            Self::Rollout(args) => rollout::run(args),
            Self::Ca(args) => ca::run(args),
            Self::Lab(args) => lab::run(args),
        }
    }
}
