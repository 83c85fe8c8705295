// Draws the charts of the page from its payload.

import { setUpTheme } from "../theme.js";
import { setUpChart } from "./chart.js";

function startBench() {
  setUpTheme();
  const charts = JSON.parse(document.getElementById("payload").textContent);
  for (const canvas of document.querySelectorAll("canvas.chart")) {
    setUpChart(canvas, charts[Number(canvas.dataset.chart)]);
  }
  document.documentElement.dataset.ready = "true";
}

startBench();
