"""Pages can be followed: their commands run as written, print what they show, and what they
configure works.

Each in network and mount namespaces of its own, where the addresses of its lab are free, and /etc
and /var can be written to: the files that a page names are where it says.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from vmib import objects
from vmib_manager import lab_spec

from .. import pages
from .hosts import ROOT

pytestmark = [
    pytest.mark.netns,
    pytest.mark.snmp,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

APART = """\
mkdir -p /run/vmib /run/netns
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/vmib
for directory in etc var; do
    mkdir -p "/run/vmib/.$directory/upper" "/run/vmib/.$directory/work"
    layers="lowerdir=/$directory,upperdir=/run/vmib/.$directory/upper"
    mount -t overlay overlay -o "$layers,workdir=/run/vmib/.$directory/work" "/$directory"
done
mkdir -p /run/vmib/.home /etc/vmib/machines
ip link set lo up
ip address add 192.0.2.9/24 dev lo
ip address add 192.0.2.10/24 dev lo
exec bash -eu
"""
"""A system with labs of its own; reads on from standard input."""
BEGIN = """\
trap '"$TREE"/.venv/bin/vmib lab down >/dev/null 2>&1 || true' EXIT
export PATH="$TREE/.venv/bin:$PATH"
# There is no systemd: what its units would start is started, and ends with the namespaces.
systemctl() {
    shift
    for unit; do
        case $unit in
        snmpd) snmpd -f -r -Lf /var/log/snmpd.log 9>&- & ;;
        vmib-agent) vmib-agent run 2> /var/log/vmib-agent.log & ;;
        esac
    done
    eventually grep -q 'event=serving' /var/log/vmib-agent.log
    eventually grep -q 'event=agentx-connected' /var/log/vmib-agent.log
}
eventually() {
    for turn in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "not in a minute: $*" >&2
    cat /var/log/vmib-agent.log >&2
    return 1
}
not() { if "$@"; then echo "succeeds: $*" >&2; return 1; fi; }
says() { grep -F -- "$1" || { echo "not said: $1" >&2; return 1; } }
"""


def in_a_script(page: str) -> Iterator[str]:
    """What the page has its reader do, in order, without `make`."""
    run_by = pages.RUN_BY[page]
    written = {name for name in ("toml", "cfg") if run_by.get(name) == pages.FOLLOWED}
    for block in pages.blocks(page):
        if block.language == "sh":
            lines = block.text.splitlines(keepends=True)
            yield "".join(line for line in lines if not line.startswith("make "))
        if block.language == "python":
            yield f"python - <<'END'\n{block.text}END\n"
        if block.language in written:
            made = f'mkdir -p "$(dirname {block.file})"\n(umask 077; cat >> {block.file})'
            yield f"{made} <<'END'\n{block.text}END\n"


def shown_by(page: str) -> list[str]:
    """What the page says that its commands print; how often the kernel counts a device varies."""
    shown = "".join(block.text for block in pages.blocks(page, "text"))
    return [re.sub(r"refcnt \d+", "refcnt N", line) for line in shown.splitlines()]


def follow(page: str, then: str = "") -> str:
    """Run a page, and what a test does `then`; what both print."""
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-euc",
            APART,
        ],
        input="".join([BEGIN, *in_a_script(page), f"cd {ROOT}\n", then]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TREE": str(ROOT), "HOME": "/run/vmib/.home"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = iter(
        re.sub(r"refcnt \d+", "refcnt N", line).rstrip() for line in done.stdout.splitlines()
    )
    for line in shown_by(page):
        assert line in printed, f"not printed, or not in this order: {line}\n{done.stdout}"
    return done.stdout


MORE = ("security.md", "monitoring.md", "snmpd.md", "nagios.md", "troubleshooting.md")
ALL = [page for page, run_by in pages.RUN_BY.items() if run_by.get("sh") == pages.FOLLOWED]


@pytest.mark.parametrize("page", [page for page in ALL if page not in MORE])
def test_a_page_can_be_followed(page: str) -> None:
    follow(page)


SECURED = """\
printf 'a long pass phrase\\nanother long one\\n' > /etc/vmib/phrases
vmib-agent user add vmib --role shape --passphrase-file /etc/vmib/phrases
sed -i '1i listen = ["127.0.0.1:161", "127.18.0.1:1161"]' /etc/vmib/agent.toml
cat > /etc/snmp/snmpd.conf <<'END'
master agentx
agentAddress udp:127.0.0.1:1700
rwcommunity master
END
systemctl restart snmpd vmib-agent
asked="-t 1 -r 0 -v 2c -c"
snmpget $asked 'a community' --clientaddr=192.0.2.9 127.0.0.1 .1.3.6.1.2.1.1.5.0
not snmpget $asked 'a community' 127.0.0.1 .1.3.6.1.2.1.1.5.0
not snmpget $asked 'another' --clientaddr=192.0.2.9 127.0.0.1 .1.3.6.1.2.1.1.5.0
not snmpset $asked 'a community' --clientaddr=192.0.2.9 127.0.0.1 .1.3.6.1.2.1.1.5.0 s x
vmib status manager/examples/two-machines-real.xml
agent=$(snmpget -Oqv $asked 'a community' --clientaddr=192.0.2.9 127.0.0.1 $VERSION)
master=$(snmpget -Oqv $asked master 127.0.0.1:1700 $VERSION)
test -n "$agent" -a "$agent" = "$master"
"""


def test_security_is_as_its_page_says() -> None:
    dotted = ".".join(map(str, (*objects.vmibHostAgentVersion.oid, 0)))
    printed = follow("security.md", f"VERSION={dotted}\n{SECURED}")
    assert "host1  normal" in printed


TOLD = """\
unset SNMPCONFPATH
printf 'a long pass phrase\\nanother long one\\n' > /etc/vmib/phrases
vmib-agent user add trap-sink --role read --passphrase-file /etc/vmib/phrases
engine=$(python -c 'import json; print(json.load(open("/var/lib/vmib/engine.json"))["engine_id"])')
mkdir /run/vmib/.trapd
cat > /run/vmib/.trapd/snmptrapd.conf <<END
createUser -e 0x$engine trap-sink SHA-256 "a long pass phrase" AES "another long one"
authUser log trap-sink priv
END
options="-f -A -On -m ''"
snmptrapd $options -Lf /var/log/informs udp:192.0.2.10:162 &
SNMP_PERSISTENT_DIR=/run/vmib/.trapd SNMPCONFPATH=/run/vmib/.trapd \\
    snmptrapd $options -Lf /var/log/traps udp:192.0.2.9:162 &
