//! `mutua rollout`: where changes of the configuration stand.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;
use crate::output::{BAD, DIM, Format, GOOD, HEAD, WARN, note, print, print_value, table};
use crate::when;

/// How often the control plane is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// How many proxies are named in one line.
const NAMED: usize = 10;

/// Arguments of `mutua rollout`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    api: Api,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(clap::Subcommand)]
enum Action {
    /// The changes since the control plane runs, newest first
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Where the newest change stands, and whom it waits for; exit code 1 while not every proxy enforces it
    Status {
        /// Wait until every connected proxy enforces it
        #[arg(short, long)]
        watch: bool,
        /// How long to wait at most, such as 30s or 5m; without it for ever
        #[arg(long, requires = "watch", value_name = "DURATION", value_parser = when::duration)]
        timeout: Option<i64>,
        #[command(flatten)]
        common: Common,
    },
    /// Take the change under way back: the mesh goes, through stages as well, to what was in force before it
    Abort {
        #[command(flatten)]
        common: Common,
    },
    /// Put the change under way into force at once, without waiting for anybody (an emergency)
    Complete {
        /// Say that you mean it: requests of proxies that have not followed yet may fail
        #[arg(long, required = true)]
        immediate: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rollout {
    generation: u64,
    began: String,
    phase: String,
    since: String,
    enforced: Option<String>,
    waiting_for: Vec<String>,
    left_behind: Vec<LeftBehind>,
    overtaken: bool,
    aborted: bool,
}

#[derive(Deserialize)]
struct LeftBehind {
    workload: String,
    phase: String,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List { common } => {
            let all: Value = common.api.get("/api/v1/rollouts")?;
            show(&all, common.output, |all: &Vec<Rollout>| list(all))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Status { watch, timeout, common } => status(&common, watch, timeout),
        Action::Abort { common } => {
            let all = common.api.post("/api/v1/rollouts/abort", &serde_json::json!({}))?;
            note("The change is taken back. The way back is a change through stages as well:");
            show_newest(&common, &all)
        }
        Action::Complete { common, .. } => {
            show_newest(&common, &common.api.post("/api/v1/rollouts/complete", &serde_json::json!({}))?)
        }
    }
}

fn show_newest(common: &Common, all: &Value) -> anyhow::Result<ExitCode> {
    show(&newest(all)?, common.output, |rollout: &Rollout| sentence(rollout))?;
    Ok(ExitCode::SUCCESS)
}

fn status(common: &Common, watch: bool, timeout: Option<i64>) -> anyhow::Result<ExitCode> {
    let deadline =
        timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut told = String::new();
    loop {
        let answer = newest(&common.api.get("/api/v1/rollouts")?)?;
        let rollout = Rollout::deserialize(&answer)?;
        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if !watch || late || rollout.enforced.is_some() {
            show(&answer, common.output, |rollout: &Rollout| sentence(rollout))?;
            return Ok(if rollout.enforced.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        let now = sentence(&rollout);
        if now != told {
            note(now.trim_end());
            told = now;
        }
        std::thread::sleep(LOOK);
    }
}

fn newest(all: &Value) -> anyhow::Result<Value> {
    match all.get(0) {
        Some(newest) => Ok(newest.clone()),
        None => bail!("the control plane knows of no change yet"),
    }
}

fn show<T: for<'de> Deserialize<'de>>(answer: &Value, format: Format, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    match format {
        Format::Table => print(&text(&T::deserialize(answer)?)),
        format => print_value(answer, format),
    }
}

fn list(all: &[Rollout]) -> String {
    let in_force = all.iter().find(|rollout| rollout.enforced.is_some()).map(|rollout| rollout.generation);
    let row = |rollout: &Rollout| {
        vec![
            rollout.generation.to_string(),
            match state(rollout) {
                "in force" if in_force != Some(rollout.generation) => "was in force",
                state => state,
            }
            .to_owned(),
            when::ago(&rollout.began),
            rollout.enforced.as_deref().map_or_else(|| "-".to_owned(), when::ago),
            rollout.left_behind.iter().map(|one| &one.workload).collect::<std::collections::BTreeSet<_>>().len().to_string(),
            names(&rollout.waiting_for),
        ]
    };
    table(&["generation", "state", "began", "enforced", "left behind", "waiting for"], all.iter().map(row).collect())
}

fn state(rollout: &Rollout) -> &'static str {
    match (rollout.phase.as_str(), rollout.aborted, rollout.overtaken) {
        (_, true, _) => "taken back",
        ("complete", _, _) if rollout.enforced.is_some() => "in force",
        (_, _, true) => "overtaken",
        ("widen", ..) => "receivers widen",
        ("switch", ..) => "senders switch",
        _ => "receivers tighten",
    }
}

/// Where a change stands, with whom it waits for and whom it left behind.
fn sentence(rollout: &Rollout) -> String {
    let mut text = match (&rollout.enforced, rollout.phase.as_str()) {
        (Some(enforced), _) => format!(
            "{GOOD}Generation {} is in force{GOOD:#}: every connected proxy enforces it since {enforced}.\n",
            rollout.generation
        ),
        (None, phase) => format!(
            "{WARN}Generation {} is under way{WARN:#}: {}, for {}.\n",
            rollout.generation,
            match phase {
                "widen" => "receivers are told to accept what senders of the old and of the new configuration send (1 of 3)",
                "switch" => "senders switch to the new configuration; receivers accept both (2 of 3)",
                _ => "receivers are told to accept the new configuration only (3 of 3)",
            },
            when::ago(&rollout.since)
        ),
    };
    if rollout.enforced.is_none() && !rollout.waiting_for.is_empty() {
        text.push_str(&format!("  {HEAD}waiting for{HEAD:#} {}\n", names(&rollout.waiting_for)));
    }
    for late in rollout.left_behind.chunk_by(|one, next| one.phase == next.phase) {
        let workloads: Vec<String> = late.iter().map(|one| one.workload.clone()).collect();
        let (workloads, phase) = (names(&workloads), &late[0].phase);
        text.push_str(&format!("  {BAD}left behind{BAD:#} {workloads} {DIM}(did not acknowledge {phase} in time){DIM:#}\n"));
    }
    text
}

fn names(all: &[String]) -> String {
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{named} and {more} more"),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(phase: &str, enforced: Option<&str>) -> Rollout {
        Rollout {
            generation: 7,
            began: "2020-01-01T00:00:00Z".to_owned(),
            phase: phase.to_owned(),
            since: "2020-01-01T00:00:00Z".to_owned(),
            enforced: enforced.map(str::to_owned),
            waiting_for: (0..12).map(|n| format!("shop/a{n}")).collect(),
            left_behind: Vec::new(),
            overtaken: false,
            aborted: false,
        }
    }

    #[test]
    fn a_change_is_in_force_only_once_it_is_enforced() {
        let waiting = sentence(&rollout("complete", None));
        assert!(waiting.contains("under way") && waiting.contains("shop/a9 and 2 more"), "{waiting}");
        assert_eq!(state(&rollout("complete", None)), "receivers tighten");
        let done = sentence(&rollout("complete", Some("2020-01-01T00:00:00Z")));
        assert!(done.contains("is in force") && !done.contains("waiting"), "{done}");
    }

    #[test]
    fn of_several_changes_one_is_in_force() {
        let at = |generation, enforced| Rollout { generation, waiting_for: Vec::new(), ..rollout("complete", enforced) };
        let then = Some("2020-01-01T00:00:00Z");
        let text = list(&[at(9, None), at(8, then), at(7, then)]);
        let states: Vec<bool> = text.lines().map(|line| line.contains(" in force") && !line.contains("was")).collect();
        assert_eq!(states, [false, false, true, false], "{text}");
        assert!(text.contains("receivers tighten") && text.contains("was in force"), "{text}");
    }

    #[test]
    fn many_left_behind_are_told_of_in_a_line_for_each_stage() {
        let late =
            |phase: &'static str| (0..12).map(move |n| LeftBehind { workload: format!("shop/a{n}"), phase: phase.to_owned() });
        let left_behind = late("widen").chain(late("switch")).collect();
        let text = sentence(&Rollout { left_behind, ..rollout("complete", None) });
        assert_eq!(text.matches("left behind").count(), 2, "{text}");
        assert!(text.contains("shop/a9 and 2 more") && text.contains("acknowledge switch in time"), "{text}");
    }
}
