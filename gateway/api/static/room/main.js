// The viewer's room: who comes in, and from there the room itself.

import { computed, effect, html, render, signal, Toasts, untracked } from "../ui/ui.js";
import { Http } from "../ui/http.js";
import { begin, refreshToken, session } from "../ui/session.js";
import { openBasket } from "./basket.js";
import { later } from "./later.js";
import { Layout } from "./layout.js";
import { openShow } from "./show.js";

const SignIn = later("SignIn", () => import("./sign-in.js"));
const roomId = decodeURIComponent(location.pathname.split("/").filter(Boolean).at(-1) ?? "");
const place = signal(null); // {show, basket} of who is in

begin();

// A fresh token of the same person changes nothing of where they are.
const visitor = computed(() => {
  const claims = session.value?.claims;
  return claims?.role === "viewer" ? `${claims.shop}/${claims.sub}` : null;
});

let given = null, refreshing = null; // the token that the socket has; the one that is being fetched

/** A token the socket does not have yet: the shop may have set it before it was asked. */
async function fresh() {
  const { token } = session.peek() ?? {};
  if (token && token !== given) return (given = token);
  refreshing ??= refreshToken().finally(() => { refreshing = null; });
  return (given = await refreshing);
}

effect(() => {
  const who = visitor.value;
  // What is opened reads signals of its own; they are not why somebody else comes in.
  untracked(() => {
    leave(place.peek());
    place.value = who ? enter(who) : null;
  });
});

function enter(who) {
  // A development sign-in renews itself; a token of the shop is renewed by the shop, which the socket asks for in time.
  const http = new Http({ token: () => session.peek()?.token, refused: () => { if (session.peek()?.signIn) fresh().catch(() => {}); } });
  given = session.peek().token;
  const show = openShow({ room: roomId, http, session, refreshToken: fresh });
  return { who, show, basket: openBasket({ show, http, room: roomId, who }) };
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
    ? html`<${Layout} key=${here.who} show=${here.show} basket=${here.basket} />`
    : html`<${SignIn} room=${roomId} />`}
    <${Toasts} />`;
}

render(html`<${Page} />`, document.getElementById("app"));
