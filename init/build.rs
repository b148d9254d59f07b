//! Hands the linker what a static PID 1 need not carry along.

fn main() {
    println!("cargo::rerun-if-changed=discard.ld");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let is_static = var("CARGO_CFG_TARGET_FEATURE").split(',').any(|f| f == "crt-static");
    if is_static && var("PROFILE") == "release" {
        let script = std::path::Path::new(&var("CARGO_MANIFEST_DIR")).join("discard.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{},--no-eh-frame-hdr", script.display());
    }
}
