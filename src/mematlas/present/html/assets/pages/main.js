// The map: one canvas per name, drawn when it scrolls near the viewport, with a legend and a tooltip.
import { formatBytes } from "../format.js";
import { ink, onThemeChange, setUpTheme, sharpContext } from "../theme.js";
import { element, hideTooltip, showTooltip } from "../tooltip.js";
import { cellCount, rowsOf, unpackRuns } from "./cells.js";

const GAP_HEIGHT = 9;
const STRIP_SPACE = 3;
const data = JSON.parse(document.getElementById("payload").textContent);
const views = [];
let layer = data.layers[0];
let chosen = 0; // label of the legend that is highlighted; 0: none
let columns = 64;
let cell = 4;

for (const group of data.groups) {
  for (const strip of group.strips) strip.cells = cellCount(strip.runs.state);
}

function measure() {
  const width = document.getElementById("groups").clientWidth;
  columns = width >= 1000 ? 256 : width >= 480 ? 128 : 64;
  cell = Math.max(2, Math.floor(width / columns));
  const row = formatBytes(columns * data.pageSize);
  document.getElementById("scale").textContent =
    `A cell is one page of ${formatBytes(data.pageSize)} and a full row ${row}, unless the line of a mapping states another size; ` +
    "a striped band is a long stretch without pages.";
}

function layOut(view) {
  let y = 0;
  view.parts = view.group.strips.map((strip) => {
    const rows = rowsOf(unpackRuns(strip.runs.state, strip.cells), columns);
    const part = { strip, rows, top: y, ys: [] };
    for (const row of rows) {
      part.ys.push(y);
      y += row.gap ? GAP_HEIGHT : cell;
    }
    part.bottom = y;
    y += STRIP_SPACE;
    return part;
  });
  view.height = Math.max(cell, y - STRIP_SPACE);
  view.canvas.style.height = `${view.height}px`;
  view.drawn = false;
}

function draw(view) {
  view.drawn = true;
  const width = columns * cell;
  view.canvas.style.width = `${width}px`;
  const context = sharpContext(view.canvas, width, view.height);
  context.clearRect(0, 0, width, view.height);
  const colours = layer.colours.map(ink);
  const stripe = ink("line");
  const space = cell >= 4 ? 1 : 0;
  for (const part of view.parts) {
    const labels = unpackRuns(part.strip.runs[layer.key], part.strip.cells);
    const { strip } = part;
    const filled = strip.filled && unpackRuns(strip.filled, strip.cells);
    part.rows.forEach((row, index) => {
      const y = part.ys[index];
      if (row.gap) {
        context.fillStyle = stripe;
        for (let x = 0; x < width; x += 8) context.fillRect(x, y + 3, 4, 3);
        return;
      }
      const last = Math.min(row.first + columns, labels.length);
      for (let at = row.first; at < last; at += 1) {
        const label = labels[at];
        let alpha = chosen && label !== chosen ? 0.16 : 1;
        if (filled && label) alpha *= 0.35 + (0.65 * filled[at]) / strip.perCell;
        context.globalAlpha = alpha;
        context.fillStyle = colours[label];
        context.fillRect((at - row.first) * cell, y, cell - space, cell - space);
      }
      context.globalAlpha = 1;
    });
  }
}

const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const view = views[Number(entry.target.dataset.view)];
      view.near = entry.isIntersecting;
      if (view.near && !view.drawn) draw(view);
    }
  },
  { rootMargin: "600px" },
);

function redraw() {
  for (const view of views) {
    view.drawn = false;
    if (view.near && !view.box.hidden) draw(view);
  }
}

function headOf(group) {
  const [first] = group.strips;
  const last = group.strips[group.strips.length - 1];
  const size = group.strips.reduce((sum, strip) => sum + Number(BigInt(`0x${strip.end}`) - BigInt(`0x${strip.start}`)), 0);
  const head = element("h3");
  head.append(element("b", "", group.name || "(anonymous)"));
  const coarse = Math.max(...group.strips.map((strip) => strip.perCell));
  const scale = coarse > 1 ? ` · a cell is ${formatBytes(coarse * data.pageSize)}` : "";
  const permissions = [...new Set(group.strips.map((strip) => strip.permissions))].join(" ");
  head.append(element("span", "about", `${first.start}-${last.end} · ${permissions} · ${formatBytes(size)}${scale}`));
  return head;
}

