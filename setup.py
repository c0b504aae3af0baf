"""Metadata of the package. Settings of the tools are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
REPOSITORY = "https://github.com/pyclustershell/pyclustershell"

#: The programs, and their modules.
PROGRAMS = {"pyclush": "clush", "pynodeset": "nodeset", "pyclubak": "clubak"}

# Each check has its own extra, so that each CI job installs only its own tools.
TEST = [
    "pytest>=8",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "mock",
    # Independent peers: ClusterShell's behaviour is the oracle; asyncssh is another SSH server.
    "ClusterShell>=1.9",
    "asyncssh",
    "psutil",  # the extra localnetwork
    "aiohttp",  # examples/service.py
    "rich",  # examples/progress.py
    "uvloop; platform_system != 'Windows'",  # another event loop for pyclustershell.aio
]
LINT = ["ruff==0.17.*", "mypy==2.*", "types-paramiko", "types-PyYAML"]
COVERAGE = ["pytest-cov>=5", "coverage[toml]>=7"]
RELEASE = ["build", "twine>=6"]  # twine before 6 rejects the licence's metadata


def read(*names: str) -> str:
    """Read a text file of the source tree.

    Args:
        names: the parts of its path, from the top directory.
    """
    return HERE.joinpath(*names).read_text(encoding="utf-8")


def version() -> str:
    """The version, read and not imported: the package's own requirements may not be installed."""
    match = re.search(r'^__version__ = "([^"]+)"$', read("pyclustershell", "version.py"), re.M)
    if match is None:
        raise RuntimeError("pyclustershell/version.py sets no __version__")
    return match[1]


setup(
    name="pyclustershell",
    version=version(),
    description="Run commands on thousands of hosts over SSH: ClusterShell's API on paramiko",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
        "Security": f"{REPOSITORY}/security/policy",
    },
    license="LGPL-2.1-or-later",
    keywords=["ssh", "cluster", "parallel", "paramiko", "clustershell", "hpc"],
    packages=find_packages(include=["pyclustershell", "pyclustershell.*"]),
    package_data={"pyclustershell": ["py.typed"]},
    data_files=[("share/man/man1", [f"man/man1/{name}.1" for name in PROGRAMS])],
    zip_safe=False,
    python_requires=">=3.9",
    # paramiko: its next major version may rename what ssh/protocol/paramikonames.py lists.
    # cryptography: paramiko brings it, but we import it as well; paramiko says which releases.
    install_requires=["paramiko>=3.4,<6", "bcrypt", "cryptography", "PyYAML"],
    extras_require={
        "localnetwork": ["psutil"],  # for Match localnetwork of ssh_config
        "yaml": [],  # PyYAML was optional once
        "test": TEST,
        "lint": LINT,
        "coverage": COVERAGE,
        "release": RELEASE,
        "dev": [*TEST, *LINT, *COVERAGE, *RELEASE, "pre-commit"],
        "benchmark": ["ClusterShell>=1.9", "asyncssh", "parallel-ssh"],
    },
    entry_points={
        "console_scripts": [
            f"{name}=pyclustershell.cli.{module}:main" for name, module in PROGRAMS.items()
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: System :: Clustering",
        "Topic :: System :: Distributed Computing",
        "Topic :: System :: Systems Administration",
        "Typing :: Typed",
    ],
)
