"""Run inside Luigi's own environment: two tasks, one after the other, and a job that fails."""

import sys

import luigi
from luigi.contrib.batch import BatchClient, BatchJobException, BatchTask


class Say(BatchTask):
    poll_time = 1
    word = luigi.Parameter()
    is_done = False

    @property
    def parameters(self):
        return {"word": self.word}

    def complete(self):
        return self.is_done

    def run(self):
        super().run()
        self.is_done = True


class SayAfter(Say):
    def requires(self):
        return Say(job_definition="say", job_name="first", job_queue="default", word="one")


if not luigi.build(
    [SayAfter(job_definition="say", job_name="second", job_queue="default", word="two")], local_scheduler=True
):
    sys.exit("the tasks did not succeed")
client = BatchClient(poll_time=1)
try:
    client.wait_on_job(client.submit_job("fail", {}, job_name="third", queue="default"))
except BatchJobException as error:
    print(f"refused: {error}")
else:
    sys.exit("a failed job was taken for a good one")
