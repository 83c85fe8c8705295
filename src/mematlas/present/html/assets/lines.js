// Table of lines: sortable by column, filtered by text.

import { sourceText, sourceTools } from "./editor.js";
import { formatBytes, formatExact, formatShare, grouped } from "./format.js";
import { element } from "./tooltip.js";

const PAGE = 20;
const ALWAYS = ["resident", "live", "peak", "allocated"];
const OF_PROCESSES = ["pss", "uss"]; // shown where several processes share memory

export function setUpLines(data, onPick) {
  const table = document.getElementById("lines-table");
  if (!table || !data.lines.length) return null;
  const totals = data.metrics.map((_, metric) => data.lines.reduce((sum, line) => sum + line.bytes[metric], 0));
  const state = { data, table, totals, onPick, sort: mainMetric(data, totals), down: true, shown: PAGE, filter: "" };
  table.hidden = false;
  document.getElementById("lines-tools").hidden = false;
  document.getElementById("lines-search").addEventListener("input", (event) => {
    state.filter = event.target.value.trim().toLowerCase();
    state.shown = PAGE;
    drawLines(state);
  });
  document.getElementById("lines-more").addEventListener("click", () => {
    state.shown += state.shown < 100 ? 80 : 300;
    drawLines(state);
  });
  drawLines(state);
  return state;
}

function mainMetric(data, totals) {
  return [data.main, ...totals.keys()].find((metric) => totals[metric] > 0) ?? 0;
}

// Scrolls to the line that a sentence names as "function place". Returns whether there is one.
export function goToLine(state, named) {
  if (!state) return false;
  const wanted = named.trim();
  const line = state.data.lines.find(({ frame }) => frame >= 0 && `${state.data.frames[frame].name} ${state.data.frames[frame].location}` === wanted);
  if (!line) return false;
  state.sort = mainMetric(state.data, state.totals);
  state.down = true;
  state.filter = document.getElementById("lines-search").value = "";
  state.marked = line;
  const place = [...state.data.lines].sort((a, b) => b.bytes[state.sort] - a.bytes[state.sort]).indexOf(line);
  state.shown = Math.max(state.shown, place + 1);
  drawLines(state);
  const row = state.table.querySelector("tr.marked");
  if (!row) return false;
  row.scrollIntoView({ block: "center" });
  row.querySelector("button.line").focus({ preventScroll: true });
  return true;
}

function columnsOf(state) {
  const metrics = state.data.metrics
    .map((metric, index) => ({ title: metric.name, meaning: metric.meaning, key: index, name: metric.name, of: (line) => line.bytes[index] }))
    .filter(({ key, name }) => ALWAYS.includes(name) || (state.totals[key] > 0 && (state.data.main || !OF_PROCESSES.includes(name))));
  return [...metrics, { title: "blocks", meaning: "live blocks", key: "count", name: "count", of: (line) => line.count }];
}

function lineText(state, line) {
  if (line.frame < 0) return "unknown stack";
  const frame = state.data.frames[line.frame];
  return `${frame.name} ${frame.location} ${frame.module}`.toLowerCase();
}

function drawLines(state) {
  const columns = columnsOf(state);
  const sorted = columns.find(({ key }) => key === state.sort);
  const found = state.data.lines
    .filter((line) => sorted.of(line) > 0 && (!state.filter || lineText(state, line).includes(state.filter)))
    .sort((a, b) => (state.down ? 1 : -1) * (sorted.of(b) - sorted.of(a)));
  const body = element("tbody");
  found.slice(0, state.shown).forEach((line) => body.append(lineRow(state, columns, line)));
  state.table.replaceChildren(lineHead(state, columns), body);
  document.getElementById("lines-count").textContent = state.filter ? `${grouped(found.length)} of ${grouped(state.data.lines.length)} lines` : "";
  const more = document.getElementById("lines-more");
  more.hidden = found.length <= state.shown;
  more.textContent = `Show more (${grouped(found.length - state.shown)} left)`;
}

function lineHead(state, columns) {
  const row = element("tr");
  row.append(element("th", "wide", "line"));
  row.lastChild.scope = "col";
  for (const column of columns) {
    const cell = element("th", `c-${column.name}`);
    cell.scope = "col";
    const chosen = column.key === state.sort;
    if (chosen) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    const button = element("button", "sort", column.title);
    button.type = "button";
    button.title = column.meaning;
    button.addEventListener("click", () => {
      state.down = chosen ? !state.down : true;
      state.sort = column.key;
      drawLines(state);
      state.table.querySelector(`.c-${column.name} button`).focus();
    });
    cell.append(button);
    row.append(cell);
  }
  const head = element("thead");
  head.append(row);
  return head;
}

function lineRow(state, columns, line) {
  const row = element("tr", line === state.marked ? "marked" : "");
  row.append(lineCell(state, line));
  for (const column of columns) {
    const value = column.of(line);
    const cell = element("td", `c-${column.name}${column.key === state.sort ? " sorted" : ""}`);
    if (column.key === "count") cell.textContent = grouped(value);
    else fillBytes(cell, state, line, column, value);
    row.append(cell);
  }
  return row;
}

function fillBytes(cell, state, line, column, value) {
  cell.append(element("span", value > 0 ? "bytes" : "bytes none", formatBytes(value)));
  cell.title = formatExact(value);
  if (column.name === "live" && line.error > 0) cell.append(element("small", "error", `± ${formatBytes(line.error)}`));
  if (column.key !== state.sort || !(value > 0)) return;
  cell.append(element("small", "share", formatShare(value, state.totals[column.key])));
  const bar = element("span", "share-bar");
  const most = Math.max(...state.data.lines.map(column.of));
  bar.style.width = `${(100 * value) / most}%`;
  cell.append(bar);
}

function lineCell(state, line) {
  const cell = element("th", "wide");
  cell.scope = "row";
  if (line.frame < 0) {
    cell.append(element("i", "", "unknown stack"));
    return cell;
  }
  const frame = state.data.frames[line.frame];
  const button = element("button", "line", frame.name.length > 240 ? `${frame.name.slice(0, 120)}…${frame.name.slice(-119)}` : frame.name);
  button.type = "button";
  button.title = "Find in the flame graph";
  button.addEventListener("click", () => state.onPick(frame));
  // copied text keeps name and place apart
  cell.append(button, " ", element("span", "path", frame.location || "unknown location"), " ", toolBox(frame), ...sourceText(frame));
  const story = [];
  if (line.below.length) story.push(`calls ${frameLabel(state, line.below[0])}`);
  if (line.above.length) story.push(`from ${line.above.map((number) => frameLabel(state, number)).join(" ← ")}`);
  if (story.length) cell.append(element("span", "story", story.join(" · ")));
  return cell;
}

function toolBox(frame) {
  const box = element("span", "tools-of-line");
  box.append(...sourceTools(frame));
  return box;
}

function frameLabel(state, number) {
  const { name, location } = state.data.frames[number];
  const short = name.length > 60 ? `${name.slice(0, 30)}…${name.slice(-29)}` : name;
  return `${short} ${location}`;
}
