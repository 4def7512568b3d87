"""
The keeper: one small program per host that starts processes, learns how they end, and guards the fence.

It is apart from the agent and outlives it. The rooms of this package are its own: they
import nothing but what of the standard library is light (no dataclasses, typing,
asyncio), since every start is a fork of this program and costs what its memory costs.
The agent uses ``wire`` to speak to it, and ``groups`` and ``marks`` to know the same
processes by the same signs.
"""
