// Time window selected on the timeline: memory allocated in it and live at its end.

import { formatBytes, formatExact, formatTime, grouped } from "./format.js";
import { element } from "./tooltip.js";

const MOST_LINES = 12;

// Interval boundaries nearest to two times; at least one interval apart.
export function snapWindow(spans, from, to) {
  const nearest = (time) => Math.min(spans.count, Math.max(0, Math.round(time / spans.width)));
  const start = Math.min(nearest(from), spans.count - 1);
  return { start, end: Math.max(nearest(to), start + 1) };
}

// Bytes of each line: [line, bytes], most first. Rows are [line, born, died, held, bytes].
export function bytesInWindow(spans, { start, end }) {
  const sums = new Map();
  for (const [line, born, died, held, bytes] of spans.rows) {
    const live = end === spans.count ? held : born < end && died >= end;
    if (born >= start && live) sums.set(line, (sums.get(line) || 0) + bytes);
  }
  return [...sums].sort((a, b) => b[1] - a[1]);
}

export function setUpWindow(data, onPick) {
  const box = document.getElementById("window");
  if (!box || !data.spans) return null;
  return (series, chosen) => {
    box.hidden = chosen === null;
    box.replaceChildren();
    if (chosen === null) return null;
    const edges = snapWindow(data.spans, chosen.from, chosen.to);
    const [from, to] = [edges.start * data.spans.width, Math.min(edges.end * data.spans.width, series.end)];
    drawWindow(box, data, series, { from, to, lines: bytesInWindow(data.spans, edges) }, onPick);
    return { from, to };
  };
}

function valueAt(series, key, time) {
  const values = series[key];
  const index = Math.round(((time - series.start) / (series.end - series.start || 1)) * (values.length - 1));
  return values[Math.min(values.length - 1, Math.max(0, index))];
}

function change(series, key, title, from, to) {
  const [before, after] = [valueAt(series, key, from), valueAt(series, key, to)];
  return before === null || after === null ? `${title} unknown` : `${title} ${formatBytes(before)} → ${formatBytes(after)}`;
}

function drawWindow(box, data, series, { from, to, lines }, onPick) {
  const total = lines.reduce((sum, [, bytes]) => sum + bytes, 0);
  const heading = element("p");
  heading.append(element("b", "", `${formatTime(from)} to ${formatTime(to)}`), `: ${formatBytes(total)} allocated in it and live at its end`);
  const changes = [change(series, "rss", "RSS", from, to), change(series, "live", "live allocations", from, to)];
  box.append(heading, element("p", "soft", changes.join(" · ")));
  const list = element("div", "held");
  for (const [line, bytes] of lines.slice(0, MOST_LINES)) list.append(...heldLine(data, line, bytes, lines[0][1], onPick));
  box.append(list);
  const rest = lines.slice(MOST_LINES).reduce((sum, [, bytes]) => sum + bytes, 0);
  if (rest > 0) box.append(element("p", "soft", `${formatBytes(rest)} in ${grouped(lines.length - MOST_LINES)} more lines`));
}

function heldLine(data, line, bytes, most, onPick) {
  const size = element("span", "bytes", formatBytes(bytes));
  size.title = formatExact(bytes);
  const bar = element("span", "held-bar");
  bar.append(element("span", "share-bar"));
  bar.firstChild.style.width = `${(100 * bytes) / most}%`;
  const name = element("span", "where");
  const number = data.spans.lines[line];
  if (line === data.spans.lines.length - 1) name.append(element("i", "", "all other lines"));
  else if (number < 0) name.append(element("i", "", "unknown stack"));
  else {
    const frame = data.frames[number];
    const button = element("button", "line", frame.name);
    button.type = "button";
    button.title = "Find in the flame graph";
    button.addEventListener("click", () => onPick(frame));
    name.append(button, " ", element("span", "path", frame.location || "unknown location"));
  }
  return [size, bar, name];
}