eventually grep -qs NET-SNMP /var/log/informs
eventually grep -qs NET-SNMP /var/log/traps
vmib-agent run 2> /var/log/vmib-agent.log &
eventually grep -qF "$NOTIFIED" /var/log/informs
eventually grep -qF "$NOTIFIED" /var/log/traps
"""


def test_stations_are_notified_as_the_page_says() -> None:
    notified = ".".join(map(str, objects.vmibAgentModeChange.oid))
    follow("monitoring.md", f"NOTIFIED={notified}\n{TOLD}")


def test_the_agent_is_below_snmpd_as_the_page_says() -> None:
    follow("snmpd.md", "not snmpget -t 1 -r 0 -v 2c -c public 127.0.0.1 .1.3.6.1.2.1.1.5.0\n")


MONITORED = """\
export VMIB_CREDENTIALS=/etc/nagios4/vmib-credentials.toml
cd manager/examples
vmib lab up two-machines-real.xml
printf 'a long pass phrase\\nanother long one\\n' > ~/phrases
vmib-agent user add monitor --role read --config "$CONFIG" --passphrase-file ~/phrases
kill -HUP $(vmib lab status | sed -n 's/.*(process \\([0-9]*\\)).*/\\1/p')
sleep 1
check_vmib host -H 127.18.0.1 -p 1161 -U monitor
"""


def test_a_station_is_let_in_as_the_page_says() -> None:
    config = lab_spec.host_paths("lab", "host1").config
    printed = follow("nagios.md", f"CONFIG={config}\n{MONITORED}")
    assert printed.splitlines()[-1].startswith("VMIB HOST OK")


TROUBLES = """\
cd manager/examples
vmib lab up two-machines-real.xml
files="two-machines-real.xml two-machines-virtual.xml"
export SNMPCONFPATH=/run/vmib/lab/lab/snmp
snmpset 127.18.0.1:1161 vmibTxnRowStatus.7 i createAndGo
vmib apply $files 2>&1 | says 'transaction 7 of vmib is open'
vmib abort two-machines-real.xml
vmib lab up grid-real.xml 2>&1 | says 'is there, made from another description'
vmib lab up two-machines-real.xml --name other 2>&1 | says 'lab lab has it'
vmib lab down
cat > ~/c <<'END'
[host1]
auth = "a long pass phrase"
priv = "another long one"
END
chmod 644 ~/c
vmib status two-machines-real.xml --credentials ~/c 2>&1 | says 'others may use it (mode 0644)'
chmod 600 ~/c
vmib status two-machines-real.xml --credentials ~/c 2>&1 | says 'no answer to 5 requests'
vmib-agent run --listen 127.18.0.1:1161 2> /var/log/vmib-agent.log &
eventually grep -q 'no users' /var/log/vmib-agent.log
kill $!
wait $! || true
chown 997 /var/lib/vmib
vmib-agent run 2>&1 | says 'belongs to uid 997, not to 0'
"""


def test_troubles_are_called_as_on_their_page() -> None:
    follow("troubleshooting.md", TROUBLES)


def test_pages_with_more_to_see_are_followed_as_well() -> None:
    assert set(MORE) < set(ALL)
