//! Compiles the packaged copy of `sheaf.module.v1` without protoc.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(["sheaf/module/v1/module.proto"])?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .btree_map(".")
        // It holds a secret's value, which nothing is to print.
        .skip_debug(["sheaf.module.v1.GetSecretResponse"])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
