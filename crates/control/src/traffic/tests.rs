use super::*;
use crate::state::StateDir;

fn workload(name: &str) -> WorkloadName {
    WorkloadName::new("shop", name)
}

fn key(flow: &Flow) -> EdgeKey {
    EdgeKey {
        from: Party::Address(flow.peer_address.parse().expect("an address")),
        to: Party::Workload(workload("back")),
        reporter: Reporter::Destination,
        service: String::new(),
        port: 80,
        seen: Seen::Plaintext,
        reason: String::new(),
        peer_identity: String::new(),
        tls_version: String::new(),
        cipher: String::new(),
        group: String::new(),
    }
}

fn flow(id: u64, opened: u64, requests: u64) -> Flow {
    Flow {
        id,
        opened,
        closed: 1,
        requests,
        first_seen: 90,
        last_seen: 100 + requests,
        peer_address: "10.0.0.9".to_owned(),
        ..Flow::default()
    }
}

fn report(run: u64, flows: &[Flow]) -> ProxyReport {
    ProxyReport { run, flows: flows.to_vec(), ..ProxyReport::default() }
}

fn only(page: &Page, connected: bool) -> (u64, u64, u64) {
    let [view] = &page.since(0, 1_000, connected)[..] else { panic!("one edge") };
    (view.amount.connections, view.amount.requests, view.open)
}

#[test]
fn counts_are_taken_once_whatever_is_told_again_or_left_out() {
    let mut page = Page::default();
    let take = |page: &mut Page, run, flows: &[Flow]| page.take(&report(run, flows), 1_000, |flow| Some(key(flow)));
    take(&mut page, 7, &[flow(1, 2, 10)]);
    take(&mut page, 7, &[flow(1, 2, 10)]);
    take(&mut page, 7, &[flow(1, 5, 30)]);
    assert_eq!(only(&page, true), (5, 30, 4));
    assert_eq!(only(&page, false), (5, 30, 0), "nobody knows what a sidecar that is away has open");
    take(&mut page, 7, &[flow(2, 1, 1)]);
    assert_eq!(only(&page, true), (6, 31, 4), "a flow that was forgotten and comes back is another one");
    take(&mut page, 8, &[flow(1, 1, 1)]);
    assert_eq!(only(&page, true), (7, 32, 0), "another process counts from the beginning");
    take(&mut page, 7, &[flow(1, 6, 31)]);
    assert_eq!(only(&page, true).1, 33, "while it is replaced, both count");
}

#[test]
fn nothing_is_counted_twice_or_lost_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = StateDir::open(folder.path()).expect("opens");
    let traffic = Traffic::default();
    let take = |traffic: &Traffic, flows: &[Flow]| {
        let mut book = traffic.lock();
        book.changes += 1;
        book.pages.entry(workload("back")).or_default().take(&report(7, flows), 1_000, |flow| Some(key(flow)));
    };
    take(&traffic, &[flow(1, 2, 10)]);
    state.write("traffic.json", &traffic.encoded().0, crate::state::PRIVATE).expect("written");
    take(&traffic, &[flow(1, 3, 20)]);
    let again = Traffic::load(&state).expect("read");
    take(&again, &[flow(1, 4, 25)]);
    let all = again.since(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000), |_| true);
    assert_eq!((all[0].amount.connections, all[0].amount.requests, all[0].first_seen, all[0].last_seen), (4, 25, 90, 125));
    state.write("traffic.json", b"[{]", crate::state::PRIVATE).expect("written");
    assert_eq!(Traffic::load(&state).expect("set aside").since(SystemTime::UNIX_EPOCH, SystemTime::now(), |_| true), []);
}

#[test]
fn one_sidecar_cannot_push_out_what_others_tell() {
    let traffic = Traffic::default();
    let mut book = traffic.lock();
    let tell = |book: &mut Book, name: &str, flows: &[Flow]| {
        let page = book.pages.entry(workload(name)).or_default();
        let before = page.edges.len();
        page.take(&report(1, flows), 1_000, |flow| Some(key(flow)));
        book.edges = book.edges + page.edges.len() - before;
        book.make_room();
    };
    tell(&mut book, "quiet", &[flow(1, 1, 1)]);
    let strangers = |from: u32, count: u32| -> Vec<Flow> {
        let one = |n: u32| Flow { peer_address: std::net::Ipv4Addr::from(n).to_string(), ..flow(n.into(), 1, 1) };
        (from..from + count).map(one).collect()
    };
    for loud in 0..30_u32 {
        tell(&mut book, &format!("loud{loud}"), &strangers(loud * 10_000, 3_000));
    }
    let most = book.pages.values().map(|page| page.edges.len()).max();
    assert!(book.edges <= MAX_EDGES && most <= Some(MAX_EDGES_EACH), "{} {most:?}", book.edges);
    assert_eq!(book.edges, book.pages.values().map(|page| page.edges.len()).sum::<usize>());
    assert_eq!(book.pages[&workload("quiet")].edges.len(), 1);
    assert!(book.pages.values().flat_map(|page| page.runs.values()).all(|run| run.flows.len() <= MAX_FLOWS));
}

#[test]
fn parties_are_written_and_read_back() {
    for party in [Party::Workload(workload("a.b")), Party::Address("fd00::1".parse().expect("an address")), Party::Many] {
        assert_eq!(Party::from(String::from(party.clone())), party);
    }
}
