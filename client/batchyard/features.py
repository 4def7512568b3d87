"""
Features: what agents can do that older ones cannot, by the names that they tell.

An agent says in its host's facts which it has; the controller sends work that needs one
only to hosts that said so.
"""

from __future__ import annotations

SEVERAL_CONTAINERS = "several-containers"
"""Attempts of several containers, or of containers that share their processes or memory segments."""

SEVERAL_PROCESSES = "several-processes"
"""Attempts of several plain processes."""

FILES_OF_SECRETS = "secret-files"
"""Secrets can be files in memory."""

CONTAINER_STDIN = "container-stdin"
"""Containers can be given what they read."""

CONTAINER_OUTPUT = "container-output"
"""Logs of containers can be copied to files of the host. Not of the agent's version: it needs plain processes there, as whose user it writes."""

SHARED_PROCESSES = "shared-processes"
"""Several plain processes of an attempt see and reach each other. Not of the agent's version: where jobs are not apart."""

SECURED_CONTAINERS = "secured-containers"
"""Containers can be kept to a security level. Not of the agent's version: it needs the machine's packet filter."""

SECURED_PROCESSES = "secured-processes"
"""Plain processes can be kept to a security level. Not of the agent's version: they have to be another user's, and apart."""

ATTEMPT_FENCES = "attempt-fences"
"""Attempts have fences of their own; an older agent ends them by its host's."""

TELLS_ALL = "tells-all"
"""After a restore of the store it tells of ended attempts, too, and says when it has told all."""

ENTRIES = "entries"
"""Commands can be run in attempts that run. Not of nodes of a cluster."""

FEATURES = (SEVERAL_CONTAINERS, SEVERAL_PROCESSES, FILES_OF_SECRETS, CONTAINER_STDIN, ATTEMPT_FENCES, TELLS_ALL)
"""All that agents of this version have, on whatever host."""
