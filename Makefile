# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# make help lists what there is.

SHELL := /bin/bash
export PYTHON ?= python3
COLLECTION := build/collections/ansible_collections/openlun/iscsi
CLIENTS := libiscsi-bin qemu-utils qemu-block-extra e2fsprogs
BROWSER := chromium
CHECKERS := shellcheck git
LAB := qemu-system-x86 qemu-utils mmdebstrap e2fsprogs openssh-client
export PYTHONPATH := $(CURDIR)/build/collections
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/build/collections
PYTEST := build/venv/bin/python -m pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help engine quickstart quickstart-down test lint sanity unit integration conformance fuzz test-spdk test-vm bench dist release clean venv packages

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

engine: ## Build the target engine: build/openlun-iscsi.pyz
	@mkdir -p build
	$(PYTHON) plugins/plugin_utils/_archive.py build/openlun-iscsi.pyz

quickstart: ## Serve two disks on 127.0.0.1:3260 and prove it
	@scripts/quickstart.sh

quickstart-down: ## Take away all that quickstart made
	@scripts/quickstart-down.sh

test: ## Everything below: lint, sanity, unit, integration
	@scripts/test.sh

lint: venv $(COLLECTION) ## Static checks
	@scripts/apt.sh $(CHECKERS)
	@scripts/lint.sh

sanity: venv ## ansible-test sanity, no ignore entries
	@scripts/apt.sh $(CHECKERS)
	@scripts/sanity.sh $(ARGS)

unit: venv $(COLLECTION) ## Unit and property tests
	@$(PYTEST) tests/unit $(ARGS)

integration: venv $(COLLECTION) engine ## The engine with real clients
	@scripts/apt.sh $(CLIENTS) $(BROWSER)
	@scripts/promtool.sh
	@$(PYTEST) tests/integration $(ARGS)

conformance: venv $(COLLECTION) engine ## libiscsi's conformance suite (FAMILY=iSCSI: one family of its tests, KINDS=thin: one kind of LUN, PEER=tgtd: of tgtd)
	@scripts/apt.sh $(CLIENTS) $(if $(PEER),tgt)
	@PYTHONPATH=tests:$(PYTHONPATH) build/venv/bin/python -m conformance.run --family $(or $(FAMILY),ALL) --kinds "$(KINDS)" --peer "$(PEER)"

fuzz: venv $(COLLECTION) engine ## Attack the engine with wrong PDUs, texts and orders (MINUTES=10, SEED=...)
	@PYTHONPATH=tests:$(PYTHONPATH) build/venv/bin/python -m fuzz.run --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

test-spdk: ## The modules with SPDK's engine: SPDK=/path/to/iscsi_tgt make test-spdk
	@scripts/test_spdk.sh $(ARGS)

test-vm: venv $(COLLECTION) engine ## The role on virtual machines, with real NVMe disks (SMOKE=1: one machine, the main line)
	@scripts/test_vm.sh

bench: venv $(COLLECTION) engine ## Compare the engine with tgtd (QUICK=1: a short run, CONTROL=1: configuring it, CROWD=1: many sessions, LIMITS=1: whether rate limits hold, NVME=1: its NVMe driver with the kernel's)
	@$(if $(CONTROL)$(CROWD),,scripts/apt.sh $(if $(NVME),$(LAB),$(CLIENTS) $(if $(LIMITS),,tgt)))
	@PYTHONPATH=tests:$(PYTHONPATH) build/venv/bin/python -m benchmark.$(if $(CONTROL),control,$(if $(CROWD),crowd,$(if $(LIMITS),limits,$(if $(NVME),nvme,bench)))) \
		$(if $(QUICK),--quick) $(ARGS)

dist: venv ## Build the collection's archive in build/
	@build/venv/bin/ansible-galaxy collection build --force --output-path build .

release: venv $(COLLECTION) ## Turn the changelog's fragments into a release of galaxy.yml's version
	@cd $(COLLECTION) && PATH="$(CURDIR)/build/venv/bin:$$PATH" antsibull-changelog release

clean: ## Remove build/ and the caches
	@scripts/quickstart-down.sh
	@[ ! -d build/vm ] || scripts/vm.sh down
	rm -rf build .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@scripts/venv.sh test

packages:
	@scripts/apt.sh $(CHECKERS) $(CLIENTS) $(BROWSER)
	@scripts/promtool.sh

$(COLLECTION):
	@mkdir -p $(@D)
	@ln -sfn ../../../.. $@
