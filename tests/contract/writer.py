"""
A process to be killed: leads, writes atoms of two keys, and tells of each once it is committed.

Prints ``epoch <epoch>`` and then the number of each committed atom, one a line.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Put


async def main(url: str) -> None:
    store = open_store(url)
    epoch = await store.campaign("writer")
    print("epoch", epoch, flush=True)
    for number in itertools.count():
        name = f"{number:06}"
        await store.commit([(Put(f"first/{name}", b"1"), Put(f"second/{name}", b"2"))], epoch)
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
