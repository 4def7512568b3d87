"""
What the agent has to be allowed by the cluster, and whether it is.

Law: it is asked for at the start, all of it, so that what is missing is told then by its name
and not by the first job that needs it. The roles in ``deploy/kubernetes`` give just this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """
    One thing that may be done.

    Attributes:
        namespace: Where; empty: in all of the cluster.
    """

    verb: str
    resource: str
    subresource: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {what} {f'in namespace {self.namespace}' if self.namespace else 'in all of the cluster'}"

    @property
    def review(self) -> SelfSubjectAccessReview:
        """The question whether whoever asks may do it."""
        asked = ResourceAttributes(
            verb=self.verb,
            resource=self.resource,
            subresource=self.subresource or None,
            namespace=self.namespace or None,
            group=GROUPS.get(self.resource, ""),
        )
        return SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked))


Verbs = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Resource, subresource, and what is done with it."""

GROUPS = {"leases": "coordination.k8s.io"}
"""API groups of resources that are not of the core's."""

CLUSTER_VERBS: Verbs = (("nodes", "", ("list", "watch")), ("pods", "", ("list", "watch")))
NAMESPACE_VERBS: Verbs = (
    ("pods", "", ("create", "get", "patch", "delete")),
    ("pods", "log", ("get",)),
    ("leases", "", ("get", "create", "update")),
)


def needed(namespaces: Iterable[str]) -> Iterator[Right]:
    """Yield all rights that an agent of these namespaces needs."""
    for resource, subresource, verbs in CLUSTER_VERBS:
        for verb in verbs:
            yield Right(verb=verb, resource=resource, subresource=subresource)
    for namespace in namespaces:
        for resource, subresource, verbs in NAMESPACE_VERBS:
            for verb in verbs:
                yield Right(verb=verb, resource=resource, subresource=subresource, namespace=namespace)
