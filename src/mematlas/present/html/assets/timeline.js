// Timeline: RSS, live bytes, huge pages and swap over time, with marks.

import { formatBytes, formatTime, grouped } from "./format.js";
import { onStateChange, readState, writeState } from "./state.js";
import { inks, onThemeChange, sharpContext } from "./theme.js";
import { element, hideTooltip, showTooltip } from "./tooltip.js";

const WHOLE = 156; // height of the plot alone
const PANEL = 112; // ... of each, if there are two
const PANEL_GAP = 26;
const APART = 3; // ratio of two scales from which each gets a plot of its own
const TOP = 22;
const BOTTOM = 22;
const STRIP = 34; // height of the page-fault strip below
const STRIP_GAP = 16;
const LINES = [
  { key: "rss", title: "RSS", ink: "rss", fill: true },
  { key: "live", title: "live allocations", ink: "accent", width: 2, panel: 1 },
  { key: "huge", title: "on huge pages", ink: "huge", dash: [1, 3], width: 2 },
  { key: "swap", title: "swapped out", ink: "swap", dash: [4, 3] },
];

// onSelect(series, chosen): `chosen` is {from, to} in seconds or null. Returns the window it
// snapped to, or null.
export function setUpTimeline(timelines, lines = LINES, onSelect = null) {
  const canvas = document.getElementById("timeline-canvas");
  if (!canvas) return;
  if (!timelines.length) {
    document.getElementById("timeline").hidden = true;
    return;
  }
  const state = { canvas, lines, series: timelines[0], hover: null, chosen: null, anchor: null, without: new Set(), onSelect };
  const draw = () => drawTimeline(state);
  setUpPicker(state, timelines, draw);
  if (onSelect) setUpDragging(state, draw);
  canvas.addEventListener("pointermove", (event) => hover(state, event, draw));
  canvas.addEventListener("pointerdown", (event) => hover(state, event, draw));
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") leave(state, draw); // a finger leaves at once: the values stay
  });
  document.addEventListener("pointerdown", (event) => {
    if (event.target !== canvas && state.hover !== null) leave(state, draw);
  });
  canvas.addEventListener("keydown", (event) => walk(state, event, draw));
  canvas.addEventListener("blur", hideTooltip);
  new ResizeObserver(draw).observe(canvas.parentElement);
  onThemeChange(draw);
  restoreTimeline(state, timelines, readState());
  onStateChange((found) => {
    restoreTimeline(state, timelines, found);
    draw();
  });
  draw();
}

function leave(state, draw) {
  state.hover = null;
  hideTooltip();
  draw();
}

// Process, window and lines switched off, as the address has them.
function restoreTimeline(state, timelines, found) {
  state.series = timelines[Number(found.process)] || timelines[0];
  if (timelines.length > 1) document.getElementById("timeline-process").value = String(timelines.indexOf(state.series));
  state.without = new Set((found.without || "").split(",").filter(Boolean));
  const [from, to] = (found.window || "").split("-").map(Number);
  choosePart(state, to > from ? { from, to } : null);
}

function choosePart(state, chosen) {
  state.chosen = state.onSelect ? state.onSelect(state.series, chosen) : null;
}

function saveTimeline(state) {
  const { chosen, without } = state;
  const seconds = (time) => String(Number(time.toFixed(6)));
  writeState({ window: chosen ? `${seconds(chosen.from)}-${seconds(chosen.to)}` : "", without: [...without].join(",") });
}

// Selects a time window by dragging or with Shift and arrows; a click or Escape clears it.
function setUpDragging(state, draw) {
  const { canvas } = state;
  canvas.classList.add("parts");
  const timeAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return state.series.start + share * (state.series.end - state.series.start);
  };
  const choose = (chosen) => {
    choosePart(state, chosen);
    draw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    state.anchor = { x: event.clientX, time: timeAt(event) };
    canvas.setPointerCapture(event.pointerId);
    choose(null);
    saveTimeline(state);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.anchor || Math.abs(event.clientX - state.anchor.x) < 4) return;
    const time = timeAt(event);
    choose({ from: Math.min(time, state.anchor.time), to: Math.max(time, state.anchor.time) });
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => endDrag(state));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      choose(null);
      saveTimeline(state);
    }
    if (!event.shiftKey || !event.key.startsWith("Arrow")) return;
    const layout = geometry(state);
    const time = state.series.start + ((state.hover ?? 0) / (layout.count - 1)) * layout.span;
    const from = state.chosen ? state.chosen.from : time;
    choose({ from: Math.min(from, time), to: Math.max(from, time) });
    saveTimeline(state);
  });
}

