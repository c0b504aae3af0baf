"""The parts of two traces of one script that must be equal."""

from __future__ import annotations

import itertools
from typing import Any

Result = dict[str, Any]


def per_source(events: list[Any]) -> dict[str, list[Any]]:
    """The events of each node of each worker, in their order; those of no node under the worker."""
    found: dict[str, list[Any]] = {}
    for event in events:
        name, source, *arguments = event
        on_node = name in ("ev_pickup", "ev_read", "ev_written", "ev_hup", "ev_error")
        found.setdefault(f"{source} {arguments[0]}" if on_node else str(source), []).append(event)
    return {source: tidied(node_events) for source, node_events in sorted(found.items())}


def tidied(events: list[Any]) -> list[Any]:
    """A node's events without their random parts.

    That is the order between its streams, and into how many pieces its input was cut.
    """
    tidy: list[Any] = []
    for in_and_out, run in itertools.groupby(events, lambda e: e[0] in ("ev_read", "ev_written")):
        if not in_and_out:
            tidy += run
            continue
        streams = sorted(run, key=lambda e: (e[0], e[3]))
        written = [event for event in streams if event[0] == "ev_written"]
        tidy += [event for event in streams if event[0] == "ev_read"]
        if written:
            tidy.append([*written[0][:4], sum(event[4] for event in written)])
    return tidy


def check_order(events: list[Any]) -> None:
    """ev_start comes first and ev_close last, of all events of a worker."""
    workers: dict[str, list[str]] = {}
    for name, source, *_ in events:
        if name.startswith("ev_") and source.startswith("<") and not name.startswith("ev_port"):
            workers.setdefault(source, []).append(name)
    for source, called in workers.items():
        for name, place in (("ev_start", 0), ("ev_close", -1)):
            # More than one: several workers that run the same command.
            if called.count(name) == 1:
                assert called[place] == name, (source, called)


def comparable(result: Result) -> Any:
    """The parts that must be equal, in a form whose differences are easy to read."""
    return {"events": per_source(result["events"]), "notes": result["notes"]}