function build() {
  const root = document.getElementById("groups");
  data.groups.forEach((group, number) => {
    const box = element("div", "group");
    const canvas = element("canvas");
    canvas.dataset.view = number;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `pages of ${group.name || "anonymous memory"}; the table below lists the sizes`);
    box.append(headOf(group), canvas);
    root.append(box);
    const view = { group, box, canvas, parts: [], height: 0, drawn: false, near: false };
    views.push(view);
    canvas.addEventListener("mousemove", (event) => point(view, event));
    canvas.addEventListener("mouseleave", hideTooltip);
    near.observe(canvas);
  });
}

function find(view, event) {
  const x = Math.floor(event.offsetX / cell);
  const y = event.offsetY;
  const part = view.parts.find((each) => y >= each.top && y < each.bottom);
  if (!part || x < 0 || x >= columns) return null;
  let row = part.ys.findIndex((top) => top > y);
  row = (row < 0 ? part.ys.length : row) - 1;
  const at = part.rows[row].gap ? part.rows[row].first : part.rows[row].first + x;
  return at < part.strip.cells ? { strip: part.strip, at, gap: part.rows[row].gap } : null;
}

function valueAt(runs, at) {
  let end = 0;
  for (let index = 0; index < runs.length; index += 2) {
    end += runs[index + 1];
    if (at < end) return runs[index];
  }
  return 0;
}

function point(view, event) {
  const found = find(view, event);
  if (!found) {
    hideTooltip();
    return;
  }
  const { strip, at, gap } = found;
  const bytes = BigInt(strip.perCell) * BigInt(data.pageSize);
  const start = BigInt(`0x${strip.start}`) + BigInt(at) * bytes;
  const name = view.group.name || "(anonymous)";
  const rows = [];
  if (gap) {
    rows.push(["no pages", formatBytes(gap * Number(bytes))]);
  } else {
    for (const each of data.layers) {
      const label = valueAt(strip.runs[each.key], at);
      if (label || each === data.layers[0]) rows.push([each.key, each.labels[label]]);
    }
    if (strip.filled) rows.push(["present", `${valueAt(strip.filled, at)} of ${strip.perCell} pages`]);
  }
  rows.push(["permissions", strip.permissions]);
  if (strip.offset !== null) {
    const offset = BigInt(`0x${strip.offset}`) + BigInt(at) * bytes;
    rows.push(["file offset", `0x${offset.toString(16)}`]);
  }
  showTooltip(event, `0x${start.toString(16)}`, name, rows);
}

function choose(key) {
  layer = data.layers.find((each) => each.key === key);
  chosen = 0;
  for (const button of document.querySelectorAll("[data-layer]")) {
    button.setAttribute("aria-pressed", String(button.dataset.layer === key));
  }
  for (const legend of document.querySelectorAll("[data-legend]")) {
    legend.hidden = legend.dataset.legend !== key;
    for (const label of legend.querySelectorAll(".label")) label.setAttribute("aria-pressed", "false");
  }
  redraw();
}

function dim(button) {
  const label = Number(button.dataset.label);
  chosen = chosen === label ? 0 : label;
  for (const each of button.parentElement.querySelectorAll(".label")) {
    each.setAttribute("aria-pressed", String(Number(each.dataset.label) === chosen));
  }
  redraw();
}

function holds(group, word) {
  if (!word || group.name.toLowerCase().includes(word)) return true;
  if (!/^(0x)?[0-9a-f]{4,16}$/.test(word)) return false;
  const address = BigInt(`0x${word.replace(/^0x/, "")}`);
  return group.strips.some((strip) => address >= BigInt(`0x${strip.start}`) && address < BigInt(`0x${strip.end}`));
}

function search(text) {
  const word = text.trim().toLowerCase();
  for (const view of views) view.box.hidden = !holds(view.group, word);
  redraw();
}

function fit() {
  measure();
  views.forEach(layOut);
  redraw();
}

setUpTheme();
onThemeChange(redraw);
build();
fit();
for (const button of document.querySelectorAll("[data-layer]")) button.addEventListener("click", () => choose(button.dataset.layer));
for (const button of document.querySelectorAll(".label")) button.addEventListener("click", () => dim(button));
document.getElementById("find").addEventListener("input", (event) => search(event.target.value));
let fitted = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== fitted) fit();
  fitted = innerWidth;
});
document.documentElement.dataset.ready = "";
