"""
Addresses for servers of tests: known before the server starts, nobody else's while it is dead.

A port is the test process's from the moment it is given out to the end of that process: a
socket that never listens is bound to it. Servers can listen there all the same, as all of
ours let addresses be shared, and the kernel gives the port to no other socket by itself.
"""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def hold_address() -> str:
    """Return an address of this machine at which nobody listens, nor will but who is told of it."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    # Set before, they would let two holders have one port.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _held.append(holder)
    return f"127.0.0.1:{holder.getsockname()[1]}"
