# `./do TARGET` installs what is missing and then runs a target of this file.

export PATH := justfile_directory() / ".cache/tools/bin:" + env("PATH") + ":/usr/sbin:/sbin"

# CI builds everything once: notes for a second build would only take time.
export CARGO_INCREMENTAL := if env("CI", "") == "true" { "0" } else { env("CARGO_INCREMENTAL", "1") }

# The list of targets
default:
    @just --justfile {{justfile()}} --list --unsorted

# The whole road in QEMU, told step by step: build, boot, infer, update, fall back
demo: build host device
    cargo build --release --locked -p qemu-tests --bin demo
    target/release/demo

# The host tool: target/release/imager
build:
    cargo build --release --locked -p imager

# The runner for this machine and its engine, for `imager model` and the golden samples: target/host
host:
    cargo build --release --locked -p runner --features engine
    mkdir -p target/host
    install -m 755 target/release/runner target/host/runner
    install -m 644 .cache/tflite/$(uname -m)/libtensorflowlite_c.so target/host/

# What goes on the device, for arm64: target/device/{init,ota,runner}
device:
    scripts/device-build

# The same for amd64: target/device-amd64
device-amd64:
    scripts/device-build --for amd64

# A release in target/dist: a tarball and a .deb, docs/releasing.md
dist *ARGUMENTS:
    scripts/dist {{ARGUMENTS}}

# The release as a stranger meets it, in bare roots of Debian 12 and 13 without a compiler
try-release: dist
    scripts/try-release bookworm
    scripts/try-release trixie

# The same without QEMU, in one root
try-release-briefly: dist
    scripts/try-release --short trixie

# Everything that CI runs; says at the end what each part and the slowest tests took
test:
    scripts/ci

# Formatting, clippy and the pages of docs/, no warning tolerated
lint:
    cargo fmt --all --check
    scripts/check-docs
    cargo check -p formats --no-default-features --locked
    cargo clippy --workspace --all-targets --features runner/engine --locked -- -D warnings
    ! scripts/efi-rustc || cargo clippy -p efi-bootchooser --target aarch64-unknown-uefi --locked -- -D warnings

# The API documentation: target/doc, no warning tolerated
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --features runner/engine --locked

# Licences and advisories of the dependencies
deny:
    scripts/deny

# Tests that need no machine to boot; some build an image
unit: device host
    cargo test --workspace --exclude qemu-tests --features runner/engine --locked --no-fail-fast -- --include-ignored

# Builds the demo twice under other circumstances, once without a network, and compares
reproducible: device
    cargo build --locked -p imager
    scripts/reproducible target/debug/imager

# Boots, updates and failures in QEMU, at most two machines at a time
boot: device device-amd64
    scripts/device-build hanging-init
    cargo build --locked -p imager
    cargo test --locked -p qemu-tests --no-fail-fast -- --test-threads=2

# What `boot` leaves out, since it tells little more than that: the same tests on other boards
boot-all: boot
    cargo test --locked -p qemu-tests --no-fail-fast -- --ignored --test-threads=2 --skip as_many_power_cuts --skip as_many_random_faults

# Set-up and a target in a bare root of a Debian release, as root: `just bare trixie unit`, or with --user
bare +ARGUMENTS:
    scripts/bare {{ARGUMENTS}}

# So many random power cuts across updates in QEMU, about half a minute each; FERRITE_SEED=S repeats a run
power-cuts N="200": device
    cargo build --locked -p imager
    FERRITE_POWER_CUTS={{N}} cargo test --locked -p qemu-tests --test qemu as_many_power_cuts -- --ignored --nocapture

# So many random faults of all kinds in QEMU, about a minute each; FERRITE_SEED=S repeats a run
soak N="500": device
    cargo build --locked -p imager
    FERRITE_SOAK={{N}} cargo test --locked -p qemu-tests --test qemu as_many_random_faults -- --ignored --nocapture

# The power-cut sweep over every write of an update, in full (CI does a part of it)
sweep:
    FERRITE_SWEEP=full cargo test --release --locked -p ota --test sweep -- --nocapture

# The tables of docs/benchmarks.md, side by side with the peers
bench *ARGUMENTS: build device
    cargo run --release --locked -p bench -- {{ARGUMENTS}}

# Each fuzzer for so many seconds, docs/fuzzing.md
fuzz seconds="60":
    scripts/fuzz {{seconds}}

# Each fuzzer for three seconds from the committed seeds
fuzz-briefly:
    scripts/fuzz briefly

# Formats the code
fmt:
    cargo fmt --all
