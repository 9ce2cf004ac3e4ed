"""Engines against real clusters of each, all on this machine."""
