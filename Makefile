# Every task of the project. `make` alone lists them. CI runs `make check` and nothing else (.ci/run).
# Needs Rust, a C compiler and a POSIX make; what else is missing is installed by scripts/packages.sh.

.POSIX:

CARGO = cargo
TARGET = $${CARGO_TARGET_DIR:-target}
# What `make run` and `make demo` pass on, as in: make run ARGS="--listen 0.0.0.0:8080 --api-key …"
ARGS =
# What `make loadtest` is about: a scenario by name, and a server of yours, its address for operators and its key.
SCENARIO =
URL =
OPS_URL =
API_KEY =
LOAD = $${SCENARIO:+--scenario "$$SCENARIO"} $${URL:+--url "$$URL"} $${OPS_URL:+--ops-url "$$OPS_URL"}

.NOTPARALLEL:
.PHONY: help run demo fuzz fuzz-smoke test test-web screenshots mutations chaos simulate schemathesis format format-check lint clippy rustdoc shellcheck docs-check deny peers-lock audit sbom reproducible check readme-check deploy-check \
	autoscale static image image-check metrics-table loadtest loadtest-smoke bench bench-smoke bench-peers protocol-hash clean packages test-packages rust

help: ## list these targets
	@sed -n 's/^\([a-z-][a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

run: rust packages ## build and start the server with its own PostgreSQL in ./.plenum (Ctrl-C stops it)
	@$(CARGO) build --release --locked --bin plenum
	@exec "$(TARGET)/release/plenum" serve $(ARGS)

demo: rust packages ## 200 participants vote; uses the server on port 8080, or starts one for the purpose
	@$(CARGO) build --release --locked --workspace --bins
	@exec "$(TARGET)/release/plenum-loadtest" demo --start $(ARGS)

test: rust test-packages ## every test, with a real PostgreSQL and real balancers
	$(CARGO) test --workspace --locked