function endDrag(state) {
  if (state.anchor) saveTimeline(state);
  state.anchor = null;
}

function setUpPicker(state, timelines, draw) {
  if (timelines.length < 2) return;
  const select = document.getElementById("timeline-process");
  select.closest("label").hidden = false;
  timelines.forEach((series, index) => select.append(new Option(series.name, String(index))));
  select.addEventListener("change", () => {
    state.series = timelines[Number(select.value)];
    state.hover = null;
    choosePart(state, null);
    writeState({ process: select.value === "0" ? "" : select.value });
    saveTimeline(state);
    draw();
  });
}

function known({ lines, series }) {
  return lines.filter(({ key }) => series[key].some((value) => value > 0));
}

function shown(state) {
  const found = known(state).filter(({ key }) => !state.without.has(key));
  return found.length ? found : known(state);
}

function highestOf(series, lines) {
  let highest = 1;
  for (const { key } of lines) for (const value of series[key]) if (value > highest) highest = value;
  return highest;
}

// Lines by plot: one plot, or two if one scale would flatten the lines of the other.
function plotsOf(state) {
  const lines = shown(state);
  const groups = [0, 1].map((panel) => lines.filter((line) => (line.panel || 0) === panel)).filter((group) => group.length);
  if (groups.length < 2) return groups;
  const [one, other] = groups.map((group) => highestOf(state.series, group));
  return Math.max(one, other) > APART * Math.min(one, other) ? groups : [lines];
}

function niceStep(highest, wanted) {
  const rough = highest / wanted;
  const power = 1024 ** Math.floor(Math.log(rough) / Math.log(1024));
  for (const step of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]) {
    if (step * power >= rough) return step * power;
  }
  return 1024 * power;
}

function niceTime(span, wanted) {
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  if (rough > 60) return [60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400].find((s) => s >= rough) || 86400;
  return [1, 2, 5, 10].find((s) => s * power >= rough) * power;
}

function geometry(state) {
  const { series, canvas, lines } = state;
  const width = canvas.clientWidth;
  const groups = plotsOf(state);
  const height = groups.length > 1 ? PANEL : WHOLE;
  const panels = groups.map((group, number) => {
    const highest = highestOf(series, group);
    const step = niceStep(highest, groups.length > 1 ? 3 : 4);
    const top = Math.ceil(highest / step) * step;
    const from = TOP + number * (PANEL + PANEL_GAP);
    return { lines: group, step, top, from, to: from + height, y: (value) => from + (1 - value / top) * height };
  });
  const bottom = panels.length ? panels[panels.length - 1].to : TOP + WHOLE;
  const count = series[lines[0].key].length;
  const span = series.end - series.start || 1;
  return {
    width, panels, count, span, bottom, base: bottom + BOTTOM,
    x: (index) => (index / (count - 1)) * width,
    xOfTime: (time) => ((time - series.start) / span) * width,
  };
}

function hasFaults(series) {
  return Boolean(series.faults) && series.faults.some((rate) => rate > 0);
}

function drawTimeline(state) {
  const { canvas, series } = state;
  if (!canvas.clientWidth) return;
  const layout = geometry(state);
  const height = layout.base + (hasFaults(series) ? STRIP + STRIP_GAP : 0);
  const context = sharpContext(canvas, layout.width, height);
  const color = inks(["ink", "soft", "line", "rss", "rss-fill", "accent", "accent-soft", "huge", "swap", "page"]);
  context.clearRect(0, 0, layout.width, height);
  context.font = "11px system-ui, sans-serif";
  if (state.chosen) {
    context.fillStyle = color["accent-soft"];
    const [from, to] = [layout.xOfTime(state.chosen.from), layout.xOfTime(state.chosen.to)];
    context.fillRect(from, TOP, Math.max(1, to - from), layout.bottom - TOP);
  }
  for (const panel of layout.panels) {
    drawGrid(context, layout, panel, color);
    for (const line of panel.lines.slice().reverse()) drawLine(context, layout, panel, series[line.key], line, color);
    drawGridLabels(context, panel, color, layout);
  }
  drawTimes(context, layout, color, series);
  drawMarks(context, layout, color, series);
  drawPeak(context, layout, color, series);
  if (hasFaults(series)) drawFaults(context, layout, color, series);
  if (state.hover !== null) {
    context.fillStyle = color.ink;
    context.fillRect(layout.x(state.hover), TOP, 1, layout.bottom - TOP);
  }
  drawLegend(state);
  describe(state);
}

