//! The way of a reading into force, with a source and a sink that are no folder and no file.

use std::time::Duration;

use mutua_model::{Diagnostic, Mesh, Place, Severity};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::source::{First, Rejected, SinkError, Status};

/// A source that says what it is told to say, and keeps what it hears.
struct Scripted {
    readings: mpsc::Receiver<Reading>,
    heard: mpsc::UnboundedSender<String>,
}

impl Source for Scripted {
    fn name(&self) -> String {
        "a script".to_owned()
    }

    async fn first(&mut self) -> Result<First, Rejected> {
        Ok(First { reading: self.next().await, rejected: None, before: crate::world::Before::default() })
    }

    async fn next(&mut self) -> Reading {
        match self.readings.recv().await {
            Some(reading) => reading,
            None => std::future::pending().await,
        }
    }

    fn in_force(&mut self, reading: &Reading) {
        let _ = self.heard.send(format!("in force {}", reading.digest));
    }

    fn keep(&mut self, reading: &Reading) {
        let _ = self.heard.send(format!("keep {}", reading.digest));
    }

    fn needed(&mut self, contents: &[String]) {
        let _ = self.heard.send(format!("needed {}", contents.join(" ")));
    }

    fn give_up(&mut self, back_to: &str) -> Result<Reading, NoWayBack> {
        Ok(valid(back_to))
    }
}

struct Shown(watch::Sender<Option<Status>>);

impl Sink for Shown {
    async fn write(&self, status: &Status) -> Result<(), SinkError> {
        self.0.send_replace(Some(status.clone()));
        Ok(())
    }
}

fn valid(digest: &str) -> Reading {
    Reading { mesh: Ok(Arc::new(Mesh::default())), digest: digest.to_owned(), content: digest.to_owned(), warnings: Vec::new() }
}

fn invalid(digest: &str) -> Reading {
    let error = Diagnostic {
        severity: Severity::Error,
        object: None,
        path: "spec".to_owned(),
        place: Place::nowhere(),
        message: "wrong".to_owned(),
    };
    let rejected = Rejected { summary: "1 error".to_owned(), errors: vec![error] };
    Reading { mesh: Err(rejected), digest: digest.to_owned(), content: digest.to_owned(), warnings: Vec::new() }
}

#[tokio::test]
async fn valid_readings_come_into_force_and_invalid_ones_are_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = Arc::new(StateDir::open(folder.path()).expect("opened"));
    let (parts, aborts) = crate::start::parts_for_tests(&state, &valid("a"), None);
    let (say, readings) = mpsc::channel(1);
    let (heard, mut hear) = mpsc::unbounded_channel();
    let (show, mut shown) = watch::channel(None);
    let source = Scripted { readings, heard };
    let configuration = Configuration { source, sink: Shown(show), reading: valid("a"), state, aborts };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { reread(configuration, &parts, None, stop).await });
    let mut until = async |check: fn(&Status) -> bool| {
        let found = shown.wait_for(|status| status.as_ref().is_some_and(check));
        tokio::time::timeout(Duration::from_secs(20), found)
            .await
            .expect("in time")
            .expect("the sink lives")
            .clone()
            .expect("checked")
    };
    until(|status| status.generation == 1 && status.rejected.is_none()).await;
    say.send(invalid("b")).await.expect("taken");
    let status = until(|status| status.rejected.is_some()).await;
    assert_eq!((status.generation, status.rejected.as_deref(), status.diagnostics.len()), (1, Some("1 error"), 1));
    say.send(valid("c")).await.expect("taken");
    until(|status| status.generation == 2 && status.rejected.is_none() && status.diagnostics.is_empty()).await;
    for expected in ["keep a", "in force a", "needed a a", "keep c", "in force c", "needed c c"] {
        assert_eq!(hear.recv().await.as_deref(), Some(expected));
    }
    shutdown.cancel();
    running.await.expect("ends");
}

