"""
Lines of Slurm's ``sbatch`` as options of ``submit``: those that mean the same here.

Pure. What means nothing here is told and left out, since a script that ran on a cluster is
to run as it is. Source: the manual page of sbatch, Slurm 23.11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MARK = "#SBATCH"

_SHORT = {
    "A": "account", "a": "array", "c": "cpus-per-task", "C": "constraint", "d": "dependency", "D": "chdir",
    "e": "error", "G": "gpus", "i": "input", "J": "job-name", "L": "licenses", "m": "distribution", "M": "clusters",
    "n": "ntasks", "N": "nodes", "o": "output", "p": "partition", "q": "qos", "t": "time", "w": "nodelist", "W": "wait",
    "x": "exclude",
}  # fmt: skip
_FLAGS = frozenset(
    {"wait", "requeue", "no-requeue", "exclusive", "overcommit", "contiguous", "hold", "spread-job", "parsable"}
)
"""Options that take no word after them."""
_PLAIN = {
    "job-name": "--name",
    "partition": "--queue",
    "chdir": "--cwd",
    "input": "--stdin",
}
_DEPENDENCIES = {"afterok": "", "afterany": ",AFTER_ANY", "afternotok": ",AFTER_FAILURE", "aftercorr": ",N_TO_N"}
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_SIZE = re.compile(r"(\d+)([KMGT]?)")
_OUTPUT_MARKS = {"A": "j", "j": "j", "a": "a", "x": "x", "N": "N", "%": "%"}


def translate(lines: Sequence[tuple[int, str]]) -> tuple[list[str], list[str]]:
    """
    Return options of ``submit``, and what was left out, each with its line.

    Args:
        lines: Words, each with the number of its line.
    """
    given: dict[str, tuple[int, str]] = {}
    ignored: list[str] = []
    for number, name, value in _options(lines):
        if name:
            given[name] = (number, value)
        else:
            ignored.append(f"line {number}: {value} is no option")
    words: list[str] = [*_amounts(given)]
    for name, (number, value) in given.items():
        try:
            found = _one(name, value)
        except ValueError as err:
            ignored.append(f"line {number}: --{name}={value} is ignored: {err}")
            continue
        if found is None:
            shown = f"--{name}" if name in _FLAGS else f"--{name}={value}"
            ignored.append(f"line {number}: {shown} is ignored")
        else:
            words += found
    return words, ignored


def _options(lines: Sequence[tuple[int, str]]) -> Iterable[tuple[int, str, str]]:
    left = list(lines)
    while left:
        number, word = left.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = _SHORT.get(word[1], word[1]), word[2:].removeprefix("=")
            equals = value
        else:
            yield number, "", word
            continue
        if not equals and name not in _FLAGS and left and left[0][0] == number and not left[0][1].startswith("-"):
            value = left.pop(0)[1]
        yield number, name, value


def _amounts(given: dict[str, tuple[int, str]]) -> list[str]:
    """Return CPUs and memory of one node, which are products of several options; those are taken out."""
    taken = {
        name: given.pop(name)[1] for name in ("cpus-per-task", "ntasks-per-node", "nodes", "ntasks") if name in given
    }
    nodes = _count(taken.get("nodes", "1"))
    tasks = _count(taken.get("ntasks-per-node", "")) or -(-_count(taken.get("ntasks", "1")) // nodes)
    cpus = tasks * _count(taken.get("cpus-per-task", "1"))
    words = ["--vcpus", str(cpus)] if {*taken} - {"nodes"} else []
    words += ["--nodes", str(nodes)] if nodes > 1 else []
    if "mem" in given:
        return [*words, "--memory", _size(given.pop("mem")[1], 1)]
    if "mem-per-cpu" in given:
        return [*words, "--memory", _size(given.pop("mem-per-cpu")[1], cpus)]
    return words


def _count(text: str) -> int:
    """Return a number, of a range (``2-4``) the least; 1 of what is none."""
    first = text.partition("-")[0]
    return int(first) if first.isdecimal() and int(first) else int(bool(text))


def _size(text: str, times: int) -> str:
    match = _SIZE.fullmatch(text.upper().removesuffix("B"))
    if match is None:
        return text  # the option says what is wrong
    amount, unit = int(match[1]) * times, match[2] or "M"
    return f"{-(-amount // 1024)}M" if unit == "K" else f"{amount}{unit}"


def _one(name: str, value: str) -> list[str] | None:
    """Return an option as options here; None: there is none."""
    if name in _PLAIN:
        return [_PLAIN[name], value]
    match name:
        case "time":
            return ["--timeout", f"{_seconds(value)}s"] if value.upper() not in ("UNLIMITED", "INFINITE", "0") else []
        case "array":
            numbers, _, most = value.partition("%")
            return ["--array", numbers, *(["--concurrency", most] if most else [])]
        case "output":
            return ["--log-file", _output(value)]
        case "gpus" | "gpus-per-node" | "gpus-per-task":
            return _gpus(f"gpu:{value}")
        case "gres":
            return _gpus(value)
        case "dependency":
            return _dependencies(value)
        case "export":
            return [word for each in value.split(",") if each not in ("ALL", "NONE", "") for word in ("--env", each)]
        case "wait":
            return ["--wait"]
        case "parsable":
            return ["--output", "name"]
        case _:
            return None


def _seconds(text: str) -> int:
    """Read ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, and after ``days-`` ``hours[:minutes[:seconds]]``."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("it is no time")
    days, *rest = (int(part) if part else None for part in match.groups())
    parts = [part for part in rest if part is not None]
    if days is None and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return (((days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _output(pattern: str) -> str:
    unknown = [mark for mark in re.findall(r"%(.?)", pattern.replace("%%", "")) if mark not in _OUTPUT_MARKS]
    if unknown:
        raise ValueError(f"%{unknown[0]} means nothing here")
    return re.sub(r"%(.)", lambda mark: f"%{_OUTPUT_MARKS[mark[1]]}", pattern)


def _gpus(text: str) -> list[str]:
    """Read ``gpu[:model][:count]``."""
    kind, *rest = text.split(":")
    if kind != "gpu" or len(rest) > 2:
        raise ValueError("it is no GPU")
    count = rest.pop() if rest and rest[-1].isdecimal() else "1"
    return ["--gpus", count, *(["--gpu-model", rest[0]] if rest else [])]


def _dependencies(text: str) -> list[str]:
    if "?" in text:
        raise ValueError("any one of several is not to be had")
    words = []
    for each in text.split(","):
        kind, *ids = each.split(":")
        if kind not in _DEPENDENCIES:
            raise ValueError(f"{kind} means nothing here")
        words += [word for job_id in ids for word in ("--depends-on", job_id + _DEPENDENCIES[kind])]
    return words
