"""Ports of this machine: is one free, and which one is."""

import socket

from medx_core.errors import SettingsFault


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def refuse_taken_port(host: str, port: int) -> None:
    """Find out before anything is started whether the page can listen there.

    Raises:
        SettingsFault: it cannot; the message says what to do.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsFault(
                f"Port {port} on {host} cannot be used ({error.strerror}); "
                "stop what runs there, or set MEDX_PORT to another."
            ) from error
