"""What former versions left goes when nothing uses it any more."""

from __future__ import annotations

from batchyard_agent.upgrade import remove_former_scratch


def test_former_working_folders_go_with_their_attempts(tmp_path):
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "runs").touch()
    for name in ("runs", "gone"):
        (tmp_path / "scratch" / name).mkdir(parents=True)
        (tmp_path / "scratch" / name / "file").touch()
    remove_former_scratch(tmp_path)
    assert [folder.name for folder in (tmp_path / "scratch").iterdir()] == ["runs"]
    (tmp_path / "attempts" / "runs").unlink()
    remove_former_scratch(tmp_path)
    remove_former_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attempts"]
