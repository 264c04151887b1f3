# On a fresh machine: `make demo` shows the product, `make test` passes the tests.
#   make test-fast      the daily loop: no further environments, under a minute
#   make test           lint, types and all tests but the slow ones and those that need services
#   make test-services  what needs more than this folder: a disk that can be filled, Node, a browser, onnxruntime-openvino,
#                       KServe's client, the packages of a release
#   make test-all       also the large networks: hours
#   make docs           the documentation as a site, in site/; warnings and lost links are errors
#   make coverage       how much of the code `make test` runs
PYTHON ?= python3
# The oldest Python and onnxruntime that are supported; the newest where that Python is not installed.
OLDEST_PYTHON ?= $(shell command -v python3.10 >/dev/null 2>&1 && python3.10 -c '' >/dev/null 2>&1 && echo python3.10 || echo $(PYTHON))
OLDEST_ONNXRUNTIME = 1.18.0
# A Python for KServe's client, which has no release for 3.14 and later.
CLIENTS_PYTHON ?= $(shell for p in $(PYTHON) python3.13 python3.12 python3.11 python3.10; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info >= (3, 14))' 2>/dev/null && echo $$p && break; done)

BIN = .venv/bin
RUNTIME = .venv-runtime/bin/python
OLDEST = .venv-oldest/bin/python
OPENVINO = .venv-openvino/bin/python
CLIENTS = .venv-clients/bin/python
RAY = .venv-ray/bin/python
PACKAGING = .venv-packaging/bin/python
SOURCES = $(shell find sise_ort runtime exporter line cli -type f -not -name '*.pyc') pyproject.toml

.PHONY: demo test test-fast test-services test-openvino test-ray test-all coverage lint docs clean

PYTEST = $(BIN)/python -m pytest -n 2
RUNTIMES = SISE_ORT_RUNTIMES=$(RUNTIME):$(OLDEST)
# Root inside it may mount disks, which vanish with it.
OWN_MOUNTS = unshare --user --map-root-user --mount
# Their server refuses root, and such a namespace holds no other user.
POSTGRESQL = tests/line/test_evidence_postgresql.py tests/line/test_postgresql_away.py

demo: .venv/.export
	$(BIN)/sise-ort demo

test-fast: .venv/.dev
	$(PYTEST) -m "not slow and not services and not thorough"

test: .venv/.dev .venv-runtime/.installed .venv-oldest/.installed lint
	$(RUNTIMES) $(PYTEST) -m "not slow and not services"

test-services: .venv/.dev .mosquitto/.installed .node/.installed .venv-triton/.installed .venv-clients/.installed .venv-packaging/.installed test-openvino test-ray docs
	if $(OWN_MOUNTS) true 2>/dev/null; then within="$(OWN_MOUNTS)"; fi; env SISE_ORT_CLIENTS=$(CLIENTS) SISE_ORT_PACKAGING=$(PACKAGING) $$within $(PYTEST) -m "services and not slow" $(POSTGRESQL:%=--ignore=%)
	$(PYTEST) -m services $(POSTGRESQL)

# With onnxruntime-openvino in onnxruntime's place.
test-openvino: .venv/.dev .venv-openvino/.installed
	$(OPENVINO) -m pytest -n 2 -m "not slow" tests/runtime/test_openvino.py tests/runtime/test_fastest.py tests/runtime/test_sise.py

# With Ray beside the packages of .venv. One after the other: each test starts a Ray of its own.
test-ray: .venv/.dev .venv-ray/.installed
	if test -e .venv-ray/.installed; then $(RAY) -m pytest tests/line/test_cluster_dataset.py tests/line/test_cluster_serving.py; fi

test-all: .venv/.dev .venv-runtime/.installed .venv-oldest/.installed lint
	$(RUNTIMES) $(PYTEST)

coverage: .venv/.dev .venv-runtime/.installed .venv-oldest/.installed
	$(RUNTIMES) $(PYTEST) -m "not slow and not services" --cov --cov-report=term:skip-covered --cov-report=html

docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.export: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e '.[cpu,export]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e '.[cpu,dev]'
	touch $@ .venv/.export

# The runtime alone, as a wheel: once with the newest packages, once with the oldest.
.venv-runtime/.installed: $(SOURCES)
	test -x $(RUNTIME) || $(PYTHON) -m venv .venv-runtime
	$(RUNTIME) -m pip install --quiet --upgrade '.[cpu]'
	touch $@

