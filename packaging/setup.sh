#!/bin/sh
# Everything that vMIB's tests and demonstration need, on Debian 12: system packages, base MIB
# modules, a virtual environment. Does nothing for what is there already.
#
#   packaging/setup.sh [extra Debian packages]
set -eu
cd "$(dirname "$0")/.."

wanted="build-essential iperf3 iproute2 iptables iputils-ping libvirt-dev pkg-config python3-dev python3-venv smitools snmp snmpd snmptrapd zsh fish $*"
# The machines of tests/lab.
wanted="$wanted busybox-static cpio e2fsprogs mmdebstrap qemu-system-x86"
wanted="$wanted dnsmasq-base kmod libvirt-daemon libvirt-daemon-driver-qemu"
# The Debian packages, which packaging/build-deb.sh builds.
wanted="$wanted debhelper dh-python lintian po-debconf pybuild-plugin-pyproject python3-setuptools"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: these Debian packages are missing; install them as root:" >&2
        echo "  apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    apt-get -qq update
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

# Debian keeps the IETF's MIB modules out of net-snmp; Erlang's SNMP library carries them.
if [ ! -f .cache/mibs/SNMPv2-SMI ]; then
    echo "setup: unpacking base MIB modules"
    rm -rf .cache/erlang && mkdir -p .cache/erlang .cache/mibs.new
    [ "$(id -u)" -ne 0 ] || apt-get -qq update
    (cd .cache/erlang && apt-get -qq -o APT::Sandbox::User=root download erlang-snmp)
    dpkg -x .cache/erlang/erlang-snmp_*.deb .cache/erlang
    for module in SNMPv2-SMI SNMPv2-TC SNMPv2-CONF SNMPv2-MIB SNMP-FRAMEWORK-MIB INET-ADDRESS-MIB; do
        cp .cache/erlang/usr/lib/erlang/lib/snmp-*/mibs/"$module.mib" ".cache/mibs.new/$module"
    done
    rm -rf .cache/mibs && mv .cache/mibs.new .cache/mibs && rm -rf .cache/erlang
fi

if ! cmp -s setup.cfg .venv/setup.cfg; then
    echo "setup: making the virtual environment .venv"
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
    cp setup.cfg .venv/setup.cfg
fi
