"""What a notebook shows: a table of what there is, of which nothing is markup."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from batchyard import notebook
from batchyard.v1.compute_environment_pb2 import RESOURCE_STATE_ENABLED, ComputeEnvironment
from batchyard.v1.host_pb2 import HOST_STATE_READY, Host
from batchyard.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_RUNNING, Job, JobSummary
from batchyard.v1.job_queue_pb2 import JobQueue


def test_nothing_of_a_job_is_markup() -> None:
    evil = "<script>alert(1)</script>"
    shown = notebook.table([JobSummary(id="j", name=evil, state=JOB_STATE_FAILED, exit_code=7)])._repr_html_()
    assert "<script>" not in shown
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in shown
    assert "<td>FAILED</td><td>7</td>" in shown


def test_queues_and_hosts_are_shown_and_nothing_is_said() -> None:
    queue = notebook.table([JobQueue(name="q", state=RESOURCE_STATE_ENABLED, priority=3)])._repr_html_()
    assert "<th>priority</th></tr></thead><tbody><tr><td>q</td><td>ENABLED</td><td>3</td></tr>" in queue
    assert "<td>READY</td>" in notebook.table([Host(state=HOST_STATE_READY)])._repr_html_()
    assert notebook.table([])._repr_html_() == "<p>none</p>"
    with pytest.raises(TypeError, match="not of ComputeEnvironment"):
        notebook.table([ComputeEnvironment()])


def test_many_are_cut_off_and_no_more_are_asked_for() -> None:
    asked = iter([JobSummary(id=str(number), state=JOB_STATE_RUNNING) for number in range(3000)])
    shown = notebook.table(asked)._repr_html_()
    assert shown.count("<td>RUNNING</td>") == notebook.ROWS_MAX
    assert shown.endswith(f"<p>the first {notebook.ROWS_MAX}</p>")
    assert next(asked).id == str(notebook.ROWS_MAX + 1)


def test_the_extension_has_notebooks_show_them() -> None:
    """By the two doors of IPython that it uses: a formatter by type, and names of the user's."""
    shows: dict[type, Any] = {}
    names: dict[str, Any] = {}
    formatter = SimpleNamespace(for_type=shows.__setitem__)
    ipython = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": formatter}), push=names.update)
    notebook.load_ipython_extension(ipython)
    assert "<td>RUNNING</td>" in shows[Job](Job(id="j", state=JOB_STATE_RUNNING))
    assert names == {"table": notebook.table}
