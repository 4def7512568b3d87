"""
Calls about tags of what is there already.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.v1 import tag_pb2 as pb


class TagCalls(Caller):
    """The part of the client that is about tags."""

    async def tag_resource(self, kind: str, name: str, tags: Mapping[str, str]) -> None:
        """
        Add tags; those of the same key are replaced.

        Args:
            kind: ``JOB``, ``JOB_QUEUE``, ``JOB_DEFINITION``, ``COMPUTE_ENVIRONMENT``,
                ``SCHEDULING_POLICY``, ``CONSUMABLE_RESOURCE`` or ``QUOTA_SHARE``.
            name: Its name; a job's id, a definition's ``name:revision``, a quota share's ``queue/share``.
            tags: 1 to 50; it may have 50 in all.

        Raises:
            NotFoundError: there is none.
        """
        request = pb.TagResourceRequest(
            kind=_kind(kind), name=arguments.text("name", name), tags=arguments.text_map("tags", tags)
        )
        await self.calls.tag_resource(request, retry=True)

    async def untag_resource(self, kind: str, name: str, keys: Sequence[str]) -> None:
        """
        Remove tags by key; keys that are not there are ignored. Arguments as :meth:`tag_resource`.

        Raises:
            NotFoundError: there is none.
        """
        request = pb.UntagResourceRequest(
            kind=_kind(kind), name=arguments.text("name", name), keys=arguments.texts("keys", keys)
        )
        await self.calls.untag_resource(request, retry=True)

    async def list_tags(self, kind: str, name: str) -> dict[str, str]:
        """
        Return the tags of one resource. Arguments as :meth:`tag_resource`.

        Raises:
            NotFoundError: there is none.
        """
        request = pb.ListTagsRequest(kind=_kind(kind), name=arguments.text("name", name))
        return dict((await self.calls.list_tags(request)).tags)


def _kind(text: str) -> pb.ResourceKind.ValueType:
    return pb.ResourceKind.ValueType(wording.number(pb.ResourceKind, "kind", text))
