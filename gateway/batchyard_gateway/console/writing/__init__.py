"""How times and amounts are written."""
