// Stacks as a trie in preorder. Invariant: the subtree of a node is the range [node, end[node]).

export function makeTrie(depth, frame, own) {
  const count = depth.length;
  const parent = new Int32Array(count).fill(-1);
  const end = new Int32Array(count).fill(count);
  const open = [];
  for (let i = 0; i < count; i++) {
    while (open.length > depth[i]) end[open.pop()] = i;
    if (open.length) parent[i] = open[open.length - 1];
    open.push(i);
  }
  return { count, depth, frame, own, parent, end, sums: own.map(() => null), starts: own.map(() => null) };
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
    if (frame.kind === 3) continue;
    if (frame.rank === 0) return i;
    if (frame.rank < bestRank) {
      best = i;
      bestRank = frame.rank;
    }
  }
  return best;
}

// Trie without runtime frames: their bytes go to the caller.
export function withoutRuntime(trie, frames) {
  const root = emptyNode(trie.frame[0], trie.own.length);
  const placed = new Array(trie.count);
  let count = 1;
  placed[0] = root;
  for (let i = 0; i < trie.count; i++) {
    let node = i === 0 ? root : placed[trie.parent[i]];
    if (i > 0 && frames[trie.frame[i]].tier !== 2) {
      let child = node.children.get(trie.frame[i]);
      if (!child) {
        child = emptyNode(trie.frame[i], trie.own.length);
        child.weight = -i; // keeps the order of the whole trie
        node.children.set(trie.frame[i], child);
        count += 1;
      }
      node = child;
    }
    placed[i] = node;
    trie.own.forEach((own, metric) => (node.own[metric] += own[i]));
  }
  return flattened(root, count, trie.own.length);
}

function emptyNode(frame, metrics) {
  return { frame, children: new Map(), own: new Float64Array(metrics), weight: 0 };
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
    for (let m = 0; m < metrics; m++) node.own[m] += trie.own[m][leaf];
  }
  return flattened(root, count, metrics);
}

function flattened(root, count, metrics) {
  const depth = new Uint16Array(count);
  const frame = new Uint32Array(count);
  const own = Array.from({ length: metrics }, () => new Float64Array(count));
  const waiting = [[root, 0]];
  let i = 0;
  while (waiting.length) {
    const [node, level] = waiting.pop();
    depth[i] = level;
    frame[i] = node.frame;
    for (let m = 0; m < metrics; m++) own[m][i] = node.own[m];
    i += 1;
    const children = [...node.children.values()].sort((a, b) => a.weight - b.weight);
    for (const child of children) waiting.push([child, level + 1]);
  }
  return makeTrie(depth, frame, own);
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
