//! `mutua inject`: the sidecar in pods and whatever makes pods, as the webhook would put it there; for pipelines.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use mutua_kubernetes::inject::{Injected, Injector, Namespaces, Report, Settings, inject_text};
use mutua_model::read::Inputs;
use serde_json::Value;

use crate::input::Files;
use crate::output::{BAD, DIM, GOOD, WARN, note};

/// Arguments of `mutua inject`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    settings: Settings,
    /// The namespace of objects that name none
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// The namespace of the control plane
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    istio_namespace: String,
}

/// Runs the command: exit code 0, or 1 when an object should get a sidecar and cannot; then nothing is printed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.files.files.is_empty() {
        bail!("nothing to inject into: name files or folders with -f, or - for standard input");
    }
    let inputs = Inputs::from_paths(&args.files.files)?;
    let injector = Injector::new(&args.settings, &args.istio_namespace, &inputs.load()?.mesh.config)?;
    let texts: Vec<(&str, &str)> = inputs
        .texts()
        .map(|(name, bytes)| std::str::from_utf8(bytes).map(|text| (name, text)).with_context(|| name.to_owned()))
        .collect::<Result<_, _>>()?;
    let mut namespaces = Namespaces { known: BTreeMap::new(), default: args.namespace.clone() };
    texts.iter().try_for_each(|(name, text)| namespaces.learn(name, text))?;
    let (mut out, mut failed) = (String::new(), false);
    for (name, text) in texts {
        let (injected, reports) = inject_text(&injector, &namespaces, (name, text), &yaml)?;
        failed |= reports.iter().any(|report| report.outcome.is_err());
        reports.iter().for_each(|report| tell(name, report));
        // Files follow each other as documents.
        if !out.is_empty() {
            out.push_str(if out.ends_with('\n') { "" } else { "\n" });
            out.push_str(if injected.starts_with("---") { "" } else { "---\n" });
        }
        out.push_str(&injected);
    }
    if failed {
        return Ok(ExitCode::from(1));
    }
    std::io::stdout().lock().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each object, and one for each of its warnings, to stderr.
fn tell(file: &str, report: &Report) {
    let Report { object, line, outcome } = report;
    let place = format!("{file}:{line}");
    match outcome {
        Ok(Injected::Now(warnings)) => {
            note(&format!("{GOOD}sidecar{GOOD:#}: {object} {DIM}({place}){DIM:#}"));
            warnings.iter().for_each(|warning| note(&format!("{WARN}warning{WARN:#}: {object}: {warning}")));
        }
        Ok(Injected::Already) => note(&format!("{DIM}has one already: {object} ({place}){DIM:#}")),
        Ok(Injected::Not(why)) => note(&format!("{DIM}no sidecar: {object} ({place}): {}{DIM:#}", why.reason())),
        Err(error) => note(&format!("{BAD}error{BAD:#}: {place}: {object}: {error}")),
    }
}

/// A value as YAML that means the same by YAML 1.1, by which Kubernetes' tools read `yes` and `0644`. No line is folded.
pub(super) fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { yaml_12: false, folded_wrap_chars: usize::MAX };
    let mut text = String::new();
    // A JSON value is always YAML.
    let _ = serde_saphyr::to_fmt_writer_with_options(&mut text, value, options);
    text
}

#[cfg(test)]
mod tests {
    use mutua_model::read::manifests;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_written_value_is_read_as_what_it_was() {
        let words = [
            "yes",
            "n",
            "off",
            "0644",
            "0o7",
            "1e3",
            "1_0",
            "~",
            "null",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "-",
            "- a",
            "2026-01-01",
            "1:30",
            "{}",
            "[",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "\"",
            "'",
            "|",
            ">",
            "a\nb\n",
            "\n a\n\n",
            "a\n  b",
            "\ta",
            "\u{7f}",
            "é",
            "0x1g",
            "=",
            "<<",
            ".inf",
            "---",
            "a\r\nb",
            "{\"a\":1}",
        ];
        let long = format!("{} x {}", "a".repeat(100), "b".repeat(100));
        let value = json!({
            "words": words.as_slice(), "by": words.iter().map(|word| ((*word).to_owned(), json!(word))).collect::<serde_json::Map<_, _>>(),
            "long": long, "numbers": [0, -1, 1.5, 1e30, u64::MAX], "others": [true, null, {}, [], [[1], {"a": []}]],
        });
        let text = yaml(&value);
        let read = manifests("t", &text).expect("YAML").remove(0).value;
        assert_eq!(read, Some(value), "{text}");
        assert!(text.lines().any(|line| line.len() > 200), "nothing is folded");
    }
}
