//! Compiles the compiled protos/ (`make protos`) into messages and clients: no protoc is needed.

use prost::Message;

const DESCRIPTORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../dl_inference/_wire.binpb"
);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={DESCRIPTORS}");
    let descriptors = prost_types::FileDescriptorSet::decode(&*std::fs::read(DESCRIPTORS)?)?;
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("protos.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
