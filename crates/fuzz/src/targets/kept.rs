//! The configuration that a sidecar kept on disk: a damaged file is refused, and never taken for another.

use mutua_proxy::kept::KeptError;
use mutua_proxy::world::{Change, World};
use mutua_wire::discovery::Resource;
use mutua_wire::mesh::Destination;
use mutua_wire::{MeshResource, content_version};
use prost::Message;

use super::discovery;
use crate::{Random, Target};

/// The target. Its input is the file.
pub const TARGET: Target = Target {
    name: "kept",
    run,
    grammar,
    words: &[b"\x01", b"\x02", b"\x03", b"\xff\xff\xff\x00", b"shop/it", b"type.googleapis.com/mutua.mesh.v1.Destination"],
    longest: 64 * 1024,
    // A frame may announce that much.
    memory: 18 * 1024 * 1024,
    memory_per_byte: 200,
};

const FILE: &str = "kept-Destination";

/// What must hold.
pub fn run(bytes: &[u8]) {
    let folder = discovery::folder();
    let kept = discovery::kept(&folder);
    std::fs::write(folder.path().join(FILE), bytes).unwrap();
    match kept.load(&[Destination::TYPE_URL]) {
        Ok(all) => {
            let all = all.unwrap();
            let total: usize = all[0].resources.iter().map(Message::encoded_len).sum();
            assert!(total <= bytes.len());
            let _ = World::default().apply(&all[0].change());
        }
        Err(KeptError::Damaged { name, .. }) => assert_eq!(name, FILE),
        Err(error) => panic!("{error}"),
    }
    // A damaged file is replaced by the next change, or forgotten; it never stays.
    let resource = Resource { name: "shop/new".to_owned(), resource: Some(Destination::default().pack()), ..Resource::default() };
    kept.keep(&Change { type_url: Destination::TYPE_URL, generation: "9", resources: &[resource], removed: &[] });
    if let Some(all) = kept.load(&[Destination::TYPE_URL]).unwrap() {
        assert!(all[0].resources.iter().any(|one| one.name == "shop/new"));
    }
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let head = head(random);
    let mut file = frame(random, 1, &head);
    let count = random.below(4);
    for _ in 0..count {
        let resource =
            Resource { name: random.text(), resource: Some(discovery::destination(random).pack()), ..Resource::default() };
        file.extend(frame(random, 2, &resource.encode_to_vec()));
    }
    let count = if random.once_in(6) { random.byte() } else { count as u8 };
    let end = if count == 0 { Vec::new() } else { vec![8, count] };
    file.extend(frame(random, 3, &end));
    file
}

/// The form, whose workload and of which type, the generation.
fn head(random: &mut Random) -> Vec<u8> {
    let workload = random.one_of(&["shop/it", "shop/it", "shop/other"]).as_bytes();
    let text = |tag: u8, text: &[u8]| [&[tag << 3 | 2, text.len() as u8], text].concat();
    let form = random.one_of(&[1, 1, 1, 2]);
    [&[8, form][..], &text(2, workload), &text(3, Destination::TYPE_URL.as_bytes()), &text(4, b"7")].concat()
}

/// A frame whose digest mostly fits.
fn frame(random: &mut Random, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut digest = content_version(content).into_bytes();
    if random.once_in(20) {
        digest[3] ^= 1;
    }
    [&[kind][..], &(content.len() as u32).to_le_bytes(), &digest, content].concat()
}
