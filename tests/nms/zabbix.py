"""A real Zabbix 6.0: server, front end and PostgreSQL of Debian's packages, on loopback.

Nothing is installed, and nothing of it runs as root. Everything it writes is in one directory.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

from ..lab import cache
from . import debian
from .site import eventually

PACKAGES = (
    "zabbix-server-pgsql",
    "zabbix-frontend-php",
    "postgresql-15",
    "php8.2-cli",
    "php8.2-pgsql",
    "php8.2-gd",
    "php8.2-bcmath",
    "php8.2-mbstring",
    "php8.2-xml",
)
_PHP = (
    "bcmath ctype gd gettext mbstring pgsql simplexml sockets tokenizer xml dom xmlreader xmlwriter"
)
SERVER_PORT, WEB_PORT = 10051, 8080
_INITDB = (
    "--username=zabbix",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
)
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "jit=off")
# What the front end is written in needs no locale, which the API does not believe. The host that
# Zabbix comes with is its own server, by an agent that there is none of.
_SETTINGS = "UPDATE users SET lang = 'en_GB'; UPDATE hosts SET status = 1 WHERE status = 0"
_CONFIG = "/etc/zabbix/zabbix.conf.php"
_NOBODY = 65534
# The packages are unpacked below root's home, where nobody else may look: each process has them
# at a place of its own view of the file system.
_AS_NOBODY = """\
mount --bind "$1" "$2"
shift 2
exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --pdeathsig=KILL "$@"
"""
_SERVER = """\
DBHost={sockets}
DBName=zabbix
DBUser=zabbix
ListenIP={address}
ListenPort={server_port}
SourceIP=127.0.0.1
LogFile={directory}/server.log
PidFile={directory}/server.pid
SocketDir={directory}
StartPollers=2
StartSNMPTrapper=0
StartVMwareCollectors=0
StartHTTPPollers=0
StartPingers=1
StartDiscoverers=0
StartPollersUnreachable=1
StartTrappers=1
CacheUpdateFrequency=1
UnreachablePeriod=3
UnreachableDelay=1
UnavailableDelay=1
FpingLocation={fping}
"""
_FRONT_END = """<?php
$DB['TYPE'] = 'POSTGRESQL';
$DB['SERVER'] = '{sockets}';
$DB['PORT'] = '0';
$DB['DATABASE'] = 'zabbix';
$DB['USER'] = 'zabbix';
$DB['PASSWORD'] = '';
$DB['SCHEMA'] = '';
$DB['DOUBLE_IEEE754'] = true;
$ZBX_SERVER = '{address}';
$ZBX_SERVER_PORT = '{server_port}';
$ZBX_SERVER_NAME = 'vMIB test';
"""


class Zabbix:
    """A server and its front end; `call` is its API."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.address = address
        self._unpacked = debian.unpacked(*PACKAGES)
        self.root = directory / "root"
        self.root.mkdir()
        self._as_nobody = ("unshare", "--mount", "sh", "-euc", _AS_NOBODY, "sh")
        self._as_nobody += (str(self._unpacked), str(self.root))
        libraries = debian.libraries(self._unpacked)
        moved = {k: v.replace(str(self._unpacked), str(self.root)) for k, v in libraries.items()}
        self._environment = os.environ | moved | {"LC_ALL": "C"}
        self._token: str | None = None
        self._password = "zabbix"

    @property
    def url(self) -> str:
        """Where the front end is."""
        return f"http://{self.address}:{WEB_PORT}/"

    @property
    def password(self) -> str:
        """Of its user `Admin`."""
        return self._password

    def log(self) -> str:
        """What the server says."""
        return (self.directory / "server.log").read_text(errors="replace")

    def remove(self) -> None:
        """Remove all that it wrote."""
        shutil.rmtree(self.directory)

    def call(self, method: str, *each: Mapping[str, Any], **params: Any) -> Any:
        """The result of a method of the API, called once, also for several objects (`each`).

        Raises AssertionError with what it says instead.
        """
        return self._called(method, list(each) or params)

    def _called(self, method: str, params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, "auth": self._token}
        request = urllib.request.Request(
            f"{self.url}api_jsonrpc.php",
            json.dumps(body).encode(),
            {"Content-Type": "application/json-rpc"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "result" in told, f"{method}: {told}"
        return told["result"]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the database, start everything, log in; all of it ends with the block."""
        facts = {
            "directory": str(self.directory),
            "sockets": str(self.directory),
            "address": self.address,
            "fping": str(self.root / "usr/bin/fping"),
            "server_port": SERVER_PORT,
        }
        os.chown(self.directory, _NOBODY, _NOBODY)
        made = cache.kept("zabbix", self._recipe(), self._make_database)
        subprocess.run(["cp", "-a", made / "data", self.directory], check=True)
        with ExitStack() as stack:
            self._start_database(stack)
            config = self.directory / "zabbix_server.conf"
            config.write_text(_SERVER.format(**facts))
            server = str(self.root / "usr/sbin/zabbix_server")
            stack.enter_context(self._process(server, "-f", "-c", str(config)))
            self._start_front_end(stack, facts)
            ready = eventually(self._answers, 60)
            assert ready, "the front end does not answer"
            self._token = self._called("user.login", {"username": "Admin", "password": "zabbix"})
            new = secrets.token_urlsafe(16)
            (admin,) = self.call("user.get", filter={"username": "Admin"}, output=["userid"])
            self.call("user.update", userid=admin["userid"], passwd=new)
            self._password = new
            self._token = None
            self._token = self._called("user.login", {"username": "Admin", "password": new})
            yield

    def _answers(self) -> bool:
        try:
            return bool(self._called("apiinfo.version", []))
        except OSError:
            return False

    def _recipe(self) -> list[str]:
        """What a database is made of: Zabbix's tables, PostgreSQL's version, and how."""
        parts = [hashlib.sha256(part.read_bytes()).hexdigest() for part in self._tables()]
        program = self._unpacked / "usr/lib/postgresql/15/bin/postgres"
        return [
            *parts,
            hashlib.sha256(program.read_bytes()).hexdigest(),
            *_INITDB,
            *_FAST,
            _SETTINGS,
        ]

    def _tables(self) -> list[Path]:
        place = self._unpacked / "usr/share/zabbix-server-pgsql"
        return [place / f"{part}.sql.gz" for part in ("schema", "images", "data")]

    def _make_database(self, kept: Path) -> None:
        data = self.directory / "data"
        self._run([self._postgresql("initdb"), "-D", str(data), *_INITDB])
        with ExitStack() as stack:
            self._start_database(stack)
            self._run([*self._psql(), "-c", "CREATE DATABASE zabbix", "postgres"])
            text = b"".join(gzip.decompress(part.read_bytes()) for part in self._tables())
            self._run([*self._psql(), "-v", "ON_ERROR_STOP=1", "zabbix"], text)
            self._run([*self._psql(), "-c", _SETTINGS, "zabbix"])
        shutil.move(data, kept)

    def _postgresql(self, program: str) -> str:
        return str(self.root / "usr/lib/postgresql/15/bin" / program)

    def _psql(self) -> list[str]:
        return [self._postgresql("psql"), "-q", "-h", str(self.directory), "-U", "zabbix"]

    def _start_database(self, stack: ExitStack) -> None:
        settings = ("listen_addresses=", f"unix_socket_directories={self.directory}", *_FAST)
        words = [word for setting in settings for word in ("-c", setting)]
        data = str(self.directory / "data")
        postgres = self._process(self._postgresql("postgres"), "-D", data, *words, end=SIGINT)
        stack.enter_context(postgres)

        def answers() -> bool:
            command = [*self._as_nobody, *self._psql(), "-c", "SELECT 1", "postgres"]
            done = subprocess.run(command, env=self._environment, capture_output=True, check=False)
            return done.returncode == 0

        assert eventually(answers, 30), "PostgreSQL does not answer"

    def _start_front_end(self, stack: ExitStack, facts: Mapping[str, object]) -> None:
        pages = self.directory / "share/zabbix"
        shutil.copytree(self._unpacked / "usr/share/zabbix", pages, symlinks=True)
        (pages.parent / "fonts").symlink_to(self.root / "usr/share/fonts")
        config = self.directory / "zabbix.conf.php"
        config.write_text(_FRONT_END.format(**facts))
        reader = pages / "include/classes/core/CConfigFile.php"
        text = reader.read_text()
        assert _CONFIG in text
        reader.write_text(text.replace(_CONFIG, str(config)))
        (extensions,) = (self._unpacked / "usr/lib/php").glob("2*")
        settings = {
            "extension_dir": str(self.root / "usr/lib/php" / extensions.name),
            "session.save_path": str(self.directory),
            "post_max_size": "16M",
            "max_execution_time": "300",
            "max_input_time": "300",
            "memory_limit": "256M",
            "date.timezone": "UTC",
        }
        words = [word for name, value in settings.items() for word in ("-d", f"{name}={value}")]
        words += [word for name in _PHP.split() for word in ("-d", f"extension={name}")]
        place = f"{self.address}:{WEB_PORT}"
        stack.enter_context(
            self._process(
                str(self.root / "usr/bin/php8.2"), "-n", *words, "-S", place, "-t", str(pages)
            )
        )

    def _run(self, command: Sequence[str], text: bytes = b"") -> None:
        done = subprocess.run(
            [*self._as_nobody, *command],
            env=self._environment, input=text, capture_output=True, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, f"{command[0]}: {(done.stdout + done.stderr).decode()}"

    @contextmanager
    def _process(self, *command: str, end: Signals = SIGTERM) -> Iterator[None]:
        name = Path(command[0]).name
        with (self.directory / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                [*self._as_nobody, *command],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
            )  # fmt: skip
        try:
            yield
        finally:
            process.send_signal(end)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
