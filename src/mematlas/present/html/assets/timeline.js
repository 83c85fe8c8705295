// Timeline: RSS, live bytes, huge pages and swap over time, with marks.

import { formatBytes, formatTime, grouped } from "./format.js";
import { inks, onThemeChange, sharpContext } from "./theme.js";
import { element, hideTooltip, showTooltip } from "./tooltip.js";

const HEIGHT = 200;
const TOP = 22;
const BOTTOM = 22;
const STRIP = 34; // height of the page-fault strip below
const STRIP_GAP = 16;
const LINES = [
  { key: "rss", title: "RSS", ink: "rss", fill: true },
  { key: "live", title: "live allocations", ink: "accent", width: 2 },
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
  const state = { canvas, lines, series: timelines[0], hover: null, chosen: null, anchor: null };
  const draw = () => drawTimeline(state);
  setUpPicker(timelines, (series) => {
    state.series = series;
    state.hover = null;
    choosePart(state, null, onSelect);
    draw();
  });
  if (onSelect) setUpDragging(state, draw, onSelect);
  canvas.addEventListener("pointermove", (event) => hover(state, event, draw));
  canvas.addEventListener("pointerleave", () => {
    state.hover = null;
    hideTooltip();
    draw();
  });
  canvas.addEventListener("keydown", (event) => walk(state, event, draw));
  canvas.addEventListener("blur", hideTooltip);
  new ResizeObserver(draw).observe(canvas.parentElement);
  onThemeChange(draw);
  draw();
}

function choosePart(state, chosen, onSelect) {
  state.chosen = onSelect ? onSelect(state.series, chosen) : null;
}

// Selects a time window by dragging or with Shift and arrows; a click or Escape clears it.
function setUpDragging(state, draw, onSelect) {
  const { canvas } = state;
  canvas.classList.add("parts");
  const timeAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return state.series.start + share * (state.series.end - state.series.start);
  };
  const choose = (chosen) => {
    choosePart(state, chosen, onSelect);
    draw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    state.anchor = { x: event.clientX, time: timeAt(event) };
    canvas.setPointerCapture(event.pointerId);
    choose(null);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.anchor || Math.abs(event.clientX - state.anchor.x) < 4) return;
    const time = timeAt(event);
    choose({ from: Math.min(time, state.anchor.time), to: Math.max(time, state.anchor.time) });
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (state.anchor = null));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") choose(null);
    if (!event.shiftKey || !event.key.startsWith("Arrow")) return;
    const layout = geometry(state);
    const time = state.series.start + ((state.hover ?? 0) / (layout.count - 1)) * layout.span;
    const from = state.chosen ? state.chosen.from : time;
    choose({ from: Math.min(from, time), to: Math.max(from, time) });
  });
}

function setUpPicker(timelines, onPick) {
  if (timelines.length < 2) return;
  const select = document.getElementById("timeline-process");
  select.closest("label").hidden = false;
  timelines.forEach((series, index) => select.append(new Option(series.name, String(index))));
  select.addEventListener("change", () => onPick(timelines[Number(select.value)]));
}

function shown({ lines, series }) {
  return lines.filter(({ key }) => series[key].some((value) => value > 0));
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
  let highest = 1;
  for (const { key } of lines) for (const value of series[key]) if (value > highest) highest = value;
  const step = niceStep(highest, 4);
  const top = Math.ceil(highest / step) * step;
  const count = series[lines[0].key].length;
  const span = series.end - series.start || 1;
  return {
    width, step, top, count, span,
    x: (index) => (index / (count - 1)) * width,
    y: (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM),
    xOfTime: (time) => ((time - series.start) / span) * width,
  };
}

function hasFaults(series) {
  return Boolean(series.faults) && series.faults.some((rate) => rate > 0);
}

function heightOf(series) {
  return HEIGHT + (hasFaults(series) ? STRIP + STRIP_GAP : 0);
}

function drawTimeline(state) {
  const { canvas, series } = state;
  if (!canvas.clientWidth) return;
  const layout = geometry(state);
  const context = sharpContext(canvas, layout.width, heightOf(series));
  const color = inks(["ink", "soft", "line", "rss", "rss-fill", "accent", "accent-soft", "huge", "swap", "page"]);
  context.clearRect(0, 0, layout.width, heightOf(series));
  context.font = "11px system-ui, sans-serif";
  drawGrid(context, layout, color, series);
  if (state.chosen) {
    context.fillStyle = color["accent-soft"];
    const [from, to] = [layout.xOfTime(state.chosen.from), layout.xOfTime(state.chosen.to)];
    context.fillRect(from, TOP, Math.max(1, to - from), HEIGHT - TOP - BOTTOM);
  }
  for (const line of shown(state).slice().reverse()) drawLine(context, layout, series[line.key], line, color);
  drawGridLabels(context, layout, color);
  drawPeak(context, layout, color, series);
  if (hasFaults(series)) drawFaults(context, layout, color, series);
  if (state.hover !== null) {
    context.fillStyle = color.ink;
    context.fillRect(layout.x(state.hover), TOP, 1, HEIGHT - TOP - BOTTOM);
  }
  drawLegend(state);
  describe(state);
}

