// Who looks at the page: a token from the shop's link, or the sign-in of a development gateway.
//
// The shop links to `…/r/{room}#token=…`. A fragment is sent to no server; it leaves the address at once. The shop's app may
// set a fresh one the same way at any time, which is how a token is renewed without coming in again.

import { signal } from "@preact/signals";

const KEPT_AS = "peakgate:token";
const CLOCK_OFF_MS = 2 * 3_600_000;

/** `{token, claims}` or null. */
export const session = signal(null);

/** Whether this gateway lets anybody in by name. */
export const isDevelopment = document.querySelector('meta[name="peakgate-dev"]') !== null;

const waiting = new Set(); // who waits for a fresh token

/** Takes the token of the address, else the one this tab had. */
export function begin() {
  addEventListener("hashchange", takeFragment);
  if (takeFragment()) return;
  const kept = readKept();
  if (kept && !isOver(kept.token)) adopt(kept.token, kept.signIn);
}

export function signOut() {
  session.value = null;
  try { sessionStorage.removeItem(KEPT_AS); } catch { /* forbidden */ }
}

/** `{role, name, room?, shop?}`; the same name is the same person. */
export async function signInForDevelopment(signIn) {
  const answer = await fetch("/dev/tokens", { method: "POST", headers: { "Content-Type": "application/json" },
    credentials: "omit", body: JSON.stringify(signIn) });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail ?? String(answer.status));
  adopt(told.token, signIn);
}

/** A token that somebody typed in; it never was in the address. */
export function signInWith(token) { adopt(token, null); }

/** A fresh token, before the old one ends: of the development sign-in, or when the shop sets one. */
export async function refreshToken() {
  const signIn = session.value?.signIn;
  if (signIn) {
    await signInForDevelopment(signIn);
    return session.value.token;
  }
  // A page inside the shop's app is asked for by a message that holds nothing secret.
  if (window.parent !== window) window.parent.postMessage({ peakgate: "token_ending" }, "*");
  return new Promise((resolve) => waiting.add(resolve));
}

function takeFragment() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return false;
  history.replaceState(history.state, "", location.pathname + location.search);
  if (token) adopt(token, null);
  return Boolean(token);
}

function adopt(token, signIn) {
  const claims = claimsOf(token);
  session.value = { token, claims, signIn: signIn ?? null };
  try { sessionStorage.setItem(KEPT_AS, JSON.stringify({ token, signIn })); } catch { /* full or forbidden */ }
  for (const resolve of waiting) resolve(token);
  waiting.clear();
}

function readKept() {
  try { return JSON.parse(sessionStorage.getItem(KEPT_AS)); } catch { return null; }
}

/** What the token says of itself; the gateway alone judges whether it is true. */
function claimsOf(token) {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (char) => char.charCodeAt(0))));
  } catch { return {}; }
}

/** Whether it is of no use any more, by a clock that may be wrong: the gateway judges what is in doubt. */
const isOver = (token) => (claimsOf(token).exp ?? 0) * 1000 < Date.now() - CLOCK_OFF_MS;
