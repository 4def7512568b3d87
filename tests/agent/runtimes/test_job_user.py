"""Processes of an agent of root run as an unprivileged user, and reach nothing of what is root's."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.tasks import Ulimit
from batchyard_agent import keeper_link
from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.job_user import JobUser, NoAccountError, Owners
from batchyard_agent.runtimes.plain_names import plain_name
from batchyard_agent.runtimes.protocol import Exited, RuntimeUnavailableError, StartFailed, StopSignal

from .process_attempts import Host, attempt, log_of, part, runtime, several, shell, until

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may reach, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=["rlimit", "auto"])
async def host(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Host]:
    user = job_user.find(None, allow_root=False)
    opened = await Host(runtime(folder, user=user, enforcement=request.param)).open()
    yield opened
    await opened.clear()


@as_root
async def test_a_job_is_nobody_and_has_no_way_back(host: Host, folder: Path) -> None:
    """No group of root's, no capability, nothing to be had from set-user-id programs; its own folder to write in."""
    script = "id -u; id -G; grep -E 'CapEff|CapInh|NoNewPrivs' /proc/self/status; touch here; touch $PWD/there; ls"
    spec = shell(folder, script)
    await host.done(spec)
    assert log_of(spec).split() == [
        *(str(NOBODY.pw_uid), str(NOBODY.pw_gid)),
        *("CapInh:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1", "here", "there"),
    ]


@as_root
async def test_a_job_cannot_write_its_record(host: Host, folder: Path) -> None:
    """Neither through its keeper's open files nor by name; nor can it read other attempts' logs."""
    script = "ls /proc/$PPID/fd; echo x >>{}/keeper/journal; ls {}/keeper {}/logs; exit 7"
    (folder / "logs").mkdir(mode=0o700)
    spec = shell(folder, script.format(folder, folder, folder))
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 7
    assert log_of(spec).count("ermission denied") == 4


@as_root
async def test_a_job_sees_no_working_folder_but_its_own(host: Host, folder: Path) -> None:
    """Though all are the same user's; what it writes is where it is looked for."""
    if not host.runtime.is_isolated:
        pytest.skip("the kernel gives no mount namespaces here")
    other = shell(folder, "echo secret >kept; sleep 600")
    host.runtime.launch(other)
    theirs = folder / "scratch" / plain_name(other.attempt_id)
    await until((theirs / "kept").exists)
    elsewhere = shell(folder, f"cat {theirs}/kept", number=3, working_directory="/")
    spec = shell(folder, f"cat {theirs}/kept; umount {folder}/scratch; cat {theirs}/kept; echo own >kept", number=2)
    for each in (spec, elsewhere):
        await host.done(each)
        assert "secret" not in log_of(each)
        assert "No such file" in log_of(each)
    assert (folder / "scratch" / plain_name(spec.attempt_id) / "kept").read_text() == "own\n"


@as_root
@pytest.mark.parametrize(("claimed", "opened"), [((), ""), (("GPU-b",), "1"), (("GPU-a", "GPU-b"), "0 1")])
async def test_a_job_can_open_the_devices_of_its_own_gpus_alone(
    host: Host, folder: Path, claimed: tuple[str, ...], opened: str
) -> None:
    """Of files that stand in for devices; it cannot take away what stands in the place of the others."""
    if not host.runtime.is_isolated:
        pytest.skip("the kernel gives no mount namespaces here")
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (folder / name).write_text("device\n")
        (folder / name).chmod(0o666)
    minors = {"GPU-a": 0, "GPU-b": 1}
    host.runtime._launcher = replace(host.runtime._launcher, find_minors=lambda: minors, devices=folder)
    each = f"umount {folder}/nvidia$n; chmod 666 {folder}/nvidia$n; cat {folder}/nvidia$n && echo $n >>got"
    spec = shell(folder, f"for n in 0 1 ctl -uvm; do {each}; done 2>/dev/null >/dev/null; cat got", gpu_uuids=claimed)
    await host.done(spec)
    assert log_of(spec).split() == [*opened.split(), "ctl", "-uvm"]
    assert (folder / "nvidia0").read_text() == "device\n"  # elsewhere it is what it was


