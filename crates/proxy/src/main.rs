//! `mutua-proxy`: the sidecar alone, for images that hold nothing else.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The sidecar of one workload.
#[derive(Parser)]
#[command(name = "mutua-proxy", version = mutua_proxy::BUILD, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    settings: mutua_proxy::Settings,
}

fn main() -> ExitCode {
    mutua_proxy::keep_memory_small();
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("MUTUA_LOG").unwrap_or_else(|_| "info".into());
    // A log that cannot be written (a full disk) must never end what it tells of: the library would complain on stderr
    // and panic when that fails too.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // Colours are for terminals, not for files.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stderr().is_terminal();
    builder.with_ansi(!plain).init();
    match mutua_proxy::run(&cli.settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(2)
        }
    }
}