function drawGrid(context, layout, panel, color) {
  context.fillStyle = color.line;
  for (let value = 0; value <= panel.top; value += panel.step) context.fillRect(0, Math.round(panel.y(value)), layout.width, 1);
}

function drawTimes(context, layout, color, series) {
  context.fillStyle = color.soft;
  context.textBaseline = "alphabetic";
  const step = niceTime(layout.span, Math.max(2, layout.width / 110));
  for (let time = Math.ceil(series.start / step) * step; time <= series.end; time += step) {
    const x = layout.xOfTime(time);
    const text = time < 1e-9 ? "0 s" : formatTime(Number(time.toPrecision(8)));
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max(0, x - half), layout.width - 2 * half), layout.base - 6);
  }
}

// Text on a ground of its own, so that no line crosses it.
function drawOnPage(context, color, text, x, y, ink) {
  context.fillStyle = color.page;
  context.fillRect(x - 2, y - 10, context.measureText(text).width + 4, 13);
  context.fillStyle = ink;
  context.fillText(text, x, y);
}

function drawGridLabels(context, panel, color, layout) {
  context.textBaseline = "alphabetic";
  for (let value = panel.step; value <= panel.top; value += panel.step) drawOnPage(context, color, formatBytes(value), 2, panel.y(value) - 4, color.soft);
  if (layout.panels.length < 2) return;
  const title = panel.lines.map((line) => line.title).join(", ");
  drawOnPage(context, color, title, layout.width - context.measureText(title).width - 2, panel.from - 4, color[panel.lines[0].ink]);
}

function drawLine(context, layout, panel, values, line, color) {
  context.beginPath();
  let open = false;
  values.forEach((value, index) => {
    if (value === null) open = false;
    else if (open) context.lineTo(layout.x(index), panel.y(value));
    else context.moveTo(layout.x(index), panel.y(value));
    open = value !== null;
  });
  context.strokeStyle = color[line.ink];
  context.lineWidth = line.width || 1.5;
  context.lineJoin = "round";
  context.setLineDash(line.dash || []);
  context.stroke();
  context.setLineDash([]);
  if (line.fill) fillBelow(context, layout, panel, values, color["rss-fill"]);
}

function fillBelow(context, layout, panel, values, fill) {
  context.fillStyle = fill;
  context.beginPath();
  context.moveTo(0, panel.y(0));
  values.forEach((value, index) => context.lineTo(layout.x(index), panel.y(value || 0)));
  context.lineTo(layout.width, panel.y(0));
  context.fill();
}

// Dotted lines with their meaning at the foot; those that would overlap are stacked.
function drawMarks(context, layout, color, series) {
  const taken = [];
  for (const mark of [...series.marks].sort((a, b) => a.time - b.time)) {
    const x = Math.round(layout.xOfTime(mark.time));
    context.fillStyle = color.soft;
    for (let y = TOP; y < layout.bottom; y += 5) context.fillRect(x, y, 1, 2);
    const width = context.measureText(mark.text).width;
    const left = x + 6 + width < layout.width ? x + 5 : x - 5 - width;
    let y = layout.bottom - 6;
    while (taken.some((box) => Math.abs(box.y - y) < 13 && left < box.right && left + width > box.left)) y -= 14;
    taken.push({ left, right: left + width + 4, y });
    drawOnPage(context, color, mark.text, left, y, color.soft);
  }
}

function drawPeak(context, layout, color, series) {
  const panel = layout.panels.find(({ lines }) => lines.some(({ key }) => key === "rss" || key === "after"));
  if (!series.peak || !panel) return;
  const x = layout.xOfTime(series.peak.time);
  const y = panel.y(series.peak.bytes);
  context.beginPath();
  context.arc(x, y, 3.5, 0, 7);
  context.fillStyle = color.page;
  context.fill();
  context.strokeStyle = color.ink;
  context.lineWidth = 1.5;
  context.stroke();
  const text = `${formatBytes(series.peak.bytes)} at ${formatTime(series.peak.time)}`;
  const width = context.measureText(text).width;
  drawOnPage(context, color, text, Math.min(Math.max(2, x - width / 2), layout.width - width - 2), y - 8, color.ink);
}

