//! Walks through the steps.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use mutua_lab::services::Totals;

use super::files::File;
use super::progress::wait;
use super::scenario::{STEPS, Step, WORKLOADS};
use super::world::{PATIENCE, World};
use super::{Stop, call, files, judge, report};

/// How many rows were proven.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub proven: u32,
    pub failed: u32,
    /// What failed, in words.
    pub failures: Vec<String>,
}

impl Verdict {
    /// One more that is proven.
    pub fn prove(&mut self) {
        self.proven += 1;
    }

    /// One more that failed.
    pub fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.failures.push(why.to_owned());
    }
}

/// Walks through all steps.
pub(crate) fn walk(world: &mut World, stop: &Stop) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut generation = world.control.proxies()?.generation;
    for (number, step) in STEPS.iter().enumerate() {
        report::step(number + 1, step)?;
        generation = enter(world, step, generation, stop)?;
        for row in step.rows {
            if stop.asked() {
                bail!("interrupted");
            }
            let seen = call::make(world, row, stop)?;
            let problems = judge::judge(row, &seen);
            report::row(row, &seen, &problems)?;
            if problems.is_empty() {
                verdict.prove();
            } else {
                verdict.fail(&format!("{}: {} → {}: {}", step.title, row.from, row.to, problems.join("; ")));
            }
        }
        for ended in world.ended_by_themselves() {
            verdict.fail(&ended);
        }
    }
    wait_for_renewals(world, stop)?;
    Ok(verdict)
}

/// Puts a step's files into the watched folder, and waits until they are in force everywhere.
fn enter(world: &mut World, step: &Step, before: u64, stop: &Stop) -> anyhow::Result<u64> {
    let changed = write_folder(world, &folder_of(step))?;
    let least = if changed { before + 1 } else { before };
    wait_until_in_force(world, least, stop)
}

/// The folder back to its state without policies.
pub(crate) fn rest(world: &mut World, stop: &Stop) -> anyhow::Result<()> {
    let before = world.control.proxies()?.generation;
    let changed = write_folder(world, files::MESH)?;
    wait_until_in_force(world, before + u64::from(changed), stop).map(drop)
}

/// The mesh with a step's own files; one of the same name takes the mesh's place.
pub(crate) fn folder_of(step: &Step) -> Vec<File> {
    let kept = files::MESH.iter().filter(|(name, _)| !step.files.iter().any(|(own, _)| own == name));
    kept.chain(step.files).copied().collect()
}

/// Makes the watched folder hold exactly these files; each is renamed into place whole. Says whether anything changed.
pub(crate) fn write_folder(world: &World, files: &[File]) -> anyhow::Result<bool> {
    let (config, staged) = (world.config(), world.staged());
    let mut changed = false;
    for (name, text) in files {
        if fs::read_to_string(config.join(name)).is_ok_and(|present| present == *text) {
            continue;
        }
        fs::write(staged.join(name), text)?;
        fs::rename(staged.join(name), config.join(name)).with_context(|| format!("moving {name} into the folder"))?;
        changed = true;
    }
    for entry in fs::read_dir(&config)? {
        let entry = entry?;
        if !files.iter().any(|(name, _)| Path::new(name) == Path::new(&entry.file_name())) {
            fs::remove_file(entry.path())?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Waits until every sidecar has acknowledged generation `least` or a later one, and nothing moves any more.
pub(crate) fn wait_until_in_force(world: &mut World, least: u64, stop: &Stop) -> anyhow::Result<u64> {
    let sidecars: Vec<&str> = WORKLOADS.iter().filter(|one| one.sidecar).map(|one| one.name).collect();
    let mut least = least;
    loop {
        let generation = wait("every sidecar to acknowledge", PATIENCE, stop, || {
            if let Some(ended) = world.ended_by_themselves().first() {
                bail!("{ended}");
            }
            let proxies = world.control.proxies()?;
            Ok(proxies.missing(least, &sidecars).map_or(Ok(proxies.generation), Err))
        })?;
        // Several files change a moment apart: the folder may be read twice.
        std::thread::sleep(SETTLE);
        if world.control.proxies()?.generation == generation {
            return Ok(generation);
        }
        least = generation + 1;
    }
}

/// Longer than the control plane waits for a folder to settle.
const SETTLE: Duration = Duration::from_millis(250);

/// Under the load of all steps each leaf must have been renewed at least once.
fn wait_for_renewals(world: &World, stop: &Stop) -> anyhow::Result<()> {
    wait("every leaf to be renewed", PATIENCE, stop, || {
        let proxies = world.control.proxies()?.proxies;
        let fresh = proxies.iter().find(|proxy| proxy.certificate.as_ref().is_none_or(|leaf| leaf.renewals == 0));
        Ok(fresh.map_or(Ok(()), |proxy| Err(format!("{} shows its first", proxy.workload))))
    })
}

/// Ends the load, and holds what it counted against what is expected: nothing lost.
pub(crate) fn count_load(world: &mut World, verdict: &mut Verdict) -> anyhow::Result<()> {
    report::load_heading()?;
    let (renewals, failed) = world.control.proxies()?.renewals();
    for mut process in std::mem::take(&mut world.load) {
        drop(process.take_stdin());
        let mut text = String::new();
        if let Some(mut stdout) = process.take_stdout() {
            stdout.read_to_string(&mut text)?;
        }
        let totals: Totals = serde_json::from_str(&text).with_context(|| format!("the load {} did not count", process.name()))?;
        let good = totals.failed == 0 && totals.requests > 0;
        report::load(process.name(), &totals)?;
        if good {
            verdict.prove();
        } else {
            verdict.fail(&format!("{}: {} of {} failed: {:?}", process.name(), totals.failed, totals.requests, totals.failures));
        }
    }
    report::renewals(renewals, failed)?;
    report::memory(world.sidecar_command(), &world.sidecar_memory())?;
    let every_leaf = u64::try_from(WORKLOADS.iter().filter(|one| one.sidecar).count()).unwrap_or(u64::MAX);
    if renewals >= every_leaf && failed == 0 {
        verdict.prove();
    } else {
        verdict.fail(&format!("{renewals} renewals, {failed} failed"));
    }
    let lost = world.sniffer.lost();
    if lost > 0 {
        verdict.fail(&format!("{lost} frames passed unheard: that a marker was not seen is not proven"));
    }
    Ok(())
}
