"""Takes the README's pictures anew, where they lie: `python -m tests.screenshots [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browsers import Server, chromium
from tests.screenshots.taking import take


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        root, home = Path(scratch, "notebooks"), Path(scratch, "home")
        root.mkdir()
        server = Server("lab", root, home)
        try:
            server.wait()
            for path in take(browser, server, folder):
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        finally:
            server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent)
