"""The configuration file: what is taken, what is refused, and in which words."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from vmib.errors import ValueRefused
from vmib_agent.config import (
    AgentxConfig,
    Communities,
    Config,
    ConfigRefused,
    Endpoint,
    HypervisorConfig,
    Limits,
    SystemConfig,
    Target,
    load,
    parse,
    parse_endpoint,
)

LIBVIRT = '[hypervisor]\ndriver = "libvirt"\n'

WHOLE = """
listen = ["192.0.2.1:161", "[2001:db8::1]:1161"]
state_directory = "/srv/vmib"
log_level = "debug"

[system]
contact = "ops@example.org"
name = "host-1"
location = "rack 7"

[hypervisor]
driver = "netns"
machines_directory = "/srv/machines"

[limits]
max_varbinds_per_set = 64

[v2c]
community = "look"
sources = ["192.0.2.0/24", "2001:db8::/32"]

[agentx]
enabled = true
address = "tcp:192.0.2.7:705"
timeout = 9
priority = 100
allow_remote = true

[[notifications.targets]]
address = "192.0.2.9:162"
user = "traps"

[[notifications.targets]]
address = "[2001:db8::9]:162"
community = "ears"

[[notifications.targets]]
address = "192.0.2.10:162"
user = "listener"
inform = true
timeout = 7
retries = 9
auth = "SHA-512"
passphrase_file = "/srv/passphrases"

