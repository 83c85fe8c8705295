// Treemap of a dominator tree, drawn from the list below it. A click on a tile shows what it holds.

import { formatBytes, formatShare } from "./format.js";
import { setUpSwitch } from "./switch.js";
import { element, hideTooltip, showTooltip } from "./tooltip.js";

const TREEMAP_HEIGHT = 340;
const TILE_HEAD = 20;
const TILE_NAME = 46; // pixels of width from which a tile has a name
const TILE_NESTED = [64, 56]; // pixels from which a tile shows what it holds
const MOST_LEVELS = 3;

export function setUpHolders() {
  const views = [...document.querySelectorAll(".heap")];
  const drawn = views.map((view) => setUpView(view));
  const group = document.getElementById("heap-moment");
  const show = (value) => views.forEach((view, i) => {
    view.hidden = view.dataset.moment !== value;
    drawn[i]();
  });
  if (group) {
    setUpSwitch(group, show);
    show(views[0].dataset.moment);
  }
  addEventListener("resize", () => drawn.forEach((draw) => draw()));
}

function setUpView(view) {
  const map = view.querySelector(".treemap");
  const trail = view.querySelector(".trail");
  let focus = view;
  map.hidden = trail.hidden = false;
  const draw = () => {
    if (view.hidden || !map.clientWidth) return;
    drawTrail(trail, view, focus, go);
    map.style.height = `${TREEMAP_HEIGHT}px`;
    map.replaceChildren();
    const box = { x: 0, y: 0, width: map.clientWidth, height: TREEMAP_HEIGHT };
    drawTiles(map, view, focus, box, 0, go);
  };
  const go = (item) => {
    focus = item;
    hideTooltip();
    for (let at = item; at && at !== view; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    const own = item === view ? null : item.querySelector(":scope > details");
    if (own) own.open = true;
    draw();
  };
  draw();
  return draw;
}

export function itemsOf(item) {
  const list = item.querySelector(item.tagName === "LI" ? ":scope > details > ul" : ":scope > ul");
  return list ? [...list.children].filter((each) => Number(each.dataset.bytes) > 0) : [];
}

function drawTrail(trail, view, focus, go) {
  const path = [];
  for (let at = focus; at !== view; at = at.parentElement.closest("li, .heap")) path.unshift(at);
  trail.replaceChildren();
  for (const item of [view, ...path]) {
    const button = element("button", "quiet", item === view ? "all blocks" : item.dataset.name);
    button.type = "button";
    button.disabled = item === focus;
    button.addEventListener("click", () => go(item));
    trail.append(button);
  }
  trail.append(element("span", "soft", formatBytes(Number(focus.dataset.bytes))));
}

function drawTiles(map, view, item, box, level, go) {
  const items = itemsOf(item);
  const sizes = items.map((each) => Number(each.dataset.bytes));
  squarified(sizes, Number(item.dataset.bytes), box).forEach((place, i) => {
    if (place.width < 2 || place.height < 2) return;
    const each = items[i];
    const tile = element("button", "tile");
    tile.type = "button";
    tile.dataset.root = rootOf(each);
    tile.dataset.level = Math.min(level, 2);
    Object.assign(tile.style, {
      left: `${place.x}px`, top: `${place.y}px`,
      width: `${Math.max(place.width - 1, 1)}px`, height: `${Math.max(place.height - 1, 1)}px`,
    });
    const share = formatShare(sizes[i], Number(view.dataset.bytes));
    const figures = `${formatBytes(sizes[i])}, ${share}`;
    tile.setAttribute("aria-label", `${each.dataset.name}: ${figures}`);
    if (place.width > TILE_NAME && place.height > TILE_HEAD) tile.append(element("span", "name", each.dataset.name));
    tile.addEventListener("click", () => go(itemsOf(each).length ? each : item));
    tile.addEventListener("mousemove", (event) => showTooltip(event, each.dataset.name, "", [["retained", figures]]));
    tile.addEventListener("mouseleave", hideTooltip);
    map.append(tile);
    if (level + 1 < MOST_LEVELS && place.width > TILE_NESTED[0] && place.height > TILE_NESTED[1]) {
      const inner = { x: place.x + 3, y: place.y + TILE_HEAD, width: place.width - 7, height: place.height - TILE_HEAD - 4 };
      drawTiles(map, view, each, inner, level + 1, go);
    }
  });
}

// The kind of the root that an item hangs on tells its colour.
function rootOf(item) {
  let at = item;
  for (let above = at; above; above = above.parentElement.closest("li")) at = above;
  return at.dataset.root;
}

// Rectangles for sizes, largest first, as nearly square as rows of them can be. What is left of `total` stays empty.
export function squarified(sizes, total, box) {
  const places = [];
  let { x, y, width, height } = box;
  const scale = total > 0 ? (width * height) / total : 0;
  let at = 0;
  while (at < sizes.length && width > 0 && height > 0) {
    const side = Math.min(width, height);
    let end = at + 1;
    while (end < sizes.length && worst(sizes, at, end + 1, scale, side) <= worst(sizes, at, end, scale, side)) end += 1;
    const area = sizes.slice(at, end).reduce((sum, each) => sum + each, 0) * scale;
    const thick = area / side;
    let along = 0;
    for (; at < end; at += 1) {
      const length = (sizes[at] * scale) / thick;
      places.push(width >= height ? { x, y: y + along, width: thick, height: length } : { x: x + along, y, width: length, height: thick });
      along += length;
    }
    if (width >= height) [x, width] = [x + thick, width - thick];
    else [y, height] = [y + thick, height - thick];
  }
  while (places.length < sizes.length) places.push({ x, y, width: 0, height: 0 });
  return places;
}

function worst(sizes, start, end, scale, side) {
  const row = sizes.slice(start, end).map((each) => each * scale);
  const sum = row.reduce((total, each) => total + each, 0);
  return Math.max((side * side * row[0]) / (sum * sum), (sum * sum) / (side * side * row[row.length - 1]));
}
