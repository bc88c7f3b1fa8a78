// The list of comments. It stays at its end unless the reader went up: then it stands still, and says how many are new.

import { html, Icon, useEffect, useRef, useSignal } from "../ui/ui.js";
import { useLayoutEffect } from "preact/hooks";
import { compact } from "../ui/format.js";
import { language } from "../ui/words.js";
import { nameOf, t } from "./words.js";

const AT_END_PX = 32, HUES = 6;

export function Comments({ show }) {
  const list = useRef(null), held = useSignal(null); // {comments, said}: what stood there when the reader went up
  const shown = held.value?.comments ?? show.comments.value;
  const lastTop = useRef(0); // where it stood: a list that only became smaller was not scrolled by anybody
  const toEnd = () => {
    if (!list.current) return;
    list.current.scrollTop = list.current.scrollHeight;
    lastTop.current = list.current.scrollTop;
  };

  useLayoutEffect(() => { if (!held.value) toEnd(); }, [shown, held.value]);
  useEffect(() => {
    const sizes = new ResizeObserver(() => { if (!held.peek()) toEnd(); });
    sizes.observe(list.current);
    const stopGone = show.onGone((stays) => {
      if (held.peek()) held.value = { ...held.peek(), comments: held.peek().comments.filter(stays) };
    });
    return () => { sizes.disconnect(); stopGone(); };
  }, [show]);

  const scrolled = () => {
    if (!list.current) return; // told of a scroll before it went
    const { scrollHeight, scrollTop, clientHeight } = list.current;
    const atEnd = scrollHeight - scrollTop - clientHeight < AT_END_PX, wentUp = scrollTop < lastTop.current - 1;
    lastTop.current = scrollTop;
    if (atEnd && held.value) held.value = null;
    else if (!atEnd && wentUp && !held.value) held.value = { comments: show.comments.value, said: show.said.value };
  };
  const behind = held.value ? show.said.value - held.value.said : 0;

  return html`<div class="comments">
    <div class="comment-list" ref=${list} role="log" aria-live="off" aria-label=${t("comments")} tabindex="0"
        onScroll=${scrolled}>
      ${shown.length === 0 && show.link.value === "open" && html`<p class="soft small nobody">${t("nobodyYet")}</p>`}
      ${shown.map((comment) => html`<${Row} key=${comment.comment} comment=${comment} />`)}
    </div>
    ${behind > 0
      ? html`<button class="button new-ones" type="button" onClick=${() => { held.value = null; }}>${t("newOnes", { n: behind })}</button>`
      : html`<${Skipped} show=${show} />`}
  </div>`;
}

/** What reads a signal is drawn again for that or another comment only: a row, once. */
function Row({ comment }) {
  void language.value;
  const mine = comment.mine && html`<span class="badge you">${t("you")}</span>`;
  return html`<div class=${comment.mine ? "said mine" : "said"}>
    <span class=${`said-name hue-${hueOf(comment.viewer)}`}>${nameOf(comment)}${mine}</span>
    ${" "}<span class="said-text">${comment.text}</span>
  </div>`;
}

/** The same person has the same colour. */
function hueOf(viewer) {
  let sum = 0;
  for (let at = 0; at < viewer.length; at++) sum = (sum * 31 + viewer.charCodeAt(at)) >>> 0;
  return sum % HUES;
}

/** Says for a moment how many comments a busy room did not show here. */
function Skipped({ show }) {
  const before = useRef(show.skipped.peek()), told = useSignal(0), timer = useRef(null), total = show.skipped.value;
  useEffect(() => {
    if (total === before.current) return;
    told.value += total - before.current;
    before.current = total;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => { told.value = 0; }, 3_000);
  }, [total]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return told.value > 0 && html`<p class="skipped small">${t("skipped", { n: compact(told.value) })}</p>`;
}

/** What the host pinned of what was said. */
export function PinnedComment({ show }) {
  const pin = show.pin.value;
  if (!pin?.comment) return null;
  return html`<div class="pinned-comment"><${Icon} name="pin" size=${16} />
    <p><span class="visually-hidden">${t("pinned")}: </span><strong>${nameOf(pin)}</strong> ${pin.text}</p></div>`;
}
