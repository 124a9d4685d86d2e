# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page: one document, nothing from anywhere else; its script asks for ``status.json`` once a second."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_STYLE: Final = """
:root {
  color-scheme: light dark;
  --ink: #1c2430; --soft: #667085; --line: #d8dee8; --read: #1f77b4; --write: #d9660a; --paper: #fff;
}
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #98a2b3; --line: #344054; --paper: #14181f } }
body {
  font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem;
}
h1 { font-size: 1.3rem; margin: 0 } h2 { font-size: 1.05rem; margin: 1.5rem 0 .4rem }
p, .soft { color: var(--soft) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem }
svg { width: 100%; height: 10rem; display: block } .axis { stroke: var(--line) }
text { fill: var(--soft); font-size: 11px }
polyline { fill: none; stroke-width: 1.6 }
.read { stroke: var(--read); color: var(--read) }
.write { stroke: var(--write); color: var(--write) } figure { margin: 0 } figcaption b { font-weight: 600 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line) }
th, td { vertical-align: top; overflow-wrap: anywhere }
th { color: var(--soft); font-weight: 500 } td.n, th.n { text-align: right } .bad { color: #c4320a }
"""

_SCRIPT: Final = """
'use strict';
const SPAN = 120, NS = 'http://www.w3.org/2000/svg', at = id => document.getElementById(id);
let before = null;
function make(name, text, kind) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}
function short(value) {
  const units = ['', 'k', 'M', 'G', 'T'];
  let unit = 0;
  while (value >= 9999.5 && unit < 4) { value /= 1000; unit++; }
  return (value < 10 && value > 0 ? value.toFixed(1) : Math.round(value)) + units[unit];
}
function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  while (bytes >= 1024 && unit < 5) { bytes /= 1024; unit++; }
  return bytes.toFixed(bytes % 1 ? 1 : 0) + ' ' + units[unit];
}
function rates(history, column, scale) {
  const points = [];
  for (let i = 1; i < history.length; i++) {
    const seconds = history[i][0] - history[i - 1][0];
    const more = Math.max(0, history[i][column] - history[i - 1][column]);
    if (seconds > 0) points.push([history[i][0], more / seconds / scale]);
  }
  return points;
}
function plot(id, now, series, unit) {
  const svg = at(id), wide = svg.clientWidth || 400, high = svg.clientHeight || 150;
  const most = Math.max(1, ...series.flatMap(each => each.points.map(point => point[1]))) * 1.1;
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const line = document.createElementNS(NS, 'line'), label = document.createElementNS(NS, 'text');
    const y = high - part * (high - 16), places = {x1: 0, x2: wide, y1: y, y2: y, class: 'axis'};
    for (const key in places) line.setAttribute(key, places[key]);
    label.setAttribute('x', 2);
    label.setAttribute('y', y - 2);
    label.textContent = short(part * most) + (part ? ' ' + unit : '');
    parts.push(line, label);
  }
  for (const {kind, points} of series) {
    const line = document.createElementNS(NS, 'polyline');
    line.setAttribute('class', kind);
    const x = time => (wide * (1 - (now - time) / SPAN)).toFixed(1);
    const y = value => (high - value / most * (high - 16)).toFixed(1);
    const shown = points.filter(point => now - point[0] <= SPAN);
    line.setAttribute('points', shown.map(point => x(point[0]) + ',' + y(point[1])).join(' '));
    parts.push(line);
  }
  svg.setAttribute('viewBox', '0 0 ' + wide + ' ' + high);
  svg.replaceChildren(...parts);
  const latest = each => each.kind + ' ' + short((each.points.at(-1) || [0, 0])[1]);
  at(id + '-now').textContent = series.map(latest).join(', ') + ' ' + unit;
}
function rows(id, all) {
  at(id).replaceChildren(...all.map(cells => {
    const row = make('tr');
    row.append(...cells.map(cell => Array.isArray(cell) ? make('td', cell[0], cell[1]) : make('td', cell)));
    return row;
  }));
}
function show(state) {
  const seconds = before ? state.now - before.now : 0, past = new Map();
  if (before) {
    for (const target of before.targets) {
      for (const lun of target.luns) past.set(target.name + ' ' + lun.id, lun.counters);
    }
  }
  const hours = Math.floor(state.up / 3600), minutes = Math.floor(state.up / 60) % 60, counts = state.counts;
  at('about').textContent = `openlun-iscsi ${state.version}, process ${state.pid}, up ${hours} h ${minutes} min; `
    + `${counts.targets} target nodes, ${counts.bdevs} bdevs, ${counts.connections} connections`;
  at('trouble').replaceChildren(...state.unrestored.map(text => make('p', 'Not restored: ' + text, 'bad')));
  for (const [id, column, scale, unit] of [['iops', 1, 1, 'IOPS'], ['bytes', 3, 1e6, 'MB/s']]) {
    const read = rates(state.history, column, scale), write = rates(state.history, column + 1, scale);
    plot(id, state.now, [{kind: 'read', points: read}, {kind: 'write', points: write}], unit);
  }
  const sessions = new Map();
  for (const {target_node_name: name} of state.connections) sessions.set(name, (sessions.get(name) || 0) + 1);
  rows('targets', state.targets.flatMap(target => (target.luns.length ? target.luns : [null]).map((lun, place) => {
    const name = target.name + (target.alias ? ` (${target.alias})` : '') + (target.enabled ? '' : ', disabled');
    const count = sessions.get(target.name.split(':').slice(1).join(':')) || 0;
    const head = place ? ['', ''] : [name, [String(count), 'n']];
    if (!lun) return [...head, '', 'no LUN', '', '', '', ''];
    const old = past.get(target.name + ' ' + lun.id);
    const rate = column => old && seconds > 0 ? Math.max(0, lun.counters[column] - old[column]) / seconds : 0;
    return [...head, [String(lun.id), 'n'], lun.bdev + (lun.readonly ? ', read-only' : ''), [size(lun.size), 'n'],
      [short(rate(0) + rate(1)), 'n'], [short((rate(2) + rate(3)) / 1e6), 'n'],
      [rate(4) ? (rate(4) / (rate(0) + rate(1)) / 1e6).toPrecision(2) : '', 'n']];
  })));
  rows('connections', state.connections.map(each => [
    each.initiator_name || 'logging in', each.initiator_addr, each.target_node_name || 'discovery', each.state,
    [String(each.commands), 'n'], [size(each.bytes_received), 'n'], [size(each.bytes_sent), 'n'],
  ]));
  before = state;
}
async function ask() {
  try {
    const answer = await fetch('status.json');
    if (!answer.ok) throw new Error('the engine answers ' + answer.status);
    show(await answer.json());
    at('lost').textContent = '';
  } catch (error) {
    at('lost').textContent = 'No news: ' + error.message;
  }
  setTimeout(ask, 1000);
}
ask();
"""

_BODY: Final = """<h1>iSCSI target</h1>
<p id="about">Waiting for the engine</p><p id="lost" class="bad" role="alert"></p><div id="trouble"></div>
<div class="plots">
<figure><figcaption><b>Operations</b> <span id="iops-now" class="soft"></span></figcaption>
<svg id="iops" role="img" aria-label="Reads and writes a second"></svg></figure>
<figure><figcaption><b>Throughput</b> <span id="bytes-now" class="soft"></span></figcaption>
<svg id="bytes" role="img" aria-label="Megabytes a second"></svg></figure>
</div>
<h2>Target nodes</h2>
<table><thead><tr><th>Name</th><th class="n">Connections</th><th class="n">LUN</th><th>Bdev</th><th class="n">Size</th>
<th class="n">IOPS</th><th class="n">MB/s</th><th class="n">Latency, ms</th></tr></thead>
<tbody id="targets"></tbody></table>
<h2>Connections</h2>
<table><thead><tr><th>Initiator</th><th>Address</th><th>Target node</th><th>State</th><th class="n">Commands</th>
<th class="n">Received</th><th class="n">Sent</th></tr></thead><tbody id="connections"></tbody></table>
"""


def _source(text: str) -> str:
    """What a content security policy names this inline text by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>iSCSI target</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
    f"<style>{_STYLE}</style></head><body>{_BODY}<script>{_SCRIPT}</script></body></html>"
).encode()
