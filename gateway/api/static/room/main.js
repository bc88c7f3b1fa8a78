// The viewer's room: who comes in, and from there the room itself.

import { computed, effect, html, render, signal, Toasts, untracked } from "../ui/ui.js";
import { Http } from "../ui/http.js";
import { begin, refreshToken, session } from "../ui/session.js";
import { openBasket } from "./basket.js";
import { later } from "./later.js";
import { Layout } from "./layout.js";
import { openShow } from "./show.js";

const SignIn = later("SignIn", () => import("./sign-in.js"));
const TOKEN_ENDED = 4401, BAD_TOKEN = 4500, ASK_AGAIN_MS = 30_000;
const roomId = decodeURIComponent(location.pathname.split("/").filter(Boolean).at(-1) ?? "");
const place = signal(null); // {show, basket} of who is in

begin();

// A fresh token of the same person changes nothing of where they are.
const visitor = computed(() => {
  const claims = session.value?.claims;
  return claims?.role === "viewer" ? `${claims.shop}/${claims.sub}` : null;
});

let entries = 0, askedAt = -Infinity;
let given = null, refreshing = null; // the token that the socket has; the one that is being fetched

/** A token the socket does not have yet: the shop may have set it before it was asked. */
async function fresh() {
  const { token } = session.peek() ?? {};
  if (token && token !== given) return (given = token);
  refreshing ??= refreshToken().finally(() => { refreshing = null; });
  return (given = await refreshing);
}

/** Whether the room does not take the token that this person has: with the next one they come in anew. */
const isShutOut = ({ link, linkCode, trouble }) =>
  link.value === "away" && (trouble.value === "unauthorized" || [TOKEN_ENDED, BAD_TOKEN].includes(linkCode.value));

effect(() => {
  const who = visitor.value;
  void session.value?.token;
  // What is opened reads signals of its own; they are not why somebody else comes in.
  untracked(() => {
    const here = place.peek();
    if (here && here.who === who && !isShutOut(here.show)) return;
    leave(here);
    place.value = who ? enter(who) : null;
  });
});

// A phone that slept longer than its token lived: whoever gives tokens is asked, and not over and over.
effect(() => {
  const show = place.value?.show;
  if (!show || !isShutOut(show) || performance.now() - askedAt < ASK_AGAIN_MS) return;
  askedAt = performance.now();
  untracked(() => { fresh().catch(() => {}); });
});

function enter(who) {
  // A development sign-in renews itself; a token of the shop is renewed by the shop, which the socket asks for in time.
  const http = new Http({ token: () => session.peek()?.token, refused: () => { if (session.peek()?.signIn) fresh().catch(() => {}); } });
  given = session.peek().token;
  const show = openShow({ room: roomId, http, session, refreshToken: fresh });
  return { who, no: ++entries, show, basket: openBasket({ show, http, room: roomId, who }) };
}

function leave(here) {
  here?.basket.close?.();
  here?.show.leave();
}

/** The page is seen, or the network is there again: what died meanwhile is noticed at once. */
function wake() {
  place.peek()?.show.wake();
  place.peek()?.basket.wake?.();
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) wake(); });
addEventListener("online", wake);
addEventListener("pageshow", (event) => { if (event.persisted) wake(); });

function Page() {
  const here = place.value;
  return html`${here
    ? html`<${Layout} key=${here.no} show=${here.show} basket=${here.basket} />`
    : html`<${SignIn} room=${roomId} />`}
    <${Toasts} />`;
}

render(html`<${Page} />`, document.getElementById("app"));