test-web: rust packages ## plenum.js on Node, and the pages in a real browser
	scripts/packages.sh install node npm chromium
	$(CARGO) build --locked --bin plenum
	node --test tests/web/*.test.mjs
	cd tests/browser && npm ci && npm test

screenshots: rust packages ## pictures of every page and state, into docs/images/
	scripts/packages.sh install node npm chromium pngquant
	$(CARGO) build --locked --bin plenum
	cd tests/browser && npm ci && node screenshots.mjs

mutations: rust test-packages ## turn each protection off once; the test named for it must fail
	scripts/mutations.sh

# As in: make chaos SEED=7 MINUTES=10. Root is needed for power loss and full disks, faketime for clocks that jump.
SEED = 1
MINUTES = 5
VOTERS = 300
chaos: rust test-packages ## break everything while people vote, for MINUTES, as SEED says; then check every vote
	PLENUM_CHAOS_SEED=$(SEED) PLENUM_CHAOS_MINUTES=$(MINUTES) PLENUM_CHAOS_VOTERS=$(VOTERS) \
		$(CARGO) test --locked --test it -- chaos --nocapture

# As in: make fuzz MINUTES=10 ONLY=frames. Five minutes each where nothing is said; SEED makes a run again.
ONLY =
fuzz: rust packages ## look for inputs that break the readers: MINUTES for each of them, or ONLY=frames
	@scripts/fuzz.sh seconds $$(( $(MINUTES) * 60 )) $(ONLY)

fuzz-smoke: rust packages ## the same for four seconds each: everything that was ever found, and a look around
	@SEED=1 scripts/fuzz.sh seconds 4

simulate: rust ## one seed of the simulation, line by line, as in: make simulate SEED=7
	PLENUM_SIMULATION_SEED=$(SEED) $(CARGO) test --locked --lib simulation::a_seed -- --exact --nocapture

schemathesis: rust packages ## hold a real server to its OpenAPI document with a client that nobody here wrote
	@scripts/packages.sh install python curl
	$(CARGO) build --locked --bin plenum
	scripts/schemathesis.sh

format: rust ## format the code
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml -p plenum-fuzz

format-check: rust ## fail if the code is not formatted
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml -p plenum-fuzz -- --check

lint: clippy rustdoc shellcheck docs-check deny peers-lock ## clippy, rustdoc, scripts, links, dependencies; every warning is an error

clippy: rust
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

rustdoc: rust
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

shellcheck:
	@if command -v shellcheck >/dev/null 2>&1; then set -x; shellcheck scripts/*.sh .ci/run; \
	else echo "shellcheck: not installed, so shell scripts are not checked (scripts/packages.sh install shellcheck)"; fi

docs-check:
	scripts/docs-check.sh

deny: rust
	@if command -v cargo-deny >/dev/null 2>&1; then set -x; $(CARGO) deny --all-features --locked check --hide-inclusion-graph licenses bans sources; \
	else echo "cargo-deny: not installed, so dependencies are not checked (cargo install cargo-deny --locked)"; fi

# Nothing else of CI builds the peers, which take the load test's library.
peers-lock: rust
	@$(CARGO) update --quiet --workspace --locked --manifest-path bench/peers/Cargo.toml || \
		{ echo "bench/peers/Cargo.lock is behind: run cargo update --workspace there and commit it" >&2; exit 1; }

audit: rust ## known vulnerabilities of dependencies (needs cargo-deny and the network)
	scripts/audit.sh

sbom: rust ## what the shipped executable is made of, as CycloneDX, in target/static/plenum.cdx.json
	@scripts/packages.sh install python
	@mkdir -p "$(TARGET)/static"
	python3 scripts/sbom.py >"$(TARGET)/static/plenum.cdx.json"

reproducible: rust ## build what is committed twice, in two folders: the bytes must be the same (five minutes)
	scripts/reproducible.sh

readme-check: rust packages ## run the README's commands against a server of their own
	$(CARGO) build --locked --bin plenum
	scripts/readme-check.sh

deploy-check: rust test-packages ## run or validate every file of deploy/, and the runbook's backup and restore
	@scripts/packages.sh install python prometheus curl openssl $(if $(filter Linux,$(shell uname -s)),systemd)
	$(CARGO) build --locked --workspace --bins
	scripts/deploy-check.sh
	scripts/restore-check.sh

check: format-check lint sbom test fuzz-smoke schemathesis mutations test-web readme-check deploy-check loadtest-smoke bench-smoke image-check ## what CI runs: all of these

autoscale: rust packages ## 2,000 people come and go, instances are started and drained as the signal says; five minutes
	@scripts/packages.sh install haproxy python
	@$(CARGO) build --release --locked --workspace --bins
	@deploy/local/autoscale.py $(ARGS)

static: rust ## one static executable that needs nothing else, in target/static/plenum
	scripts/static.sh

image: static ## a container image with that executable alone, looked into and run (needs root)
	@scripts/packages.sh install buildah postgres
	scripts/image.sh

image-check: rust
	@if [ "$$(id -u)" -eq 0 ]; then $(MAKE) image; else $(MAKE) static && echo 'image: NOT BUILT: looking into it needs root'; fi

metrics-table: rust ## write docs/METRICS.md anew from the program
	$(CARGO) build --locked --bin plenum
	scripts/metrics-table.sh

loadtest: rust packages ## load a server and judge it; SCENARIO=burst, URL=https://… OPS_URL=… API_KEY=… for yours
	@scripts/packages.sh install pgbench
	@$(CARGO) build --release --locked --workspace --bins
	@SCENARIO="$(SCENARIO)" URL="$(URL)" OPS_URL="$(OPS_URL)" API_KEY="$(API_KEY)"; \
	$${API_KEY:+env PLENUM_API_KEY="$$API_KEY"} "$(TARGET)/release/plenum-loadtest" load $(LOAD) $(ARGS)

loadtest-smoke: rust packages ## every kind of scenario, small, in seconds: does the load test still work?
	$(CARGO) build --locked --workspace --bins
	"$(TARGET)/debug/plenum-loadtest" load --set smoke $(ARGS)

bench: rust packages ## micro-benches of the pieces
	$(CARGO) bench --locked --bench pure --bench engines $(ARGS)

bench-smoke: rust packages
	$(CARGO) bench --locked --profile dev --bench pure --bench engines -- --test
	$(CARGO) run --locked --quiet --example scaling -- --check

bench-peers: rust packages ## the same work on other servers, side by side (installs nginx, nchan and Node.js)
	@scripts/packages.sh install nchan node
	@$(CARGO) build --release --locked --workspace --bins
	bench/peers/run.sh $(ARGS)

protocol-hash: ## write the hash of src/wire into docs/PROTOCOL.md, once the page is true again
	scripts/protocol-hash.sh --write

clean: ## remove what was built; data in ./.plenum stays
	$(CARGO) clean

packages:
	@scripts/packages.sh install postgres build

# What the tests need beside it.
test-packages:
	@scripts/packages.sh install postgres build faketime haproxy nginx pgbouncer

rust:
	@command -v $(CARGO) >/dev/null 2>&1 || { echo "Rust is missing: install it from https://rustup.rs, then run this again" >&2; exit 1; }
