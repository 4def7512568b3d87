"""Commands about tags of what is there already: ``tag add|remove|list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import job_ids, names, options
from batchyard.cli import output as out

if TYPE_CHECKING:
    from batchyard.sync import Client

_KINDS = (
    "job",
    "queue",
    "job-definition",
    "compute-environment",
    "scheduling-policy",
    "consumable-resource",
    "quota-share",
)
_WIRE = {"queue": "JOB_QUEUE"}
"""Nouns of the command line that the contract calls otherwise."""

_kind = click.argument("kind", type=click.Choice(_KINDS, case_sensitive=False))
_name = click.argument("name", metavar="NAME", shell_complete=names.tagged)


@click.group()
def tag() -> None:
    """
    Tags of what is there already.

    NAME is a job's id, a definition's NAME:REVISION, a quota share's QUEUE/SHARE, else a name.
    """


@tag.command()
@_kind
@_name
@click.argument("tags", metavar="K=V...", nargs=-1, required=True, type=options.pair)
@options.shared
@options.session
def add(session: options.Session, kind: str, name: str, tags: tuple[tuple[str, str], ...]) -> None:
    """Add tags; those of the same key are replaced."""
    with session.client() as client:
        client.tag_resource(_wire(kind), _full(client, kind, name), options.as_map(tags))
    out.note(f"tagged {kind} {name}")


@tag.command()
@_kind
@_name
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@options.shared
@options.session
def remove(session: options.Session, kind: str, name: str, keys: tuple[str, ...]) -> None:
    """Remove tags by key; keys that are not there are ignored."""
    with session.client() as client:
        client.untag_resource(_wire(kind), _full(client, kind, name), keys)
    out.note(f"untagged {kind} {name}")


@tag.command("list")
@_kind
@_name
@options.shared
@options.session
def list_(session: options.Session, kind: str, name: str) -> None:
    """List tags, one K=V a line. JSON is an object."""
    with session.client() as client:
        tags = client.list_tags(_wire(kind), _full(client, kind, name))
    if session.output == "json":
        out.write_json(tags)
    else:
        out.show_names([f"{key}={value}" for key, value in sorted(tags.items())])


def _full(client: Client, kind: str, name: str) -> str:
    return job_ids.full(client, name) if kind == "job" else name


def _wire(kind: str) -> str:
    return _WIRE.get(kind, kind)
