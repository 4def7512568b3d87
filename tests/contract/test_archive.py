"""The archive: what is in it comes back as it was, over terms, in pages, and once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.core.yard import Yard

from batchyard.errors import Reason, UnavailableError
from batchyard.ids import JobId
from batchyard.states import JobState
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.views.listing import JobFilter, Page, find_page, merge_pages
from batchyard_controller.store import archive as archives
from batchyard_controller.store.archive import Archive, archived


@pytest.fixture
def yard() -> Yard:
    """A yard in which eight jobs of two owners, and an array of five of which two failed, have ended."""
    yard = Yard()
    yard.now = Instant(wall_ms=50_000_000, boot_ms=5_000)
    yard.environment()
    yard.queue()
    yard.host("h", cpu=64_000)
    for i in range(8):
        yard.submit(owner="ann" if i % 2 else "", name=f"j{i}", request_id=f"r{i}")
    array = yard.submit(array_size=5, name="array")
    yard.plan()
    for attempt_id in list(yard.live()):
        yard.started(attempt_id)
        yard.ended(attempt_id, exit_code=1 if attempt_id.startswith((f"{array.id}:1", f"{array.id}:3")) else 0)
    assert all(job.state.is_final for job in yard.world.jobs.values())
    return yard


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    archive = Archive(tmp_path / "archive")
    await archive.open_term(7)
    yield archive
    await archive.close()


def jobs_of(yard: Yard) -> list[Job]:
    return sorted(yard.world.jobs.values(), key=lambda job: job.seq)


def told(job: Job) -> object:
    children = [(job.children.state(i), job.children.attempts(i)) for i in range(job.size)]
    return job.seq, job.name, job.spec, job.state, job.attempts, job.ended_at_ms, job.ending, job.request_id, children


async def test_jobs_come_back_as_they_were_by_id_by_request_and_by_the_beginning_of_an_id(
    yard: Yard, archive: Archive
) -> None:
    jobs = jobs_of(yard)
    await archive.add([archived(yard.world, job) for job in jobs])
    await archive.add([archived(yard.world, job) for job in jobs[:3]])  # as after a crash between archive and store
    found = await archive.fetch([job.id for job in jobs])
    assert sorted(map(told, found), key=str) == sorted(map(told, jobs), key=str)
    assert [job.id for job in await archive.fetch([], [("ann", "r1"), ("ann", "r0"), ("", "")])] == [jobs[1].id]
    assert {job.id for job in await archive.begun_with(jobs[0].id[:8], 100)} == {job.id for job in jobs}
    assert await archive.fetch(["nobody"]) == []


async def test_a_later_term_reads_what_former_ones_wrote_and_takes_over_small_files(
    yard: Yard, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(yard)
    await archive.add([archived(yard.world, job) for job in jobs[:6]])
    monkeypatch.setattr(archives, "SMALL_JOBS", 4)
    later = Archive(tmp_path / "archive")
    assert await later.open_term(9) == 6
    await later.add([archived(yard.world, job) for job in jobs[5:]])
    assert sorted(path.name[-4:] for path in (tmp_path / "archive").glob("*.db")) == ["7.db", "9.db"]
    assert len(await later.fetch([job.id for job in jobs])) == 9
    monkeypatch.setattr(archives, "SMALL_JOBS", 100)
    last = Archive(tmp_path / "archive")
    assert await last.open_term(12) == 9
    assert [path.name[-5:] for path in (tmp_path / "archive").glob("*.db")] == ["12.db"]
    assert len(await last.fetch([job.id for job in jobs])) == 9
    await later.close()
    await last.close()


async def pages(archive: Archive, yard: Yard, wanted: JobFilter, size: int) -> list[str]:
    """Page through what is kept and what is archived together; return the units' ids."""
    found: list[str] = []
    beyond = None
    while True:
        both: list[Page] = [find_page(yard.world, wanted, beyond, size), await archive.page(wanted, beyond, size)]
        page = merge_pages(both, wanted, size)
        assert len(page.units) <= size
        found += [unit.id for unit in page.units]
        if page.next_beyond is None:
            return found
        beyond = page.next_beyond


@pytest.mark.parametrize(("size", "looks"), [(1, 1000), (2, 2), (100, 2)])
@pytest.mark.parametrize(
    "wanted",
    [
        JobFilter(),
        JobFilter(oldest_first=True),
        JobFilter(owner="ann"),
        JobFilter(states=frozenset({JobState.FAILED})),
        JobFilter(name="j*", oldest_first=True),
        JobFilter(host_id="h"),
        JobFilter(host_id="h", oldest_first=True, states=frozenset({JobState.SUCCEEDED})),
    ],
    ids=["all", "oldest first", "owner", "failed", "name", "host", "host's good ones"],
)
async def test_pages_go_on_into_the_archive_as_if_nobody_had_left(
    yard: Yard, archive: Archive, wanted: JobFilter, size: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LOOKS_MAX", looks)
    host_id = next(iter(yard.world.hosts)) if wanted.host_id else ""
    wanted = JobFilter(
        **{name: getattr(wanted, name) for name in ("owner", "states", "name", "oldest_first")}, host_id=host_id
    )
    expected = [unit.id for unit in find_page(yard.world, wanted, None, 100).units]
    assert expected
    jobs = jobs_of(yard)
    monkeypatch.setattr(archives, "SMALL_JOBS", 0)
    await archive.add([archived(yard.world, job) for job in jobs if job.seq % 3 and job.seq < 6])
    await archive.open_term(8)  # the rest goes into a file of its own
    await archive.add([archived(yard.world, job) for job in jobs if job.seq % 3 and job.seq > 3])
    for job in jobs:
        if job.seq % 3 == 1:  # others are in both, as after a restore
            yard.world.unindex_job(job)
    assert await pages(archive, yard, wanted, size) == expected


async def test_old_ones_are_forgotten_and_a_folder_that_is_away_is_said(
    yard: Yard, archive: Archive, tmp_path: Path
) -> None:
    jobs = jobs_of(yard)
    await archive.add([archived(yard.world, job) for job in jobs])
    await archive.forget(jobs[0].ended_at_ms)
    assert len(await archive.fetch([job.id for job in jobs])) == 9
    await archive.forget(max(job.ended_at_ms for job in jobs) + 1)
    assert await archive.fetch([job.id for job in jobs]) == []
    (tmp_path / "file").write_text("")
    away = Archive(tmp_path / "file")
    with pytest.raises(UnavailableError, match="cannot be reached") as refused:
        await away.open_term(1)
    assert refused.value.reason is Reason.ARCHIVE_UNAVAILABLE
    await away.close()


async def test_who_left_a_moment_ago_is_known_without_a_look(
    yard: Yard, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RECENT_MAX", 2)
    jobs = jobs_of(yard)
    await archive.add([archived(yard.world, job) for job in jobs[:4]])
    assert [job.name for job in archive.recent.of([job.id for job in jobs], [("ann", "r3")])] == ["j2", "j3", "j3"]
    assert list(archive.recent.of([JobId("nobody")], [("ann", "r1")])) == []
