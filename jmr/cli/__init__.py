"""The command line.

command  jmr: what can be asked of it
task     jmr run: a task file, from its path to an exit code
answer   a result as lines, or as JSON
"""

from jmr.cli.command import main

__all__ = ["main"]
