// The host's console: who signs in, which room, and where each panel stands.

import { html, render, signal, useEffect, Toasts } from "../ui/ui.js";
import { Http } from "../ui/http.js";
import { begin, isDevelopment, refreshToken, session } from "../ui/session.js";
import { openDesk } from "./desk.js";
import { Header } from "./header.js";
import { Layout } from "./layout.js";
import { Rooms } from "./rooms.js";
import { SignIn } from "./sign-in.js";
import { SureDialog } from "./sure.js";
import { t } from "./words.js";

const desk = signal(null), refusedToken = signal(null);
const http = new Http({ token: () => session.value?.token, refused });

/** The token is not taken any more: of a development sign-in another is made, else the shop has to give one. */
function refused() {
  if (session.value?.signIn) void refreshToken().catch(() => {});
  else refusedToken.value = session.value?.token ?? null;
}

/** The room of the address, so that a reload and a shared link lead to it. */
const roomOfAddress = () => new URLSearchParams(location.search).get("room");

async function choose(room) {
  const asked = desk.value;
  await asked.choose(room);
  if (asked.isChoosing()) return; // another one was chosen meanwhile
  const found = asked.room.value, wanted = found ? `?room=${encodeURIComponent(found.room)}` : "";
  if (room && !found) return; // a reload tries it again
  if (location.search !== wanted) history.pushState(null, "", location.pathname + wanted);
}

function Console() {
  const claims = session.value?.claims, isHost = claims?.role === "host";
  useEffect(() => {
    if (!isHost) return undefined;
    const opened = desk.value = openDesk({ http, session, refreshToken });
    void opened.refreshRooms();
    void choose(roomOfAddress());
    return () => {
      opened.close();
      desk.value = null;
    };
  }, [isHost, claims?.shop, claims?.sub]);
  return html`
    ${isDevelopment && html`<p class="ribbon">${t("devRibbon")}<span class="ribbon-more">${t("devRibbonMore")}</span></p>`}
    ${isHost && session.value.token === refusedToken.value && html`<p class="note bad ended" role="alert">${t("signInEnded")}</p>`}
    ${isHost ? desk.value && html`<${Desk} desk=${desk.value} />` : html`<${SignIn} />`}
    <${SureDialog} />
    <${Toasts} />`;
}

function Desk({ desk }) {
  const room = desk.room.value;
  useEffect(() => { document.title = room ? `${room.title} · ${t("console")}` : t("console"); });
  return html`<div class=${`console ${room ? "in-room" : ""}`}>
    <${Header} desk=${desk} choose=${choose} />
    ${room ? html`<${Layout} key=${room.room} desk=${desk} />` : html`<${Rooms} desk=${desk} choose=${choose} />`}
  </div>`;
}

begin();
addEventListener("popstate", () => void desk.value?.choose(roomOfAddress()));
addEventListener("online", () => desk.value?.wake());
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") desk.value?.wake(); });
render(html`<${Console} />`, document.getElementById("app"));
