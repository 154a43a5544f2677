"""Nothing connects inside `no_network`, and everything may again after it."""

import socket
import urllib.request

import pytest

from g2dbench.system.offline import NetworkRefused, no_network


def test_connections_are_refused_and_listed() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with no_network() as refused:
        with pytest.raises(NetworkRefused):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="no network here"):
            urllib.request.urlopen(f"http://localhost:{port}/weights.pth", timeout=1)
        with pytest.raises(NetworkRefused), socket.socket() as direct:
            direct.connect(("127.0.0.1", port))
    assert len(refused) == 3
    socket.create_connection(("127.0.0.1", port)).close()
    server.close()


def test_worker_processes_may_still_talk(tmp_path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        with no_network() as refused:
            client.connect(path)
    assert refused == []
