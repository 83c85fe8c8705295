// Search in the flame graph: text or regular expression, a list of the hits, next and previous.

import { formatBytes, formatShare, grouped } from "./format.js";
import { element } from "./tooltip.js";
import { GROUP } from "./data.js";
import { matchedBytes, matchedNodes, sumsOf } from "./trie.js";

const LISTED = 100;

// Test of texts: they hold `wanted`, or match it as a regular expression. `exact`: equal to it.
export function makeTest(wanted, exact = false) {
  const low = wanted.toLowerCase();
  if (exact) return (text, name) => name.toLowerCase() === low;
  let expression = null;
  try {
    expression = new RegExp(wanted, "i");
  } catch {
    // not an expression, so plain text
  }
  return (text, name) => text.toLowerCase().includes(low) || (expression !== null && (expression.test(text) || expression.test(name)));
}

export function matchesOf(frames, wanted, exact) {
  if (!wanted) return null;
  const test = makeTest(wanted, exact);
  return Uint8Array.from(frames, (frame) => Number(test(searchedText(frame), frame.name)));
}

function searchedText(frame) {
  return frame.kind === GROUP ? frame.name : `${frame.name} ${frame.location} ${frame.file} ${frame.module}`;
}

// onPick(node) shows a hit.
export function drawHits(view, onPick) {
  const output = document.getElementById("matched");
  const steps = document.getElementById("steps");
  const list = document.getElementById("hits");
  view.hits = view.matches ? matchedNodes(view.trie, view.metric, view.matches, view.focus) : [];
  view.hit = -1;
  steps.hidden = list.hidden = view.hits.length === 0;
  output.textContent = view.matches ? foundText(view) : "";
  drawPosition(view);
  if (list.open) fillHits(view, onPick);
  list.ontoggle = () => fillHits(view, onPick);
}

function foundText(view) {
  const found = matchedBytes(view.trie, view.metric, view.matches, view.focus);
  if (!(found > 0)) return "nothing matched";
  return `${formatBytes(found)} matched, ${formatShare(found, sumsOf(view.trie, view.metric)[view.focus])}`;
}

function drawPosition(view) {
  const count = grouped(view.hits.length);
  document.getElementById("hit").textContent = view.hit < 0 ? `${count} ${view.hits.length === 1 ? "hit" : "hits"}` : `${view.hit + 1} of ${count}`;
  document.querySelector("#hits summary").textContent = `List of ${count} ${view.hits.length === 1 ? "hit" : "hits"}`;
}

export function stepHit(view, step, onPick) {
  if (!view.hits.length) return;
  view.hit = (view.hit + step + view.hits.length + (view.hit < 0 && step < 0 ? 1 : 0)) % view.hits.length;
  drawPosition(view);
  onPick(view.hits[view.hit]);
}

function fillHits(view, onPick) {
  const body = document.querySelector("#hits ol");
  const sums = sumsOf(view.trie, view.metric);
  body.replaceChildren(
    ...view.hits.slice(0, LISTED).map((node, index) => {
      const frame = view.frames[view.trie.frame[node]];
      const row = element("li");
      const button = element("button", "line", frame.name);
      button.type = "button";
      button.addEventListener("click", () => {
        view.hit = index;
        drawPosition(view);
        onPick(node);
      });
      row.append(element("b", "bytes", formatBytes(sums[node])), " ", button, " ", element("span", "path", frame.location));
      return row;
    }),
  );
  if (view.hits.length > LISTED) body.append(element("li", "soft", `${grouped(view.hits.length - LISTED)} more hits are smaller`));
}