.venv-oldest/.installed: $(SOURCES)
	test -x $(OLDEST) || $(OLDEST_PYTHON) -m venv .venv-oldest
	$(OLDEST) -m pip install --quiet --upgrade '.[cpu]' onnxruntime==$(OLDEST_ONNXRUNTIME) \
		numpy==1.24.* opencv-python-headless==4.8.0.* click==8.1.* rich==13.0.* \
		msgspec==0.18.6 platformdirs==4.0.* jinja2==3.1.0 simplejpeg==1.8.0
	touch $@

# Packages of npm for the tests in Node and in a browser, which are skipped where there is no npm or no registry.
.node/.installed: tests/support/node/package.json
	mkdir -p .node && cp $< .node/
	if (cd .node && ONNXRUNTIME_NODE_INSTALL=skip npm install --no-audit --no-fund --silent); then touch $@; \
		else echo "without npm's packages: tests in Node and in a browser are skipped"; fi

# Its own onnxruntime stands before the packages of .venv, which are used as they are.
.venv-openvino/.installed: pyproject.toml | .venv/.dev
	test -x $(OPENVINO) || $(PYTHON) -m venv .venv-openvino
	$(BIN)/python -c "import os, sys; print(os.getcwd(), *(p for p in sys.path if p.endswith('-packages')), sep='\n')" \
		> "$$($(OPENVINO) -c "import sysconfig; print(sysconfig.get_path('purelib'))")/shared.pth"
	if $(OPENVINO) -m pip install --quiet --no-deps --ignore-installed onnxruntime-openvino; then touch $@; \
		else echo "without onnxruntime-openvino: its tests are skipped"; fi

# Ray has no release for Python 3.14 and later.
.venv-ray/.installed: pyproject.toml | .venv/.dev
	test -x $(RAY) || $(PYTHON) -m venv .venv-ray
	$(BIN)/python -c "import os, sys; print(os.getcwd(), *(p for p in sys.path if p.endswith('-packages')), sep='\n')" \
		> "$$($(RAY) -c "import sysconfig; print(sysconfig.get_path('purelib'))")/shared.pth"
	if $(RAY) -m pip install --quiet 'ray[data,serve]>=2.49' 'pyarrow>=15'; then touch $@; \
		else echo "without Ray: its tests are skipped"; fi

# Triton's protobuf, for the test that reads config.pbtxt as Triton does.
.venv-triton/.installed:
	$(PYTHON) -m venv .venv-triton
	if .venv-triton/bin/python -m pip install --quiet tritonclient protobuf; then touch $@; \
		else rm -rf .venv-triton; echo "without tritonclient: its tests are skipped"; fi

# KServe's and Triton's clients, for the server's tests: kserve wants a Python below 3.14, and its own releases of what we use.
.venv-clients/.installed:
	if (test -x $(CLIENTS) || $(CLIENTS_PYTHON) -m venv .venv-clients) && $(CLIENTS) -m pip install --quiet 'kserve>=0.15' 'tritonclient[http]>=2.50'; \
		then touch $@; else rm -rf .venv-clients; echo "without KServe's client: its tests are skipped"; fi

# What makes and checks a release, for the test that builds one and installs it.
.venv-packaging/.installed:
	test -x $(PACKAGING) || $(PYTHON) -m venv .venv-packaging
	if $(PACKAGING) -m pip install --quiet 'build>=1.2' 'twine>=6'; then touch $@; \
		else rm -rf .venv-packaging; echo "without build and twine: the test of packages is skipped"; fi

# A broker for the tests of MQTT: Debian's package, which only root can install.
.mosquitto/.installed:
	mkdir -p .mosquitto
	if PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -q mosquitto; }; then touch $@; \
		else echo "without mosquitto (apt-get install mosquitto): the tests of MQTT are skipped"; fi

# MkDocs and its theme read the code's docstrings without importing it.
.venv-docs/.installed: Makefile
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet 'mkdocs>=1.6,<2' 'mkdocs-material>=9.6,<10' 'mkdocstrings-python>=1.16,<3' 'latex2mathml>=3.77,<4'
	touch $@

clean:
	rm -rf .mosquitto .venv .venv-clients .venv-docs .venv-packaging .venv-runtime .venv-oldest .venv-openvino .venv-ray .venv-triton .node build dist *.egg-info demo-out site htmlcov .coverage
