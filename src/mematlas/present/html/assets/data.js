// Decodes the payload: base64, gzip, a JSON header, columns (see payload.py).

export async function readPayload(base64) {
  const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const raw = await new Response(stream).arrayBuffer();
  const headBytes = new DataView(raw).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 4, headBytes)));
  let offset = 4 + headBytes;
  const columns = head.columns.map((bytes) => {
    const column = raw.slice(offset, offset + bytes);
    offset += bytes;
    return column;
  });
  head.depth = new Uint16Array(columns[0]);
  head.frame = head.frameType === "u4" ? new Uint32Array(columns[1]) : new Uint16Array(columns[1]);
  head.own = columns.slice(2, -1).map((column) => readVarints(new Uint8Array(column), head.nodes));
  head.folded = readVarints(new Uint8Array(columns[columns.length - 1]), head.nodes);
  head.frames = readFrames(head.frames);
  return head;
}

export function showFailure(error) {
  const warning = document.createElement("p");
  warning.className = "warning";
  warning.textContent = `The charts could not be drawn: ${error.message}. A browser from 2023 or later is needed.`;
  document.querySelector("main").prepend(warning);
  throw error;
}

// Multiplication instead of shifts: values may exceed 32 bits.
export function readVarints(bytes, count) {
  const values = new Float64Array(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    let value = 0;
    let scale = 1;
    let byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    values[i] = value;
  }
  return values;
}

export const KIND_NAMES = ["python", "native", "inlined", "process"];

// Frames that group others: a process, a package, an import.
export const GROUP = 3;

export function groupFrame(name, more) {
  return { name, location: "", file: "", line: -1, module: "", kind: GROUP, tier: 1, rank: 0, package: "", imported: "", code: "", changed: false, ...more };
}

function readFrames(table) {
  const text = (index) => table.strings[index];
  const changed = new Set(table.changed);
  const where = (i) => {
    const file = text(table.short[i]);
    if (file) return table.line[i] < 0 ? file : `${file}:${table.line[i]}`;
    return text(table.module[i]).split("/").pop();
  };
  return table.function.map((name, i) => ({
    name: text(name),
    location: where(i),
    file: text(table.file[i]),
    line: table.line[i],
    module: text(table.module[i]),
    kind: table.kind[i],
    tier: table.tier[i],
    rank: table.rank[i],
    package: text(table.package[i]),
    imported: text(table.imported[i]),
    code: text(table.code[i]),
    changed: changed.has(i),
  }));
}