// Rate of page faults as bars with a layout of their own; major faults from the bottom.
function drawFaults(context, layout, color, series) {
  const base = layout.base + STRIP_GAP + STRIP - 1;
  const highest = Math.max(...series.faults);
  const width = layout.width / series.faults.length;
  series.faults.forEach((rate, index) => {
    const height = (rate / highest) * STRIP;
    const major = (series.majorFaults[index] / highest) * STRIP;
    context.fillStyle = color.rss;
    context.fillRect(index * width, base - height, Math.max(1, width - 0.5), height);
    context.fillStyle = color.swap;
    if (major > 0) context.fillRect(index * width, base - Math.max(2, major), Math.max(1, width - 0.5), Math.max(2, major));
  });
  context.fillStyle = color.line;
  context.fillRect(0, base, layout.width, 1);
  context.fillStyle = color.soft;
  context.fillText(`page faults, up to ${grouped(highest)} per second`, 0, layout.base + STRIP_GAP - 5);
}

// Entries are switches: a click takes a line out, and its scale with it.
function drawLegend(state) {
  const legend = document.getElementById("timeline-legend");
  const drawn = new Set(shown(state).map(({ key }) => key));
  const entries = known(state);
  if (legend.childElementCount !== entries.length || entries.some(({ key }, at) => legend.children[at].dataset.key !== key)) {
    legend.replaceChildren(...entries.map((entry) => legendEntry(state, entry)));
  }
  for (const item of legend.children) item.setAttribute("aria-pressed", String(drawn.has(item.dataset.key)));
}

function legendEntry(state, { title, key }) {
  const item = element("button", "item");
  item.type = "button";
  item.dataset.key = key;
  item.title = `Show or hide: ${title}`;
  const swatch = element("span", "swatch line");
  swatch.dataset.series = key;
  item.append(swatch, title);
  item.addEventListener("click", () => {
    const left = shown(state).filter((line) => line.key !== key);
    if (!state.without.delete(key) && left.length) state.without.add(key);
    saveTimeline(state);
    drawTimeline(state);
  });
  return item;
}

function describe(state) {
  const { peak, name, start, end } = state.series;
  const top = peak ? `RSS is highest, ${formatBytes(peak.bytes)}, at ${formatTime(peak.time)}` : "RSS is unknown";
  state.canvas.setAttribute("aria-label", `Memory of ${name} from ${formatTime(start)} to ${formatTime(end)}: ${top}`);
}

function hover(state, event, draw) {
  const box = state.canvas.getBoundingClientRect();
  const layout = geometry(state);
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  state.hover = Math.round(share * (layout.count - 1));
  draw();
  showValues(state, event, layout);
}

function showValues(state, event, layout) {
  const { series, lines } = state;
  const time = series.start + (state.hover / (layout.count - 1)) * layout.span;
  const rows = lines.map(({ key, title }) => {
    const value = series[key][state.hover];
    return [title, value === null ? "unknown" : formatBytes(value)];
  });
  if (hasFaults(series)) rows.push(...faultRows(series, state.hover / (layout.count - 1)));
  const near = series.marks.filter((mark) => Math.abs(layout.xOfTime(mark.time) - layout.x(state.hover)) < 4);
  showTooltip(event, formatTime(time), near.map((mark) => mark.text).join("; "), rows);
}

function faultRows(series, share) {
  const index = Math.min(series.faults.length - 1, Math.floor(share * series.faults.length));
  const rows = [["page faults per second", grouped(series.faults[index])]];
  if (series.majorFaults[index] > 0) rows.push(["major page faults", grouped(Math.max(1, series.majorFaults[index]))]);
  return rows;
}

function walk(state, event, draw) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const layout = geometry(state);
  const stride = Math.max(1, Math.round(layout.count / 100));
  state.hover = Math.min(layout.count - 1, Math.max(0, (state.hover ?? 0) + step * stride));
  draw();
  const box = state.canvas.getBoundingClientRect();
  showValues(state, { clientX: box.left + layout.x(state.hover), clientY: box.top + layout.bottom / 2 }, layout);
}
