"""A private rabbitmq-server child process: own ports, node name, epmd, cookie and data folder.

Nothing outside its folder is read or written, so a system-wide broker is never touched. The
process is the Erlang machine itself (no wrapper), so signals reach it by its own id.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

__all__ = ["Certificates", "RabbitMQServer", "cluster", "missing_reason"]

#: Seconds a broker may take to boot on a busy machine.
BOOT_TIMEOUT = 240.0

USERS: dict[str, tuple[str, str]] = {
    # name: (password, permissions on vhost "/": configure, write and read)
    "guest": ("guest", ".*"),
    "user": ("pass", ".*"),  # of the options guide
    "audit": ("p@ss/w:rd", ".*"),
    "nobody": ("nothing", "^$"),
    "writer": ("writer", "write-only"),
}


def scripts_folder() -> Path | None:
    """Return the folder of the broker's own scripts; packaged wrappers change the user."""
    candidates = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    wrapper = shutil.which("rabbitmq-server")
    if not candidates and wrapper:
        candidates = [Path(wrapper).resolve().parent]
    found = [folder for folder in candidates if (folder / "rabbitmq-server").exists()]
    return found[-1] if found else None


def missing_reason() -> str | None:
    """Return why no broker can be started here, or None."""
    if scripts_folder() is None:
        return "rabbitmq-server is not installed"
    return None if shutil.which("erl") else "Erlang (erl) is not installed"


