"""What each slot does, as rows of a table; many slots are folded to their hosts and the few that matter.

    up to 8 slots ──────────> a row for each
    more ──by worker──> hosts a row for each of up to 6, with a chip per slot; one row for all other hosts
         └─────────────> few  the lost, the failing and the slowest

Pure: slot reports in, HTML of the live view out. Nothing of it stays in the notebook, so classes may be used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from statistics import median

from jmr.progress.report import SlotReport
from jmr.progress.words import count, size, whole
from jmr.views.timeline import sorted_slots

__all__ = ["MAX_ROWS", "rows"]

MAX_ROWS = 8
MAX_HOSTS = 6
MAX_NOTABLE = 4
#: More slots of one host are no chips but one bar in parts.
MAX_CHIPS = 64
#: A slot is slow at this share of the speed that half of the slots reach.
SLOW = 0.75
#: Class of what a slot does, and its word, in the order in which they are told.
WORDS = {"map": "mapping", "reduce": "reducing", "idle": "idle", "lost": "lost"}
NONE = "–"
#: Said of a column to whoever points at its head. The rate at the job's bar is that of late.
TITLES = {"Records/s": " title='while mapping, on average'"}
#: From so many seconds on a row says how long a slot has been at its task.
LONG = 2.0

Slots = Mapping[str, SlotReport]


def rows(slots: Slots, now: float) -> str:
    """The table; empty while there is no slot."""
    if not slots:
        return ""
    if len(slots) <= MAX_ROWS:
        return _table("Slot", "Doing", [_slot_row(name, slots[name], now) for name in sorted_slots(slots)])
    return _told(slots) + _table("Host", "Slots", _host_rows(slots)) + _notable(slots, now)


def _notable(slots: Slots, now: float) -> str:
    few = [_slot_row(name, slots[name], now) for name in notable(slots)]
    return _table("Lost, failing, slow", "Doing", few) if few else ""


def notable(slots: Slots) -> list[str]:
    """The few that somebody wants to know of: lost, failing most, slower than the rest."""
    speeds = [speed for slot in slots.values() if (speed := _speed(slot))]
    usual = median(speeds) if speeds else 0.0

    def is_slow(slot: SlotReport) -> bool:
        return 0 < _speed(slot) < SLOW * usual

    def weight(name: str) -> tuple[bool, int, float]:
        slot = slots[name]
        return not slot.is_gone, -slot.n_failures, _speed(slot) or usual

    chosen = [name for name, slot in slots.items() if slot.is_gone or slot.n_failures or is_slow(slot)]
    return sorted(chosen, key=weight)[:MAX_NOTABLE]


def _told(slots: Slots) -> str:
    counts = Counter(map(_kind, slots.values()))
    told = " · ".join(
        f"<i class='jmr-chip jmr-{kind}'></i> {counts[kind]} {WORDS[kind]}" for kind in WORDS if counts[kind]
    )
    return f"<div class='jmr-told'>{told}</div>"


def _host_rows(slots: Slots) -> list[str]:
    hosts: dict[str, list[SlotReport]] = {}
    for slot in slots.values():
        hosts.setdefault(slot.worker, []).append(slot)
    names = list(hosts)
    if len(names) > MAX_HOSTS:
        worst = sorted(names, key=lambda name: _host_weight(hosts[name]))[: MAX_HOSTS - 1]
        names = [name for name in names if name in worst]
    shown = [_row(escape(name), _chips(hosts[name]), hosts[name]) for name in names]
    others = [slot for name, group in hosts.items() if name not in names for slot in group]
    if others:
        n_others = len(hosts) - len(names)
        shown.append(_row(f"{n_others} more hosts", _parts(others), others))
    return shown


def _host_weight(group: list[SlotReport]) -> tuple[int, int, float]:
    n_gone = sum(slot.is_gone for slot in group)
    return -n_gone, -sum(slot.n_failures for slot in group), _mean_speed(group)


def _mean_speed(group: list[SlotReport]) -> float:
    return sum(map(_speed, group)) / len(group)


def _chips(group: list[SlotReport]) -> str:
    if len(group) > MAX_CHIPS:
        return _parts(group)
    return "".join(f"<i class='jmr-chip jmr-{_kind(slot)}'></i>" for slot in group)


def _parts(group: list[SlotReport]) -> str:
    """One bar: how many of them do what."""
    counts = Counter(map(_kind, group))
    parts = "".join(f"<i class='jmr-{kind}' style='flex:{counts[kind]}'></i>" for kind in WORDS if counts[kind])
    return f"<span class='jmr-parts'>{parts}</span> {len(group)}"


def _slot_row(name: str, slot: SlotReport, now: float) -> str:
    kind = _kind(slot)
    doing = _doing(slot, now) if kind in ("map", "reduce") else WORDS[kind]
    return _row(f"<i class='jmr-dot jmr-{kind}'></i>{escape(name)}", escape(doing), [slot])


def _doing(slot: SlotReport, now: float) -> str:
    """Its task; and for how long, where nothing else may move for a while."""
    seconds = now - slot.since
    return slot.doing if seconds < LONG else f"{slot.doing} · {whole(seconds)}"


def _row(name: str, doing: str, group: list[SlotReport]) -> str:
    n_failures = sum(slot.n_failures for slot in group)
    speed = sum(_speed(slot) for slot in group if _kind(slot) == "map")
    memory = sum(slot.memory_bytes for slot in group if not slot.is_gone)
    cells = [
        f"{sum(slot.n_tasks for slot in group):,}",
        count(speed) if speed else NONE,
        size(memory) if memory else NONE,
        f"<b class='jmr-bad'>{n_failures:,}</b>" if n_failures else NONE,
    ]
    return (
        f"<tr><td>{name}</td><td class='jmr-dim'>{doing}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    )


def _table(first: str, second: str, body: Iterable[str]) -> str:
    heads = (first, second, "Tasks", "Records/s", "Memory", "Failed")
    head = "".join(f"<th{TITLES.get(head, '')}>{head}</th>" for head in heads)
    return f"<table class='jmr-rows'><tr>{head}</tr>{''.join(body)}</table>"


def _kind(slot: SlotReport) -> str:
    if slot.is_gone:
        return "lost"
    return slot.doing.partition("-")[0] if slot.doing.startswith(("map", "reduce")) else "idle"


def _speed(slot: SlotReport) -> float:
    """Records a second while it mapped; 0 if unknown."""
    return slot.n_records / slot.map_seconds if slot.map_seconds > 0 else 0.0
