# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugepages of a host with everything around them: pages now and at boot, a mount, a limit. Looks first, then acts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host import memlock, mount_units, unit_links
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugepage_files import BootFiles
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugepages import Change, Hugepages, Pool
from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Hugetlbfs, Mount, Run, parse_mount
from ansible_collections.openlun.iscsi.plugins.module_utils._host.owned_files import OwnedFiles
from ansible_collections.openlun.iscsi.plugins.module_utils._host.page_sizes import Wish, parse_pages, show_amount
from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host


class Request(NamedTuple):
    """What is declared, as the module's options."""

    pages: Mapping[str, Any]
    mount: Mapping[str, Any] | None
    memlock_user: str | None
    memlock: str
    allow_shrink: bool
    persistent: bool
    absent: bool


class _Plan(NamedTuple):
    """What is to be done, and what it leads to."""

    wishes: list[Wish]
    changes: list[Change]
    files: dict[str, str | None]
    mount: Mount | None
    unmounts: list[str]
    steps: list[Step]
    warnings: list[str]


class Reservation:
    """The hugepages of one host."""

    def __init__(self, host: Host, run: Run) -> None:
        self._host = host
        self._run = run
        self._pages = Hugepages(host)
        self._files = OwnedFiles(host)
        self._mounts = Hugetlbfs(host, run)

    def bring(self, request: Request, apply: bool) -> dict[str, Any]:
        """Make the host as requested, or without ``apply`` only tell how; gives the module's result. Raises HostError.

        The error's details carry ``boot_parameters`` where the kernel's command line would help.
        """
        boot = self._boot()
        keeps = request.persistent and not request.absent
        lacks = boot.missing_parameters(parse_pages(request.pages)) if keeps else []
        try:
            plan = self._absent(request, boot) if request.absent else self._present(request, boot)
            before = self._before(plan)
            for step in plan.steps if apply else ():
                step.do()
        except HostError as error:
            error.details.setdefault("boot_parameters", lacks)
            raise
        after = self._after(plan, before)
        overrides = [(wish, each) for wish in plan.wishes if keeps for each in boot.overrides(wish)]
        return {
            "changed": bool(plan.steps),
            "actions": [step.told() for step in plan.steps],
            "sizes": self.sizes(),
            "mounts": self._mounts.told(),
            "files": self._ours(boot),
            "boot_parameters": lacks,
            "overrides": [each.told() for _wish, each in overrides],
            "warnings": plan.warnings + [each.sentence(wish) for wish, each in overrides],
            "diff": {"before": before, "after": after},
        }

    def look(self) -> dict[str, Any]:
        """What there is, for a module that only reads. Raises HostError."""
        pools = self._pages.pools()
        default = self._pages.default_size()
        boot = self._boot()
        return {
            "supported": bool(pools),
            "default_size": show_amount(default) if default and pools else None,
            "available": self._pages.memory().get("MemAvailable"),
            "sizes": self.sizes(),
            "mounts": self._mounts.told(),
            "files": self._ours(boot),
            "declared": {show_amount(size): wish.shown() for size, wish in sorted(boot.declared().items())},
        }

    def sizes(self) -> list[dict[str, Any]]:
        return [pool.told() for pool in self._pages.pools().values()]

    def _boot(self) -> BootFiles:
        return BootFiles(self._host, self._files, self._pages.default_size())

    def _present(self, request: Request, boot: BootFiles) -> _Plan:
        wishes = parse_pages(request.pages)
        changes, kept = self._pages.plan(wishes, request.allow_shrink)
        files = boot.wanted(wishes, request.persistent)
        steps = [*self._resize(changes)]
        mount = None
        if request.mount is not None:
            sizes = list(self._pages.pools())
            mount = self._mounts.settled(parse_mount(request.mount, sizes, self._pages.default_size()))
            files[mount_units.unit_path(mount.path)] = (
                mount_units.unit_text(mount.path, mount.options) if request.persistent else None
            )
            steps += self._mounts.bring(mount)
        if request.memlock_user is not None:
            path, text = memlock.memlock_file(request.memlock_user, request.memlock)
            files[path] = text
        steps += self._write(files)
        return _Plan(wishes, changes, files, mount, [], steps, kept)

    def _absent(self, request: Request, boot: BootFiles) -> _Plan:
        """Everything of ours goes. Pages go with allow_shrink: those that our files or the options name."""
        declared = boot.declared()
        declared.update({wish.size: wish for wish in parse_pages(request.pages)})
        pools = self._pages.pools()
        wishes = [_nothing(wish) for size, wish in sorted(declared.items()) if size in pools]
        changes, _kept = self._pages.plan(wishes, allow_shrink=True)
        warnings = []
        if not request.allow_shrink:
            warnings = [
                f"{each.shown}: {each.have} pages stay until the next boot. Set allow_shrink." for each in changes
            ]
            changes = []
        files: dict[str, str | None] = dict.fromkeys(self._ours(boot))
        unmounts = [mount.path for mount in self._mounts.mounted() if mount.ours]
        steps = [*self._mounts.remove(), *self._resize(changes), *self._write(files)]
        return _Plan(wishes, changes, files, None, unmounts, steps, warnings)

    def _ours(self, boot: BootFiles) -> list[str]:
        units = self._files.ours(unit_links.DIRECTORY, "", mount_units.SUFFIX)
        return [
            *boot.paths(),
            *(path for path in units if mount_units.is_hugetlbfs(self._files.text(path) or "")),
            *self._files.ours(memlock.DIRECTORY, memlock.PREFIX, memlock.SUFFIX),
        ]

    def _resize(self, changes: list[Change]) -> Iterator[Step]:
        """One step for each, all done by the first: they succeed together or not at all."""
        for position, change in enumerate(changes):
            action, why = "grow" if change.want > change.have else "shrink", f"{change.have} → {change.want} pages"
            do = partial(self._pages.apply, changes if position == 0 else [])
            yield Step(action, change.shown, why, do)

    def _write(self, files: Mapping[str, str | None]) -> Iterator[Step]:
        units = [path for path in files if path.endswith(mount_units.SUFFIX)]
        gone = [path for path in units if files[path] is None]
        yield from (step for path in gone for step in unit_links.unlink(self._host, path, mount_units.TARGET))
        written = list(self._files.bring(files))
        yield from written
        stays = [path for path in units if files[path] is not None]
        yield from (step for path in stays for step in unit_links.link(self._host, path, mount_units.TARGET))
        if any(step.object.endswith(mount_units.SUFFIX) for step in written):
            yield from unit_links.reload(self._host, self._run)

    def _before(self, plan: _Plan) -> dict[str, Any]:
        pools = self._pages.pools()
        paths = [*plan.unmounts, *([plan.mount.path] if plan.mount else [])]
        return {
            "pages": {show_amount(wish.size): _shown(pools[wish.size], wish) for wish in plan.wishes},
            "mounts": {path: self._mounts.shown(path) for path in paths},
            "files": self._files.texts(path for path, text in plan.files.items() if text or self._host.exists(path)),
        }

    def _after(self, plan: _Plan, before: Mapping[str, Any]) -> dict[str, Any]:
        """What the plan leads to; after a run it has been read back, so it is what is there."""
        pages: dict[str, Any] = {
            size: dict(count) if isinstance(count, dict) else count for size, count in before["pages"].items()
        }
        for change in plan.changes:
            size = show_amount(change.size)
            if change.node is None:
                pages[size] = change.want
            else:
                pages[size][str(change.node)] = change.want
        mounts: dict[str, Any] = dict.fromkeys(plan.unmounts)
        if plan.mount:
            mounts[plan.mount.path] = plan.mount.told()
        return {"pages": pages, "mounts": mounts, "files": {path: plan.files[path] for path in before["files"]}}


def _nothing(wish: Wish) -> Wish:
    return wish._replace(places=dict.fromkeys(wish.places, 0))


def _shown(pool: Pool, wish: Wish) -> int | dict[str, int]:
    if wish.total is not None:
        return pool.host.total
    return {str(node): pool.counts[node].total for node in wish.places}
