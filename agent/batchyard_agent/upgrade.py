"""
What former versions left on a host, for agents that are upgraded.

Law: nothing here touches what a living attempt uses. Each part names what it is for, and
goes when nobody upgrades from that any more.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path


def remove_former_scratch(process_dir: Path) -> None:
    """
    Remove working folders whose attempts are gone from below the process runtime's state.

    They lay there before there was ``--scratch-dir``. An attempt has its record beside
    them until it is let go of. Blocks; never fails.
    """
    former = process_dir / "scratch"
    with suppress(OSError):  # mostly there is none
        for folder in list(former.iterdir()):
            if not (process_dir / "attempts" / folder.name).exists():
                shutil.rmtree(folder, ignore_errors=True)
        former.rmdir()
