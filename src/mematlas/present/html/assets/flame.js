// Flame graph on a canvas. Only subtrees wide enough to be visible are visited: 100,000
// stacks cost as much as the few thousand boxes on screen.

import { grouped, keepEnd } from "./format.js";
import { GROUP } from "./data.js";
import { inks, sharpContext } from "./theme.js";
import { startsOf, sumsOf } from "./trie.js";

const ROW = 21;
const NARROWEST = 0.5; // pixels
const FEWEST_LETTERS = 8; // of a name that is cut: fewer are noise
const LEGIBLE = 28; // pixels
const VISIBLE = 6;
const FOLDED_FROM = 3;
const FONT = '11.5px ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
const MOST_ROWS = 380; // 16,000 pixels of canvas at two pixels a point
const INKS = ["page", "box-ink", "box-ink-pale", "match", "match-ink", "ink", "box-process",
  "box-python-0", "box-python-1", "box-python-2", "box-native-0", "box-native-1", "box-native-2",
  "box-inlined-0", "box-inlined-1", "box-inlined-2", "box-place", "box-place-pale", "box-folded", "box-folded-ink", "soft", "grown", "shrunk", "same"];

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
  while (rows.length > 1 && !isVisible(rows[rows.length - 1], sums, scale)) rows.pop();
  return { rows, scale };
}

// Whether a box of the row can be hit with the mouse; rows of slivers only make the page longer.
function isVisible(row, sums, scale) {
  return row.nodes.some((node) => sums[node] * scale >= VISIBLE);
}

export function drawFlame(view) {
  const width = view.canvas.clientWidth;
  if (!width) return;
  view.boxes = visibleBoxes(view.trie, view.metric, view.focus, width);
  const { rows } = view.boxes;
  view.boxes.folded = foldedBoxes(view, width);
  const height = Math.max(rows.length, view.boxes.folded.deepest + 1, 1) * ROW + 1;
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
  for (const box of view.boxes.folded.boxes) drawFolded(pen, box);
  drawCursor(view, pen);
}

// Stacks below a box that are too small to have boxes: one hatched box for them and the bytes of the box itself.
function foldedBoxes(view, width) {
  const { trie, metric, boxes } = view;
  const sums = sumsOf(trie, metric);
  const found = [];
  let deepest = 0;
  boxes.rows.forEach((row, level) =>
    row.nodes.forEach((node, i) => {
      const own = trie.own[metric][node] * boxes.scale;
      if (!trie.folded[node] || own < FOLDED_FROM) return;
      const x = row.x[i] + (sums[node] - trie.own[metric][node]) * boxes.scale;
      found.push({ node, x, y: (level + 1) * ROW, width: Math.min(own, width - x), folded: trie.folded[node] });
      if (own >= LEGIBLE) deepest = Math.max(deepest, level + 1);
    }),
  );
  return { boxes: found, deepest };
}

function drawFolded({ context, color, letter }, { x, y, width, folded }) {
  context.fillStyle = color["box-folded"];
  for (let at = x; at < x + width - 1; at += 4) context.fillRect(at, y + 3, Math.min(2, x + width - 1 - at), ROW - 6);
  const label = `self and ${grouped(folded)} small ${folded === 1 ? "stack" : "stacks"}`;
  if (width - 10 < label.length * letter) return;
  context.fillStyle = color.page;
  context.fillRect(x + 2, y + 3, label.length * letter + 6, ROW - 6);
  context.fillStyle = color["box-folded-ink"];
  context.fillText(label, x + 5, y + ROW / 2 + 1);
}

// The hatched box at a point of the canvas.
export function foldedAt(view, x, y) {
  return view.boxes?.folded.boxes.find((box) => y >= box.y && y < box.y + ROW && x >= box.x && x <= box.x + box.width);
}

// Colour by language; pale for code other than the program's own.
export function frameInk(view, node, color) {
  const frame = view.frames[view.trie.frame[node]];
  if (frame.kind === GROUP) return color["box-process"];
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
  const letters = Math.floor((width - 10) / letter);
  const name = node === 0 ? view.rootName : frame.name;
  if (letters < Math.min(FEWEST_LETTERS, name.length)) return;
  const own = frame.tier === 0 || frame.kind === GROUP;
  const dimmed = view.matches !== null && !matched;
  const [ink, place] = matched ? ["match-ink", "match-ink"] : own && !dimmed ? ["box-ink", "box-place"] : ["box-ink-pale", "box-place-pale"];
  drawLabel(pen, name, frame, letters, { x: x + 5, y: y + ROW / 2 + 1, width: width - 10 }, color[ink], color[place]);
}

// The place of a frame follows its name if there is room.
function drawLabel({ context, letter }, name, frame, letters, { x, y, width }, ink, place) {
  const ascii = !/[^\x20-\x7e]/.test(name);
  context.fillStyle = ink;
  if (ascii) context.fillText(keepEnd(name, letters), x, y);
  else context.fillText(keepEnd(name, letters), x, y, width);
  const left = letters - name.length - 2;
  if (!ascii || !frame.location || left < 8) return;
  context.fillStyle = place;
  context.fillText(keepEnd(frame.location, left), x + (name.length + 2) * letter, y);
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
