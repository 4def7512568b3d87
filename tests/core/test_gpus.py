"""Which GPUs will do: by model and memory, on hosts that have GPUs of one kind, or of several."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container, facts

from batchyard.states import JobState
from batchyard.tasks import Container
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.placement.gpus import is_wanted
from batchyard_controller.core.placement.refusals import Block

A100, T4 = "NVIDIA A100-SXM4-40GB", "Tesla T4"


@pytest.fixture
def empty() -> Yard:
    made = Yard()
    made.environment()
    made.queue()
    return made


def host(name: str, *gpus: tuple[str, int]) -> HostFacts:
    told = tuple(
        GpuFacts(uuid=f"GPU-{name}-{i}", model=model, memory_mib=memory) for i, (model, memory) in enumerate(gpus)
    )
    return facts(name, gpus=0) if not gpus else replace(facts(name), gpus=told)


def wanting(*models: str, gpu: int = 1000, memory: int = 0) -> Container:
    return replace(container(gpu=gpu), gpu_models=models, gpu_memory_mib=memory)


def why(yard: Yard) -> str:
    return "; ".join(refusal.message for refusal in yard.refusals())


@pytest.mark.parametrize(
    ("name", "is_right"),
    [
        ("A100", True),
        ("a100-sxm4", True),
        ("nvidia a100", True),
        (A100, True),
        ("A10", False),
        ("SXM4-A100", False),
        ("*a100*", True),
        ("*A10*", True),
        ("A100*", False),
        ("NVIDIA*", True),
        ("*40GB", True),
        ("[N]VIDIA*", False),
        ("nvidia*a100*40gb", True),
        ("nvidia*40gb*a100", False),
        ("nvidia a100*a100-sxm4-40gb", False),
        ("*a*a*", True),
        ("*a" * 64, False),
        ("H100", False),
    ],
)
def test_a_name_is_words_of_the_model_or_all_of_it_with_stars(name: str, is_right: bool) -> None:
    assert is_wanted(GpuFacts(uuid="u", model=A100), (name,), 0) is is_right


def test_any_of_several_names_will_do_and_all_need_the_memory() -> None:
    gpu = GpuFacts(uuid="u", model=A100, memory_mib=40_960)
    assert is_wanted(gpu, ("H100", "A100"), 40_960)
    assert not is_wanted(gpu, ("H100", "A100"), 40_961)
    assert is_wanted(gpu, (), 1)


def test_hosts_with_other_gpus_are_passed_over_and_named(empty: Yard) -> None:
    """The tighter host would have been taken."""
    empty.join(host("small", (T4, 15_360)), session=1)
    job = empty.submit(container=wanting("a100"))
    empty.plan()
    assert why(empty) == f"no host has a GPU of model a100 (hosts have: {T4} 15360 MiB)"
    assert {refusal.block for refusal in empty.refusals()} == {Block.BEYOND_HOSTS}
    empty.join(host("large", (A100, 40_960), (A100, 40_960)), session=1)
    empty.plan()
    assert empty.live() == {f"{job.id}#1": "large"}
    empty.submit(container=wanting("a100", gpu=2000))
    empty.plan()
    assert why(empty) == (
        "2 GPU asked, at most 1 free on one host (largest host: 2); only GPUs of model a100 count, "
        f"1 hosts have others: small ({T4} 15360 MiB)"
    )


def test_of_mixed_gpus_those_alone_count_and_are_claimed_that_will_do(empty: Yard) -> None:
    """Two whole ones are free, of which one is of the model."""
    empty.join(host("mixed", (T4, 15_360), (A100, 40_960)), session=1)
    first, second = (empty.submit(container=wanting(memory=20_000)) for _ in range(2))
    other = empty.submit(container=wanting("T4", gpu=500))
    empty.plan()
    claimed = {attempt.job_id: [gpu.uuid for gpu in attempt.gpus] for attempt in empty.world.attempts.values()}
    assert claimed == {first.id: ["GPU-mixed-1"], other.id: ["GPU-mixed-0"]}
    assert second.state is JobState.RUNNABLE
    assert why(empty) == (
        "1 GPU asked, at most 0 free on one host (largest host: 1); only GPUs with 20000 MiB of memory or more count"
    )
    empty.ended(f"{first.id}#1")
    empty.plan()
    assert second.state is JobState.STARTING


def test_more_than_a_mixed_host_has_is_never_had(empty: Yard) -> None:
    empty.join(host("mixed", (T4, 15_360), (A100, 40_960)), session=1)
    empty.submit(container=wanting("T4", gpu=2000))
    empty.plan()
    assert "largest host: 1" in why(empty)
    assert why(empty).endswith("no host known now could ever fit it")
    assert {refusal.block for refusal in empty.refusals()} == {Block.BEYOND_HOSTS}


def test_a_part_goes_to_the_tightest_gpu_that_will_do(empty: Yard) -> None:
    empty.join(host("mixed", (T4, 15_360), (A100, 40_960), (A100, 40_960)), session=1)
    jobs = [
        empty.submit(container=wanting(*models, gpu=gpu))
        for models, gpu in (((), 300), (("A100",), 600), (("A100",), 700), (("A100",), 300))
    ]
    empty.plan()
    claimed = {attempt.job_id: attempt.gpus[0].uuid[-1] for attempt in empty.world.attempts.values()}
    assert [claimed[job.id] for job in jobs] == ["0", "1", "2", "2"]


def test_a_faulty_gpu_of_the_model_is_waited_for(empty: Yard) -> None:
    """It may be mended; so nothing says that no host could ever take the job."""
    told = host("mixed", (T4, 15_360), (A100, 40_960))
    ill = replace(told, gpus=(told.gpus[0], replace(told.gpus[1], fault="XID 79")))
    empty.join(ill, session=1)
    job = empty.submit(container=wanting("A100"))
    empty.plan()
    assert job.state is JobState.RUNNABLE
    assert {refusal.block for refusal in empty.refusals()} == {Block.NO_CAPACITY}
    empty.join(told, session=2)
    empty.plan()
    assert job.state is JobState.STARTING
