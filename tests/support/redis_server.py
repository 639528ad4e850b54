"""Private redis-server child processes: own ports and folders, killed with this process.

`RedisServer` is one server; `cluster` and `watched` run groups of them. Signals reach a
server by its own process id, so nothing else on the machine is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import attrs
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.rabbitmq_server import Certificates, free_port, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "AOF_ALWAYS",
    "RedisServer",
    "Watched",
    "cluster",
    "missing_reason",
    "wait_until",
    "watched",
]

#: Seconds a server may take to answer on a busy machine.
BOOT_TIMEOUT = 60.0

#: Every write is on disk before it is answered.
AOF_ALWAYS = {"appendonly": "yes", "appendfsync": "always"}

#: Name of the primary among sentinels.
SERVICE = "main"

#: A primary waits 5 s for more replicas before it sends its data to the first.
_SYNC_AT_ONCE = {"repl-diskless-sync-delay": 0}


def missing_reason() -> str | None:
    """Return why no server can be started here, or None."""
    return None if shutil.which("redis-server") else "redis-server is not installed"


@attrs.define(eq=False)
class RedisServer:
    """One redis-server; `options` are lines of redis.conf.

    Attributes:
        folder: where it keeps its data; survives `kill` and `start`.
        options: redis.conf names and values.
        port: plain TCP port, 0 for none.
        tls: certificates to offer TLS with, on `tls_port`.
        program: arguments after the configuration, e.g. "--sentinel".
    """

    folder: Path
    options: Mapping[str, Any] = attrs.field(factory=dict)
    port: int = attrs.field(factory=free_port)
    tls: Certificates | None = None
    tls_port: int = attrs.field(factory=free_port)
    program: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        """Address for a sink."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> RedisServer:
        """Start, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configuration()
        command = ["redis-server", str(self.folder / "redis.conf"), *self.program]
        self._process = spawn(command, os.environ, self.folder / "output.log")
        if wait:
            wait_until(self.answers, f"redis-server on port {self.port}")
        return self

    def stop(self) -> None:
        """Stop it, whatever state it is in."""
        if self._process is not None:
            self.thaw()
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    kill = stop

    def freeze(self) -> None:
        """Stop its work but keep its sockets: the kernel still accepts for it."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it was frozen."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it for the length of a block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def client(self, **options: Any) -> redis.Redis:
        """Return a plain client that never retries."""
        options = {"port": self.port, "socket_timeout": 5, "protocol": 2, **options}
        return redis.Redis(host="127.0.0.1", retry=Retry(NoBackoff(), 0), **options)

    def run(self, *command: Any, **options: Any) -> Any:
        """Run one command over a connection of its own."""
        with contextlib.closing(self.client(**options)) as client:
            return client.execute_command(*command)

    def replicate(self, tag: str = "") -> None:
        """Wait until a replica has everything; *tag* is a hash tag of a slot that is here."""
        with contextlib.closing(self.client(socket_timeout=BOOT_TIMEOUT)) as client:
            client.set(f"{tag}replicated", 1)  # a connection waits for its own writes
            assert client.wait(1, 0) >= 1

    def answers(self) -> bool:
        """Whether it accepts commands; an error reply is an answer, except LOADING."""
        try:
            self.run("PING")
        except redis.exceptions.BusyLoadingError:
            return False
        except (redis.exceptions.AuthenticationError, redis.exceptions.ResponseError):
            return True
        except (redis.exceptions.RedisError, OSError):
            return False
        return True

    def _configuration(self) -> None:
        fixed = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": '""'}
        lines = {**fixed, **self._tls(), **self.options}
        path = self.folder / "redis.conf"
        if self.program and path.exists():
            return  # a sentinel rewrites its file; its state is in there
        text = [f"{name} {value}" for name, value in lines.items()]
        path.write_text("\n".join(text).replace("|", "\n") + "\n")

    def _tls(self) -> dict[str, Any]:
        if self.tls is None:
            return {}
        folder = self.tls.folder
        files = {"cert-file": "server.pem", "key-file": "server.key", "ca-cert-file": "ca.pem"}
        named = {f"tls-{option}": folder / name for option, name in files.items()}
        return {**named, "tls-port": self.tls_port, "tls-auth-clients": "no"}


