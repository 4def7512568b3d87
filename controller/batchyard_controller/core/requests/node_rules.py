"""
Node rules: what a definition and a submission may say of the nodes of a job.

Source: AWS Batch API reference, NodeProperties, NodeRangeProperty, NodeOverrides; the texts
that name AWS's members are AWS's own.
"""

from __future__ import annotations

from batchyard.errors import Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.resolution import NodeOverrides
from batchyard_controller.core.model.nodes import NodeRange, Nodes

from .checks import Violations, check_range, quote
from .sharing_rules import check_quantities


def check_nodes(out: Violations, field: str, nodes: Nodes) -> None:
    """Check how many nodes there are, and that each runs something."""
    check_range(out, f"{field}.num_nodes", nodes.count, 1, limits.NODES_MAX, "nodes")
    if not 1 <= nodes.count <= limits.NODES_MAX:
        return
    check_range(out, f"{field}.main_node", nodes.main, 0, nodes.count - 1)
    if not nodes.ranges:
        out.append(Violation(f"{field}.ranges", "at least one range of nodes is required", Reason.REQUIRED))
    if len(nodes.ranges) > limits.NODE_RANGES_MAX:
        text = f"{len(nodes.ranges)} ranges; at most {limits.NODE_RANGES_MAX} are allowed"
        out.append(Violation(f"{field}.ranges", text, Reason.TOO_MANY))
        return
    spans: list[tuple[str, tuple[int, int]]] = []
    for i, each in enumerate(nodes.ranges):
        at = f"{field}.ranges[{i}]"
        if _check_target(out, f"{at}.target_nodes", each, nodes.count):
            span = each.span(nodes.count)
            assert span is not None, "just checked"
            _check_overlap(out, f"{at}.target_nodes", each.target_nodes, span, spans)
            spans.append((each.target_nodes, span))
        check_quantities(out, f"{at}.consumables", each.consumables)
        if len(each.instance_types) > 1:
            text = f"{len(each.instance_types)} instance types; at most 1 is allowed"
            out.append(Violation(f"{at}.instance_types", text, Reason.TOO_MANY))
    _check_types(out, field, nodes)
    if len(spans) == len(nodes.ranges):
        _check_cover(out, field, nodes)


def _check_target(out: Violations, field: str, each: NodeRange, count: int) -> bool:
    span = each.span(count)
    if span is None:
        text = f"{quote(each.target_nodes)} is no range of nodes, such as 0:3, 4: or 5"
        out.append(Violation(field, text, Reason.MALFORMED))
        return False
    if span[0] >= span[1] or span[1] > count:
        text = f"{quote(each.target_nodes)} is not within nodes 0 to {count - 1}, or ends before it begins"
        out.append(Violation(field, text, Reason.OUT_OF_RANGE))
        return False
    return True


def _check_overlap(
    out: Violations, field: str, text: str, span: tuple[int, int], others: list[tuple[str, tuple[int, int]]]
) -> None:
    """Refuse ranges of which none holds the other; which one would hold is said nowhere (ours)."""
    for other, (start, stop) in others:
        if (start, stop) == span:
            words = f"{quote(text)} names the same nodes as {quote(other)}"
            out.append(Violation(field, words, Reason.DUPLICATE))
        elif span[0] < start < span[1] < stop or start < span[0] < stop < span[1]:
            words = f"{quote(text)} and {quote(other)} overlap, and neither lies in the other"
            out.append(Violation(field, words, Reason.CONFLICT))


def _check_types(out: Violations, field: str, nodes: Nodes) -> None:
    """All nodes have one instance type, "currently" (AWS)."""
    types = {name for each in nodes.ranges for name in each.instance_types}
    if len(types) > 1:
        text = f"all ranges have one instance type; {', '.join(sorted(types))} are given"
        out.append(Violation(f"{field}.ranges", text, Reason.CONFLICT))


def _check_cover(out: Violations, field: str, nodes: Nodes) -> None:
    place = 0
    for group in nodes.groups:
        if group.start > place:
            break
        place = group.stop
    if place < nodes.count and nodes.ranges:
        text = f"node {place} is in no range; the ranges have to hold nodes 0 to {nodes.count - 1}"
        out.append(Violation(f"{field}.ranges", text, Reason.REQUIRED))


def check_node_overrides(out: Violations, field: str, nodes: Nodes, overrides: NodeOverrides) -> None:
    """Check overrides against what they override; after them `check_nodes` looks at the whole."""
    known = {each.target_nodes for each in nodes.ranges}
    strangers = [each.target_nodes for each in overrides.ranges if each.target_nodes not in known]
    if strangers:
        text = f"NodeOverride targets should match job definition. Non matching targets - {', '.join(strangers)}"
        out.append(Violation(f"{field}.ranges", text, Reason.NODE_TARGETS_DIFFER))
    if len({each.target_nodes for each in overrides.ranges}) < len(overrides.ranges):
        out.append(Violation(f"{field}.ranges", "a range is overridden twice", Reason.DUPLICATE))
    count = overrides.num_nodes
    if not count:
        return
    if not any(each.is_open for each in nodes.ranges):
        text = (
            "NumNodes override can only be applied if the job definition has at least 1 target node "
            "without a range_end i.e (:) or (range_start:)."
        )
        out.append(Violation(f"{field}.num_nodes", text, Reason.NODE_NUMBER_FIXED))
    for each in nodes.ranges:
        span = each.span(nodes.count)
        if span is not None and span[0] >= count:
            text = f"{count} nodes leave none for range {quote(each.target_nodes)} of the job definition"
            out.append(Violation(f"{field}.num_nodes", text, Reason.OUT_OF_RANGE))
