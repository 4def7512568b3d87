"""
Proof that what the etcd store writes can be read by users of the PyPI package ``etcd3``.

That package cannot be imported beside protobuf 4 and newer but on protobuf's
pure Python implementation, so it runs in a process of its own. The test does not
carry the marker ``etcd``: it is optional in CI too, as the package is.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from tests.contract.etcd_server import EtcdServer

from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Put

READER = """
import sys, etcd3
client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]))
print([(meta.key, value) for value, meta in client.get_prefix('/interop/')])
client.put('/interop/c', 'theirs')
"""


@pytest.mark.skipif(importlib.util.find_spec("etcd3") is None, reason="etcd3 is not installed (pip install '.[etcd3]')")
@pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd on PATH")
async def test_etcd3_reads_what_we_write_and_we_what_it_writes(etcd_server: EtcdServer) -> None:
    store = open_store(f"{etcd_server.url}/interop")
    await store.commit([(Put("a", b"1"), Put("b", "é".encode()))], await store.campaign("one"))
    answer = subprocess.run(
        [sys.executable, "-c", READER, *etcd_server.endpoint.split(":")],
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert answer.returncode == 0, answer.stderr
    assert "(b'/interop/a', b'1'), (b'/interop/b', b'\\xc3\\xa9'), (b'/interop/leader', b'one')" in answer.stdout
    assert [pair async for page in store.load() for pair in page][-1] == ("c", b"theirs")
    await store.close()
