// Starts everything once the page's data is unpacked.

import { setUpAccount } from "./account.js";
import { readPayload } from "./data.js";
import { searchFor, setUpExplorer } from "./explorer.js";
import { setUpLines } from "./lines.js";
import { setUpTheme } from "./theme.js";
import { setUpTimeline } from "./timeline.js";
import { setUpWindow } from "./window.js";

async function start() {
  setUpTheme();
  setUpAccount();
  const began = performance.now();
  const data = await readPayload(document.getElementById("payload").textContent);
  const unpacked = performance.now();
  const view = setUpExplorer(data);
  const find = (frame) => {
    const input = document.getElementById("search");
    input.value = frame.name;
    searchFor(view, frame.name);
    document.getElementById("flame").scrollIntoView();
  };
  setUpTimeline(data.timelines, undefined, setUpWindow(data, find));
  setUpLines(data, find);
  const root = document.documentElement;
  root.dataset.unpackMs = (unpacked - began).toFixed(1);
  root.dataset.drawMs = (performance.now() - unpacked).toFixed(1);
  root.dataset.ready = "true";
}

start().catch((error) => {
  const warning = document.createElement("p");
  warning.className = "warning";
  warning.textContent = `The charts could not be drawn: ${error.message}. A browser from 2023 or later is needed.`;
  document.querySelector("main").prepend(warning);
  throw error;
});
