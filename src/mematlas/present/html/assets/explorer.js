// Controls of the flame graph: metric, direction, search, zoom, keys.

import { KIND_NAMES } from "./data.js";
import { boxOf, drawFlame, frameInk, nodeAt } from "./flame.js";
import { formatBytes, formatExact, formatShare } from "./format.js";
import { choose, setUpSwitch } from "./switch.js";
import { onThemeChange } from "./theme.js";
import { element, hideTooltip, showTooltip } from "./tooltip.js";
import { childrenOf, invert, makeTrie, matchedBytes, pathTo, sumsOf, withoutRuntime } from "./trie.js";

// Drawing style of a report; diff/main.js has the style of a comparison.
const REPORT_STYLE = {
  rowOf: (view, metric) => metric, // row of the trie that gives the widths
  totalOf: (view, metric) => sumsOf(view.whole, metric)[0],
  inkOf: frameInk,
  describe: (view, node, metric) => {
    const bytes = sumsOf(view.trie, metric)[node];
    return [formatBytes(bytes), node > 0 ? formatShare(bytes, sumsOf(view.trie, metric)[0]) : "", formatExact(bytes)];
  },
  tooltipRows: bytesRows,
};

export function setUpExplorer(data, style = REPORT_STYLE) {
  const canvas = document.getElementById("flame-canvas");
  if (!canvas) return null;
  const whole = makeTrie(data.depth, data.frame, data.own);
  const view = {
    canvas, data, whole, tries: { "down all": whole }, trie: whole, direction: "down", depth: "code", frames: data.frames, chosen: 0, metric: 0, style,
    focus: 0, cursor: null, matches: null, boxes: null, rootName: "all",
  };
  chooseMetric(view, firstMetric(view));
  setUpMetrics(view);
  setUpSwitch(document.getElementById("direction"), (value) => turn(view, value, view.depth));
  setUpSwitch(document.getElementById("depth"), (value) => turn(view, view.direction, value));
  setUpFlameSearch(view);
  setUpPointer(view);
  canvas.addEventListener("keydown", (event) => onFlameKey(view, event));
  canvas.addEventListener("focus", () => {
    if (view.cursor === null && canvas.matches(":focus-visible")) moveCursor(view, view.focus);
  });
  new ResizeObserver(() => redraw(view)).observe(canvas.parentElement);
  onThemeChange(() => redraw(view));
  turn(view, "down", "code");
  return view;
}

// The metric that sums to the account, else the first with any bytes: a run too short for a snapshot has no resident bytes.
function firstMetric(view) {
  if (view.data.main && view.style.totalOf(view, view.data.main) > 0) return view.data.main;
  const found = view.data.metrics.findIndex((_, metric) => view.style.totalOf(view, metric) > 0);
  return Math.max(0, found);
}

export function chooseMetric(view, metric) {
  view.chosen = metric;
  view.metric = view.style.rowOf(view, metric);
  if (!(sumsOf(view.trie, view.metric)[view.focus] > 0)) view.focus = 0;
}

function setUpMetrics(view) {
  const group = document.getElementById("metric");
  view.data.metrics.forEach((metric, index) => {
    const button = element("button", "", metric.title);
    button.type = "button";
    button.dataset.value = String(index);
    const total = view.style.totalOf(view, index);
    const unknown = view.data.unknown?.[index];
    const none = unknown ? `unknown: ${unknown}` : "none";
    button.title = `${metric.meaning}: ${total > 0 ? formatBytes(total) : none}`;
    button.disabled = !(total > 0);
    group.append(button);
  });
  setUpSwitch(group, (value) => {
    chooseMetric(view, Number(value));
    zoomTo(view, view.focus);
  });
  choose(group, String(view.chosen), () => {});
}

function turn(view, direction, depth) {
  const key = `${direction} ${depth}`;
  view.direction = direction;
  view.depth = depth;
  if (!view.tries[key]) {
    view.tries[key] = direction === "up" ? invert(view.whole, view.frames, depth === "all") : withoutRuntime(view.whole, view.frames);
  }
  view.trie = view.tries[key];
  view.rootName = direction === "up" ? "all, by owner; callers below" : "all";
  zoomTo(view, 0);
}

function setUpFlameSearch(view) {
  const input = document.getElementById("search");
  input.addEventListener("input", () => searchFor(view, input.value));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = "";
    searchFor(view, "");
    view.canvas.focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    input.focus();
  });
}

export function findInStacks(view, text) {
  document.getElementById("search").value = text;
  searchFor(view, text);
  document.getElementById("flame").scrollIntoView();
}

function searchFor(view, text) {
  const wanted = text.trim().toLowerCase();
  view.matches = wanted ? Uint8Array.from(view.frames, (frame) => Number(isMatch(frame, wanted))) : null;
  redraw(view);
  showMatched(view);
}

function isMatch(frame, wanted) {
  if (frame.kind === 3) return frame.name.toLowerCase().includes(wanted);
  return `${frame.name} ${frame.location} ${frame.file} ${frame.module}`.toLowerCase().includes(wanted);
}

function showMatched(view) {
  const output = document.getElementById("matched");
  if (!view.matches) {
    output.textContent = "";
    return;
  }
  const total = sumsOf(view.trie, view.metric)[view.focus];
  const found = matchedBytes(view.trie, view.metric, view.matches, view.focus);
  output.textContent = found > 0 ? `${formatBytes(found)} matched, ${formatShare(found, total)}` : "nothing matched";
}

