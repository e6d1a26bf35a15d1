//! `mutua`: everything a person or a pipeline does with the mesh.

mod api_client;
mod commands;
mod input;
mod logging;
#[allow(dead_code, reason = "the full palette comes with the commands that print findings and decisions")]
mod output;
mod when;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Mutual TLS for every connection between services, Istio-compatible, with proof.
#[derive(Parser)]
#[command(name = "mutua", version, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(2)
        }
    }
}
