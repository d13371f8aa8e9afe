# The two commands: `make demo` and `make test`. Both do all their set-up themselves.
PY := .venv/bin/python

.PHONY: setup demo test page-tools lint lab-vtime lab-xen lab-xen2 paper docs bench bench-agent generated clean
.PHONY: nms-nagios nms-prometheus nms-traps nms-zabbix

setup:
	@packaging/setup.sh

demo: setup
	@$(PY) manager/examples/demo.py

test: setup page-tools lint
	@$(PY) -m pytest

# What the page of `vmib serve` is tested with: Chromium, and axe-core's rules of accessibility.
# Without root or npm these tests are skipped, with the reason.
page-tools: setup
	@test "$$(id -u)" -ne 0 || packaging/setup.sh chromium chromium-driver
	@test -f .cache/axe/axe.min.js || ! command -v npm >/dev/null || \
	    (mkdir -p .cache/axe && cd .cache/axe && npm pack --silent axe-core@4.14.1 >/dev/null && \
	    tar -xzf axe-core-*.tgz --strip-components=1 package/axe.min.js && rm axe-core-*.tgz)

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

# A wheel and an sdist in out/dist, Debian packages in out/debian.
.PHONY: packages deb
packages: setup deb
	@$(PY) -m build --outdir out/dist .

deb: setup
	@packaging/build-deb.sh

# The paper's evaluation again, in virtual time, and the page of its results; FULL=1 takes hours.
paper: setup
	@$(PY) -m tests.paper.run $(if $(FULL),--full)

# The documentation as a site, with references of MIB, XML, commands and Python.
docs: setup
	@$(PY) packaging/site/build.py .cache/mibs out/site

bench:
	@packaging/setup.sh bridge-utils mininet
	@$(PY) tests/bench/run.py --markdown packaging/docs/benchmarks.md

# The agent and the manager's client beside others. Debian's exporter is unpacked, not installed:
# its package would start a service.
bench-agent: .cache/exporter
	@packaging/setup.sh libsnmp-dev
	@$(PY) tests/bench/agent_speed.py --markdown packaging/docs/agent-speed.md

.cache/exporter: | setup
	@mkdir -p $@.new && cd $@.new && \
	    apt-get -qq -o APT::Sandbox::User=root download prometheus-snmp-exporter && \
	    dpkg -x prometheus-snmp-exporter_*.deb . && mv ../$(notdir $@).new ../$(notdir $@)

# What needs netem or exact times, in an emulated machine; what it measures goes to the docs.
lab-vtime: setup
	@$(PY) -m pytest -q tests/lab/test_virtual_time.py
	@$(PY) tests/lab/accuracy_page.py .cache/lab/virtual-time/measurements.jsonl \
	    packaging/docs/accuracy.md

# Real Xen in an emulated machine; what it measures goes to the docs. Two hosts of Xen.
lab-xen: setup
	@$(PY) -m pytest -v tests/lab/test_xen.py
	@$(PY) tests/lab/accuracy_page.py .cache/lab/xen/measurements.jsonl packaging/docs/labs.md

lab-xen2: setup
	@VMIB_LAB_XEN2=1 $(PY) -m pytest -v tests/lab/test_xen_two_hosts.py

# Real management stations watch a lab, and what they say themselves is printed.
nms-nagios: setup
	@$(PY) -m pytest -q -s tests/nms/test_nagios.py

nms-prometheus: setup
	@$(PY) -m pytest -q -s tests/nms/test_prometheus.py

nms-traps: setup
	@$(PY) -m pytest -q -s tests/nms/test_traps.py

nms-zabbix: setup
	@$(PY) -m pytest -s tests/nms/test_zabbix.py

# What is derived from another file and committed: MIB objects and rows, man pages, completion,
# the exporter's configuration.
generated: setup .cache/exporter
	@$(PY) mibs/generate.py .cache/mibs
	@$(PY) packaging/generate.py
	@$(PY) packaging/prometheus/generate.py .cache/exporter/usr/bin/prometheus-snmp-generator \
	    .cache/mibs

clean:
	rm -rf .venv .cache build dist out *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
