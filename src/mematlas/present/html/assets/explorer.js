// Controls of the flame graph: metric, direction, frames, search, zoom, keys, and their state in the address.

import { bytesRows, describeNode, nameOf, showFolded, showNode } from "./detail.js";
import { boxOf, drawFlame, foldedAt, frameInk, nodeAt } from "./flame.js";
import { formatBytes, formatExact, formatShare } from "./format.js";
import { drawHits, matchesOf, stepHit } from "./search.js";
import { onStateChange, readState, writeState } from "./state.js";
import { choose, press, setUpSwitch } from "./switch.js";
import { onThemeChange } from "./theme.js";
import { element, hideTooltip } from "./tooltip.js";
import { byPackage, childrenOf, invert, makeGroups, makeTrie, pathTo, sumsOf, withImportsFolded, withoutProcesses, withoutRuntime } from "./trie.js";

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
  const whole = makeTrie(data.depth, data.frame, data.own, data.folded);
  const view = {
    canvas, data, whole, joined: null, tries: {}, trie: whole, direction: "down", depth: "code", roots: "", frames: data.frames.slice(), chosen: 0, metric: 0, style,
    focus: 0, cursor: null, touched: null, matches: null, search: { text: "", exact: false }, hits: [], hit: -1, boxes: null, rootName: "all", first: 0,
  };
  view.packages = makeGroups(view.frames);
  view.imports = makeGroups(view.frames);
  view.first = firstMetric(view);
  chooseMetric(view, view.first);
  setUpMetrics(view);
  setUpDepth(view);
  setUpRoots(view);
  setUpSwitch(document.getElementById("direction"), (value) => {
    turn(view, value, view.depth);
    saveView(view);
  });
  setUpFlameSearch(view);
  setUpPointer(view);
  canvas.addEventListener("keydown", (event) => onFlameKey(view, event));
  canvas.addEventListener("focus", () => {
    if (view.cursor === null && canvas.matches(":focus-visible")) moveCursor(view, view.focus);
  });
  new ResizeObserver(() => redraw(view)).observe(canvas.parentElement);
  onThemeChange(() => redraw(view));
  turn(view, "down", "code");
  restoreView(view, readState());
  onStateChange((state) => restoreView(view, state));
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

// ---- state in the address

function saveView(view, push = false) {
  const path = pathTo(view.trie, view.focus).slice(1);
  writeState({
    metric: view.chosen === view.first ? "" : view.data.metrics[view.chosen].name,
    by: view.direction === "up" ? "owner" : "",
    frames: view.depth === "code" ? "" : view.depth,
    roots: view.roots === "apart" ? view.roots : "",
    zoom: path.map((node) => view.trie.frame[node].toString(36)).join("."),
    search: view.search.text,
    exact: view.search.exact ? "1" : "",
  }, push);
}

function restoreView(view, state) {
  const metric = view.data.metrics.findIndex(({ name }) => name === state.metric);
  chooseMetric(view, metric >= 0 && view.style.totalOf(view, metric) > 0 ? metric : view.first);
  press(document.getElementById("metric"), String(view.chosen));
  const depth = document.querySelector(`#depth button[data-value="${CSS.escape(state.frames || "code")}"]`) ? state.frames || "code" : "code";
  const direction = state.by === "owner" ? "up" : "down";
  press(document.getElementById("direction"), direction);
  press(document.getElementById("depth"), depth);
  chooseRoots(view, state.roots);
  view.search = { text: state.search || "", exact: state.exact === "1" };
  document.getElementById("search").value = view.search.text;
  turn(view, direction, depth);
  let node = 0;
  for (const label of (state.zoom || "").split(".").filter(Boolean)) {
    const child = childrenOf(view.trie, node).find((each) => view.trie.frame[each].toString(36) === label);
    if (child === undefined) break;
    node = child;
  }
  zoomTo(view, node);
}

// ---- metric, direction, frames

function setUpMetrics(view) {
  const group = document.getElementById("metric");
  const without = [];
  view.data.metrics.forEach((metric, index) => {
    const button = element("button", "", metric.name);
    button.type = "button";
    button.dataset.value = String(index);
    const total = view.style.totalOf(view, index);
    const unknown = view.data.unknown?.[index];
    button.title = `${metric.meaning}: ${total > 0 ? formatBytes(total) : unknown ? `unknown: ${unknown}` : "none"}`;
    button.disabled = !(total > 0);
    if (button.disabled) without.push([metric.name, unknown]);
    group.append(button);
  });
  sayWithout(without);
  setUpSwitch(group, (value) => {
    chooseMetric(view, Number(value));
    zoomTo(view, view.focus);
    saveView(view);
  });
  press(group, String(view.chosen));
}

// Says why metrics cannot be chosen; those with one reason together.
function sayWithout(without) {
  const reasons = new Map();
  for (const [name, why] of without) reasons.set(why || "", [...(reasons.get(why || "") || []), name]);
  const phrases = [...reasons].map(([why, names]) => (why ? `${names.join(", ")}: not measured, ${why}` : `${names.join(", ")}: none in this run`));
  document.getElementById("metric-missing").textContent = phrases.join(" · ");
}

function setUpDepth(view) {
  const group = document.getElementById("depth");
  const imports = group.querySelector('[data-value="imports"]');
  imports.hidden = !view.data.frames.some((frame) => frame.imported);
  setUpSwitch(group, (value) => {
    turn(view, view.direction, value);
    saveView(view);
  });
}

// Forked workers run the same code: their stacks are joined, or each process has a root.
function setUpRoots(view) {
  const group = document.getElementById("roots");
  if (!group) return;
  view.joined = withoutProcesses(view.whole);
  view.roots = "joined";
  setUpSwitch(group, (value) => {
    view.roots = value;
    turn(view, view.direction, view.depth);
    saveView(view);
  });
}

