"""Code that must not reach the network, such as rebuilding the model of a stranger's file."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from huggingface_hub import constants as hub_constants


class NetworkRefused(OSError):
    """Raised instead of opening a connection."""


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every new connection of this process; yields the addresses that were asked for.

    Libraries may catch the refusal and go on, for example with a cached file: look at the list.
    Unix sockets, over which worker processes talk, stay allowed.
    """
    refused: list[str] = []
    connect = socket.socket.connect

    def no_lookup(host: Any, *_: Any, **__: Any) -> Any:
        refused.append(str(host))
        raise NetworkRefused(f"no network here: {host} was not looked up")

    def no_connect(self: socket.socket, address: Any) -> Any:
        if self.family == socket.AF_UNIX:
            return connect(self, address)
        refused.append(str(address))
        raise NetworkRefused(f"no network here: {address} was not contacted")

    with (
        # Without it the hub's client repeats a refused request for minutes.
        mock.patch.object(hub_constants, "HF_HUB_OFFLINE", True),
        mock.patch.object(socket, "getaddrinfo", no_lookup),
        mock.patch.object(socket.socket, "connect", no_connect),
        mock.patch.object(socket.socket, "connect_ex", no_connect),
    ):
        yield refused
