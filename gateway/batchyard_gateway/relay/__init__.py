"""The relay: passes events of a yard on to its sinks."""
