// What is done to the chosen room: start, the link for viewers, edit, end.

import { html, toast, useSignal, Button, Dialog, Icon } from "../ui/ui.js";
import { isDevelopment } from "../ui/session.js";
import { RoomForm } from "./room-form.js";
import { StartShow } from "./start-show.js";
import { sure } from "./sure.js";
import { t } from "./room-words.js";

export function RoomActs({ desk }) {
  const open = useSignal(null), room = desk.room.value;
  const close = () => { open.value = null; };
  return html`
    ${room.state === "scheduled" && html`<${Button} kind="primary" does=${() => { open.value = "start"; }}><${Icon} name="play"
        size=${16} />${t("start")}<//>`}
    <${Button} does=${() => { open.value = "room"; }} title=${t("more")}><${Icon} name="more" size=${18} />${t("room")}<//>
    <${Dialog} open=${open.value === "start"} title=${t("startTitle")} kind="sheet wide" onClose=${close}>
      <${StartShow} desk=${desk} done=${close} /><//>
    <${Dialog} open=${open.value === "room"} title=${room.title} kind="sheet" onClose=${close}>
      <${RoomSheet} desk=${desk} close=${close} /><//>`;
}

function RoomSheet({ desk, close }) {
  const room = desk.room.value, isOver = room.state === "ended";
  return html`<div class="stack">
    ${!isOver && html`<${ViewerLink} room=${room} />
      <h3>${t("edit")}</h3>
      <${RoomForm} desk=${desk} room=${room} done=${async () => { toast(t("saved"), "good"); close(); await desk.refreshRoom(); }} />
      <div class="row end danger-zone"><${Button} kind="danger"
          does=${() => end(desk, close)}>${t(room.state === "live" ? "end" : "cancelShow")}<//></div>`}
    ${isOver && html`<p>${t("ended")}</p>`}
  </div>`;
}

/** Viewers' pages stand beside the console's, unless the shop's proxy puts them elsewhere; the path is the same. */
export function ViewerLink({ room }) {
  const link = `${location.origin}/r/${encodeURIComponent(room.room)}`;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(link);
      toast(t("copied"), "good");
    } catch { toast(t("copyFailed"), "bad"); }
  };
  return html`<div class="field"><label for="viewer-link">${t("link")}</label>
    <div class="row nowrap"><input id="viewer-link" class="input" readonly value=${link} onFocus=${(event) => event.target.select()} />
      <${Button} does=${copy}>${t("copy")}<//>
      <a class="button" href=${link} target="_blank" rel="noopener">${t("openIt")}</a></div>
    <span class="hint">${t(isDevelopment ? "linkDev" : "linkWhy")}</span></div>`;
}

async function end(desk, close) {
  const room = desk.room.value, isLive = room.state === "live";
  const selling = desk.sales.value.filter((sale) => sale.state === "open" || sale.state === "paused").length;
  const text = isLive ? [t("endText"), ...(selling ? [t("endSales", { n: selling })] : [])] : [t("cancelText")];
  close(); // one dialog at a time
  const isSure = await sure({ text, title: t(isLive ? "endTitle" : "cancelTitle", { title: room.title }),
    action: t(isLive ? "end" : "cancelShow"), word: t("endWord") });
  if (isSure) await desk.act("POST", `/v1/rooms/${encodeURIComponent(room.room)}/end`, undefined, { done: t("ended") });
}
