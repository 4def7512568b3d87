"""Where a process starts, what it reads, and the copy of what it writes: as this user, and in a jail as nobody."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.plain_names import plain_name
from batchyard_agent.runtimes.protocol import Exited, LaunchSpec

from .process_attempts import Host, log_of, part, runtime, several, shell, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may reach, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=["own", pytest.param("nobody", marks=as_root)])
def job_is(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def host(job_is: str, folder: Path) -> AsyncIterator[Host]:
    user = job_user.find("nobody", allow_root=False) if job_is == "nobody" else None
    opened = await Host(runtime(folder, user=user)).open()
    yield opened
    await opened.clear()


def own_folder(folder: Path, spec: LaunchSpec) -> Path:
    return folder / "scratch" / plain_name(spec.attempt_id)


async def test_a_wanted_folder_that_is_there_is_where_it_starts(host: Host, folder: Path) -> None:
    """Its home stays its own folder."""
    (folder / "here").mkdir()
    spec = shell(folder, "pwd; echo $HOME", working_directory=f"{folder}/here", working_directory_optional=True)
    await host.done(spec)
    assert log_of(spec).split() == [f"{folder}/here", str(own_folder(folder, spec))]


async def test_one_that_is_not_is_told_and_done_without(host: Host, folder: Path) -> None:
    spec = shell(folder, "pwd; touch made", working_directory="/no/such", working_directory_optional=True)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    why = "No such file or directory"
    said = f"[batchyard: this host has no folder /no/such for the job ({why}): it starts in an empty one]"
    assert log_of(spec).splitlines() == [said, str(own_folder(folder, spec))]
    assert (own_folder(folder, spec) / "made").exists()


@as_root
@pytest.mark.parametrize("job_is", ["nobody"], indirect=True)
async def test_a_folder_that_is_closed_to_the_jobs_user_counts_as_not_there(host: Host, folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    spec = shell(folder, "pwd", working_directory=f"{folder}/closed", working_directory_optional=True)
    await host.done(spec)
    assert "Permission denied" in log_of(spec)
    assert log_of(spec).endswith(f"\n{own_folder(folder, spec)}\n")


@pytest.mark.parametrize("data", [b"one\ntwo\n", bytes(range(256)) * 256, b""], ids=["text", "64 KiB", "nothing"])
async def test_it_reads_what_it_is_given(host: Host, folder: Path, data: bytes) -> None:
    spec = shell(folder, "cat >read; wc -c", stdin=data)
    await host.done(spec)
    assert (own_folder(folder, spec) / "read").read_bytes() == data
    assert log_of(spec) == "0\n"


async def test_a_copy_of_the_log_is_the_jobs_users(host: Host, folder: Path, job_is: str) -> None:
    """It grows while the process runs, and has all when that has ended."""
    (folder / "work").mkdir()
    if job_is == "nobody":
        os.chown(folder / "work", pwd.getpwnam("nobody").pw_uid, -1)
    script = "echo one; while ! [ -e go ]; do sleep 0.02; done; seq 100000; echo last >&2"
    spec = shell(folder, script, working_directory=f"{folder}/work", output_path="logs/a b.out")
    host.runtime.launch(spec)
    copy = folder / "work/logs/a b.out"
    await until(lambda: copy.exists() and copy.read_text() == "one\n")
    (folder / "work/go").touch()
    await host.end(spec)
    assert copy.read_text() == log_of(spec)
    assert copy.read_text().endswith("\n100000\nlast\n")
    assert copy.owner() == ("nobody" if job_is == "nobody" else pwd.getpwuid(os.geteuid()).pw_name)


@as_root
@pytest.mark.parametrize("job_is", ["nobody"], indirect=True)
async def test_a_copy_goes_nowhere_that_the_jobs_user_may_not_write(host: Host, folder: Path) -> None:
    """Not through a link either; the attempt is none the worse, and its log says so."""
    (folder / "secret").write_text("root's")
    (folder / "link").symlink_to(folder / "secret")
    spec = shell(folder, "echo out; exit 7", output_path=f"{folder}/link")
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 7
    assert (folder / "secret").read_text() == "root's"
    assert f"[batchyard: the output file {folder}/link cannot be written: " in log_of(spec)
    assert "ermission denied" in log_of(spec)


async def test_a_copy_is_made_anew_when_the_agent_was_restarted(host: Host, folder: Path, job_is: str) -> None:
    script = "echo one; while ! [ -e go ]; do sleep 0.02; done; echo two"
    spec = shell(folder, script, output_path="out")
    host.runtime.launch(spec)
    own = own_folder(folder, spec)
    await until(lambda: (own / "out").exists() and (own / "out").read_text() == "one\n")
    await host.close()
    (own / "go").touch()
    user = job_user.find("nobody", allow_root=False) if job_is == "nobody" else None
    again = await Host(runtime(folder, user=user)).open()
    await again.runtime.adopt(spec)
    await again.end(spec)
    assert (own / "out").read_text() == "one\ntwo\n"
    await again.clear()
    await host.open()  # as the fixture closes it


async def test_each_of_several_processes_has_its_own(host: Host, folder: Path) -> None:
    first = part(folder, "first", "cat; pwd", stdin=b"for the first\n", output_path="first.out", essential=False)
    second = part(folder, "second", "cat; echo 2", output_path="second.out", after="first:COMPLETE")
    spec = several(first, second)
    await host.done(spec)
    own = own_folder(folder, spec)
    assert (own / "first.out").read_text() == f"for the first\n{own}\n"
    assert (own / "second.out").read_text() == "2\n"
