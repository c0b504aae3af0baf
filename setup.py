"""Metadata of the package. Settings of the tools are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read(*names: str) -> str:
    """The text of a file of the source tree."""
    return HERE.joinpath(*names).read_text(encoding="utf-8")


def version() -> str:
    """The version, read and not imported: what the package imports may not be installed yet."""
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
    license="LGPL-2.1-or-later",
    keywords=["ssh", "cluster", "parallel", "paramiko", "clustershell", "hpc"],
    packages=find_packages(include=["pyclustershell", "pyclustershell.*"]),
    package_data={"pyclustershell": ["py.typed"]},
    zip_safe=False,
    python_requires=">=3.9",
    install_requires=["paramiko>=3.4"],
    extras_require={
        # Node groups in YAML files.
        "yaml": ["PyYAML"],
        "test": [
            "pytest>=8",
            "pytest-timeout",
            "hypothesis",
            "mock",
            "PyYAML",
            # Independent peers: what ClusterShell does is the oracle, asyncssh another SSH server.
            "ClusterShell>=1.9",
            "asyncssh",
        ],
        "lint": ["ruff==0.17.*", "mypy==2.*", "types-paramiko", "types-PyYAML"],
        "benchmark": ["ClusterShell>=1.9", "asyncssh", "parallel-ssh"],
    },
    entry_points={"console_scripts": ["pyclush=pyclustershell.cli.clush:main"]},
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
