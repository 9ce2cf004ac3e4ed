"""The README's pictures, and the script that takes them: `python -m tests.screenshots`."""
