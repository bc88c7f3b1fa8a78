// The shop's rooms: those of now, those that were, and a new one.

import { html, useSignal, Button, Dialog, Icon } from "../ui/ui.js";
import { count, dayTime } from "../ui/format.js";
import { explain } from "./errors.js";
import { RoomForm } from "./room-form.js";
import { StateBadge } from "./states.js";
import { t } from "./room-words.js";

export function Rooms({ desk, choose }) {
  const making = useSignal(false), rooms = desk.rooms.value, error = desk.roomsError.value;
  const running = rooms?.filter((room) => room.state !== "ended") ?? [], over = rooms?.filter((room) => room.state === "ended") ?? [];
  running.sort((one, other) => (other.state === "live") - (one.state === "live"));
  const made = async (room) => {
    making.value = false;
    void desk.refreshRooms();
    await choose(room);
  };
  return html`<div class="rooms stack">
    <header class="spread"><h2>${t("rooms")}</h2>
      <${Button} kind="primary" does=${() => { making.value = true; }}><${Icon} name="plus" />${t("newRoom")}<//></header>
    ${error && html`<div class="note bad spread" role="alert"><span>${t("loadFailed", { why: explain(error) })}</span>
      <${Button} does=${() => desk.refreshRooms()}>${t("again")}<//></div>`}
    ${rooms && !rooms.length && html`<p class="card soft">${t("noRooms")}</p>`}
    ${running.length > 0 && html`<${List} rooms=${running} choose=${choose} />`}
    ${over.length > 0 && html`<h3 class="soft">${t("before")}</h3><${List} rooms=${over} choose=${choose} />`}
    <${Dialog} open=${making.value} title=${t("newRoom")} kind="sheet" onClose=${() => { making.value = false; }}>
      <${RoomForm} desk=${desk} done=${made} />
    <//>
  </div>`;
}

function List({ rooms, choose }) {
  return html`<ul class="room-list">${rooms.map((room) => html`<li key=${room.room}>
    <${Button} kind="room-choice" does=${() => choose(room)}>
      <span class="spread"><span class="strong">${room.title}</span><${StateBadge} state=${room.state} /></span>
      <span class="soft small number">${when(room)}${room.bookings ? ` · ${t("bookings", { n: count(room.bookings) })}` : ""}</span>
    <//></li>`)}</ul>`;
}

function when(room) {
  if (room.state === "ended") return t("endedAt", { at: dayTime(room.ended_at) });
  if (room.state === "live") return t("started", { at: dayTime(room.started_at) });
  return room.starts_at ? t("startsAt", { at: dayTime(room.starts_at) }) : t("made", { at: dayTime(room.created_at) });
}