function chooseRoots(view, value) {
  if (!view.joined) return;
  view.roots = value === "apart" ? value : "joined";
  press(document.getElementById("roots"), view.roots);
}

// Trie of a choice of frames; "all" and "code" are turned over with all frames, so that owners stay the same.
function makeTurned(view, direction, depth) {
  const whole = view.roots === "joined" ? view.joined : view.whole;
  const down = {
    code: () => withoutRuntime(whole, view.frames),
    imports: () => withImportsFolded(whole, view.frames, view.imports),
    packages: () => byPackage(whole, view.frames, view.packages),
    all: () => whole,
  };
  if (direction === "down") return down[depth]();
  const folds = depth === "imports" || depth === "packages";
  return invert(folds ? trieOf(view, "down", depth) : whole, view.frames, depth !== "code");
}

function trieOf(view, direction, depth) {
  const key = `${direction} ${depth} ${view.roots}`;
  if (!view.tries[key]) view.tries[key] = makeTurned(view, direction, depth);
  return view.tries[key];
}

function turn(view, direction, depth) {
  view.direction = direction;
  view.depth = depth;
  view.trie = trieOf(view, direction, depth);
  view.rootName = direction === "up" ? "all, by owner; callers below" : "all";
  view.matches = matchesOf(view.frames, view.search.text, view.search.exact); // groups may have come
  zoomTo(view, 0);
}

// ---- search

function setUpFlameSearch(view) {
  const input = document.getElementById("search");
  const pick = (node) => showHit(view, node);
  input.addEventListener("input", () => searchFor(view, input.value.trim(), false));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      stepHit(view, event.shiftKey ? -1 : 1, pick);
    }
    if (event.key !== "Escape") return;
    input.value = "";
    searchFor(view, "", false);
    view.canvas.focus();
  });
  document.getElementById("hit-next").addEventListener("click", () => stepHit(view, 1, pick));
  document.getElementById("hit-previous").addEventListener("click", () => stepHit(view, -1, pick));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    input.focus();
  });
}

// Finds the frames of a name in the graph.
export function findInStacks(view, text) {
  if (!view) return;
  document.getElementById("search").value = text;
  if (view.focus > 0) zoomTo(view, 0);
  searchFor(view, text, true);
  document.getElementById("flame").scrollIntoView();
}

function searchFor(view, text, exact) {
  view.search = { text, exact: exact && text !== "" };
  view.matches = matchesOf(view.frames, text, exact);
  redraw(view);
  showHits(view);
  saveView(view);
}

function showHits(view) {
  drawHits(view, (node) => showHit(view, node));
}

// Shows a hit with its details; zooms if its box is too narrow to be seen.
function showHit(view, node) {
  const hits = view.hits;
  const hit = view.hit;
  const box = boxOf(view, node);
  if (!box || box.width < 24) {
    const path = pathTo(view.trie, node);
    zoomTo(view, path[Math.max(0, path.length - 2)], true);
    if ((boxOf(view, node)?.width ?? 0) < 24) zoomTo(view, node, true);
    saveView(view);
    [view.hits, view.hit] = [hits, hit]; // the hits stay those of the search
  }
  moveCursor(view, node);
}

// ---- zoom

export function zoomTo(view, node, quiet = false) {
  view.focus = node;
  view.cursor = view.touched = null;
  hideTooltip();
  redraw(view);
  drawCrumbs(view);
  describeNode(view, node);
  if (!quiet) showHits(view);
}

// Zoom by the user: Back returns.
function zoomAndSave(view, node) {
  const moved = node !== view.focus;
  zoomTo(view, node);
  saveView(view, moved);
}

function redraw(view) {
  drawFlame(view);
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
    button.addEventListener("click", () => zoomAndSave(view, node));
    crumbs.append(button);
  }
}

// ---- pointer and keys

function setUpPointer(view) {
  const { canvas } = view;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [view, event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const node = nodeAt(...at(event));
    const folded = node < 0 && foldedAt(...at(event));
    canvas.classList.toggle("over", node >= 0);
    if (node >= 0) showNode(view, event, node);
    else if (folded) showFolded(view, event, folded);
    else hideTooltip();
  });
  canvas.addEventListener("pointerleave", hideTooltip);
  canvas.addEventListener("click", (event) => {
    const node = nodeAt(...at(event));
    if (node >= 0) onBoxClick(view, event, node);
  });
}

// A finger has no hover: the first tap shows details, the second one zooms.
function onBoxClick(view, event, node) {
  if (event.pointerType === "touch" && view.touched !== node) {
    moveCursor(view, node);
    view.touched = node;
    return;
  }
  zoomAndSave(view, node === view.focus && node > 0 ? view.trie.parent[node] : node);
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
  const up = () => zoomAndSave(view, Math.max(0, view.trie.parent[view.focus]));
  const actions = {
    ArrowDown: () => moveCursor(view, drawnChildren(view, at)[0]),
    ArrowUp: () => moveCursor(view, at === view.focus ? -1 : above),
    ArrowLeft: () => moveCursor(view, sibling(-1)),
    ArrowRight: () => moveCursor(view, sibling(1)),
    Enter: () => zoomAndSave(view, at),
    Escape: up,
    Backspace: up,
    Home: () => zoomAndSave(view, 0),
    n: () => stepHit(view, 1, (node) => showHit(view, node)),
    N: () => stepHit(view, -1, (node) => showHit(view, node)),
    i: () => document.querySelector('#direction button[aria-pressed="false"]').click(),
  };
  if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  actions[event.key]();
}
