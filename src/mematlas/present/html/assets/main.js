// Entry point of the report page.

import { setUpAccount } from "./account.js";
import { readPayload, showFailure } from "./data.js";
import { findInStacks, setUpExplorer } from "./explorer.js";
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
  const find = (frame) => findInStacks(view, frame.name);
  setUpTimeline(data.timelines, undefined, setUpWindow(data, find));
  setUpLines(data, find);
  const root = document.documentElement;
  root.dataset.unpackMs = (unpacked - began).toFixed(1);
  root.dataset.drawMs = (performance.now() - unpacked).toFixed(1);
  root.dataset.ready = "true";
}

start().catch(showFailure);