function drawGrid(context, layout, color, series) {
  context.fillStyle = color.line;
  for (let value = 0; value <= layout.top; value += layout.step) context.fillRect(0, Math.round(layout.y(value)), layout.width, 1);
  context.fillStyle = color.soft;
  context.textBaseline = "alphabetic";
  const step = niceTime(layout.span, Math.max(2, layout.width / 110));
  for (let time = Math.ceil(series.start / step) * step; time <= series.end; time += step) {
    const x = layout.xOfTime(time);
    const text = time < 1e-9 ? "0 s" : formatTime(Number(time.toPrecision(8)));
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max(0, x - half), layout.width - 2 * half), HEIGHT - 6);
  }
}

function drawGridLabels(context, layout, color) {
  context.textBaseline = "alphabetic";
  for (let value = layout.step; value <= layout.top; value += layout.step) {
    const text = formatBytes(value);
    context.fillStyle = color.page;
    context.globalAlpha = 0.75;
    context.fillRect(0, layout.y(value) - 14, context.measureText(text).width + 4, 13);
    context.globalAlpha = 1;
    context.fillStyle = color.soft;
    context.fillText(text, 0, layout.y(value) - 4);
  }
}

function drawLine(context, layout, values, line, color) {
  context.beginPath();
  let open = false;
  values.forEach((value, index) => {
    if (value === null) open = false;
    else if (open) context.lineTo(layout.x(index), layout.y(value));
    else context.moveTo(layout.x(index), layout.y(value));
    open = value !== null;
  });
  context.strokeStyle = color[line.ink];
  context.lineWidth = line.width || 1.5;
  context.lineJoin = "round";
  context.setLineDash(line.dash || []);
  context.stroke();
  context.setLineDash([]);
  if (line.fill) fillBelow(context, layout, values, color["rss-fill"]);
}

function fillBelow(context, layout, values, fill) {
  context.fillStyle = fill;
  context.beginPath();
  context.moveTo(0, layout.y(0));
  values.forEach((value, index) => context.lineTo(layout.x(index), layout.y(value || 0)));
  context.lineTo(layout.width, layout.y(0));
  context.fill();
}

function drawPeak(context, layout, color, series) {
  for (const mark of series.marks) {
    const x = Math.round(layout.xOfTime(mark.time));
    context.fillStyle = color.soft;
    for (let y = TOP; y < HEIGHT - BOTTOM; y += 5) context.fillRect(x, y, 1, 2);
  }
  if (!series.peak) return;
  const x = layout.xOfTime(series.peak.time);
  const y = layout.y(series.peak.bytes);
  context.beginPath();
  context.arc(x, y, 3.5, 0, 7);
  context.fillStyle = color.page;
  context.fill();
  context.strokeStyle = color.ink;
  context.lineWidth = 1.5;
  context.stroke();
  const text = `${formatBytes(series.peak.bytes)} at ${formatTime(series.peak.time)}`;
  const width = context.measureText(text).width;
  context.fillStyle = color.ink;
  context.fillText(text, Math.min(Math.max(0, x - width / 2), layout.width - width), y - 8);
}

// Rate of page faults as bars with a layout of their own; major faults from the bottom.
function drawFaults(context, layout, color, series) {
  const base = HEIGHT + STRIP_GAP + STRIP - 1;
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
  context.fillText(`page faults, up to ${grouped(highest)} per second`, 0, HEIGHT + STRIP_GAP - 5);
}

function drawLegend(state) {
  const legend = document.getElementById("timeline-legend");
  legend.replaceChildren(
    ...shown(state).map(({ title, key }) => {
      const item = element("span", "item");
      const swatch = element("span", "swatch line");
      swatch.dataset.series = key;
      item.append(swatch, title);
      return item;
    }),
  );
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
  showValues(state, { clientX: box.left + layout.x(state.hover), clientY: box.top + HEIGHT / 2 }, layout);
}
