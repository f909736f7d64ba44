//! Compiles `proto/` without protoc: protox reads it, tonic's generator writes Rust and the descriptors for reflection.

use std::error::Error;
use std::path::Path;

use prost::Message as _;

const FILES: [&str; 12] = [
    "sheaf/v1/backend.proto",
    "sheaf/v1/error.proto",
    "sheaf/v1/cluster.proto",
    "sheaf/v1/node.proto",
    "sheaf/v1/event.proto",
    "sheaf/v1/bucket.proto",
    "sheaf/v1/instance.proto",
    "sheaf/v1/job.proto",
    "sheaf/v1/query.proto",
    "sheaf/v1/secret.proto",
    "sheaf/v1/sink.proto",
    "sheaf/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();

    let out = std::env::var("OUT_DIR")?;
    // Comments stay out of what reflection serves: it is asked for by programs.
    let mut served = descriptors.clone();
    for file in &mut served.file {
        file.source_code_info = None;
    }
    std::fs::write(Path::new(&out).join("descriptors.bin"), served.encode_to_vec())?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .bytes(".")
        .btree_map(".")
        // They hold a secret's value, which nothing is to print.
        .skip_debug(["sheaf.v1.SetSecretRequest", "sheaf.v1.CreateTokenResponse"])
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
