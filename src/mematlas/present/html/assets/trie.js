// Stacks as a trie in preorder. Invariant: the subtree of a node is the range [node, end[node]).

import { GROUP, groupFrame } from "./data.js";

// `folded` counts the stacks below a node that are too small to have nodes; their bytes are in its `own`.
export function makeTrie(depth, frame, own, folded) {
  const count = depth.length;
  const parent = new Int32Array(count).fill(-1);
  const end = new Int32Array(count).fill(count);
  const open = [];
  for (let i = 0; i < count; i++) {
    while (open.length > depth[i]) end[open.pop()] = i;
    if (open.length) parent[i] = open[open.length - 1];
    open.push(i);
  }
  return { count, depth, frame, own, folded, parent, end, sums: own.map(() => null), starts: own.map(() => null) };
}

// Bytes of each subtree.
export function sumsOf(trie, metric) {
  if (!trie.sums[metric]) {
    const sums = Float64Array.from(trie.own[metric]);
    for (let i = trie.count - 1; i > 0; i--) sums[trie.parent[i]] += sums[i];
    trie.sums[metric] = sums;
  }
  return trie.sums[metric];
}

// Start of each box in bytes from the left edge of the root; a node's own bytes come last.
export function startsOf(trie, metric) {
  if (!trie.starts[metric]) {
    const sums = sumsOf(trie, metric);
    const starts = new Float64Array(trie.count);
    const cursor = new Float64Array(trie.count);
    for (let i = 1; i < trie.count; i++) {
      const above = trie.parent[i];
      starts[i] = cursor[above];
      cursor[above] += sums[i];
      cursor[i] = starts[i];
    }
    trie.starts[metric] = starts;
  }
  return trie.starts[metric];
}

export function childrenOf(trie, node) {
  const found = [];
  for (let i = node + 1; i < trie.end[node]; i = trie.end[i]) found.push(i);
  return found;
}

export function pathTo(trie, node) {
  const path = [];
  for (let i = node; i >= 0; i = trie.parent[i]) path.unshift(i);
  return path;
}

// Owner of a stack, as recording/ownership.py: the innermost frame of the lowest rank.
function ownerOf(trie, frames, leaf) {
  let best = leaf;
  let bestRank = Infinity;
  for (let i = leaf; i > 0; i = trie.parent[i]) {
    const frame = frames[trie.frame[i]];
    if (frame.kind === GROUP) continue;
    if (frame.rank === 0) return i;
    if (frame.rank < bestRank) {
      best = i;
      bestRank = frame.rank;
    }
  }
  return best;
}

// Trie of other labels: labelOf(node, label above it) returns the frame that a node is drawn as, or -1 to add
// its bytes to the node above.

function relabelled(trie, labelOf, weightOf = null) {
  const root = emptyNode(trie.frame[0], trie.own.length);
  const placed = new Array(trie.count);
  let count = 1;
  placed[0] = root;
  for (let i = 0; i < trie.count; i++) {
    let node = i === 0 ? root : placed[trie.parent[i]];
    const label = i === 0 ? -1 : labelOf(i, node.frame);
    if (label >= 0) {
      let child = node.children.get(label);
      if (!child) {
        child = emptyNode(label, trie.own.length);
        child.weight = weightOf ? 0 : -i; // keeps the order of the whole trie
        node.children.set(label, child);
        count += 1;
      }
      if (weightOf) child.weight += weightOf(i);
      node = child;
    }
    placed[i] = node;
    node.folded += trie.folded[i];
    trie.own.forEach((own, metric) => (node.own[metric] += own[i]));
  }
  return flattened(root, count, trie.own.length);
}

// Trie without the roots of processes: their stacks are joined, the largest first.
export function withoutProcesses(trie) {
  const main = trie.own.map((_, metric) => sumsOf(trie, metric)[0] || 1);
  const weightOf = (node) => Math.max(...main.map((total, metric) => sumsOf(trie, metric)[node] / total));
  return relabelled(trie, (node) => (trie.parent[node] === 0 ? -1 : trie.frame[node]), weightOf);
}

// Trie without runtime frames: their bytes go to the caller.
export function withoutRuntime(trie, frames) {
  return relabelled(trie, (node) => (frames[trie.frame[node]].tier === 2 ? -1 : trie.frame[node]));
}

// Trie with one node for successive frames of a package. `groups` maps a name to the number of its frame.
export function byPackage(trie, frames, groups) {
  return relabelled(trie, (node, above) => {
    const frame = frames[trie.frame[node]];
    if (frame.kind === GROUP) return trie.frame[node];
    if (frame.tier === 2) return -1;
    const label = groups.numberOf(frame.package, frame);
    return label === above ? -1 : label;
  });
}

