//! What a process uses, by `/proc`.

use std::time::Duration;

/// The unit of processor times in `/proc`, the same on every Linux that Rust runs on.
const USER_HZ: u64 = 100;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time, of the kernel for it too.
    pub cpu: Duration,
    /// Resident memory, KiB.
    pub resident: u64,
}

impl Usage {
    /// Of this process.
    pub fn of_this() -> Self {
        Self::of(std::process::id())
    }

    /// Of a process that runs.
    pub fn of(id: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        // The name may hold anything; what follows it is numbers.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Self { cpu: Duration::from_millis(ticks * 1000 / USER_HZ), resident }
    }
}

/// As many open files as this process may have.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
