# Debian needs "apt-get install make python3-venv"; everything else is installed here, below .venv*.
# Another Python: make clean, then make PYTHON=python3.13 test. More for pytest: make test ARGS="-x -k upload".

PYTHON ?= python3
ARGS ?=
VENV := .venv
CLIENTS := .venv-clients
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

test-system: $(VENV)/.test $(CLIENTS)/.installed ## run the installed commands with other people's clients
	$(VENV)/bin/pytest $(WAITING) -m system tests/system tests/server/test_waitress_suite.py $(ARGS)

test-long: $(VENV)/.test ## run with large numbers what CI runs with small ones: gigabytes, loads, kills, long lists
	PYRIMAGE_TEST_LONG=1 $(VENV)/bin/pytest -m long tests/system $(ARGS)

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
	$(PYTHON) -m venv --clear .venv-pins
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv-pins/bin/pip install --upgrade setuptools '.[test,lint,docs]'
	(grep '^#' $(PINS); .venv-pins/bin/pip freeze --all --exclude pip --exclude pyrimage) > .venv-pins/pins
	mv .venv-pins/pins $(PINS)
	$(PYTHON) -m venv --clear .venv-pins
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv-pins/bin/pip install python-glanceclient==4.13.0 openstacksdk==4.22.0
	(grep '^#' requirements/clients.txt; .venv-pins/bin/pip freeze) > .venv-pins/pins
	mv .venv-pins/pins requirements/clients.txt
	rm -r .venv-pins

clean: ## remove what the other targets made, but for the data in var/
	rm -rf $(VENV) $(CLIENTS) .venv-pins build dist *.egg-info .*_cache .hypothesis .coverage* htmlcov

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
