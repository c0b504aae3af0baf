"""Print this project's requirements on Windows: ``python requirements.py WHEEL PYTHON EXTRA``.

pip judges the conditions of requirements (``platform_system == "Windows"``) by the system that it
runs on, also if it downloads for another one. So they are judged here, by pip's own copy of
``packaging``.
"""

from __future__ import annotations

import sys
import zipfile
from email.parser import Parser

from pip._vendor.packaging.requirements import Requirement


def main() -> None:
    """Print the requirements of the wheel that the command line names, one a line."""
    wheel, python, extra = sys.argv[1:]
    windows = {
        "extra": extra,
        "os_name": "nt",
        "platform_machine": "AMD64",
        "platform_system": "Windows",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "win32",
    }
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(windows):
            requirement.marker = None
            print(requirement)


if __name__ == "__main__":
    main()