/// Starts over the reading `a`, with a way to say what comes next and to hear what the source hears.
fn running(state: &Arc<StateDir>) -> (Arc<Parts>, mpsc::Sender<Reading>, mpsc::UnboundedReceiver<String>) {
    let (parts, aborts) = crate::start::parts_for_tests(state, &valid("a"), None);
    let parts = Arc::new(parts);
    let (say, readings) = mpsc::channel(1);
    let (heard, hear) = mpsc::unbounded_channel();
    let (source, sink) = (Scripted { readings, heard }, Shown(watch::channel(None).0));
    let configuration = Configuration { source, sink, reading: valid("a"), state: Arc::clone(state), aborts };
    let followed = Arc::clone(&parts);
    tokio::spawn(async move { reread(configuration, &followed, None, CancellationToken::new()).await });
    (parts, say, hear)
}

/// Waits until the source hears these words.
async fn heard(hear: &mut mpsc::UnboundedReceiver<String>, words: &str) {
    let all = async { while hear.recv().await.expect("it runs") != words {} };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect(words);
}

async fn rejected(parts: &Parts) -> String {
    loop {
        if let Some(rejected) = parts.world.status().rejected {
            return rejected;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn another_trust_hides_no_rejection() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = Arc::new(StateDir::open(folder.path()).expect("opened"));
    let (parts, say, mut hear) = running(&state);
    heard(&mut hear, "in force a").await;
    say.send(invalid("b")).await.expect("taken");
    assert_eq!(rejected(&parts).await, "1 error");
    parts.retrust.notify_one();
    heard(&mut hear, "in force a").await;
    let status = parts.world.status();
    assert_eq!((status.rejected.as_deref(), status.diagnostics.len()), (Some("1 error"), 1));
    say.send(valid("a")).await.expect("taken");
    heard(&mut hear, "in force a").await;
    assert_eq!(parts.world.status().rejected, None, "put back as it was");
}

#[tokio::test]
async fn what_waits_to_be_recorded_outlives_an_abort_of_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = Arc::new(StateDir::open(folder.path()).expect("opened"));
    let (parts, say, mut hear) = running(&state);
    let record = folder.path().join("generation.json");
    std::fs::remove_file(&record).expect("it is recorded");
    std::fs::create_dir(&record).expect("nothing can be recorded now");
    say.send(valid("c")).await.expect("taken");
    assert!(rejected(&parts).await.contains("generation.json"));
    assert!(matches!(abort(&parts).await, Err(NotAborted::NothingUnderWay)));
    std::fs::remove_dir(&record).expect("and now it can");
    heard(&mut hear, "in force c").await;
    assert_eq!(parts.world.current().generation, 2);
}

#[tokio::test]
async fn another_signer_under_the_same_roots_renews_the_own_certificate() {
    let domain = mutua_identity::TrustDomain::new("cluster.local").expect("a domain");
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [old, new] = [0, 1].map(|n| Ca::load_or_create(folders[n].path(), &domain).expect("made"));
    let plugged = folders[0].path();
    let put = |name: &str, text: &[u8]| std::fs::write(plugged.join(name), text).expect("written");
    put("root-cert.pem", old.bundle().union(new.bundle()).to_pem().as_bytes());

    let folder = tempfile::tempdir().expect("a folder");
    let state = Arc::new(StateDir::open(folder.path()).expect("opened"));
    let (parts, aborts) = crate::start::parts_for_tests(&state, &valid("a"), Some(plugged));
    let parts = Arc::new(parts);
    let (_say, readings) = mpsc::channel(1);
    let (heard, mut hear) = mpsc::unbounded_channel();
    let (show, _shown) = watch::channel(None);
    let source = Scripted { readings, heard };
    let configuration = Configuration { source, sink: Shown(show), reading: valid("a"), state, aborts };
    let shutdown = CancellationToken::new();
    tokio::spawn(Arc::clone(&parts.keeper).keep(shutdown.clone()));
    let (leading, stop) = (Arc::clone(&parts), shutdown.clone());
    tokio::spawn(async move { reroot::lead(&leading, stop).await });
    let (running, stop, ca_dir) = (Arc::clone(&parts), shutdown.clone(), Some(plugged.to_owned()));
    tokio::spawn(async move { reread(configuration, &running, ca_dir, stop).await });
    hear.recv().await.expect("it follows");

    for name in ["ca-cert.pem", "ca-key.pem", "cert-chain.pem"] {
        put(name, &std::fs::read(folders[1].path().join(name)).expect("there"));
    }
    let renewed = async {
        while parts.own.load().check_chain(new.bundle(), std::time::SystemTime::now()).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed).await.expect("renewed by the new signer");
    shutdown.cancel();
}
