"""Mininet's TCLink, timed: run by the system's Python, inside a network namespace of its own.

    unshare --net /usr/bin/python3 mininet_peer.py HOSTS

Prints, as JSON, the seconds that shaping HOSTS links takes once the topology stands, and those of
building the topology. Links are shaped to 10 Mbit/s with HTB, as TCLink does by default.
"""

import json
import subprocess
import sys
import time

import mininet.net
from mininet.link import Link, TCIntf
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge


def main() -> None:
    hosts = int(sys.argv[1])
    setLogLevel("error")
    mininet.net.fixLimits = lambda: None  # rewrites sysctls of the whole machine
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    net = Mininet(controller=None, switch=LinuxBridge, link=Link, intf=TCIntf)
    net.intf = TCIntf
    started = time.perf_counter()
    switch = net.addSwitch("s1")
    links = []
    for number in range(hosts):
        host = net.addHost(f"h{number}")
        links.append(net.addLink(host, switch, cls=Link, intf=TCIntf))
    net.start()
    built = time.perf_counter()
    for link in links:
        link.intf1.config(bw=10)
        link.intf2.config(bw=10)
    shaped = time.perf_counter()
    net.stop()
    print(json.dumps({"build": built - started, "shape": shaped - built}))


main()
