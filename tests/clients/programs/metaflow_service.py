"""
Metaflow's metadata service, by ``metaflow-local-service``: ``metaflow_service.py PORT FOLDER``.

Two things are done as Metaflow's own service does them, for steps of several nodes. A task
gets the id that is asked for, as a node's is, else one of many digits, as of a service long in
use: Metaflow 2.19 replaces the id of the main node's task wherever its digits stand in the
job's command, and a small number stands in the run's id, too. And one artifact can be read.
"""

import itertools
import sys

import uvicorn
from fastapi import HTTPException
from metaflow_local_service import server, store

create_task, ids = store.create_task, itertools.count(10**12)


def create_task_of_id(flow_name, run_id, step_name, body):
    """Create a task by the id that *body* asks for."""
    store._next_task_id = lambda *_: str(body.get("task_id") or next(ids))
    return create_task(flow_name, run_id, step_name, body)


store.create_task = create_task_of_id
app = server.create_app(sys.argv[2])


@app.get("/flows/{flow}/runs/{run}/steps/{step}/tasks/{task}/artifacts/{name}")
@app.get("/flows/{flow}/runs/{run}/steps/{step}/tasks/{task}/artifacts/{name}/attempt/{attempt}")
def get_artifact(flow: str, run: str, step: str, task: str, name: str, attempt: int | None = None):
    """Answer an artifact of an attempt, or of the newest that has it."""
    found = [each for each in store.get_artifacts(flow, run, step, task, attempt) if each["name"] == name]
    if not found:
        raise HTTPException(404)
    return max(found, key=lambda each: each["attempt_id"])


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
