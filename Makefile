# The commands a developer needs. `make help` lists them; each does its own set-up and says what it installs.

CARGO ?= cargo
CONFIG ?= switchyard.toml

# Lua is C and compiled in; Rust links with cc as well.
BUILD_NEEDS = gcc+libc6-dev:cc
# The store of clusters; its protocol is generated from its definition. `make build FEATURES=switchyard/etcd` has it
# too, lint and unit always do.
FEATURES ?=
ETCD_NEEDS = protobuf-compiler+libprotobuf-dev:protoc
# Real phones, a traffic generator, and ears: see tests/.
TEST_NEEDS = etcd-server:etcd sip-tester:sipp baresip-core:baresip linphone-cli:linphone-daemon sox:sox tshark:tshark nodejs:node

.DEFAULT_GOAL := help
# Steps build on each other, and cargo uses all cores anyway.
.NOTPARALLEL:
.PHONY: help run build test lint unit doctest deny fuzz bench simulate drill needs-build needs-etcd needs-test

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build, and start a host with the sample office (CONFIG=other.toml for your own)
	@exec target/release/switchyard run --config $(CONFIG)

# Release: a park costs a tenth of what it costs unoptimised, and the first build takes only a minute longer. The
# plugins land beside the program, where the sample configuration looks for them.
build: needs-build $(if $(FEATURES),needs-etcd) ## only build, optimised (FEATURES=switchyard/etcd: for clusters)
	$(CARGO) build --release --locked -p switchyard -p call-park -p group-pickup --features "$(FEATURES)"

test: needs-build needs-test lint unit doctest ## everything: format, lints, units, flows, real processes, real phones

lint: needs-build needs-etcd
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features switchyard/etcd -- -D warnings
	$(CARGO) clippy --locked -p switchyard --lib --bins -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(MAKE) --no-print-directory deny; \
	else echo "cargo-deny is not installed: licences are not checked (cargo install --locked cargo-deny)"; fi

unit: needs-build needs-etcd
	@if command -v cargo-nextest >/dev/null; then \
	  echo "$(CARGO) nextest run --locked --workspace --features switchyard/etcd"; \
	  $(CARGO) nextest run --locked --workspace --features switchyard/etcd; \
	else \
	  echo "cargo-nextest is not installed: cargo test does it too, a little slower"; \
	  $(CARGO) test --locked --workspace --features switchyard/etcd --lib --bins --tests; \
	fi

# Examples in the documentation of what others build on.
doctest: needs-build
	$(CARGO) test --locked --doc -p switchyard-sdk

deny: ## licences, bans and sources of all dependencies (needs cargo-deny)
	$(CARGO) deny --offline --locked check --hide-inclusion-graph bans licenses sources

fuzz: needs-build ## replay what fuzzing has found (fuzz/src/lib.rs says how to look for more)
	CARGO_TARGET_DIR=target/fuzz $(CARGO) test --locked --manifest-path fuzz/Cargo.toml

bench: needs-build needs-etcd ## what a message, a claim, a decision and a call cost, and a parked call on three members of etcd
	@.ci/need etcd-server:etcd
	$(CARGO) bench --locked --workspace --features switchyard/etcd --bench "*"

# Not in CI, which runs known seeds and a few fresh ones. See docs/testing.md.
SEED ?= 0
SEEDS ?= 10000
CALLS ?= 15
TOGETHER ?= 0
STRUCK := simulation::procedures::every_write_in_every_way simulation::replaced::every_write_in_every_way

simulate: needs-build ## whole deployments from seeds, with faults: SEEDS=10000 CALLS=15 (each), from SEED=0 on; TOGETHER=1: several hosts
	TOGETHER=$(TOGETHER) SEED=$(SEED) SEEDS=$(SEEDS) CALLS=$(CALLS) $(CARGO) test --release --locked -p switchyard --test host -- \
	  --ignored --exact --nocapture simulation::soak::soak $(if $(filter 0,$(TOGETHER)),,$(STRUCK))

# Unoptimised, as the tests are built: it shows what happens, not how fast.
drill: needs-build needs-etcd ## lose a pool and bring it back: three etcd members, four hosts, phones, kill -9, all on this machine
	@.ci/need etcd-server:etcd
	$(CARGO) test --locked -p switchyard --features etcd --test host -- --exact --nocapture \
	  process::drill::a_pair_of_pools_goes_through_a_disaster_and_all_is_as_the_matrices_say

needs-build:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer (rustup.rs, or your distribution)" >&2; exit 1; }
	@.ci/need $(BUILD_NEEDS)

needs-etcd:
	@.ci/need $(ETCD_NEEDS)

needs-test:
	@.ci/need $(TEST_NEEDS)
