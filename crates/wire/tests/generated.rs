//! The checked-in code is what the proto files give.
#![cfg(feature = "codegen")]

use std::path::Path;

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = root.join("src/generated");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        return mutua_wire::codegen::generate(root, &generated).expect("the proto files compile");
    }
    let fresh = std::env::temp_dir().join(format!("mutua-wire-{}", std::process::id()));
    std::fs::create_dir_all(&fresh).expect("a folder for the generated code");
    mutua_wire::codegen::generate(root, &fresh).expect("the proto files compile");
    for entry in std::fs::read_dir(&fresh).expect("the folder was just made") {
        let name = entry.expect("readable").file_name();
        let (new, old) = (std::fs::read_to_string(fresh.join(&name)), std::fs::read_to_string(generated.join(&name)));
        assert_eq!(new.expect("readable"), old.unwrap_or_default(), "{name:?} is stale: run with UPDATE_GENERATED=1");
    }
    std::fs::remove_dir_all(&fresh).expect("removable");
}