[[notifications.targets]]
address = "192.0.2.11:162"
community = "more"
inform = true
"""

TARGET = '[[notifications.targets]]\naddress = "192.0.2.1:162"\nuser = "a"\n'


def test_an_empty_file_listens_on_loopback_and_answers_no_community() -> None:
    config = parse("")
    assert config == Config()
    assert config.listen == (Endpoint("127.0.0.1", 161), Endpoint("::1", 161))
    assert config.v2c is None
    assert config.notifications == ()


def test_every_key_is_read() -> None:
    assert parse(WHOLE) == Config(
        listen=(Endpoint("192.0.2.1", 161), Endpoint("2001:db8::1", 1161)),
        state_directory=Path("/srv/vmib"),
        log_level="debug",
        system=SystemConfig("ops@example.org", "host-1", "rack 7"),
        hypervisor=HypervisorConfig("netns", Path("/srv/machines")),
        limits=Limits(64),
        v2c=Communities("look", (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))),
        notifications=(
            Target(Endpoint("192.0.2.9", 162), user="traps"),
            Target(Endpoint("2001:db8::9", 162), community="ears"),
            Target(
                Endpoint("192.0.2.10", 162),
                user="listener",
                inform=True,
                timeout=7,
                retries=9,
                auth="SHA-512",
                passphrase_file=Path("/srv/passphrases"),
            ),
            Target(Endpoint("192.0.2.11", 162), community="more", inform=True),
        ),
        agentx=AgentxConfig(True, Endpoint("192.0.2.7", 705), 9, 100, True),
    )


def test_an_agent_may_listen_nowhere_when_it_is_a_subagent() -> None:
    config = parse("listen = []\n[agentx]\nenabled = true")
    assert config.listen == ()
    assert config.agentx == AgentxConfig(True, Path("/var/agentx/master"))
    assert parse('[agentx]\naddress = "tcp:[::1]:705"').agentx.address == Endpoint("::1", 705)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listn = []", "key: 'listn' is not allowed; allowed: listen, state_directory"),
        ("[v2c]\nwrite = true", "key: 'v2c.write' is not allowed; allowed: v2c.community"),
        ("[limits]\nrows = 1", "allowed: limits.max_varbinds_per_set"),
        ("[[notifications.targets]]\nhost = 1", "notifications.targets.host"),
        ("limits = 5", "limits: 5 is not allowed; allowed: a table"),
        ("listen = []", "a list that is not empty, unless agentx.enabled"),
        ("listen = []\n[agentx]\nenabled = false", "unless agentx.enabled"),
        ("[agentx]\nenabled = 1", "agentx.enabled: 1 is not allowed; allowed: true or false"),
        ('[agentx]\naddress = "agentx"', "an absolute path of at most 107 octets, or tcp:"),
        (f'[agentx]\naddress = "/{"x" * 107}"', "at most 107 octets"),
        ('[agentx]\naddress = "tcp:localhost:705"', "in numbers"),
        ('[agentx]\naddress = "tcp:192.0.2.1:705"', "agentx.allow_remote = true"),
        ("[agentx]\ntimeout = 0", "1 to 255"),
        ("[agentx]\npriority = 256", "1 to 255"),
        ('[agentx]\nmaster = "x"', "allowed: agentx.enabled, agentx.address"),
        ('listen = "127.0.0.1:161"', "allowed: a list"),
        ('listen = ["localhost:161"]', "in numbers"),
        ('listen = ["::1:161"]', "[IPV6-ADDRESS]:PORT"),
        ('listen = ["127.0.0.1:0"]', "ADDRESS:PORT"),
        ('listen = ["127.0.0.1:65536"]', "ADDRESS:PORT"),
        ('state_directory = "state"', "an absolute path"),
        ('log_level = "loud"', "debug, info, warning, error"),
        ('[hypervisor]\ndriver = "vmware"', "netns"),
        (
            '[hypervisor]\ndriver = "libvirt"',
            "allowed: one with driver",
        ),
        ('[hypervisor]\nuri = "xen:///system"', "none without"),
        (LIBVIRT + 'uri = "qemu+ssh://other/system"', "xen:///system, qemu:///system"),
        (LIBVIRT + 'uri = "qemu:///session"', "of this host"),
        (LIBVIRT + 'dhcp_directory = "dhcp"', "an absolute path"),
        (LIBVIRT + "start_up = 1", "true or false"),
        (LIBVIRT + 'uri = "lxc:///system"', "test:///PATH"),
        ("[limits]\nmax_varbinds_per_set = 0", "1 to 4096"),
        ("[limits]\nmax_varbinds_per_set = true", "1 to 4096"),
        ('[v2c]\ncommunity = "x"', "v2c.sources is required"),
        ('[v2c]\nsources = ["::/0"]', "v2c.community is required"),
        ('[v2c]\ncommunity = "x"\nsources = ["192.0.2.1/24"]', "has host bits set"),
        ('[[notifications.targets]]\naddress = "192.0.2.1:162"', "either a user or a community"),
        (
            '[[notifications.targets]]\naddress = "192.0.2.1:162"\nuser = "a"\ncommunity = "b"',
            "either a user or a community",
        ),
        ('[[notifications.targets]]\nuser = "a"', "an address"),
        (TARGET + "retries = 1", "only together with inform = true"),
        (TARGET + 'inform = false\npassphrase_file = "/x"', "only together with inform = true"),
        (TARGET + "inform = true", "a passphrase_file with each inform by a user"),
        (
            '[[notifications.targets]]\naddress = "192.0.2.1:162"\ncommunity = "a"\n'
            'inform = true\npassphrase_file = "/x"',
            "a passphrase_file with each inform by a user",
        ),
        (TARGET + 'inform = "yes"', "true or false"),
        (TARGET + "inform = true\ntimeout = 0", "1 to 60"),
        (TARGET + "inform = true\nretries = 11", "0 to 10"),
        (TARGET + 'inform = true\nauth = "MD5"', "SHA-256, SHA-384, SHA-512"),
        (TARGET + 'inform = true\npassphrase_file = "x"', "an absolute path"),
        ('[system]\nname = "a\\u001bb"', "without control characters"),
        ("listen = [", "agent.toml: "),
    ],
)
def test_what_is_not_understood_is_refused_with_file_and_way_out(text: str, words: str) -> None:
    with pytest.raises(ConfigRefused) as refused:
        parse(text)
    assert str(refused.value).startswith("agent.toml: ")
    assert words in str(refused.value)


def test_a_community_is_not_repeated_in_an_error_or_a_representation() -> None:
    with pytest.raises(ConfigRefused) as refused:
        parse(f'[v2c]\ncommunity = "{"secret" * 50}"\nsources = ["::/0"]')
    assert "secret" not in str(refused.value)
    assert "look" not in repr(parse(WHOLE))
    assert "ears" not in repr(parse(WHOLE))


def test_a_file_with_a_community_must_not_be_readable_by_everybody(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(WHOLE)
    file.chmod(0o644)
    with pytest.raises(ConfigRefused, match="chmod 0600"):
        load(file)
    file.chmod(0o640)
    assert load(file).v2c is not None
    file.write_text('log_level = "error"')
    file.chmod(0o644)
    assert load(file).log_level == "error"


def test_a_missing_file_means_the_defaults_only_where_it_was_not_asked_for(tmp_path: Path) -> None:
    missing = tmp_path / "agent.toml"
    assert load(missing, required=False) == Config()
    with pytest.raises(ConfigRefused, match="no such file"):
        load(missing)


@pytest.mark.parametrize("text", ["127.0.0.1:161", "[::1]:161", "0.0.0.0:65535"])
def test_endpoints_are_printed_as_they_are_written(text: str) -> None:
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize("text", ["", ":", "161", "[::1]161", "::1", "127.0.0.1", "[127.0.0.1]:1"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueRefused):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "uri",
    [
        "xen:///system",
        "qemu:///system",
        "qemu+unix:///system?socket=/run/other/libvirt-sock",
        "test:///default",
        "test:///srv/machines.xml",
    ],
)
def test_libvirt_is_reached_by_a_uri_of_this_host(uri: str) -> None:
    assert parse(f'{LIBVIRT}uri = "{uri}"').hypervisor == HypervisorConfig("libvirt", uri=uri)
