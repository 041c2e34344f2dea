"""The servers that other tests stand on: they start, pause, go on, break off, come back, and go."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import psutil
import pytest

from encrypted_sessions_tests.servers import RedisServer, Server

pytestmark = pytest.mark.private_servers


@pytest.fixture(params=["postgres_server", "mariadb_server", "redis_server"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


def accepts_connections(server: Server) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0):
            return True
    except ConnectionRefusedError:
        return False


def states(server: Server) -> set[str]:
    """The states of the server's processes: `{"stopped"}` when paused. One that has ended is none of them."""
    return {process.status() for process in server._processes()} - {psutil.STATUS_ZOMBIE}


def test_the_url_names_the_port_where_the_server_listens(server: Server):
    address = urlsplit(server.url)
    assert (address.hostname, address.port) == ("127.0.0.1", server.port)
    assert accepts_connections(server)


def test_a_pause_stops_every_process_and_a_resume_lets_them_go_on(server: Server):
    server.pause()
    assert states(server) == {psutil.STATUS_STOPPED}
    server.resume()
    assert psutil.STATUS_STOPPED not in states(server)


def test_a_killed_server_refuses_connections_and_comes_back_on_its_port(server: Server):
    port = server.port
    server.kill()
    assert not accepts_connections(server)
    server.start()
    assert accepts_connections(server)
    assert server.port == port


def test_a_paused_server_can_be_killed_and_restored(server: Server):
    server.pause()
    server.kill()
    assert not server.running
    server.restore()
    assert accepts_connections(server)


def test_a_server_that_closes_leaves_no_process_and_no_folder(request: pytest.FixtureRequest):
    request.getfixturevalue("redis_url")  # skips, or fails, where there is no Redis
    with RedisServer() as server:
        (process,) = server._processes()
        folder = server.folder
    assert not process.is_running()
    assert not folder.exists()
