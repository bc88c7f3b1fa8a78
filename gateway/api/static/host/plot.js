// Viewers, comments and orders of a show over time as lines, with marks for what was done. The lines are told apart by their
// dashes as well as by colour; beside the picture stand a legend in words and the same as a table.

import { html, signal, useEffect, useRef, useSignal, useSignalEffect } from "../ui/ui.js";
import { clockTime, count } from "../ui/format.js";
import { language } from "../ui/words.js";
import { t } from "./figure-words.js";
import { rowsOf } from "./timeline.js";

const MOST_ROWS = 24, LABEL_GAP_PX = 8, LEAST_HEIGHT_PX = 140;
export const LINES = [
  { name: "viewers", scale: "viewers", dash: [], width: 2 },
  { name: "comments", scale: "rate", dash: [7, 4], width: 1.75 },
  { name: "orders", scale: "rate", dash: [2, 3], width: 2.25 },
];

const uPlot = signal(null); // loaded with the first chart
const isDark = signal(matchMedia("(prefers-color-scheme: dark)").matches);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => { isDark.value = event.matches; });

/** `points` and `marks`: signals, of columns (timeline.js) and of `{at_ms, kind, label}`; `label` names the picture. */
export function Plot({ points, marks, label }) {
  const box = useRef(null), chart = useRef(null), at = useSignal(null);
  useEffect(() => { if (!uPlot.value) void import("uplot").then((module) => { uPlot.value = module.default; }); }, []);
  useEffect(() => {
    if (!uPlot.value || !box.current) return undefined;
    const place = box.current, made = new uPlot.value(optionsOf(place, marks, at), dataOf(points.peek()), place);
    chart.current = made;
    const resize = new ResizeObserver(() => made.setSize(sizeOf(place)));
    resize.observe(place);
    return () => { resize.disconnect(); made.destroy(); chart.current = null; };
  }, [uPlot.value]);
  useSignalEffect(() => {
    const data = dataOf(points.value);
    void [marks.value, language.value, isDark.value];
    chart.current?.setData(data);
  });
  const { at: times, width_ms } = points.value, last = times.length - 1;
  const shown = at.value !== null && at.value <= last ? at.value : last;
  return html`<figure class="plot">
    <figcaption class="legend">
      ${last >= 0 && html`<span class="soft small number legend-time">${clockTime(times[shown], { seconds: width_ms < 60_000 })}</span>`}
      ${LINES.map((line) => html`<span key=${line.name} class=${`legend-line of-${line.name}`}>
        <${Sample} dash=${line.dash} width=${line.width} />
        <span>${t(`line_${line.name}`)}</span>
          <b class="number">${count(rounded(valueAt(points.value[line.name], shown)))}</b></span>`)}</figcaption>
    <div class="plot-box" ref=${box} role="img" aria-label=${`${label}. ${summary(points.value)}`}></div>
    <details class="part plot-table"><summary>${t("asTable")}</summary><${Rows} points=${points.value} label=${label} /></details>
  </figure>`;
}

/** Of a point that has no value yet, the one before. */
const valueAt = (column, at) => column[at] ?? column[at - 1];

const Sample = ({ dash, width }) => html`<svg class="legend-sample" width="28" height="8" aria-hidden="true">
  <line x1="1" y1="4" x2="27" y2="4" stroke="currentColor"
  stroke-width=${width} stroke-dasharray=${dash.join(" ")} /></svg>`;

/** What the picture says at a glance, for who does not see it. */
function summary(points) {
  const of = (column) => column.filter((value) => value !== null), most = (column) => Math.max(0, ...of(column));
  if (!points.at.length) return t("noPoints");
  const facts = {};
  for (const { name } of LINES) {
    facts[name] = count(rounded(of(points[name]).at(-1) ?? 0));
    facts[`${name}Most`] = count(rounded(most(points[name])));
  }
  return t("summary", facts);
}

function Rows({ points, label }) {
  return html`<div class="table-scroll" tabindex="0" role="region" aria-label=${label}>
    <table class="table"><caption class="visually-hidden">${label}</caption>
    <thead><tr><th scope="col">${t("time")}</th>
      ${LINES.map(({ name }) => html`<th key=${name} scope="col" class="right">${t(`line_${name}`)}</th>`)}</tr></thead>
    <tbody>${rowsOf(points, MOST_ROWS).map((row) => html`<tr key=${row.at}>
      <th scope="row" class="number">${clockTime(row.at, { seconds: true })}</th>
      ${LINES.map(({ name }) => html`<td key=${name} class="right">${count(rounded(row[name]))}</td>`)}</tr>`)}</tbody></table></div>`;
}

const rounded = (value) => (value === null || value === undefined ? null : Math.round(value * 10) / 10);
const dataOf = ({ at, viewers, comments, orders }) => [at.map((ms) => ms / 1000), viewers, comments, orders];
const sizeOf = (box) => ({ width: Math.max(200, box.clientWidth), height: Math.max(LEAST_HEIGHT_PX, box.clientHeight) });

function optionsOf(box, marks, at) {
  const colour = (name) => () => getComputedStyle(box).getPropertyValue(`--plot-${name}`).trim();
  const font = `11px ${getComputedStyle(box).fontFamily}`;
  const axis = { stroke: colour("ink"), font, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
  const fromZero = (_, __, most) => [0, Math.max(1, most ?? 1) * 1.12];
  return {
    ...sizeOf(box),
    padding: [22, 4, 0, 4], // above the lines stand the marks' names
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time: true }, viewers: { range: fromZero }, rate: { range: fromZero } },
    series: [{}, ...LINES.map(({ name, scale, dash, width }) => ({ scale, dash, width, stroke: colour(name), points: { show: false },
      ...(name === "viewers" ? { fill: colour("fill") } : {}) }))],
    axes: [
      { ...axis, space: 64, size: 28,
        values: (_, splits, __, ___, step) => splits.map((s) => clockTime(s * 1000, { seconds: step < 60 })) },
      { ...axis, scale: "viewers", size: 46, values: (_, splits) => splits.map((n) => (Number.isInteger(n) ? count(n) : "")) },
      { ...axis, scale: "rate", side: 1, size: 42, grid: { show: false }, values: (_, splits) => splits.map((n) => count(n)) },
    ],
    hooks: { draw: [(u) => drawMarks(u, marks.peek(), colour("mark")(), font)], setCursor: [(u) => { at.value = u.cursor.idx ?? null; }] },
  };
}

/** A line at the time of each, and its name above where there is room: of two that are near each other the later one has none. */
function drawMarks(u, marks, colour, font) {
  const { ctx, bbox } = u, ratio = devicePixelRatio || 1;
  let free = -Infinity;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = ratio;
  ctx.font = font.replace("11px", `${11 * ratio}px`);
  ctx.textBaseline = "bottom";
  for (const { at_ms, kind } of marks) {
    const x = Math.round(u.valToPos(at_ms / 1000, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.globalAlpha = 0.55;
    ctx.stroke();
    ctx.globalAlpha = 1;
    const name = t(`mark_${kind}`), width = ctx.measureText(name).width;
    const left = Math.min(Math.max(x - width / 2, bbox.left), bbox.left + bbox.width - width);
    if (left < free) continue;
    ctx.fillText(name, left, bbox.top - 4 * ratio);
    free = left + width + LABEL_GAP_PX * ratio;
  }
  ctx.restore();
}