@as_root
async def test_where_a_gpus_device_is_not_known_none_is_closed(host: Host, folder: Path) -> None:
    """Better one that sees too much than one that does not see its own."""
    (folder / "nvidia0").touch()
    host.runtime._launcher = replace(
        host.runtime._launcher, find_minors=lambda: {"GPU-a": None, "GPU-b": 0}, devices=folder
    )
    spec = shell(folder, f"cat {folder}/nvidia0 && echo open", gpu_uuids=("GPU-a",))
    await host.done(spec)
    assert log_of(spec) == "open\n"


@as_root
async def test_several_processes_of_a_job_share_its_folder_and_see_no_others(host: Host, folder: Path) -> None:
    """Each is alone in its namespace, and ends alone."""
    look = "for p in /proc/[0-9]*; do [ -e $p/comm ] && echo $p; done | wc -l"
    spec = several(
        part(folder, "first", f"touch first; ls; {look}; sleep 600 & exit 4", essential=False),
        part(folder, "second", f"touch second; ls; {look}; kill -9 -1; exit 5", after="first:COMPLETE third:START"),
        part(folder, "third", "trap 'echo told; exit 6' TERM; while :; do sleep 0.05; done", essential=False),
    )
    if not host.runtime.is_isolated:
        pytest.skip("the kernel gives no namespaces here")
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert {each.name: each.exit_code for each in end.containers} == {"first": 4, "second": 5, "third": 6}
    logs = [log_of(each).split() for each in spec.parts]
    assert (logs[0][0], logs[1][:2], logs[2]) == ("first", ["first", "second"], ["told"])
    assert int(logs[1][2]) <= 5  # what is first there, the shell, and what it takes to look


@as_root
async def test_what_a_job_sets_touches_no_process_of_root(host: Host, folder: Path) -> None:
    """Its environment reaches it whole, in no command line; libraries that it names are loaded by none but itself."""
    values = {
        "LD_PRELOAD": "/no/such/library.so",
        "PATH": "/usr/bin:/bin",
        "QUOTED": 'it\'s $HOME `id` \\ "x"\nsecond line',
    }
    script = "env -0 | tr '\\0' '~'; cat /proc/$PPID/environ"
    spec = shell(folder, script, environment=values, secrets={"TOKEN": "canary"})
    await host.done(spec)
    text = log_of(spec)
    for name, value in {**values, "TOKEN": "canary"}.items():
        assert f"{name}={value}~" in text
    assert "environ: Permission denied" in text
    # The dynamic linker complains for each program that was told to load it: env and those of the script.
    assert 1 <= text.count("cannot be preloaded") <= 5


@as_root
async def test_limits_folder_and_signals_work_as_for_others(host: Host, folder: Path) -> None:
    (folder / "work").mkdir(mode=0o755)
    there = attempt(
        folder, "sh", "-c", "pwd; ulimit -n; echo out >>/dev/stdout", working_directory=str(folder / "work"),
        ulimits=(Ulimit(name="nofile", soft_limit=77, hard_limit=88),), user="nobody",
    )  # fmt: skip
    await host.done(there)
    assert log_of(there) == f"{folder / 'work'}\n77\nout\n"
    stopped = shell(folder, "trap 'echo saved; exit 9' TERM; echo ready; sleep 600 & wait", number=3)
    host.runtime.launch(stopped)
    await until(lambda: "ready" in log_of(stopped))
    await host.runtime.signal(stopped.attempt_id, StopSignal.TERM)
    end = await host.end(stopped)
    assert isinstance(end, Exited)
    assert (end.exit_code, log_of(stopped)) == (9, "ready\nsaved\n")
    refused = await host.done(attempt(folder, "true", user="root", number=4))
    assert isinstance(refused, StartFailed)
    assert "not as 'root'" in refused.reason
    name = plain_name(stopped.attempt_id)
    assert not await host.runtime.remove([stopped.attempt_id])
    assert not (folder / "scratch" / name).exists()


@as_root
@pytest.mark.parametrize("place", ["private", "missing"])
async def test_a_working_folder_that_is_closed_to_the_user_is_a_failed_start(
    host: Host, folder: Path, place: str
) -> None:
    """And nothing has run."""
    (folder / "private").mkdir(mode=0o700)
    spec = attempt(folder, "sh", "-c", "echo ran", working_directory=str(folder / place))
    end = await host.done(spec)
    assert isinstance(end, StartFailed)
    assert end.exit_code is None
    assert end.reason == (
        f"CannotStartContainerError: the working folder '{folder / place}' is missing, or closed to the job's user"
    )
    assert log_of(spec) == ""


