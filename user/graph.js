// SPDX-License-Identifier: GPL-2.0-only
/* Draws the part of the diagram that is in sight, so that ten thousand events scroll like ten. */
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const [HLC, NODE, ROW, CAUSE, LAST, EFFECT, LABEL, COLOUR, BYTES, MESSAGE, RAW, WALL, TYPE, PROTO,
	SRC, DST, COMM, MARK, COUNT] = Array.from({ length: 19 }, (_, i) => i);
const labels = ["unknown", "in-band", "matched"];
const { nodes, rows, events, colours } = data;
const get = id => document.getElementById(id);
const scroll = get("scroll"), paper = get("paper"), heads = get("heads"), draw = get("draw");
const HEAD = 44, LEFT = 132, BUCKET = 64;
let rowHeight = 22, column = 0, selected = -1, shown = null, hits = [], hit = -1;

/* Events of the same node, before each; and messages by the rows they cross. */
const before = new Int32Array(events.length).fill(-1), last = new Map();
const after = new Int32Array(events.length).fill(-1);
const edges = [], buckets = [];
events.forEach((e, i) => {
	if (last.has(e[NODE])) {
		before[i] = last.get(e[NODE]);
		after[before[i]] = i;
	}
	last.set(e[NODE], i);
	for (const from of new Set([e[CAUSE], e[LAST]])) {
		if (from < 0 || events[from][ROW] === e[ROW])
			continue;
		edges.push([from, i]);
		for (let b = events[from][ROW] / BUCKET | 0; b <= (e[ROW] / BUCKET | 0); b++)
			(buckets[b] = buckets[b] || []).push(edges.length - 1);
	}
});
const eventsOf = rows.map(() => []);
events.forEach((e, i) => eventsOf[e[ROW]].push(i));

const make = (name, attributes, text) => {
	const it = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const key in attributes)
		it.setAttribute(key, attributes[key]);
	if (text !== undefined)
		it.textContent = text;
	return it;
};
const x = node => LEFT + column * (node + .5);
const y = row => (row + .5) * rowHeight;
const width = () => LEFT + column * nodes.length + 40;
const clip = (text, room) => text.length > room ? text.slice(0, room - 1) + "\u2026" : text;

function layout() {
	column = Math.max(90, Math.min(230, (scroll.clientWidth - LEFT - 60) / nodes.length));
	paper.style.height = HEAD + rows.length * rowHeight + 20 + "px";
	paper.style.width = width() + "px";
	heads.setAttribute("width", width());
	heads.setAttribute("height", HEAD);
	heads.replaceChildren(...nodes.flatMap(([name, host], i) => {
		const head = make("text", { class: "name", x: x(i), y: 18 },
			clip(name, column / 8 | 0));
		head.append(make("title", {}, host ? host + ": " + name : name));
		return [head, make("text", { class: "host", x: x(i), y: 34 },
			clip(host, column / 7 | 0))];
	}));
	paint();
}

const dim = i => shown && !shown[i] ? " dim" : "";

function paintMessage(to, [from, at]) {
	const a = events[from], b = events[at], colour = b[COLOUR];
	const [x1, x2, y1, y2] = [x(a[NODE]), x(b[NODE]), y(a[ROW]), y(b[ROW])];
	const d = x1 === x2 ? `M${x1} ${y1}C${x1 + 34} ${y1} ${x1 + 34} ${y2} ${x2} ${y2}`
		: `M${x1} ${y1}L${x2} ${y2}`;
	to.push(make("path", { class: "msg" + (dim(from) || dim(at)), stroke: colours[colour], d,
		"marker-end": `url(#a${colour})` }));
}

function paintEvent(to, i) {
	const e = events[i], other = e[LABEL] >= 0 ? e[CAUSE] : e[EFFECT];
	const right = other >= 0 ? events[other][NODE] >= e[NODE] : e[LABEL] < 0;
	const colour = e[LABEL] < 0 && e[EFFECT] >= 0 ? events[e[EFFECT]][COLOUR] : e[COLOUR];
	const group = make("g", { class: dim(i), "data-event": i });
	const bad = e[TYPE] === "gap" || e[TYPE] === "drop";
	if (e[LABEL] === 0)
		to.push(make("path", { class: "msg stub" + dim(i), stroke: colours[6],
			d: `M${x(e[NODE]) - 30} ${y(e[ROW]) - 8}L${x(e[NODE])} ${y(e[ROW])}`,
			"marker-end": "url(#a6)" }));
	else if (e[TYPE] === "send" && e[EFFECT] < 0)
		to.push(make("path", { class: "msg stub" + dim(i), stroke: colours[6],
			d: `M${x(e[NODE])} ${y(e[ROW])}l26 7` }));
	group.append(make("circle", { class: "dot" + (e[RAW] ? " ring" : "") + (bad ? " bad" : "") +
		(i === selected ? " here" : ""), cx: x(e[NODE]), cy: y(e[ROW]),
		r: e[MESSAGE] ? Math.min(5, rowHeight / 2.4) : 3, fill: colours[colour] }));
	if (rowHeight >= 12) {
		const size = e[BYTES] ? " " + e[BYTES] : e[COUNT] ? ": " + e[COUNT] + " lost" : "";
		group.append(make("text", { class: "word" + (bad ? " bad" : ""), y: y(e[ROW]) + 4,
			x: x(e[NODE]) + (right ? -9 : 9), "text-anchor": right ? "end" : "start" },
			e[TYPE] + size));
	}
	to.push(group);
}