// Trie with one node for the import of a module and all that it imported and called in turn.
export function withImportsFolded(trie, frames, groups) {
  const system = new Uint8Array(trie.count); // 1: the import system runs, with nothing but itself below
  return relabelled(trie, (node, above) => {
    const frame = frames[trie.frame[node]];
    const inside = system[trie.parent[node]] === 1;
    system[node] = isImportSystem(frame) || (inside && frame.tier === 2 && frame.kind !== 0) ? 1 : 0;
    if (groups.has(above)) return -1;
    if (inside && frame.imported) return groups.numberOf(`import ${frame.imported}`, frame);
    return frame.tier === 2 ? -1 : trie.frame[node];
  });
}

function isImportSystem(frame) {
  return frame.kind === 0 && frame.file.startsWith("<frozen importlib");
}

// Frames of groups, appended to `frames` as they are asked for.
export function makeGroups(frames) {
  const numbers = new Map();
  const mine = new Set();
  return {
    has: (number) => mine.has(number),
    numberOf: (name, like) => {
      const key = `${like.kind} ${like.tier} ${name}`;
      if (!numbers.has(key)) {
        numbers.set(key, frames.length);
        mine.add(frames.length);
        frames.push(groupFrame(name, { kind: like.kind, tier: like.tier, rank: like.rank, package: like.package, group: true }));
      }
      return numbers.get(key);
    },
  };
}

function emptyNode(frame, metrics) {
  return { frame, children: new Map(), own: new Float64Array(metrics), weight: 0, folded: 0 };
}

// Inverted trie: owning lines first, then their callers.
export function invert(trie, frames, all = true) {
  const metrics = trie.own.length;
  const root = emptyNode(trie.frame[0], metrics);
  let count = 1;
  const totals = trie.own.map((_, metric) => sumsOf(trie, metric)[0] || 1);
  for (let leaf = 0; leaf < trie.count; leaf++) {
    let weight = 0;
    for (let m = 0; m < metrics; m++) weight = Math.max(weight, trie.own[m][leaf] / totals[m]);
    if (weight === 0) continue;
    let node = root;
    const owner = ownerOf(trie, frames, leaf);
    for (let i = leaf === 0 ? 0 : owner; i > 0; i = trie.parent[i]) {
      if (!all && i !== owner && frames[trie.frame[i]].tier === 2) continue;
      let child = node.children.get(trie.frame[i]);
      if (!child) {
        child = emptyNode(trie.frame[i], metrics);
        node.children.set(trie.frame[i], child);
        count += 1;
      }
      child.weight += weight;
      node = child;
    }
    node.folded += trie.folded[leaf];
    for (let m = 0; m < metrics; m++) node.own[m] += trie.own[m][leaf];
  }
  return flattened(root, count, metrics);
}

function flattened(root, count, metrics) {
  const depth = new Uint16Array(count);
  const frame = new Uint32Array(count);
  const folded = new Float64Array(count);
  const own = Array.from({ length: metrics }, () => new Float64Array(count));
  const waiting = [[root, 0]];
  let i = 0;
  while (waiting.length) {
    const [node, level] = waiting.pop();
    depth[i] = level;
    frame[i] = node.frame;
    folded[i] = node.folded;
    for (let m = 0; m < metrics; m++) own[m][i] = node.own[m];
    i += 1;
    const children = [...node.children.values()].sort((a, b) => a.weight - b.weight);
    for (const child of children) waiting.push([child, level + 1]);
  }
  return makeTrie(depth, frame, own, folded);
}

// Bytes below matching frames; nested matches count once.
export function matchedBytes(trie, metric, matches, node) {
  const sums = sumsOf(trie, metric);
  let total = 0;
  let i = node;
  while (i < trie.end[node]) {
    if (matches[trie.frame[i]]) {
      total += sums[i];
      i = trie.end[i];
    } else {
      i += 1;
    }
  }
  return total;
}

// Matching nodes below a node, the outermost of nested ones, most bytes first.
export function matchedNodes(trie, metric, matches, node) {
  const sums = sumsOf(trie, metric);
  const found = [];
  let i = node;
  while (i < trie.end[node]) {
    const hit = matches[trie.frame[i]] === 1 && sums[i] > 0;
    if (hit) found.push(i);
    i = hit ? trie.end[i] : i + 1;
  }
  return found.sort((a, b) => sums[b] - sums[a]);
}