@as_root
@pytest.mark.parametrize("how", ["path", "name", "odd names"])
async def test_a_command_that_only_root_may_call_is_a_failed_start(host: Host, folder: Path, how: str) -> None:
    """Whether it is found by its path or on PATH, and whoever calls it."""
    (folder / "tool").write_text("#!/bin/sh\necho ran\n")
    (folder / "tool").chmod(0o700)
    name = str(folder / "tool") if how == "path" else "tool"
    environment = {"PATH": f"/usr/bin:{folder}", **({"odd-name": "x"} if how == "odd names" else {})}
    spec = attempt(folder, name, environment=environment)
    end = await host.done(spec)
    assert isinstance(end, StartFailed)
    assert (end.exit_code, end.reason) == (126, f'CannotStartContainerError: exec: "{name}": permission denied')
    assert log_of(spec) == ""
    (folder / "tool").chmod(0o755)
    again = attempt(folder, name, environment=environment, number=2)
    end = await host.done(again)
    assert isinstance(end, Exited)
    assert (end.exit_code, log_of(again)) == (0, "ran\n")


@as_root
async def test_what_a_job_sets_does_not_make_its_call_a_check(host: Host, folder: Path) -> None:
    """Nor does an exit code of its own count as a failed start."""
    environment = {"batchyard_check": "1", "places": "a b", "place": "c", "code": "3", "PATH": "/usr/bin:/bin:"}
    spec = shell(folder, 'echo "$batchyard_check $places $place $code $PATH"; exit 126', environment=environment)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, log_of(spec)) == (126, "1 a b c 3 /usr/bin:/bin:\n")


@as_root
async def test_a_job_can_use_its_folder_by_name(folder: Path) -> None:
    """As programs do with HOME, below folders that the agent made itself whatever its umask."""
    before = os.umask(0o077)
    try:
        user = job_user.find(None, allow_root=False)
        host = await Host(runtime(folder, scratch="new/scratch", user=user)).open()
    finally:
        os.umask(before)
    spec = shell(folder, 'cd / && touch "$HOME/x" && cd "$HOME" && mktemp -p "$HOME" >/dev/null && ls | wc -l')
    await host.done(spec)
    assert log_of(spec) == "2\n"
    await host.clear()


