"""What pages and events of etcd amount to, for a store that is followed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.packing import LEADER_KEY
from batchyard_controller.store.protocol import Change, Delete, News, Put


class Reading:
    """
    How far a follower is.

    Attributes:
        revision: Everything up to it was told.
        count: How many keys there are then, the leader's included.
        epoch: Of who leads; 0: nobody.
        leader: What that one calls itself.
    """

    def __init__(self, prefix: str) -> None:
        self.revision = 0
        self.count = 0
        self.epoch = 0
        self.leader = ""
        self._skip = len(prefix)

    def take_page(self, answer: wire.RangeResponse) -> Iterator[News]:
        """Tell the pairs of a page; who leads is known for sure when all pages are read."""
        self.revision = self.revision or answer.header.revision
        self.count += len(answer.kvs)
        changes: list[Change] = []
        for kv in answer.kvs:
            key = self._key(kv)
            if key == LEADER_KEY:
                self._lead(kv)
            else:
                changes.append(Put(key, kv.value))
        if changes:
            yield News(changes=changes)

    def take_events(self, answer: wire.WatchResponse) -> Iterator[News]:
        """Tell the events of an answer, and who leads where that is among them."""
        changes: list[Change] = []
        for event in answer.events:
            key, kv = self._key(event.kv), event.kv
            self.revision = max(self.revision, kv.mod_revision)
            is_delete = event.type == wire.EVENT_TYPE_DELETE
            self.count += -1 if is_delete else int(kv.create_revision == kv.mod_revision)
            if key != LEADER_KEY:
                changes.append(Delete(key) if is_delete else Put(key, kv.value))
            elif not is_delete:
                self._lead(kv)
                # Written alone at its revision, so all before it stands before it.
                yield News(changes=changes)
                yield News(epoch=self.epoch, leader=self.leader)
                changes = []
        if changes:
            yield News(changes=changes)

    def _key(self, kv: wire.KeyValue) -> str:
        return kv.key.decode()[self._skip :]

    def _lead(self, kv: wire.KeyValue) -> None:
        self.epoch, self.leader = kv.create_revision, kv.value.decode()
