# The two commands of the README: `make demo` and `make test`.
# `make check` and `make test` share one Cargo profile (ci), so that a clean run builds once.

PROFILE ?= ci
ENVOY_VERSION ?= 1.40.0

.DEFAULT_GOAL := build
.PHONY: build demo test check bench soak test-needs demo-needs

build:
	cargo build --release --bin mutua --bin mutua-proxy

demo: build demo-needs
	target/release/mutua demo --once

test: test-needs
	cargo test --profile $(PROFILE) --workspace --features mutua-wire/codegen

check:
	cargo fmt --all --check
	cargo clippy --profile $(PROFILE) --workspace --all-targets -- -D warnings
	scripts/size-limits

bench:
	cargo bench --workspace

soak:
	MUTUA_SOAK=1 cargo test --release --workspace -- --include-ignored

test-needs:
	scripts/install-needs test

demo-needs:
	scripts/install-needs demo
