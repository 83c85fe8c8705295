// Comparison of two runs: the stacks of both in one flame graph, coloured by growth.

import { setUpContents } from "../contents.js";
import { readPayload, showFailure } from "../data.js";
import { setUpEditor } from "../editor.js";
import { chooseMetric, findInStacks, setUpExplorer, zoomTo } from "../explorer.js";
import { formatBytes, formatExact } from "../format.js";
import { setUpSwitch } from "../switch.js";
import { setUpTheme } from "../theme.js";
import { setUpTimeline } from "../timeline.js";
import { sumsOf } from "../trie.js";

const BEFORE = 0;
const AFTER = 1;
const CHANGED = 2;
const SHADES = 12;
const RUNS = [
  { key: "after", title: "RSS of B", ink: "accent", width: 2, fill: true },
  { key: "before", title: "RSS of A", ink: "rss", dash: [5, 3] },
];

let widths = CHANGED;
const shades = new Map();

// Rows of the trie: all metrics before, all metrics after, all absolute differences.
function row(view, metric, which) {
  return which * view.data.metrics.length + metric;
}

function bytesOf(view, node, metric, which) {
  return sumsOf(view.trie, row(view, metric, which))[node];
}

function signed(bytes) {
  if (bytes === 0) return "no change";
  return bytes > 0 ? `+${formatBytes(bytes)}` : `−${formatBytes(-bytes)}`;
}

// Full colour for stacks in one run only, none for unchanged ones.
function shade(view, node, color) {
  const before = bytesOf(view, node, view.chosen, BEFORE);
  const after = bytesOf(view, node, view.chosen, AFTER);
  const change = (after - before) / Math.max(before, after, 1);
  const key = Math.round(change * SHADES);
  const name = `${color.same} ${key}`;
  if (!shades.has(name)) {
    const strength = Math.round((80 * Math.abs(key)) / SHADES);
    shades.set(name, `color-mix(in srgb, ${key > 0 ? color.grown : color.shrunk} ${strength}%, ${color.same})`);
  }
  return shades.get(name);
}

const DIFF_STYLE = {
  rowOf: (view, metric) => row(view, metric, widths),
  totalOf: (view, metric) => {
    const sums = (which) => sumsOf(view.whole, row(view, metric, which))[0];
    return sums(BEFORE) + sums(AFTER);
  },
  inkOf: shade,
  describe: (view, node, metric) => {
    const before = bytesOf(view, node, metric, BEFORE);
    const after = bytesOf(view, node, metric, AFTER);
    return [signed(after - before), `${formatBytes(before)} → ${formatBytes(after)}`, `${formatExact(before)}, then ${formatExact(after)}`];
  },
  tooltipRows: (view, node) => {
    const [before, after, changed] = [BEFORE, AFTER, CHANGED].map((which) => bytesOf(view, node, view.chosen, which));
    const rows = [
      [view.data.metrics[view.chosen].name, signed(after - before)],
      ["in A", `${formatBytes(before)} (${formatExact(before)})`],
      ["in B", `${formatBytes(after)} (${formatExact(after)})`],
    ];
    if (changed > Math.abs(after - before)) rows.push(["growth and shrinkage", `${formatBytes((changed + after - before) / 2)} and ${formatBytes((changed - after + before) / 2)}`]);
    return rows;
  },
};

// Differences are taken per leaf: growth and shrinkage below a frame do not cancel.
function addChanges(data) {
  const count = data.metrics.length;
  for (let metric = 0; metric < count; metric++) {
    const [before, after] = [data.own[metric], data.own[count + metric]];
    data.own.push(before.map((bytes, node) => Math.abs(after[node] - bytes)));
  }
}

function setUpWidths(view) {
  const group = document.getElementById("width");
  setUpSwitch(group, (value) => {
    widths = { before: BEFORE, after: AFTER, changed: CHANGED }[value];
    chooseMetric(view, view.chosen);
    zoomTo(view, view.focus);
  });
  const same = view.data.metrics.every((_, metric) => sumsOf(view.whole, row(view, metric, CHANGED))[0] === 0);
  if (view.data.sampled || same) group.querySelector('[data-value="after"]').click();
}

async function startDiff() {
  setUpTheme();
  setUpEditor();
  const data = await readPayload(document.getElementById("payload").textContent);
  addChanges(data);
  setUpTimeline(data.timelines, RUNS);
  const view = setUpExplorer(data, DIFF_STYLE);
  if (view) {
    setUpWidths(view);
    document.querySelector(`#metric button[data-value="${data.by}"]`).click();
  }
  for (const button of document.querySelectorAll("button.line")) {
    button.addEventListener("click", () => findInStacks(view, button.textContent));
  }
  setUpContents();
  document.documentElement.dataset.ready = "true";
}

startDiff().catch(showFailure);
