"""
The memory store: for tests and simulation, gone with the process.

What survives a store lies in a ``MemoryData``: hand the same one to two stores
and they are two candidates, or one controller before and after a crash. The
faults of the real stores can be called up on it: ``depose`` and
``cut_next_commit``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from batchyard_controller.core.model.room import Room
from batchyard_controller.store.packing import check
from batchyard_controller.store.protocol import Atom, DeposedError, News, Put, UnknownOutcomeError

PAGE_PAIRS = 2000


@dataclass(slots=True, kw_only=True)
class _Term:
    epoch: int
    candidate: str
    over: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryData:
    """
    The data behind one or more memory stores.

    Attributes:
        pairs: What was committed.
        epoch: The last epoch given; 0 if none was.
    """

    def __init__(self) -> None:
        self.pairs: dict[str, bytes] = {}
        self.epoch = 0
        self._term: _Term | None = None
        self._atoms_until_cut: int | None = None
        self._followers: list[asyncio.Queue[News]] = []

    def depose(self) -> None:
        """End the current leadership, as the leader's death or a lease run out would."""
        if self._term is not None:
            self._term.over.set()
            self._term = None

    def cut_next_commit(self, atoms: int) -> None:
        """Let the next commit write at most *atoms* atoms and then fail with an unknown outcome."""
        self._atoms_until_cut = atoms

    async def begin_term(self, candidate: str) -> _Term:
        """Wait until nobody leads, then lead."""
        while self._term is not None:
            await self._term.over.wait()
        self.epoch += 1
        self._term = _Term(epoch=self.epoch, candidate=candidate)
        self._tell(News(epoch=self.epoch, leader=candidate))
        return self._term

    async def follow(self) -> AsyncIterator[News]:
        """Tell all pairs, then what becomes of them."""
        news: asyncio.Queue[News] = asyncio.Queue()
        pairs = tuple(Put(key, value) for key, value in self.pairs.items())
        term = self._term
        self._followers.append(news)
        try:
            yield News(
                is_anew=True,
                changes=pairs,
                epoch=term.epoch if term is not None else 0,
                leader=term.candidate if term is not None else "",
            )
            while True:
                yield await news.get()
        finally:
            self._followers.remove(news)

    def leads(self, epoch: int) -> bool:
        """Say whether *epoch* leads."""
        return self._term is not None and self._term.epoch == epoch

    def _tell(self, news: News) -> None:
        for follower in self._followers:
            follower.put_nowait(news)

    def write(self, atoms: Sequence[Atom], epoch: int) -> None:
        """Carry out *atoms* if *epoch* leads."""
        if self._term is None or self._term.epoch != epoch:
            raise DeposedError(f"epoch {epoch} does not lead; the last epoch given is {self.epoch}")
        cut, self._atoms_until_cut = self._atoms_until_cut, None
        for atom in atoms[:cut]:
            for change in atom:
                if isinstance(change, Put):
                    self.pairs[change.key] = change.value
                else:
                    self.pairs.pop(change.key, None)
        self._tell(News(changes=tuple(change for atom in atoms[:cut] for change in atom)))
        if cut is not None:
            self.depose()
            raise UnknownOutcomeError(f"the commit was cut after at most {cut} of {len(atoms)} atoms")


class MemoryStore:
    """A ``Store`` over *data*, or over data of its own."""

    def __init__(self, data: MemoryData | None = None) -> None:
        self._data = MemoryData() if data is None else data
        self._term: _Term | None = None

    async def campaign(self, candidate: str) -> int:
        """See ``Store``."""
        await self.resign()
        self._term = await self._data.begin_term(candidate)
        return self._term.epoch

    def leads(self, epoch: int) -> bool:
        """See ``Store``."""
        return self._term is not None and self._term.epoch == epoch and self._data.leads(epoch)

    async def deposed(self) -> None:
        """See ``Store``."""
        if self._term is not None:
            await self._term.over.wait()

    async def resign(self) -> None:
        """See ``Store``."""
        if self._term is not None and not self._term.over.is_set():
            self._data.depose()
        self._term = None

    async def load(self, prefix: str = "") -> AsyncIterator[list[tuple[str, bytes]]]:
        """See ``Store``."""
        pairs = sorted(pair for pair in self._data.pairs.items() if pair[0].startswith(prefix))
        for start in range(0, len(pairs), PAGE_PAIRS):
            yield pairs[start : start + PAGE_PAIRS]

    def follow(self) -> AsyncIterator[News]:
        """See ``Store``."""
        return self._data.follow()

    async def commit(self, atoms: Sequence[Atom], epoch: int) -> None:
        """See ``Store``."""
        check(atoms)
        await asyncio.sleep(0)  # every other store gives the loop a turn here
        if self._term is None or self._term.epoch != epoch:
            raise DeposedError(f"epoch {epoch} is not led by this store")
        self._data.write(atoms, epoch)

    async def tend(self, tell: Callable[[Room], None]) -> None:
        """See ``Store``."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """See ``Store``."""
        await self.resign()