function paintRow(to, r) {
	const [kind, , time, say] = rows[r];
	if (rowHeight >= 10 && kind !== 2 && (r === 0 || rows[r - 1][2] !== time)) {
		to.push(make("line", { class: "grid", x1: LEFT - 8, x2: width() - 20,
			y1: y(r), y2: y(r) }));
		to.push(make("text", { class: "time", x: LEFT - 14, y: y(r) + 4 }, time));
	}
	if (kind === 1)
		to.push(make("rect", { class: "fold", x: LEFT, width: width() - LEFT - 40, rx: 5,
			y: y(r) - rowHeight / 2 + 2, height: Math.max(2, rowHeight - 4) }));
	if (kind === 2)
		to.push(make("line", { class: "quiet", x1: LEFT, x2: width() - 40,
			y1: y(r), y2: y(r) }));
	if (kind && rowHeight >= 12)
		to.push(make("text", { class: "say word", x: (LEFT + width() - 40) / 2,
			y: y(r) + 4 }, say));
}

function paint() {
	const top = Math.max(0, (scroll.scrollTop - 200) / rowHeight | 0);
	const end = Math.min(rows.length, top + (scroll.clientHeight + 400) / rowHeight + 1 | 0);
	const lines = [], arrows = [], dots = [], seen = new Set();
	const hitSet = new Set(hits);
	draw.setAttribute("width", width());
	draw.setAttribute("height", rows.length * rowHeight + 20);
	draw.style.top = HEAD + "px";
	nodes.forEach((_, i) => lines.push(make("line", { class: "life", x1: x(i), x2: x(i),
		y1: y(top) - rowHeight, y2: y(end) })));
	for (let r = top; r < end; r++) {
		paintRow(lines, r);
		for (const i of rows[r][0] === 0 ? eventsOf[r] : []) {
			if (hitSet.has(i))
				lines.push(make("rect", { class: "hit", width: column,
					x: x(events[i][NODE]) - column / 2,
					y: y(r) - rowHeight / 2, height: rowHeight }));
			paintEvent(dots, i);
		}
	}
	for (let b = top / BUCKET | 0; b <= (end / BUCKET | 0); b++)
		for (const e of buckets[b] || [])
			if (!seen.has(e)) {
				seen.add(e);
				paintMessage(arrows, edges[e]);
			}
	const defs = make("defs", {});
	colours.forEach((colour, i) => {
		const marker = make("marker", { id: "a" + i, viewBox: "0 0 8 8", refX: 11, refY: 4,
			markerWidth: 6, markerHeight: 6, orient: "auto" });
		marker.append(make("path", { d: "M0 0L8 4L0 8z", fill: colour }));
		defs.append(marker);
	});
	draw.replaceChildren(defs, ...lines, ...arrows, ...dots);
}

function describe(i) {
	const e = events[i], [name, host] = nodes[e[NODE]], lines = [];
	lines.push(`${e[HLC]}  ${e[TYPE]} at ${host ? host + "/" : ""}${name}`);
	if (e[RAW])
		lines.push(`${e[RAW]}  before repair`);
	lines.push(`wall clock ${e[WALL]}`);
	if (e[SRC])
		lines.push(`${e[PROTO]} ${e[SRC]} to ${e[DST]}, ${e[BYTES]} bytes`);
	if (e[COMM])
		lines.push(`process ${e[COMM]}`);
	if (e[MARK])
		lines.push(`mark ${e[MARK]}`);
	if (e[COUNT])
		lines.push(`${e[COUNT]} events lost`);
	const cause = e[CAUSE] >= 0 && events[e[CAUSE]];
	if (e[LABEL] >= 0)
		lines.push(`edge: ${labels[e[LABEL]]}` +
			(cause ? `, sent at ${cause[HLC]} by ${nodes[cause[NODE]][0]}` : ""));
	return lines.join("\n");
}

function details(i) {
	get("details").hidden = i < 0;
	get("details").textContent = i < 0 ? "" : describe(i);
}