def free_port() -> int:
    """Return a TCP port that was free on the loopback interface a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@attrs.frozen
class Certificates:
    """A throwaway authority and a server certificate for the name `localhost` only."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Create the authority, the server's key and its certificate with openssl."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        made._openssl(*key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
        made._openssl(
            *(*key, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=localhost"),
            *("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        return made

    def expired(self) -> tuple[str, str]:
        """Make another server certificate, no longer valid; return its path and its key's."""
        authority = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        self._run("req", "-new", "-key", "server.key", *name, "-out", "expired.csr")
        dates = ["-days", "-1", "-copy_extensions", "copy"]
        self._run("x509", "-req", "-in", "expired.csr", *authority, *dates, "-out", "expired.pem")
        return str(self.folder / "expired.pem"), str(self.folder / "server.key")

    def _openssl(self, *arguments: str) -> None:
        self._run("req", "-x509", *arguments)

    def _run(self, *arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=30)

    @property
    def authority(self) -> str:
        """Path of the authority's certificate."""
        return str(self.folder / "ca.pem")


@attrs.define(eq=False)
class Epmd:
    """The name server Erlang nodes find each other with, on a private port."""

    port: int = attrs.field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Start it in the foreground, so it dies with us instead of turning into a daemon."""
        if self._process is None:
            command = ["epmd", "-port", str(self.port), "-address", "127.0.0.1"]
            self._process = spawn(command, os.environ, Path(os.devnull))

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None


def spawn(command: Sequence[str], env: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start *command* so that the kernel kills it when this thread dies, however it dies."""
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with output.open("ab") as sink:
        return subprocess.Popen(
            [*guard, *command],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@attrs.define(eq=False)
class RabbitMQServer:
    """One broker node. `start` and `stop` may be repeated; data survives until `close`.

    Attributes:
        folder: holds everything the node reads and writes.
        certificates: also listen with TLS, on `tls_port`.
        settings: extra lines of rabbitmq.conf.
    """

    certificates: Certificates | None = None
    settings: Sequence[str] = ()
    folder: Path = attrs.field(
        factory=lambda: Path(tempfile.mkdtemp(prefix="streamll-rabbitmq-")), kw_only=True
    )
    epmd: Epmd = attrs.field(factory=Epmd, kw_only=True)
    cookie: str = attrs.field(factory=lambda: secrets.token_hex(16), kw_only=True)
    port: int = attrs.field(factory=free_port, init=False)
    tls_port: int = attrs.field(factory=free_port, init=False)
    _dist_port: int = attrs.field(factory=free_port, init=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @property
    def node(self) -> str:
        """The Erlang node name."""
        return f"streamll{self.port}@localhost"

    def url(self, user: str = "guest", *, vhost: str = "", host: str = "127.0.0.1") -> str:
        """Return the AMQP URL for *user*; *vhost* as it stands in a URL."""
        return f"amqp://{user}:{quote(USERS[user][0], safe='')}@{host}:{self.port}/{vhost}"

    def start(self, *, wait: bool = True) -> RabbitMQServer:
        """Start the node and wait until it answers.

        Raises:
            RuntimeError: when it does not; the message ends with the tail of its log.
        """
        self._prepare()
        self.epmd.start()
        folder = scripts_folder()
        assert folder is not None
        self._process = spawn([str(folder / "rabbitmq-server")], self._env(), self.log)
        if wait:
            self.wait_ready()
        return self

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """What the node printed."""
        return self.folder / "node.log"

    def wait_ready(self) -> None:
        """Wait until the node speaks AMQP."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        while not self._answers():
            dead = self._process is None or self._process.poll() is not None
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        return False

    def _prepare(self) -> None:
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.cookie)
            cookie.chmod(0o400)
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "definitions.json").write_text(json.dumps(_definitions()))
        (self.folder / "rabbitmq.conf").write_text("\n".join([*self._conf(), *self.settings, ""]))

    def _conf(self) -> list[str]:
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"load_definitions = {self.folder / 'definitions.json'}",
            "disk_free_limit.absolute = 16MB",
            "log.console = true",
            "log.console.level = warning",
            "log.file = false",
        ]
        if self.certificates is not None:
            files = self.certificates.folder
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {files / 'ca.pem'}",
                f"ssl_options.certfile = {files / 'server.pem'}",
                f"ssl_options.keyfile = {files / 'server.key'}",
            ]
        return lines

    def _env(self) -> dict[str, str]:
        folder = str(self.folder)
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        return kept | {
            "HOME": folder,
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/no-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            # No wrapper shell in between: our child is the Erlang machine itself.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",
        }

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run rabbitmqctl against the node and return what it printed (takes about 2 s)."""
        folder = scripts_folder()
        assert folder is not None
        command = [str(folder / "rabbitmqctl"), "-q", "-n", self.node, *arguments]
        done = subprocess.run(
            command, env=self._env(), capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def sync(self) -> None:
        """Write the node's registers to disk, as it does by itself after some seconds.

        RabbitMQ 3.10 forgets a quorum queue, contents and all, when it is killed within
        seconds after the queue was declared: the queue's name was not yet on disk.
        """
        self.ctl("eval", "[dets:sync(T) || T <- dets:all()].")

    def set_memory_alarm(self, *, on: bool) -> None:
        """Raise or clear the memory alarm: publishers are blocked while it is on."""
        self.ctl("set_vm_memory_high_watermark", "0" if on else "0.6")

    def set_disk_alarm(self, *, on: bool) -> None:
        """Raise or clear the disk alarm, by asking for more free space than any disk has."""
        self.ctl("set_disk_free_limit", "1000000GB" if on else "16MB")

    def freeze(self) -> None:
        """Stop the process without closing anything (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once (SIGKILL): a crash, not a power loss."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def restart(self) -> RabbitMQServer:
        """Kill the process and start it again on the same data and ports."""
        self.kill()
        return self.start()

    def close(self) -> None:
        """Kill the node and its epmd and remove the folder."""
        self.kill()
        self.epmd.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _definitions() -> dict[str, Any]:
    users = [{"name": name, "password": USERS[name][0], "tags": ""} for name in USERS]
    users[0]["tags"] = "administrator"
    rights = [
        {"user": name, "vhost": vhost, "configure": right, "write": right, "read": right}
        for name, (_, right) in USERS.items()
        for vhost in ("/", "team a/b")
    ]
    for entry in rights:
        if entry["write"] == "write-only":
            entry.update(configure="^$", write=".*", read="^$")
    vhosts = [{"name": "/"}, {"name": "team a/b"}, {"name": "closed"}]
    return {"users": users, "vhosts": vhosts, "permissions": rights}


@contextlib.contextmanager
def cluster(size: int) -> Iterator[list[RabbitMQServer]]:
    """Start *size* nodes on this machine that form one cluster while they boot."""
    epmd, cookie = Epmd(), secrets.token_hex(16)
    nodes = [RabbitMQServer(epmd=epmd, cookie=cookie) for _ in range(size)]
    members = [
        f"cluster_formation.classic_config.nodes.{number} = {node.node}"
        for number, node in enumerate(nodes, 1)
    ]
    try:
        for node in nodes:
            node.settings = ["cluster_formation.peer_discovery_backend = classic_config", *members]
            node.start(wait=False)
        for node in nodes:
            node.wait_ready()
        yield nodes
    finally:
        for node in nodes:
            node.close()
