"""
``python -I -S .../keeper FOLDER [LOCK]``: be the keeper of a folder; LOCK: its open lock, where this was one before.

It is run as a folder and not as a module: the agent's own package is not imported, as
to ask for its version takes the memory that this program is to do without.
"""

import os
import sys
import types

agent = types.ModuleType("batchyard_agent")
agent.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
sys.modules["batchyard_agent"] = agent

from batchyard_agent.keeper import program  # noqa: E402  # its package is made above

program.main(*sys.argv[1:])
