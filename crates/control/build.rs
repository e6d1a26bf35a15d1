//! The console's files are embedded: new ones make a new program.

fn main() {
    println!("cargo:rerun-if-changed=../../console/dist");
}
