# make         what there is
# make demo    a three-node cluster on this machine: pods, policies, traffic tried and explained, and away again
# make test    every test this machine can run
# make e2e     tests on whole Kubernetes clusters (as root; sh ci/peers.sh plugins kubernetes brings what they need)
# make lint    style, types and the direction of imports
# make relay   build/cni/tortie and tortie-ipam, the CNI plugin that a runtime executes
# make image   build/image/tortie.tar, the image that Kubernetes runs, made without a registry
# make manifests    manifests/install.yaml anew from manifests/
# make simulate SEEDS=10000 SEED0=0    IPAM on a virtual clock, with conflicts, lost answers, crashes; SEED=17 TRACE=1 replays
# make bench   ADD and DEL against the reference plugins, in one run (as root it installs what it needs)
# make lock    requirements.lock anew from pyproject.toml, with hashes and without addresses
SHELL := /bin/sh
export PATH := $(PATH):/usr/sbin:/sbin
KUBECTL ?= $(or $(shell command -v kubectl),$(firstword $(wildcard /var/cache/tortie/kubernetes-*/kubectl)))
.DEFAULT_GOAL := help
.PHONY: help demo test e2e lint relay bench lock simulate image manifests

help:
	@sed -n 's/^# //p' Makefile

.venv/.ready: pyproject.toml requirements.lock ci/bootstrap.sh
	@sh ci/bootstrap.sh

relay: build/cni/tortie-ipam
build/cni/tortie-ipam: cni/relay.c ci/relay.sh .venv/.ready
	@sh ci/relay.sh

image: .venv/.ready relay
	@.venv/bin/python -m ci.image

manifests:
	@mkdir -p build && $(KUBECTL) kustomize manifests > build/install.yaml && mv build/install.yaml manifests/install.yaml

demo: .venv/.ready relay
	@.venv/bin/tortiectl demo

test: .venv/.ready relay
	@sh ci/test.sh

e2e: .venv/.ready relay image
	@WITHOUT_COVERAGE=1 sh ci/test.sh tests/e2e --durations=15

lint: .venv/.ready
	@.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/lint-imports

bench: .venv/.ready relay
	@sh ci/bench.sh

lock: .venv/.ready
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --group dev pyproject.toml -o requirements.lock


simulate: .venv/.ready
	@.venv/bin/python -m tests.simulation $(if $(SEED),--seed $(SEED) $(if $(TRACE),--trace),--seeds $(or $(SEEDS),1000) --seed0 $(or $(SEED0),0))