function reveal(row) {
	const at = y(row), height = scroll.clientHeight - HEAD;
	if (at < scroll.scrollTop + rowHeight || at > scroll.scrollTop + height - 2 * rowHeight)
		scroll.scrollTop = at - height / 2;
}

function select(i) {
	selected = i;
	details(i);
	if (i >= 0)
		reveal(events[i][ROW]);
	paint();
}

/* Causes lead to earlier events only, so one sweep is enough. */
function cone(past) {
	if (selected < 0)
		return;
	shown = new Uint8Array(events.length);
	shown[selected] = 1;
	if (past)
		for (let i = selected; i >= 0; i--)
			if (shown[i])
				for (const from of [before[i], events[i][CAUSE], events[i][LAST]])
					if (from >= 0)
						shown[from] = 1;
	for (let i = selected + 1; !past && i < events.length; i++)
		for (const from of [before[i], events[i][CAUSE], events[i][LAST]])
			if (from >= 0 && shown[from])
				shown[i] = 1;
	paint();
}

function find(words) {
	const all = words.toLowerCase().split(/\s+/).filter(Boolean);
	hits = all.length === 0 ? [] : events.flatMap((e, i) => {
		const text = [...nodes[e[NODE]], e[HLC], e[RAW], e[TYPE], e[PROTO], e[SRC],
			e[DST], e[COMM], e[MARK], e[LABEL] >= 0 ? labels[e[LABEL]] : ""].join(" ");
		return all.every(word => text.toLowerCase().includes(word)) ? [i] : [];
	});
	hit = -1;
	get("hits").textContent = all.length ? hits.length + " found" : "";
	paint();
}

function go(step) {
	if (!hits.length)
		return;
	hit = (hit + step + hits.length) % hits.length;
	get("hits").textContent = `${hit + 1} of ${hits.length}`;
	select(hits[hit]);
}

function zoom(by) {
	const middle = (scroll.scrollTop + scroll.clientHeight / 2) / rowHeight;
	rowHeight = Math.max(3, Math.min(60, rowHeight * by));
	layout();
	scroll.scrollTop = middle * rowHeight - scroll.clientHeight / 2;
	paint();
}

function step(by) {
	let i = selected < 0 ? (by > 0 ? 0 : events.length - 1) : selected + by;
	while (i >= 0 && i < events.length && rows[events[i][ROW]][0] !== 0)
		i += by;
	if (i >= 0 && i < events.length)
		select(i);
}

/* Along a message, or else along the node; never off the paper. */
function follow(message, neighbour) {
	const to = message >= 0 ? message : neighbour;
	if (to >= 0)
		select(to);
}

const keys = {
	j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
	h: () => selected >= 0 && follow(events[selected][CAUSE], before[selected]),
	l: () => selected >= 0 && follow(events[selected][EFFECT], after[selected]),
	n: () => go(1), N: () => go(-1), p: () => cone(true), f: () => cone(false),
	"+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(.8),
	"/": () => get("find").focus(),
	Escape: () => { shown = null; select(-1); },
};
document.addEventListener("keydown", event => {
	if (event.ctrlKey || event.metaKey || event.altKey)
		return;
	if (event.target === get("find")) {
		if (event.key === "Enter")
			go(event.shiftKey ? -1 : 1);
		if (event.key === "Escape") {
			get("find").value = "";
			find("");
			scroll.focus();
		}
		return;
	}
	if (keys[event.key]) {
		event.preventDefault();
		keys[event.key]();
	}
});
const eventAt = event => {
	const group = event.target.closest("[data-event]");
	return group ? +group.dataset.event : -1;
};
draw.addEventListener("mouseover", event => { const i = eventAt(event); if (i >= 0) details(i); });
draw.addEventListener("mouseout", () => details(selected));
draw.addEventListener("click", event => {
	const i = eventAt(event);
	if (i < 0)
		shown = null;
	select(i);
});
scroll.addEventListener("scroll", () => requestAnimationFrame(paint));
scroll.addEventListener("wheel", event => {
	if (!event.ctrlKey)
		return;
	event.preventDefault();
	zoom(event.deltaY < 0 ? 1.15 : .87);
}, { passive: false });
get("find").addEventListener("input", event => find(event.target.value));
get("next").onclick = () => go(1);
get("back").onclick = () => go(-1);
get("closer").onclick = () => zoom(1.25);
get("wider").onclick = () => zoom(.8);
window.addEventListener("resize", layout);
get("summary").textContent = `${events.length} events of ${nodes.length} nodes. ${data.note}`;
get("legend").append(...[[1, 0], [2, 1], [0, 6]].flatMap(([label, colour]) => {
	const word = document.createElement("b"), sign = document.createElement("span");
	word.textContent = `${labels[label]} ${data.labels[label]}`;
	sign.textContent = "\u2192";
	sign.style.color = data.colour ? "inherit" : colours[colour];
	return [sign, word];
}));
layout();
})();
