// The strip over everything: which room, how it stands and since when, whether this page hears it, and whether all adds up.

import { html, Button, Icon } from "../ui/ui.js";
import { count } from "../ui/format.js";
import { LanguageSwitch } from "../ui/words.js";
import { signOut } from "../ui/session.js";
import { Light } from "./light.js";
import { RoomActs } from "./room-acts.js";
import { StateBadge, roomTimer } from "./states.js";
import { t } from "./words.js";

export function Header({ desk, choose }) {
  const room = desk.room.value;
  if (!room) {
    return html`<header class="strip"><h1 class="strip-title">${t("console")}</h1>
      <span class="grow"></span><${Me} desk=${desk} /></header>`;
  }
  return html`<header class="strip">
    <div class="strip-room">
      <${Button} kind="quiet round" does=${() => choose(null)} aria-label=${t("allRooms")} title=${t("allRooms")}><${Icon}
          name="list" /><//>
      <${StateBadge} state=${room.state} />
      <h1 class="strip-title" title=${room.title}>${room.title}</h1>
    </div>
    <div class="strip-facts">
      <${Timer} desk=${desk} />
      <${Watching} desk=${desk} />
      <${Link} desk=${desk} />
      <${Light} desk=${desk} />
    </div>
    <div class="strip-acts">
      <${RoomActs} desk=${desk} />
      <${Me} desk=${desk} />
    </div>
  </header>`;
}

/** The only part of the strip that is drawn each second. */
function Timer({ desk }) {
  const told = roomTimer(desk.room.value, desk.second.value);
  return told && html`<span class=${`fact number ${told.late ? "late" : ""}`}><${Icon} name="clock" size=${16} />${told.text}</span>`;
}

/** Nothing while this page does not hear it: an old number looks like a new one. */
function Watching({ desk }) {
  if (desk.viewers.value === null || desk.link.value !== "open") return null;
  return html`<span class="fact number"><${Icon} name="eye" size=${16} />${t("watching", { n: count(desk.viewers.value) })}</span>`;
}

function Link({ desk }) {
  const link = desk.link.value;
  if (desk.room.value.state === "ended") return null;
  const [word, mark] = {
    open: ["linkOpen", "good"], connecting: ["linkConnecting", "warn"], waiting: ["linkWaiting", "warn"], closed: ["linkClosed", "warn"],
    away: ["linkAway", "bad"],
  }[link];
  return html`<span class=${`fact link ${mark}`} role="status"><span class="dot" aria-hidden="true"></span>
    <span class="link-word">${t(word, { code: desk.linkCode.value ?? "" })}</span></span>`;
}

/** Who is signed in. On a phone it stands at the end of the last tab, where there is room. */
export function Me({ desk }) {
  const { sub, shop } = desk.session.value?.claims ?? {};
  return html`<div class="me"><${LanguageSwitch} />
    <${Button} kind="quiet" does=${signOut} title=${`${sub ?? ""} · ${shop ?? ""}`}>${t("signOut")}<//></div>`;
}
