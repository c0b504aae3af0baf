"""``python -m tests.faults``: look for seeds that fail, and replay them."""

from __future__ import annotations

import argparse
import faulthandler
import secrets
import subprocess
import sys
import time
import traceback

from tests.faults.laboratory import check, describe
from tests.faults.scenario import Scenario, draw
from tests.faults.world import ROOT, World

# Seconds for one seed. After that, the stacks of all threads are printed.
_DEADLINE = 240


def main() -> int:
    """Run the seeds of the command line. Returns 1 if a seed failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="replay these")
    parser.add_argument("--runs", type=int, default=20, help="how many seeds to try")
    parser.add_argument("--first", type=int, help="the first of them; drawn by default")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes to share them")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--quiet", action="store_true", help="print failures only")
    options = parser.parse_args()
    first = options.first if options.first is not None else secrets.randbelow(10**6)
    seeds = options.seeds or range(first, first + options.runs)
    if options.jobs > 1:
        return _share(list(seeds), options)
    began = time.monotonic()
    failed = []
    runs = nodes = 0
    with World() as world:
        for seed in seeds:
            scenario = draw(seed)
            runs += len(scenario.runs)
            nodes += _nodes(scenario)
            if not _try(scenario, world, options.quiet):
                failed.append(seed)
                if not options.keep_going:
                    break
    took = time.monotonic() - began
    print(f"{len(seeds)} seeds, {runs} runs, {nodes} outcomes in {took:.0f} s; failed: {failed}")
    return 1 if failed else 0


def _try(scenario: Scenario, world: World, quiet: bool) -> bool:
    faulthandler.dump_traceback_later(_DEADLINE, exit=True)
    began = time.monotonic()
    try:
        check(scenario, world)
    except BaseException as error:
        print(f"seed {scenario.seed} failed:", flush=True)
        traceback.print_exc(file=sys.stdout)
        _describe(scenario)
        print(f"replay it: python -m tests.faults {scenario.seed}", flush=True)
        if not isinstance(error, Exception):
            raise
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    if not quiet:
        took = time.monotonic() - began
        print(
            f"seed {scenario.seed}: {len(scenario.runs)} runs, {_nodes(scenario)} outcomes, "
            f"{took:.1f} s",
            flush=True,
        )
    return True


def _describe(scenario: Scenario) -> None:
    for run in scenario.runs:
        print(f"  {run._replace(jobs=[], plans={})}")
        for job in run.jobs:
            print(
                f"    {describe(job.work)} on {len(job.nodes)} nodes, stderr={job.stderr}, "
                f"timeout={job.timeout}"
            )


def _nodes(scenario: Scenario) -> int:
    return sum(len(job.nodes) for run in scenario.runs for job in run.jobs)


def _share(seeds: list[int], options: argparse.Namespace) -> int:
    """Try the seeds in several processes, each with servers of its own."""
    flags = [f for f in ("--quiet", "--keep-going") if getattr(options, f[2:].replace("-", "_"))]
    shares = [seeds[number :: options.jobs] for number in range(options.jobs)]
    processes = [
        subprocess.Popen([sys.executable, "-m", "tests.faults", *flags, *map(str, share)], cwd=ROOT)
        for share in shares
    ]
    return max(process.wait() for process in processes)


if __name__ == "__main__":
    sys.exit(main())
