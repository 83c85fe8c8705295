// Formats of bytes, shares and durations, as mematlas/units.py.

const UNITS = "KMGTPE";

export function formatBytes(size) {
  if (Math.round(size) < 1024) return `${Math.round(size)} B`;
  let value = size / 1024;
  let power = 0;
  while (value >= 999.5 && power + 1 < UNITS.length) {
    value /= 1024;
    power += 1;
  }
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[power]}iB`;
}

export function formatExact(size) {
  return `${grouped(size)} bytes`;
}

export function grouped(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

export function formatShare(part, whole) {
  if (!(whole > 0)) return "unknown";
  const share = (100 * part) / whole;
  return share > 0 && share < 0.05 ? "<0.1 %" : `${share.toFixed(1)} %`;
}

export function formatTime(seconds) {
  if (seconds < 0.9995e-3) return `${(seconds * 1e6).toFixed(0)} us`;
  if (seconds < 0.9995) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  if (seconds < 59.95) return `${Number(seconds.toPrecision(3))} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} m`;
}

// Cuts the start: the end of a dotted name, or of a path, says most. A whole part is kept if it is long enough.
export function keepEnd(text, width) {
  if (text.length <= width) return text;
  if (width < 3) return "";
  const tail = text.slice(text.length - (width - 1));
  const part = tail.search(/[./:]+[^./:]/);
  const from = part < 0 ? -1 : tail.slice(part).search(/[^./:]/) + part;
  return from > 0 && tail.length - from >= width / 2 ? `…${tail.slice(from)}` : `…${tail}`;
}
