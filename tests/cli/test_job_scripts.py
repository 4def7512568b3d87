"""Scripts that say in comments how they are run: ours, and those written for Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard.cli import job_scripts, sbatch_lines


def sbatch(*lines: str) -> tuple[list[str], list[str]]:
    return sbatch_lines.translate([(i, word) for i, line in enumerate(lines, start=2) for word in line.split()])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--job-name=fit", "--name fit"),
        ("-J fit", "--name fit"),
        ("-Jfit", "--name fit"),
        ("-p gpu -t 1-2:30", "--queue gpu --timeout 95400s"),
        ("--time=90", "--timeout 5400s"),
        ("--time=90:30", "--timeout 5430s"),
        ("--time=2:00:00", "--timeout 7200s"),
        ("--time=UNLIMITED", ""),
        ("--cpus-per-task=4 --mem=2G", "--vcpus 4 --memory 2G"),
        ("-n 8 -c 2 --mem-per-cpu=500", "--vcpus 16 --memory 8000M"),
        ("-N 4 --ntasks-per-node=2", "--vcpus 2 --nodes 4"),
        ("-N 2 -n 8", "--vcpus 4 --nodes 2"),
        ("--mem=100K", "--memory 1M"),
        ("--array=1-100:5%10", "--array 1-100:5 --concurrency 10"),
        ("--gres=gpu:a100:2", "--gpus 2 --gpu-model a100"),
        ("-G 1", "--gpus 1"),
        ("-o logs/%x-%A_%a.out", "--log-file logs/%x-%j_%a.out"),
        ("--dependency=afterok:1:2,afterany:3", "--depends-on 1 --depends-on 2 --depends-on 3,AFTER_ANY"),
        ("--export=ALL,A=1,B", "--env A=1 --env B"),
        ("-D /data -i in.txt -W", "--cwd /data --stdin in.txt --wait"),
    ],
)
def test_lines_of_slurm_mean_the_same_here(line: str, words: str) -> None:
    assert sbatch(line) == (words.split(), [])


def test_what_means_nothing_here_is_told_with_its_line() -> None:
    words, ignored = sbatch("-n 2", "--mail-type=END --exclusive", "-o %u.out", "-d singleton", "-t soon", "stray")
    assert words == ["--vcpus", "2"]
    assert ignored == [
        "line 7: stray is no option",
        "line 3: --mail-type=END is ignored",
        "line 3: --exclusive is ignored",
        "line 4: --output=%u.out is ignored: %u means nothing here",
        "line 5: --dependency=singleton is ignored: singleton means nothing here",
        "line 6: --time=soon is ignored: it is no time",
    ]


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/bin/sh", ("/bin/sh", "-c", None, "n")),
        ("#! /bin/bash -eu", ("/bin/bash", "-eu", "-c", None, "n")),
        ("#!/usr/bin/env python3", ("/usr/bin/env", "python3", "-c", None)),
        ("#!/usr/bin/env -S perl -w", ("/usr/bin/env", "-S", "perl", "-w", "-e", None)),
    ],
)
def test_an_interpreter_is_given_the_script_as_a_word(first: str, command: tuple[str | None, ...]) -> None:
    text = f"{first}\necho\n"
    assert job_scripts.read(text, "n").command == tuple(text if word is None else word for word in command)


def test_lines_count_up_to_the_first_that_is_no_comment() -> None:
    text = "#!/bin/sh\n#BATCHYARD --vcpus 2 # two\n\n# other\n#BATCHYARD --tag 'a=b c'\ntrue\n#BATCHYARD --vcpus 3\n"
    assert job_scripts.read(text, "n").options == ("--vcpus", "2", "--tag", "a=b c")
    with pytest.raises(ValueError, match="n, line 2: No closing quotation"):
        job_scripts.read("#!/bin/sh\n#BATCHYARD --name 'x\n", "n")
    with pytest.raises(ValueError, match="n, line 1: node is no shell, Python, Perl or Ruby"):
        job_scripts.read("#!/usr/bin/env node\n", "n")


def test_a_script_goes_with_the_job(run: Run, yard: Yard, tmp_path: Path) -> None:
    """What is given on the command line wins over its lines; what stands behind it are its arguments."""
    script = tmp_path / "fit.sh"
    script.write_text("#!/bin/sh\n#SBATCH -c 8 --mem=2G --mail-type=ALL\n#BATCHYARD --memory 1G --tag a=b\necho $1\n")
    made = run("submit", "--vcpus", "4", str(script), "x", "--y")
    assert made.err == "batchyard: fit.sh, line 2: --mail-type=ALL is ignored\n"
    job = yard.client.describe_job(made.out.strip())
    assert list(job.container.command) == ["/bin/sh", "-c", script.read_text(), "fit.sh", "x", "--y"]
    assert (job.name, job.container.resources.cpu_millis, job.container.resources.memory_mib) == ("fit", 4000, 1024)
    assert dict(job.tags) == {"a": "b"}
    as_it_is = yard.client.describe_job(run("submit", "--", str(script), "x").out.strip())
    assert list(as_it_is.container.command) == [str(script), "x"]


def test_a_wrong_line_is_refused_as_a_wrong_option_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fit.sh").write_text("#!/bin/sh\n#BATCHYARD --vcpu 4\n")
    wrong = run("submit", str(tmp_path / "fit.sh"))
    assert (wrong.code, wrong.out) == (2, "")
    assert "No such option" in wrong.err
    assert "--vcpu" in wrong.err