@as_root
async def test_where_a_jobs_folder_is_closed_to_its_user_there_is_no_runtime(folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    user = job_user.find(None, allow_root=False)
    closed = runtime(folder, scratch="private/scratch", user=user)
    with pytest.raises(RuntimeUnavailableError, match=r"'nobody', who cannot enter .*: give the agent a --scratch-dir"):
        await Host(closed).open()
    await closed.close()


@as_root
def test_root_only_where_the_operator_says_so() -> None:
    assert job_user.find(None, allow_root=True) is None
    assert job_user.find("root", allow_root=True) is None
    found = job_user.find(None, allow_root=False)
    assert found is not None
    assert found.names == {"nobody", str(NOBODY.pw_uid), f"{NOBODY.pw_uid}:{NOBODY.pw_gid}"}
    for name in ("root", "0"):
        with pytest.raises(RuntimeUnavailableError, match="--allow-root-jobs"):
            job_user.find(name, allow_root=False)
    with pytest.raises(RuntimeUnavailableError, match="no user 'no-such-user'"):
        job_user.find("no-such-user", allow_root=False)


# As their owners ----------------------------------------------------------------------------

ACCOUNTS = {
    name: pwd.struct_passwd((entry, "x", uid, 100, "", f"/home/{entry}", "/bin/sh"))
    for name, entry, uid in (("ann", "ann", 1000), ("ANN", "ann", 1000), ("www", "www", 999), ("root", "root", 0))
}


@pytest.mark.parametrize(
    ("owner", "uid_min", "why"),
    [
        ("bob", 1000, "and has no account 'bob'"),
        ("1000", 1000, "and has no account '1000'"),
        ("ANN", 1000, "and has no account 'ANN', but 'ann'"),
        ("ann", 1001, "but 'ann' has the uid 1000 there; the lowest is 1001"),
        ("www", 1000, "but 'www' has the uid 999 there; the lowest is 1000"),
        ("root", 1, "but 'root' has the uid 0 there; the lowest is 1"),
    ],
)
def test_who_has_no_account_of_the_very_name_or_too_low_a_one_is_refused(owner: str, uid_min: int, why: str) -> None:
    owners = Owners(host="alpha", uid_min=uid_min, find_account=ACCOUNTS.__getitem__, find_groups=lambda _, gid: [gid])
    with pytest.raises(NoAccountError) as refused:
        owners.account(owner)
    assert str(refused.value) == f"host 'alpha' runs processes as their owners, {why}"


def test_an_owners_account_has_its_groups_and_home() -> None:
    owners = Owners(host="alpha", find_account=ACCOUNTS.__getitem__, find_groups=lambda _, gid: [gid, 27, 44])
    assert owners.account("ann") == JobUser(name="ann", uid=1000, gid=100, groups=(27, 44), home="/home/ann")


GAMES = pwd.getpwnam("games")
"""An account that every Linux has, and that has nothing."""


@pytest.fixture(params=["jails", "forks"])
async def owners_host(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Host]:
    """A host that runs processes as their owners, with namespaces and without."""
    owners = Owners(host="alpha", uid_min=1, find_groups=lambda _, gid: [gid, 65533])
    user = job_user.find(None, allow_root=False)
    if request.param == "forks":
        program = folder / "batchyard_agent" / "keeper"
        shutil.copytree(keeper_link._PROGRAM, program)
        with (program / "kernel.py").open("a") as text:
            text.write("\n\ndef can_isolate():\n    return False\n")
        monkeypatch.setattr(keeper_link, "_PROGRAM", str(program))
    opened = await Host(runtime(folder, user=user, owners=owners)).open()
    if request.param == "forks":
        assert not opened.runtime.is_isolated
    yield opened
    await opened.clear()


@as_root
async def test_a_users_job_is_that_account_and_the_administrators_is_nobody(owners_host: Host, folder: Path) -> None:
    """One after the other, so that none has a jail of another's; each with folder, log, home and copy of its own."""
    script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME; touch here; echo out >>/dev/stdout; grep CapEff /proc/self/status"
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    told = []
    for number, owner in enumerate(("games", "", "games"), 1):
        output = str(folder / "out" / f"{number}")
        spec = replace(shell(folder, script, number=number, output_path=output), owner=owner)
        end = await owners_host.done(spec)
        assert isinstance(end, Exited), end
        own = folder / "scratch" / plain_name(spec.attempt_id)
        assert {own.stat().st_uid, (own / "here").stat().st_uid, Path(output).stat().st_uid} == {
            GAMES.pw_uid if owner else NOBODY.pw_uid
        }
        assert Path(output).read_text() == log_of(spec)
        told.append(log_of(spec).split())
    games = [*map(str, (GAMES.pw_uid, GAMES.pw_gid, GAMES.pw_gid, 65533)), GAMES.pw_dir, "games", "games"]
    assert told[0] == told[2] == [*games, "out", "CapEff:", "0" * 16]
    own_folder = str(folder / "scratch" / plain_name(shell(folder, "", number=2).attempt_id))
    gid = str(NOBODY.pw_gid)
    assert told[1][:4] == [str(NOBODY.pw_uid), gid, gid, own_folder]


@as_root
async def test_a_user_without_an_account_starts_nothing_and_none_is_another(owners_host: Host, folder: Path) -> None:
    """Whatever user the job itself names."""
    spec = replace(shell(folder, "echo ran"), owner="no-such-user")
    end = await owners_host.done(spec)
    assert isinstance(end, StartFailed)
    assert (end.reason, end.host_failed) == (
        "CannotStartContainerError: host 'alpha' runs processes as their owners, and has no account 'no-such-user'",
        False,
    )
    assert log_of(spec) == ""
    posing = replace(shell(folder, "echo ran", number=2, user="nobody"), owner="games")
    end = await owners_host.done(posing)
    assert isinstance(end, StartFailed)
    assert "run as 'games', not as 'nobody'" in end.reason
    root = replace(shell(folder, "echo ran", number=3), owner="root")
    assert isinstance(await owners_host.done(root), StartFailed)
    assert log_of(posing) + log_of(root) == ""