export function zoomTo(view, node) {
  view.focus = node;
  view.cursor = null;
  hideTooltip();
  redraw(view);
  drawCrumbs(view);
  describeNode(view, node);
  showMatched(view);
}

function redraw(view) {
  drawFlame(view);
}

function nameOf(view, node) {
  return node === 0 ? "all" : view.frames[view.trie.frame[node]].name;
}

function drawCrumbs(view) {
  const crumbs = document.getElementById("crumbs");
  crumbs.replaceChildren();
  crumbs.hidden = view.focus === 0;
  const path = pathTo(view.trie, view.focus);
  const shown = path.length > 7 ? [path[0], -1, ...path.slice(-5)] : path;
  for (const node of shown) {
    if (node < 0) {
      crumbs.append(element("span", "soft", `… ${path.length - 6} frames …`));
      continue;
    }
    const button = element("button", "crumb", nameOf(view, node));
    button.type = "button";
    if (node === view.focus) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => zoomTo(view, node));
    crumbs.append(button);
  }
}

function describeNode(view, node) {
  const detail = document.getElementById("detail");
  const frame = view.frames[view.trie.frame[node]];
  detail.replaceChildren(element("b", "", nameOf(view, node)));
  if (node > 0 && frame.location) detail.append(element("span", "path", frame.location));
  const list = element("dl");
  view.data.metrics.forEach((metric, index) => {
    if (!(view.style.totalOf(view, index) > 0)) return;
    const [phrase, aside, exact] = view.style.describe(view, node, index);
    const value = element("dd", "", phrase);
    value.title = exact;
    if (aside) value.append(element("small", "", ` ${aside}`));
    const pair = element("div", index === view.chosen ? "chosen" : "");
    pair.append(element("dt", "", metric.title), value);
    list.append(pair);
  });
  detail.append(list);
}

function setUpPointer(view) {
  const { canvas } = view;
  const nodeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return nodeAt(view, event.clientX - box.left, event.clientY - box.top);
  };
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const node = nodeOf(event);
    canvas.classList.toggle("over", node >= 0);
    if (node >= 0) showNode(view, event, node);
    else hideTooltip();
  });
  canvas.addEventListener("pointerleave", hideTooltip);
  canvas.addEventListener("click", (event) => {
    const node = nodeOf(event);
    if (node < 0) return;
    zoomTo(view, node === view.focus && node > 0 ? view.trie.parent[node] : node);
  });
}

function showNode(view, event, node) {
  const frame = view.frames[view.trie.frame[node]];
  const rows = view.style.tooltipRows(view, node);
  const location = node > 0 && frame.file ? (frame.line < 0 ? frame.file : `${frame.file}:${frame.line}`) : "";
  if (node > 0 && frame.module) rows.push(["module", frame.module]);
  if (node > 0) rows.push(["kind", `${KIND_NAMES[frame.kind]}${["", ", library", ", runtime"][frame.tier]}`]);
  showTooltip(event, nameOf(view, node), location, rows);
}

function bytesRows(view, node) {
  const bytes = sumsOf(view.trie, view.metric)[node];
  const rows = [
    [view.data.metrics[view.chosen].title, `${formatBytes(bytes)} (${formatExact(bytes)})`],
    ["of all", formatShare(bytes, sumsOf(view.trie, view.metric)[0])],
  ];
  if (view.focus > 0) rows.push(["of the zoomed frame", formatShare(bytes, sumsOf(view.trie, view.metric)[view.focus])]);
  const own = view.trie.own[view.metric][node];
  if (own > 0 && own < bytes) rows.push(["self", formatBytes(own)]);
  return rows;
}

function moveCursor(view, node) {
  if (node < 0 || node === undefined) return;
  view.cursor = node;
  redraw(view);
  describeNode(view, node);
  const box = boxOf(view, node);
  const scroll = view.canvas.parentElement;
  if (!box) return;
  if (box.y < scroll.scrollTop) scroll.scrollTop = box.y;
  else if (box.y + box.height > scroll.scrollTop + scroll.clientHeight) {
    scroll.scrollTop = box.y + box.height - scroll.clientHeight;
  }
}

// Siblings wide enough to be drawn, in drawing order: widest first.
function drawnChildren(view, node) {
  return node < 0 ? [] : childrenOf(view.trie, node).filter((child) => boxOf(view, child));
}

function onFlameKey(view, event) {
  const at = view.cursor ?? view.focus;
  const above = view.trie.parent[at];
  const sibling = (step) => {
    const siblings = drawnChildren(view, at === view.focus ? -1 : above);
    return siblings[siblings.indexOf(at) + step];
  };
  const actions = {
    ArrowDown: () => moveCursor(view, drawnChildren(view, at)[0]),
    ArrowUp: () => moveCursor(view, at === view.focus ? -1 : above),
    ArrowLeft: () => moveCursor(view, sibling(-1)),
    ArrowRight: () => moveCursor(view, sibling(1)),
    Enter: () => zoomTo(view, at),
    Escape: () => zoomTo(view, Math.max(0, view.trie.parent[view.focus])),
    Backspace: () => zoomTo(view, Math.max(0, view.trie.parent[view.focus])),
    Home: () => zoomTo(view, 0),
    i: () => document.querySelector('#direction button[aria-pressed="false"]').click(),
  };
  if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  actions[event.key]();
}
