// Stands in for the room's module: uses all that the pages stand on, and tries all that the policy forbids.

import { Button, Dialog, html, render, signal, computed } from "../ui/ui.js";
import { freshKey } from "peakgate";
import uPlot from "uplot";

globalThis.violations = [];
globalThis.key = freshKey();
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
const count = signal(0), twice = computed(() => count.value * 2);
render(html`<p id="twice" style=${{ color: "red" }}>${twice}</p><${Button} does=${() => { count.value += 1; }}>more<//>
  <${Dialog} open=${true} title="Open">inside<//><div id="chart"></div><video muted></video>`, document.getElementById("app"));
const chart = new uPlot({ width: 300, height: 150, series: [{}, { label: "one", stroke: "red" }] }, [[1, 2], [3, 4]],
  document.getElementById("chart"));
chart.setData([[1, 2, 3], [3, 4, 5]]);
chart.setCursor({ left: 20, top: 20 });

globalThis.play = async (url) => {
  const { default: Hls } = await import("hls");
  const told = [], hls = new Hls();
  const fetched = new Promise((resolve) => hls.on(Hls.Events.FRAG_LOADED, resolve));
  for (const name of ["MEDIA_ATTACHED", "MANIFEST_PARSED", "FRAG_LOADED"]) hls.on(Hls.Events[name], () => told.push(name));
  hls.on(Hls.Events.ERROR, (_, { details, fatal }) => { if (fatal && details !== "fragParsingError") told.push(details); });
  hls.loadSource(url);
  hls.attachMedia(document.querySelector("video"));
  await fetched;
  hls.destroy();
  return told.sort();
};

globalThis.attack = async (foreign) => {
  // Whoever drives the browser may evaluate anything in a turn of their own; in the next one nobody may.
  await new Promise((resolve) => setTimeout(resolve));
  const done = [];
  const tried = async (name, what) => { try { if (await what()) done.push(name); } catch { /* as it should be */ } };
  await tried("eval", () => eval("true"));
  await tried("Function", () => new Function("return true")());
  await tried("timer", () => new Promise((resolve) => {
    globalThis.timed = () => resolve(true); setTimeout("timed()", 0); setTimeout(resolve, 50); }));
  await tried("innerHTML", () => { document.createElement("p").innerHTML = "<b>x</b>"; return true; });
  await tried("inline script", () => {
    const script = document.createElement("script");
    script.append("globalThis.inlined = true");
    document.head.append(script);
    return globalThis.inlined;
  });
  await tried("foreign script", () => new Promise((resolve) => {
    const script = document.createElement("script");
    script.onload = () => resolve(true);
    script.onerror = () => resolve(false);
    script.src = `${foreign}/x.js`;
    document.head.append(script);
  }));
  await tried("foreign module", () => import(`${foreign}/x.js`));
  await tried("handler", () => {
    const button = document.createElement("button");
    button.setAttribute("onclick", "globalThis.handled = true");
    button.click();
    return globalThis.handled;
  });
  await tried("fetch", () => fetch(`${foreign}/x`).then(() => true));
  await tried("beacon", () => new Promise((resolve) => {
    const socket = new WebSocket(foreign.replace("http", "ws"));
    socket.onopen = () => resolve(true);
    socket.onerror = () => resolve(false);
  }));
  await tried("style", () => {
    const style = document.createElement("style");
    style.append("#twice { position: fixed }");
    document.head.append(style);
    return getComputedStyle(document.getElementById("twice")).position === "fixed";
  });
  await tried("base", () => {
    const base = document.createElement("base");
    base.href = foreign;
    document.head.append(base);
    return document.baseURI.startsWith(foreign);
  });
  await tried("frame", () => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.src = `${foreign}/frame`; // the other server knows whether it was asked
    document.body.append(frame);
    setTimeout(() => resolve(false), 300);
  }));
  return done;
};
globalThis.isReady = true;
