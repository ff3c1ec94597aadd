"""Questions to this machine: does an address answer, is a port free."""

import socket

import httpx

ANSWER_SECONDS = 4.0


def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        return httpx.get(url, timeout=ANSWER_SECONDS).is_success
    except httpx.HTTPError:
        return False


def is_free(host: str, port: int) -> bool:
    """Whether one could listen on the port now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
