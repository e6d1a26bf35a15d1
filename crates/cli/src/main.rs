//! `mutua`: everything a person or a pipeline does with the mesh.

mod api_client;
mod commands;
mod input;
mod logging;
#[allow(dead_code, reason = "the full palette comes with the commands that print findings and decisions")]
mod output;
mod paragraph;
mod when;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

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
    let mut cli = Cli::command();
    if input::is_plugin() {
        cli = cli.bin_name("kubectl mutua");
    }
    let cli = Cli::from_arg_matches(&cli.get_matches()).unwrap_or_else(|error| error.exit());
    match cli.command.run() {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(2)
        }
    }
}
