# Programs land where cargo puts them.
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
# Passed on to what is run: make run ARGS="--port 5010".
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test soak bench bench-quick ci deps

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: deps ## Build everything and run blobgate with a registry and an S3 server. Options: ARGS="--help".
	cargo build --release --locked --bin blobgate --example stack --example push
	exec $(RELEASE)/examples/stack $(ARGS)

test: deps ## Run all tests.
	cargo test --workspace --locked

soak: deps ## Load blobgate under faults for two minutes, check every blob, and its memory. Options: ARGS="--help".
	cargo build --release --locked --bin blobgate --example soak
	$(RELEASE)/examples/soak $(ARGS)

bench: deps ## Measure blobgate beside what else there is, some half an hour. Options: ARGS="--help".
	cargo bench --locked --bench compare -- $(ARGS)

bench-quick: deps ## The same in three minutes: smaller blobs, fewer runs.
	@$(MAKE) --no-print-directory bench ARGS="--quick $(ARGS)"

ci: deps ## What every change must pass: format, lints, tests.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(MAKE) --no-print-directory test

deps: ## Install the system packages that are missing.
	@.ci/deps
