"""Who may ask the agents of a lab: pass phrases, for the manager and for net-snmp's tools.

They are random, the same for all agents of a lab, and in files of mode 0600 in its directory.
"""

from __future__ import annotations

import secrets
import sysconfig
from pathlib import Path

import vmib

from . import credentials_file, lab_spec, private_files
from .credentials_file import Entry
from .lab_spec import LabSpec

_OCTETS = 24


def grant(spec: LabSpec) -> Entry:
    """The pass phrases of a lab, made at the first call together with the files that hold them.

    Raises CredentialsRefused and OSError.
    """
    paths = lab_spec.paths(spec.name)
    if paths.credentials.exists():
        return recall(spec)
    entry = Entry(secrets.token_urlsafe(_OCTETS), secrets.token_urlsafe(_OCTETS))
    private_files.make_directory(paths.snmp)
    private_files.write(paths.snmp / "snmp.conf", snmp_conf(spec.user, entry))
    names = dict.fromkeys(map(lab_spec.credential, spec.hosts), entry)
    credentials_file.save(paths.credentials, names)
    return entry


def recall(spec: LabSpec) -> Entry:
    """The pass phrases of a lab that is there; raises CredentialsRefused."""
    entries = credentials_file.load(lab_spec.paths(spec.name).credentials)
    return entries[lab_spec.credential(spec.hosts[0])]


def snmp_conf(user: str, entry: Entry) -> str:
    """The snmp.conf(5) with which net-snmp's tools ask the agents, and know VMIB-MIB by name."""
    lines = [
        "defVersion 3",
        "defSecurityLevel authPriv",
        f"defSecurityName {user}",
        f"defAuthType {entry.auth_protocol}",
        "defPrivType AES",
        f'defAuthPassphrase "{entry.auth}"',
        f'defPrivPassphrase "{entry.priv}"',
    ]
    directories = mib_directories()
    if directories:
        lines += [f"mibdirs +{':'.join(map(str, directories))}", "mibs VMIB-MIB"]
    return "\n".join(lines) + "\n"


def mib_directories() -> list[Path]:
    """Where the text of VMIB-MIB is: where it was installed, or beside the package `vmib`.

    And, in a source tree, where its set-up has put the IETF's modules, which VMIB-MIB imports and
    Debian's net-snmp lacks. Empty where VMIB-MIB is not found.
    """
    installed = Path(sysconfig.get_path("data")) / "share" / "snmp" / "mibs"
    beside = Path(vmib.__file__).parents[1]
    found = [path for path in (installed, beside) if (path / "VMIB-MIB.txt").exists()][:1]
    base = beside.parent / ".cache" / "mibs"
    return [*found, base] if found and base.is_dir() else found
