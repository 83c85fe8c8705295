// Flame graph on a canvas. Only subtrees wide enough to be visible are visited: 100,000
// stacks cost as much as the few thousand boxes on screen.

import { shorten } from "./format.js";
import { inks, sharpContext } from "./theme.js";
import { startsOf, sumsOf } from "./trie.js";

const ROW = 21;
const NARROWEST = 0.5; // pixels
const LABEL_FROM = 28;
const FONT = '11.5px ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
const MOST_ROWS = 380; // 16,000 pixels of canvas at two pixels a point
const INKS = ["page", "box-ink", "box-ink-pale", "match", "match-ink", "ink", "box-process",
  "box-python-0", "box-python-1", "box-python-2", "box-native-0", "box-native-1", "box-native-2",
  "box-inlined-0", "box-inlined-1", "box-inlined-2", "soft", "grown", "shrunk", "same"];

// Visible boxes below `focus`, by row: node numbers and x positions.
export function visibleBoxes(trie, metric, focus, width) {
  const sums = sumsOf(trie, metric);
  const starts = startsOf(trie, metric);
  const scale = sums[focus] > 0 ? width / sums[focus] : 0;
  const base = trie.depth[focus];
  const rows = [];
  let node = focus;
  while (scale && node < trie.end[focus]) {
    const level = trie.depth[node] - base;
    if (sums[node] * scale < NARROWEST || level >= MOST_ROWS) {
      node = trie.end[node];
      continue;
    }
    if (!rows[level]) rows[level] = { nodes: [], x: [] };
    rows[level].nodes.push(node);
    rows[level].x.push((starts[node] - starts[focus]) * scale);
    node += 1;
  }
  while (rows.length > 1 && !isLegible(rows[rows.length - 1], sums, scale)) rows.pop();
  return { rows, scale };
}

// Whether a label fits any box of the row; rows of slivers only make the page longer.
function isLegible(row, sums, scale) {
  return row.nodes.some((node) => sums[node] * scale >= LABEL_FROM);
}

export function drawFlame(view) {
  const width = view.canvas.clientWidth;
  if (!width) return;
  view.boxes = visibleBoxes(view.trie, view.metric, view.focus, width);
  const { rows } = view.boxes;
  const height = Math.max(rows.length, 1) * ROW + 1;
  const context = sharpContext(view.canvas, width, height);
  const color = inks(INKS);
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  context.textBaseline = "middle";
  const pen = { context, color, letter: context.measureText("M").width };
  if (!rows.length) {
    context.fillStyle = color.soft;
    context.fillText("No bytes of this metric.", 8, ROW / 2);
  }
  rows.forEach((row, level) => row.nodes.forEach((node, i) => drawBox(view, pen, node, row.x[i], level * ROW)));
  drawCursor(view, pen);
}

// Colour by language; pale for code other than the program's own.
export function frameInk(view, node, color) {
  const frame = view.frames[view.trie.frame[node]];
  if (frame.kind === 3) return color["box-process"];
  return color[`box-${["python", "native", "inlined"][frame.kind]}-${frame.tier}`];
}

function drawBox(view, pen, node, x, y) {
  const { context, color, letter } = pen;
  const frame = view.frames[view.trie.frame[node]];
  const width = sumsOf(view.trie, view.metric)[node] * view.boxes.scale;
  const matched = view.matches !== null && view.matches[view.trie.frame[node]] === 1;
  if (matched) context.fillStyle = color.match;
  else if (view.matches !== null) context.fillStyle = color[`box-${["python", "native", "inlined"][frame.kind] || "python"}-2`];
  else context.fillStyle = view.style.inkOf(view, node, color);
  const gap = width > 3 ? 1 : width > 1.5 ? 0.5 : 0;
  context.fillRect(x, y + 1, Math.max(width - gap, 0.5), ROW - 1);
  if (width < LABEL_FROM) return;
  const letters = Math.floor((width - 10) / letter);
  context.fillStyle = matched ? color["match-ink"] : frame.tier === 0 || frame.kind === 3 ? color["box-ink"] : color["box-ink-pale"];
  drawLabel(context, view, node, frame, letters, x + 5, y + ROW / 2 + 1, width - 10);
}

function drawLabel(context, view, node, frame, letters, x, y, width) {
  const name = node === 0 ? view.rootName : frame.name;
  const ascii = !/[^\x20-\x7e]/.test(name);
  const text = shorten(name, letters);
  if (ascii) context.fillText(text, x, y);
  else context.fillText(text, x, y, width);
  const left = letters - name.length - 2;
  if (!ascii || !frame.location || left < 8 || frame.kind === 3) return;
  context.globalAlpha = 0.62;
  context.fillText(shorten(frame.location, left), x + (name.length + 2) * context.measureText("M").width, y);
  context.globalAlpha = 1;
}

function drawCursor(view, { context, color }) {
  const found = view.cursor === null ? null : boxOf(view, view.cursor);
  if (!found) return;
  context.strokeStyle = color.ink;
  context.lineWidth = 2;
  context.strokeRect(found.x + 1, found.y + 2, Math.max(found.width - 3, 1), ROW - 3);
}

export function boxOf(view, node) {
  const level = view.trie.depth[node] - view.trie.depth[view.focus];
  const row = view.boxes.rows[level];
  const index = row ? row.nodes.indexOf(node) : -1;
  if (index < 0) return null;
  const width = sumsOf(view.trie, view.metric)[node] * view.boxes.scale;
  return { x: row.x[index], y: level * ROW, width, height: ROW };
}

// Node at a point of the canvas, or -1.
export function nodeAt(view, x, y) {
  const row = view.boxes && view.boxes.rows[Math.floor(y / ROW)];
  if (!row) return -1;
  let low = 0;
  let high = row.x.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (row.x[middle] <= x) low = middle;
    else high = middle - 1;
  }
  const node = row.nodes[low];
  const width = sumsOf(view.trie, view.metric)[node] * view.boxes.scale;
  return x >= row.x[low] && x <= row.x[low] + Math.max(width, 2) ? node : -1;
}
