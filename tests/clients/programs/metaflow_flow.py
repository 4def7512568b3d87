"""A flow on AWS Batch: three branches, a step that fails at first, and one of two nodes; it ends with what they said."""

from metaflow import FlowSpec, Parameter, batch, current, parallel, retry, step


class YardFlow(FlowSpec):
    """Each step is a job, but those that only hand on."""

    base = Parameter("base", type=int, default=10)

    @step
    def start(self):
        self.numbers = [1, 2, 3]
        self.next(self.square, foreach="numbers")

    @batch(cpu=1, memory=512)
    @step
    def square(self):
        self.squared = self.base + self.input**2
        print("squared", self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.squares = [each.squared for each in inputs]
        self.next(self.shaky)

    @retry(times=1, minutes_between_retries=0)
    @batch(cpu=1, memory=512)
    @step
    def shaky(self):
        self.tries = current.retry_count + 1
        if self.tries == 1:
            raise ValueError("not the first time")
        self.next(self.train, num_parallel=2)

    @batch(cpu=1, memory=512)
    @parallel
    @step
    def train(self):
        self.node = (current.parallel.node_index, current.parallel.num_nodes, current.parallel.main_ip)
        print("node", current.parallel.node_index, "of", current.parallel.num_nodes)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.nodes = sorted(each.node for each in inputs)
        self.merge_artifacts(inputs, include=["squares", "tries"])
        self.next(self.end)

    @step
    def end(self):
        print("squares", self.squares, "tries", self.tries, "nodes", self.nodes)


if __name__ == "__main__":
    YardFlow()
