// What is known of a box of the flame graph: below the graph, and in the tooltip.

import { KIND_NAMES } from "./data.js";
import { sourceText, sourceTools } from "./editor.js";
import { formatBytes, formatExact, formatShare, grouped } from "./format.js";
import { element, showTooltip } from "./tooltip.js";
import { sumsOf } from "./trie.js";

export function nameOf(view, node) {
  return node === 0 ? "all" : view.frames[view.trie.frame[node]].name;
}

export function describeNode(view, node) {
  const detail = document.getElementById("detail");
  const frame = view.frames[view.trie.frame[node]];
  detail.replaceChildren(element("b", "", nameOf(view, node)));
  if (node > 0 && frame.location) detail.append(element("span", "path", frame.location));
  if (node > 0) detail.append(...sourceTools(frame), ...sourceText(frame));
  const list = element("dl");
  view.data.metrics.forEach((metric, index) => {
    if (!(view.style.totalOf(view, index) > 0)) return;
    const [phrase, aside, exact] = view.style.describe(view, node, index);
    const value = element("dd", "", phrase);
    value.title = exact;
    if (aside) value.append(element("small", "", ` ${aside}`));
    const pair = element("div", index === view.chosen ? "chosen" : "");
    pair.append(element("dt", "", metric.name), value);
    list.append(pair);
  });
  detail.append(list);
  if (view.trie.folded[node] > 0) detail.append(element("p", "soft folded", foldedText(view, view.trie.folded[node])));
}

function foldedText(view, count) {
  return `${grouped(count)} small ${count === 1 ? "stack is" : "stacks are"} folded in here, each below ${Number((100 * view.data.fold).toPrecision(1))} % of every metric. mematlas export has all of them.`;
}

export function showNode(view, event, node) {
  const frame = view.frames[view.trie.frame[node]];
  const rows = view.style.tooltipRows(view, node);
  const location = node > 0 && frame.file ? (frame.line < 0 ? frame.file : `${frame.file}:${frame.line}`) : "";
  if (node > 0 && frame.module) rows.push(["module", frame.module]);
  if (node > 0) rows.push(["kind", `${KIND_NAMES[frame.kind]}${["", ", library", ", runtime"][frame.tier]}`]);
  showTooltip(event, nameOf(view, node), location, rows, node > 0 ? sourceText(frame) : []);
}

export function showFolded(view, event, { node, folded }) {
  const own = view.trie.own[view.metric][node];
  const rows = [[view.data.metrics[view.chosen].name, `${formatBytes(own)} (${formatExact(own)}), with what ${nameOf(view, node)} allocates itself`]];
  showTooltip(event, `self and ${grouped(folded)} small ${folded === 1 ? "stack" : "stacks"}`, foldedText(view, folded), rows);
}

export function bytesRows(view, node) {
  const bytes = sumsOf(view.trie, view.metric)[node];
  const rows = [
    [view.data.metrics[view.chosen].name, `${formatBytes(bytes)} (${formatExact(bytes)})`],
    ["of all", formatShare(bytes, sumsOf(view.trie, view.metric)[0])],
  ];
  if (view.focus > 0) rows.push(["of the zoomed frame", formatShare(bytes, sumsOf(view.trie, view.metric)[view.focus])]);
  const own = view.trie.own[view.metric][node];
  if (own > 0 && own < bytes) rows.push([view.trie.folded[node] ? "self and folded" : "self", formatBytes(own)]);
  return rows;
}
