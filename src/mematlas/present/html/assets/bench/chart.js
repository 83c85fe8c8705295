// A line chart: medians with the 95 % confidence interval of each, on plain or logarithmic axes.

import { inks, onThemeChange, sharpContext } from "../theme.js";
import { hideTooltip, showTooltip } from "../tooltip.js";

const TOP = 20;
const BOTTOM = 24;
const INKS = ["line-0", "line-1", "line-2", "line-3", "line-4", "line-5", "line-6"];
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [5, 2], [1, 3], [12, 4]];

// chart: {unit, logX, logY, x: [{value, text}], marks: [{value, text}],
//         lines: [{name, points: [{x, median, low, high, text, noisy}]}]}
export function setUpChart(canvas, chart) {
  const state = { canvas, chart, hover: null };
  const draw = () => drawChart(state);
  canvas.addEventListener("pointermove", (event) => {
    state.hover = nearest(state, event.clientX - canvas.getBoundingClientRect().left);
    draw();
    showValues(state, event);
  });
  const leave = () => {
    state.hover = null;
    hideTooltip();
    draw();
  };
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("blur", leave);
  canvas.addEventListener("keydown", (event) => walk(state, event, draw));
  new ResizeObserver(draw).observe(canvas.parentElement);
  onThemeChange(draw);
  draw();
}

function scale(low, high, log) {
  const position = log ? Math.log : (value) => value;
  const span = position(high) - position(low) || 1;
  return (value) => (position(value) - position(low)) / span;
}

function geometry({ canvas, chart }) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const points = chart.lines.flatMap((line) => line.points);
  const xs = chart.x.map((tick) => tick.value);
  const highest = Math.max(...points.map((point) => point.high));
  const lowest = chart.logY ? Math.min(...points.map((point) => point.low)) : 0;
  const ticks = chart.logY ? logTicks(lowest, highest) : linearTicks(highest);
  const bottom = chart.logY ? Math.min(lowest, ticks[0]) * 0.9 : 0;
  const across = scale(Math.min(...xs), Math.max(...xs), chart.logX);
  const up = scale(bottom, Math.max(highest, ticks.at(-1)), chart.logY);
  const left = 44;
  const right = 12;
  return {
    width, height, ticks,
    x: (value) => (xs.length < 2 ? width / 2 : left + across(value) * (width - left - right)),
    y: (value) => height - BOTTOM - up(value) * (height - TOP - BOTTOM),
  };
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const step of high / low > 300 ? [1] : [1, 2, 5]) {
      const value = Number((step * 10 ** power).toPrecision(2));
      if (value >= low * 0.6 && value <= high * 1.7) ticks.push(value);
    }
  }
  return ticks.length ? ticks : [low];
}

function linearTicks(high) {
  const rough = high / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  return [0, 1, 2, 3, 4].map((each) => Number((each * step).toPrecision(3))).filter((each) => each <= high * 1.25);
}

function drawChart(state) {
  const { canvas, chart } = state;
  if (!canvas.clientWidth) return;
  const layout = geometry(state);
  const context = sharpContext(canvas, layout.width, layout.height);
  const color = inks(["ink", "soft", "line", "page", ...INKS]);
  context.clearRect(0, 0, layout.width, layout.height);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "alphabetic";
  drawGrid(context, layout, color, chart);
  drawMarks(context, layout, color, chart);
  // Bands of many lines would hide each other.
  const drawInterval = chart.lines.length > 3 ? drawWhiskers : drawBand;
  chart.lines.forEach((line, index) => drawInterval(context, layout, line, color[INKS[index % INKS.length]], index));
  chart.lines.forEach((line, index) => drawLine(context, layout, line, index, color));
  if (state.hover !== null) {
    context.fillStyle = color.ink;
    context.fillRect(Math.round(layout.x(chart.x[state.hover].value)), TOP, 1, layout.height - TOP - BOTTOM);
  }
}

