// Cells of a mapping: runs are unpacked to arrays, arrays are cut into rows, long empty stretches become gaps.

export function unpackRuns(runs, length) {
  const cells = new Uint16Array(length);
  let at = 0;
  for (let index = 0; index < runs.length; index += 2) {
    cells.fill(runs[index], at, at + runs[index + 1]);
    at += runs[index + 1];
  }
  return cells;
}

export function cellCount(runs) {
  let total = 0;
  for (let index = 1; index < runs.length; index += 2) total += runs[index];
  return total;
}

const LONGEST_EMPTY = 3; // rows; a longer stretch becomes one gap

// Rows of a strip: {first: cell} or {first, gap: number of empty cells}.
export function rowsOf(cells, columns) {
  const rows = [];
  let empty = 0;
  const flush = (end) => {
    if (empty > LONGEST_EMPTY) {
      rows.splice(rows.length - empty, empty, { first: end - empty * columns, gap: empty * columns });
    }
    empty = 0;
  };
  for (let first = 0; first < cells.length; first += columns) {
    const last = Math.min(first + columns, cells.length);
    let none = last - first === columns;
    for (let at = first; none && at < last; at += 1) none = cells[at] === 0;
    if (!none) flush(first);
    rows.push({ first });
    if (none) empty += 1;
  }
  flush(Math.ceil(cells.length / columns) * columns);
  return rows;
}
