"""Run inside Airflow's own environment, without its database: BatchOperator, its logs, its sensors."""

import datetime as dt
import sys

from airflow.exceptions import AirflowException
from airflow.providers.amazon.aws.operators.batch import BatchOperator
from airflow.providers.amazon.aws.sensors.batch import BatchComputeEnvironmentSensor, BatchJobQueueSensor, BatchSensor

AWS = {"aws_conn_id": None, "region_name": "us-east-1"}


class TaskInstance:
    """What links and results are given to; a database in a real Airflow."""

    task_id, dag_id = "task", "dag"

    def xcom_push(self, *_: object, **__: object):
        """Keep nothing."""


def operator(name, definition, **arguments: object):
    return BatchOperator(
        task_id=name,
        job_name=name,
        job_queue="default",
        job_definition=definition,
        awslogs_enabled=True,
        awslogs_fetch_interval=dt.timedelta(seconds=1),
        do_xcom_push=False,
        **AWS,
        **arguments,
    )


context = {"ti": TaskInstance(), "task_instance": TaskInstance()}
said = operator("said", "say", parameters={"word": "one"}).execute(context)
operator("each", "index", array_properties={"size": 2}).execute(context)
try:
    operator("failed", "fail").execute(context)
except AirflowException as error:
    print(f"refused: {error}")
else:
    sys.exit("a failed job was taken for a good one")
for sensor in (
    BatchSensor(task_id="job", job_id=said, **AWS),
    BatchJobQueueSensor(task_id="queue", job_queue="default", **AWS),
    BatchComputeEnvironmentSensor(task_id="environment", compute_environment="default", **AWS),
):
    print(f"{sensor.task_id}: {sensor.poke({})}")