function drawGrid(context, layout, color, chart) {
  for (const value of layout.ticks) {
    const y = Math.round(layout.y(value));
    context.fillStyle = color.line;
    context.fillRect(40, y, layout.width - 40, 1);
    context.fillStyle = color.soft;
    const text = value >= 1000 ? value.toLocaleString("en") : String(value);
    context.fillText(text, 36 - context.measureText(text).width, y + 4);
  }
  context.fillStyle = color.soft;
  context.fillText(chart.unit, 0, 11);
  const taken = [];
  const wanted = [...chart.x.keys()].sort((one, other) => rank(one, chart) - rank(other, chart));
  for (const index of wanted) {
    const { value, text } = chart.x[index];
    const width = context.measureText(text).width;
    const x = Math.min(Math.max(0, layout.x(value) - width / 2), layout.width - width);
    if (taken.some(([from, to]) => x < to + 8 && x + width > from - 8)) continue;
    taken.push([x, x + width]);
    context.fillText(text, x, layout.height - 7);
  }
}

// Labels of both ends come first; others are added where they fit.
function rank(index, chart) {
  if (index === 0 || index === chart.x.length - 1) return -1;
  return index;
}

function drawMarks(context, layout, color, chart) {
  let edge = -Infinity;
  for (const { value, text } of chart.marks) {
    const x = Math.round(layout.x(value));
    context.fillStyle = color.soft;
    for (let y = TOP; y < layout.height - BOTTOM; y += 5) context.fillRect(x, y, 1, 2);
    const width = context.measureText(text).width;
    const at = Math.min(x - width / 2, layout.width - width);
    if (at > edge + 4) {
      context.fillText(text, at, TOP - 6);
      edge = at + width;
    }
  }
}

function drawBand(context, layout, line, ink) {
  if (line.points.length < 2) return;
  context.beginPath();
  for (const point of line.points) context.lineTo(layout.x(point.x), layout.y(point.high));
  for (const point of line.points.slice().reverse()) context.lineTo(layout.x(point.x), layout.y(point.low));
  context.globalAlpha = 0.16;
  context.fillStyle = ink;
  context.fill();
  context.globalAlpha = 1;
}

function drawWhiskers(context, layout, line, ink, index) {
  context.fillStyle = ink;
  context.globalAlpha = 0.45;
  for (const point of line.points) {
    const [top, bottom] = [layout.y(point.high), layout.y(point.low)];
    const aside = (index % 2 ? -1 : 1) * Math.ceil(index / 2) * 2; // side by side where lines meet
    context.fillRect(layout.x(point.x) + aside - 0.5, top, 1, Math.max(1, bottom - top));
  }
  context.globalAlpha = 1;
}

function drawLine(context, layout, line, index, color) {
  const ink = color[INKS[index % INKS.length]];
  context.beginPath();
  for (const point of line.points) context.lineTo(layout.x(point.x), layout.y(point.median));
  context.strokeStyle = ink;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.setLineDash(DASHES[index % DASHES.length]);
  context.stroke();
  context.setLineDash([]);
  for (const point of line.points) {
    context.beginPath();
    context.arc(layout.x(point.x), layout.y(point.median), 2.8, 0, 7);
    context.fillStyle = point.noisy ? color.page : ink;
    context.fill();
    context.lineWidth = 1.5;
    context.stroke();
  }
}

function nearest(state, x) {
  const layout = geometry(state);
  let best = 0;
  state.chart.x.forEach((tick, index) => {
    if (Math.abs(layout.x(tick.value) - x) < Math.abs(layout.x(state.chart.x[best].value) - x)) best = index;
  });
  return best;
}

function showValues(state, event) {
  const tick = state.chart.x[state.hover];
  const rows = state.chart.lines.flatMap((line) =>
    line.points.filter((point) => point.x === tick.value).map((point) => [line.name, point.text]),
  );
  showTooltip(event, tick.text, "", rows);
}

function walk(state, event, draw) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const count = state.chart.x.length;
  state.hover = Math.min(count - 1, Math.max(0, (state.hover ?? (step > 0 ? -1 : count)) + step));
  draw();
  const box = state.canvas.getBoundingClientRect();
  const x = geometry(state).x(state.chart.x[state.hover].value);
  showValues(state, { clientX: box.left + x, clientY: box.top + box.height / 2 });
}
