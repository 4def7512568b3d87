"""Planted bugs."""
BUGS = {}