@contextlib.contextmanager
def cluster(
    folder: Path,
    primaries: int = 3,
    replicas: int = 1,
    tls: Certificates | None = None,
    **extra: Any,
) -> Iterator[list[RedisServer]]:
    """Run a Redis Cluster; the primaries come first, each has *replicas* replicas."""
    options = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": 1000,
        **AOF_ALWAYS,
        **_SYNC_AT_ONCE,
        **{name.replace("_", "-"): value for name, value in extra.items()},
    }
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(primaries * (1 + replicas)):
            port = _cluster_port()
            bus = {"cluster-port": port + 10_000, "tls-cluster": "yes"} if tls else {}
            server = RedisServer(folder / str(number), {**options, **bus}, port=port, tls=tls)
            stack.callback(server.stop)
            servers.append(server.start())
        _join(servers, replicas)
        yield servers


def _cluster_port() -> int:
    """Return a free port; 10,000 above it is the cluster's own."""
    return next(port for port in iter(free_port, None) if port < 50_000)


def _join(servers: Sequence[RedisServer], replicas: int) -> None:
    addresses = [f"127.0.0.1:{server.port}@{server.port + 10_000}" for server in servers]
    create = ["redis-cli", "--cluster", "create", *addresses]
    subprocess.run(
        [*create, "--cluster-replicas", str(replicas), "--cluster-yes"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    wait_until(lambda: all(_is_clustered(server) for server in servers), "the cluster")


def _is_clustered(server: RedisServer) -> bool:
    info = server.run("CLUSTER INFO")
    return (
        info["cluster_state"] == "ok" and info["cluster_slots_ok"] == "16384" and _is_synced(server)
    )


def _is_synced(server: RedisServer) -> bool:
    """Whether it may take over: a replica that never had the data is not elected."""
    return server.run("INFO", "replication").get("master_link_status", "up") == "up"


@attrs.frozen
class Watched:
    """A primary, a replica, and the sentinels that watch them."""

    primary: RedisServer
    replica: RedisServer
    sentinels: Sequence[RedisServer]

    @property
    def url(self) -> str:
        """Address for a sink."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"


@contextlib.contextmanager
def watched(folder: Path, count: int = 3) -> Iterator[Watched]:
    """Run a primary and a replica under *count* sentinels."""
    with contextlib.ExitStack() as stack:

        def start(name: str, options: Mapping[str, Any], *program: str) -> RedisServer:
            server = RedisServer(folder / name, options, program=program)
            stack.callback(server.stop)
            return server.start()

        primary = start("a", {**_SYNC_AT_ONCE, **AOF_ALWAYS})
        replica = start("b", {"replicaof": f"127.0.0.1 {primary.port}", **AOF_ALWAYS})
        wait_until(lambda: _is_synced(replica), "the replica")
        watch = _watch(primary.port, count // 2 + 1)
        watchers = [start(f"s{n}", {"sentinel": watch}, "--sentinel") for n in range(count)]
        wait_until(lambda: all(_knows_others(w, count) for w in watchers), "the sentinels")
        yield Watched(primary, replica, watchers)


def _watch(port: int, quorum: int) -> str:
    return (
        f"monitor {SERVICE} 127.0.0.1 {port} {quorum}"
        f"|sentinel down-after-milliseconds {SERVICE} 1000|sentinel failover-timeout {SERVICE} 5000"
    )


def _knows_others(watcher: RedisServer, count: int) -> bool:
    state = watcher.run("SENTINEL MASTER", SERVICE)
    return state["num-other-sentinels"] == count - 1 and state["num-slaves"] == 1


def wait_until(condition: Any, what: str, timeout: float = BOOT_TIMEOUT) -> None:
    """Wait for *condition* to hold.

    Raises:
        TimeoutError: naming *what*, after *timeout* seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come up in {timeout:g} s")
        time.sleep(0.02)
