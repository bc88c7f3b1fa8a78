// Comments that fly over the stage: a few lanes, one speed, and whoever finds no room is only in the list.
//
// Nothing of it is in Preact: a node is taken from a small pool, runs by a transform the compositor moves, and goes back.

import { html, useEffect, useRef } from "../ui/ui.js";
import { danmakuOn, isCalm } from "./moving.js";

const LANE_PX = 34, MOST_LANES = 8, MOST_NODES = 40, A_FRAME = 4, MOST_CHARS = 40, GAP_PX = 36;
const ROUND_PX = 24; // a node is that much wider than its text
const SLOWEST_PX = 70, CROSSING_S = 8; // px a second at least; how long a comment takes across the stage

export function Danmaku({ show }) {
  const layer = useRef(null), isOn = danmakuOn.value && !isCalm.value;
  useEffect(() => (isOn ? fly(layer.current, show) : undefined), [isOn, show]);
  return html`<div class="danmaku" ref=${layer} aria-hidden="true"></div>`;
}

function fly(layer, show) {
  const pool = [], running = new Map(); // node: its animation and comment
  let lanes = [], width = 0, waiting = [], asked = null, made = 0;
  const pen = document.createElement("canvas").getContext("2d");
  const { fontSize, fontFamily } = getComputedStyle(layer);
  pen.font = `600 ${fontSize} ${fontFamily}`;

  const sizes = new ResizeObserver(([{ contentRect }]) => {
    width = contentRect.width;
    const n = Math.max(1, Math.min(MOST_LANES, Math.floor(contentRect.height / LANE_PX)));
    lanes = Array.from({ length: n }, (_, at) => lanes[at] ?? 0);
  });
  sizes.observe(layer);

  function put(comment, now) {
    const lane = lanes.findIndex((freeAt) => freeAt <= now);
    const node = lane < 0 ? null : (pool.pop() ?? (made < MOST_NODES ? make() : null));
    if (!node) return; // no room: it is in the list
    const chars = [...comment.text], text = chars.length > MOST_CHARS ? `${chars.slice(0, MOST_CHARS).join("")}…` : comment.text;
    node.textContent = text;
    node.className = comment.mine ? "flying mine" : "flying";
    // Measured without a layout of the page.
    const long = pen.measureText(text).width + ROUND_PX;
    const speed = Math.max(SLOWEST_PX, width / CROSSING_S); // the same for all: nobody overtakes
    lanes[lane] = now + ((long + GAP_PX) / speed) * 1_000;
    const y = lane * LANE_PX;
    const at = (x) => ({ transform: `translate3d(${x}px, ${y}px, 0)` });
    const run = node.animate([at(width), at(-long)],
      { duration: ((width + long) / speed) * 1_000, easing: "linear", fill: "both" });
    running.set(node, { run, comment });
    run.onfinish = () => rest(node);
  }

  function make() {
    made += 1;
    const node = document.createElement("span");
    layer.append(node);
    return node;
  }

  function rest(node) {
    running.get(node)?.run.cancel();
    running.delete(node);
    node.textContent = "";
    node.className = "flying resting";
    pool.push(node);
  }

  function draw() {
    asked = null;
    const now = performance.now();
    for (const comment of waiting.splice(0, A_FRAME)) put(comment, now);
    if (waiting.length) asked = requestAnimationFrame(draw);
  }

  const stopHearing = show.onComment((comment) => {
    if (document.hidden || !width) return;
    // More than the lanes take in a moment would only come late.
    if (waiting.length < lanes.length * 2 || comment.mine) waiting.push(comment);
    asked ??= requestAnimationFrame(draw);
  });
  const stopGone = show.onGone((stays) => {
    waiting = waiting.filter(stays);
    for (const [node, { comment }] of running) if (!stays(comment)) rest(node);
  });

  return () => {
    stopHearing();
    stopGone();
    sizes.disconnect();
    if (asked !== null) cancelAnimationFrame(asked);
    layer.replaceChildren();
  };
}
