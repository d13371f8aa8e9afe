# The two commands: `make demo` and `make test`. Both do all their set-up themselves.
PY := .venv/bin/python

.PHONY: setup demo test lint docs nms-zabbix bench bench-agent generated clean

setup:
	@packaging/setup.sh

demo: setup
	@$(PY) manager/examples/demo.py

test: setup lint
	@$(PY) -m pytest

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

# The documentation as a site, with references of MIB, XML, commands and Python.
docs: setup
	@$(PY) packaging/site/build.py .cache/mibs out/site

# A real Zabbix server that watches a lab.
nms-zabbix: setup
	@$(PY) -m pytest -s tests/nms/test_zabbix.py

bench:
	@packaging/setup.sh bridge-utils mininet
	@$(PY) tests/bench/run.py --markdown packaging/docs/benchmarks.md

# The agent and the manager's client beside others. Debian's exporter is unpacked, not installed:
# its package would start a service.
bench-agent:
	@packaging/setup.sh libsnmp-dev
	@test -d .cache/exporter/usr || (mkdir -p .cache/exporter && cd .cache/exporter && \
	    apt-get -qq -o APT::Sandbox::User=root download prometheus-snmp-exporter && \
	    dpkg -x prometheus-snmp-exporter_*.deb .)
	@$(PY) tests/bench/agent_speed.py --markdown packaging/docs/agent-speed.md

# What is derived from another file and committed: MIB objects and rows, man pages, completion.
generated: setup
	@$(PY) mibs/generate.py .cache/mibs
	@$(PY) packaging/generate.py

clean:
	rm -rf .venv .cache build dist out *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
