"""Run by redun: tasks as single jobs, as one array job, as a script, and one that fails."""

from redun import task

redun_namespace = "clients"


@task(executor="batch")
def double(x):
    return 2 * x


@task(executor="batch", script=True)
def shout(word):
    return f"echo {word}"


@task(executor="batch")
def broken(x):
    raise ValueError(f"no good: {x}")


@task()
def good():
    return [double(double(1)), [double(x) for x in (10, 11, 12)], shout("hi")]


@task()
def bad():
    return broken(1)
