//! `mutua-proxy`: the sidecar alone, for images that hold nothing else.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    // By module and level; the library's richer filter would bring regular expressions, half a megabyte of an idle sidecar.
    let wanted = std::env::var("MUTUA_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // A log that cannot be written (a full disk) must never end what it tells of: the library would complain on stderr
    // and panic when that fails too.
    let builder =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr).log_internal_errors(false);
    // Colours are for terminals, not for files.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stderr().is_terminal();
    builder.with_ansi(!plain).finish().with(filter).init();
    match mutua_proxy::run(&cli.settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(2)
        }
    }
}
