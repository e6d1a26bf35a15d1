//! Runs a target: first its corpus, then changes of it, for some seconds.
//!
//! Every input is a function of a seed and a number, so a run can be had again. An input that fails, hangs or ends the
//! process is left in a file; the message says how to replay it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mutate::mutate;
use crate::random::{Random, hash};
use crate::{Target, memory};

/// Seconds for a target where nothing else is said.
const SECONDS: u64 = 2;
/// Seconds for a target with `MUTUA_SOAK`.
const SOAK_SECONDS: u64 = 900;
/// Time of the processor that one input may take, in every profile.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long without an end, an input counts as one that never ends.
const FOR_EVER: Duration = Duration::from_secs(120);

/// How to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For how long inputs are made up.
    pub time: Duration,
    /// What they are made of.
    pub seed: u64,
    /// Time of the processor that one input may take.
    pub patience: Duration,
    /// One input that is run instead of everything else.
    pub only: Option<PathBuf>,
}

impl Plan {
    /// As the environment says: `MUTUA_FUZZ_SECONDS`, `MUTUA_FUZZ_SEED`, `MUTUA_FUZZ_INPUT`; with `MUTUA_SOAK` longer, and
    /// with a seed of its own.
    #[must_use]
    pub fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let soak = std::env::var_os("MUTUA_SOAK").is_some();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = if soak { now.as_secs() } else { 1 };
        Self {
            time: Duration::from_secs(number("MUTUA_FUZZ_SECONDS").unwrap_or(if soak { SOAK_SECONDS } else { SECONDS })),
            seed: number("MUTUA_FUZZ_SEED").unwrap_or(seed),
            patience: PATIENCE,
            only: std::env::var_os("MUTUA_FUZZ_INPUT").map(PathBuf::from),
        }
    }
}

/// Runs `target` as `plan` says. `folder`: where inputs that fail are left. Returns how many inputs were run.
///
/// # Panics
/// An input breaks what must hold.
pub fn run(target: &Target, plan: &Plan, folder: &Path) -> u64 {
    if let Some(file) = &plan.only {
        (target.run)(&fs::read(file).unwrap());
        return 1;
    }
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "no corpus of {}", target.name);
    let mut attempt = Attempt::new(target, plan.patience, folder);
    for input in &corpus {
        attempt.run(input);
    }
    let (start, mut turn, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while start.elapsed() < plan.time {
        turn += 1;
        longest = longest.max(attempt.run(&input(target, &corpus, plan.seed, turn)));
    }
    let total = turn + corpus.len() as u64;
    let line = format!(
        "fuzz {}: {total} inputs ({} of the corpus) in {} s, seed {}; the longest took {} ms, the largest {} KiB\n",
        target.name,
        corpus.len(),
        start.elapsed().as_secs(),
        plan.seed,
        longest.as_millis(),
        attempt.most / 1024,
    );
    // Past the capture of test output: this is what a run has to show.
    let _ = std::io::stderr().write_all(line.as_bytes());
    total
}

/// The files of a target's corpus.
///
/// # Panics
/// There is no such folder.
#[must_use]
pub fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The input number `turn`.
#[must_use]
pub fn input(target: &Target, corpus: &[Vec<u8>], seed: u64, turn: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ hash(target.name.as_bytes()), turn);
    let made = random.once_in(2);
    let mut input = if made { (target.grammar)(&mut random) } else { corpus[random.below(corpus.len())].clone() };
    let changes = if made && random.once_in(3) { 0 } else { 1 + random.length(24) };
    let other = corpus[random.below(corpus.len())].clone();
    for _ in 0..changes {
        mutate(&mut input, &mut random, target.words, &other);
        input.truncate(target.longest);
    }
    input
}

/// The input that runs now, on disk for the case that nobody is left to tell of it.
struct Attempt<'a> {
    target: &'a Target,
    patience: Duration,
    folder: &'a Path,
    last: PathBuf,
    file: File,
    /// How long the file is.
    length: usize,
    /// The number of the input that runs; 0 when none does.
    turn: Arc<AtomicU64>,
    turns: u64,
    /// The most memory that one input took.
    most: usize,
}

impl<'a> Attempt<'a> {
    fn new(target: &'a Target, patience: Duration, folder: &'a Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let last = folder.join(format!("{}.last", target.name));
        let turn = Arc::new(AtomicU64::new(0));
        watch(Arc::clone(&turn), replay(target, &last));
        let file = File::create(&last).unwrap();
        Self { target, patience, folder, last, file, length: 0, turn, turns: 0, most: 0 }
    }

    /// Runs one input; returns how long it took.
    fn run(&mut self, input: &[u8]) -> Duration {
        self.file.write_all_at(input, 0).unwrap();
        if input.len() < self.length {
            self.file.set_len(input.len() as u64).unwrap();
        }
        self.length = input.len();
        self.turns += 1;
        self.turn.store(self.turns, Ordering::Relaxed);
        let (before, start) = (memory::begin(), Instant::now());
        let ended = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let (took, most) = (start.elapsed(), memory::most_since(before));
        self.turn.store(0, Ordering::Relaxed);
        if let Err(panic) = ended {
            self.keep(input, "it panics");
            resume_unwind(panic);
        }
        let allowed = self.target.memory + self.target.memory_per_byte * input.len();
        if most > allowed {
            panic!("{}", self.keep(input, &format!("it takes {most} bytes of memory; {allowed} are allowed")));
        }
        if took > self.patience {
            let used = processor_time();
            (self.target.run)(input);
            let used = processor_time().saturating_sub(used);
            if used > self.patience {
                panic!("{}", self.keep(input, &format!("it takes {used:?} of the processor")));
            }
        }
        self.most = self.most.max(most);
        took
    }

    /// Leaves the input in a file, and says so.
    fn keep(&self, input: &[u8], why: &str) -> String {
        let file = self.folder.join(format!("{}-{:016x}", self.target.name, hash(input)));
        fs::write(&file, input).unwrap();
        let text = format!("{}: {why}. To replay it: {}\n", self.target.name, replay(self.target, &file));
        let _ = std::io::stderr().write_all(text.as_bytes());
        text
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // Watched no longer.
        self.turn.store(u64::MAX, Ordering::Relaxed);
        let _ = fs::remove_file(&self.last);
    }
}

fn replay(target: &Target, file: &Path) -> String {
    format!("MUTUA_FUZZ_INPUT={} cargo test --profile ci -p mutua-fuzz --test fuzz -- --exact {}", file.display(), target.name)
}

/// Ends the process when one input does not end.
fn watch(turn: Arc<AtomicU64>, replay: String) {
    std::thread::spawn(move || {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = turn.load(Ordering::Relaxed);
            match now {
                u64::MAX => return,
                _ if now == 0 || now != seen => (seen, since) = (now, Instant::now()),
                _ if since.elapsed() > FOR_EVER => {
                    let text = format!("an input does not end. To replay it: {replay}\n");
                    let _ = std::io::stderr().write_all(text.as_bytes());
                    std::process::abort();
                }
                _ => {}
            }
        }
    });
}

/// What the current thread has used of the processor (the first number of its `schedstat`, in nanoseconds).
#[must_use]
pub fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default())
}
