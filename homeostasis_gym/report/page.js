"use strict";

// A table that sorts by the column whose heading is pressed; unknown values stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      const key = (row) => row.cells[column].dataset.value;
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const [p, q] = [Number(x), Number(y)];
        const order = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y) : p - q;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// The close view of one episode: a large plot, and beside it what was seen and said at a step. Everything that
// an agent or an environment said is put in as text, never as markup.
const episodes = JSON.parse(document.getElementById("episodes").textContent);
const dialog = document.getElementById("close-view");
const plot = dialog.querySelector(".plot");
const side = dialog.querySelector(".step");
let shown = null;
let step = 1;

function node(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "rect", "line", "text", "g", "title"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const short = (v) => (v === null || v === undefined ? "–" : String(Number(v.toPrecision(6))).replace("-", "−"));

function axis(low, high, start, stop, bend) {
  const [a, b] = [bend(low), bend(high)];
  return (v) => start + ((bend(v) - a) / (b - a || 1)) * (stop - start);
}

function ticks(place, low, high) {
  const kept = [0];
  for (let e = 0; e < 9; e++)
    for (const m of [1, 2, 5])
      for (const v of [m * 10 ** e, -m * 10 ** e])
        if (v >= low && v <= high && kept.every((k) => Math.abs(place(k) - place(v)) > 16)) kept.push(v);
  return kept;
}

function draw(e) {
  const width = Math.max(320, Math.min(760, plot.clientWidth || 640)); // one unit is one pixel: text stays readable
  const [left, right, top] = [44, 16, 8];
  const count = e.actions.length;
  const x = (t) => left + (t / Math.max(1, count)) * (width - left - right);
  const values = e.compared.flat().filter((v) => v !== null);
  const banded = e.tolerance !== null;
  const low = Math.min(banded ? -1.5 : 0, ...values);
  const high = Math.max(banded ? 1.5 : 0, ...values);
  const bottom = top + 210;
  const y = axis(low, high, bottom, top, banded ? Math.asinh : (v) => v);
  const rows = e.actionNames.length;
  const actionTop = bottom + 14;
  const actionTall = 34;
  const noiseTop = actionTop + rows * (actionTall + 4) + 4;
  const modeTop = noiseTop + 20;
  const ends = [];
  const lane = e.modes.map((m) => {
    let k = ends.findIndex((end) => end < m.onset);
    if (k < 0) k = ends.push(0) - 1;
    ends[k] = m.end;
    return k;
  });
  const height = modeTop + ends.length * 13 + 22;
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, class: "figure close", role: "img", tabindex: "0",
    "aria-label": "levels, actions, noise and failure modes over the steps" });
  if (banded)
    svg.append(node("rect", { x: left, y: y(e.tolerance), width: width - left - right, height: y(-e.tolerance) - y(e.tolerance), class: "band" }));
  for (const v of banded ? ticks(y, low, high) : [0, 0.25, 0.5, 0.75, 1].map((f) => low + f * (high - low))) {
    svg.append(node("path", { d: `M${left} ${y(v)}H${width - right}`, class: "line grid" }));
    svg.append(node("text", { x: left - 5, y: y(v) + 4, class: "tick", "text-anchor": "end" }, short(Number((v * e.factor).toPrecision(3)))));
  }
  e.names.forEach((_, i) => {
    let d = "";
    let pen = "M";
    e.compared.forEach((row, t) => {
      if (row[i] === null) { pen = "M"; return; }
      d += `${pen}${x(t).toFixed(1)} ${y(row[i]).toFixed(1)}`;
      pen = "L";
    });
    svg.append(node("path", { d, class: `line o${i % 8}` }));
  });
  if (e.onset !== null)
    svg.append(node("path", { d: `M${x(e.onset - 1)} ${top}V${bottom}`, class: "line onset-line" }));
  e.actionNames.forEach((name, i) => {
    const base = actionTop + i * (actionTall + 4) + actionTall;
    const most = Math.max(1, ...e.actions.map((row) => row[i] ?? 0));
    svg.append(node("text", { x: left - 5, y: base - 12, class: "tick", "text-anchor": "end" }, name));
    svg.append(node("text", { x: left - 5, y: base, class: "tick", "text-anchor": "end" }, `≤${short(most)}`));
    e.actions.forEach((row, t) => {
      const tall = ((row[i] ?? 0) / most) * actionTall;
      const bad = e.violations && e.violations[t][i];
      if (tall > 0)
        svg.append(node("rect", { x: x(t) + 0.5, y: base - tall, width: Math.max(0.6, x(1) - x(0) - 1), height: tall,
          class: `fill${i % 8}${bad ? " bad" : ""}` }));
      if (bad) svg.append(node("rect", { x: x(t), y: base + 1, width: x(1) - x(0), height: 2, class: "mode maximise" }));
    });
  });
  const force = e.noise.map((row) => row.reduce((sum, v) => sum + Math.abs(v ?? 0), 0));
  const hardest = Math.max(...force, 0);
  if (hardest > 0) {
    svg.append(node("text", { x: left - 5, y: noiseTop + 12, class: "tick", "text-anchor": "end" }, "noise"));
    const d = force.map((f, t) => `M${x(t + 0.5).toFixed(1)} ${noiseTop + 14}v${(-13 * f / hardest).toFixed(1)}`).join("");
    svg.append(node("path", { d, class: "line noise" }));
  }
  e.modes.forEach((m, k) => {
    const at = modeTop + lane[k] * 13;
    const wide = Math.max(2, x(m.end) - x(m.onset - 1));
    const name = [m.mode, m.objective, m.detail].filter(Boolean).join(" ");
    svg.append(node("rect", { x: x(m.onset - 1), y: at, width: wide, height: 4, class: `mode ${m.mode}` },
      node("title", {}, `${name}, steps ${m.onset} to ${m.end}, severity ${m.severity} ${m.unit}`)));
    if (wide > name.length * 5.2)
      svg.append(node("text", { x: x(m.onset - 1), y: at + 12, class: "tick small" }, name));
  });
  for (let t = 0; t <= count; t += count > 60 ? 20 : 10)
    svg.append(node("text", { x: x(t), y: height - 4, class: "tick", "text-anchor": "middle" }, String(t)));
  svg.append(node("path", { class: "line cursor", d: "" }));
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    select(Math.floor(((at - left) / (width - left - right)) * count) + 1);
  });
  svg.dataset.top = top;
  svg.dataset.bottom = height - 18;
  svg.place = (t) => x(t - 0.5);
  return svg;
}

