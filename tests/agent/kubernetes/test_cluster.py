"""Which cluster is meant: what is wrong with a kubeconfig is said in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchyard_agent.kubernetes.cluster import NoClusterError, read_config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("this is: [not", "no cluster: while parsing a flow sequence"),
        ("apiVersion: v1", "no cluster: the kubeconfig has no 'clusters'"),
        ("- a", "no cluster: "),
        ("a", "no cluster: "),
        ("", "no cluster: "),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(NoClusterError) as refused:
        read_config(path, "")
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