function select(wanted) {
  const e = shown;
  const count = e.actions.length;
  if (count === 0) return; // an episode that ended before its first step
  step = Math.min(count, Math.max(1, wanted));
  const svg = plot.firstElementChild;
  const at = svg.place(step).toFixed(1);
  svg.querySelector(".cursor").setAttribute("d", `M${at} ${svg.dataset.top}V${svg.dataset.bottom}`);
  dialog.querySelector("output").textContent = `step ${step} of ${count}`;
  const t = step - 1;
  const list = node("dl", { class: "facts" });
  const fact = (name, value) => list.append(node("dt", {}, name), node("dd", {}, value));
  e.names.forEach((name, i) => {
    const band = e.lower ? ` (band ${short(e.lower[t][i])} to ${short(e.upper[t][i])})` : "";
    fact(`level ${name}`, `${short(e.levels[t][i])} → ${short(e.levels[t + 1][i])}${band}`);
  });
  e.actionNames.forEach((name, i) => fact(`action ${name}`, short(e.actions[t][i]) + (e.violations && e.violations[t][i] ? " (violation)" : "")));
  if (e.noise[t] && e.noise[t].length) fact("noise", e.noise[t].map(short).join(", "));
  if (e.rewards[t].length)
    fact("reward", e.rewards[t].map((v, i) => `${e.rewardNames[i] ?? i + 1} ${short(v)}`).join(", "));
  if (!e.valid[t]) fact("decision", "none that was valid; nothing was done");
  if (e.forbidden[t]) fact("decision", "forbidden by the rules: a wasted turn");
  const now = e.modes.filter((m) => m.onset <= step && step <= m.end);
  if (now.length) fact("modes", now.map((m) => [m.mode, m.objective, m.detail].filter(Boolean).join(" ")).join(", "));
  const said = [];
  for (const [prompt, reply, error, reason] of (e.attempts ? e.attempts[t] : [])) {
    if (prompt) said.push(node("h4", {}, "Prompt"), node("pre", { class: "prompt" }, prompt));
    said.push(node("h4", {}, error ? "Reply, refused" : "Reply"));
    said.push(node("pre", { class: error ? "reply refused" : "reply" }, reply === null ? "(not recorded)" : reply === "" ? "(empty)" : reply));
    if (error) said.push(node("p", { class: "soft" }, `refused: ${error}`));
    if (reason && reason !== "stop") said.push(node("p", { class: "soft" }, `ended by: ${reason}`));
  }
  side.replaceChildren(list, ...said);
}

function open(id) {
  shown = episodes[id];
  dialog.querySelector("h3").textContent = `${shown.agent}, episode ${shown.episode}${shown.seed < 0 ? "" : `, seed ${shown.seed}`}`;
  const words = [shown.verdict];
  if (shown.onset !== null) words.push(`onset at step ${shown.onset}, objective ${shown.objective}`, shown.recovered ? "recovered" : "not recovered");
  const source = shown.file ? ` Log: ${shown.file}.` : "";
  dialog.querySelector(".said").textContent = `${words.join("; ")}. Vertical axis: ${shown.meaning}.${source}`;
  dialog.showModal();
  plot.replaceChildren(draw(shown));
  select(shown.onset ?? 1);
}

for (const card of document.querySelectorAll("button.episode")) card.addEventListener("click", () => open(card.dataset.id));
dialog.querySelector(".shut").addEventListener("click", () => dialog.close());
dialog.querySelector(".back").addEventListener("click", () => select(step - 1));
dialog.querySelector(".on").addEventListener("click", () => select(step + 1));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
  if (event.key in moves) { event.preventDefault(); select(step + moves[event.key]); }
});
