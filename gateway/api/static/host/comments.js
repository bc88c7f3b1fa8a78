// What is said in the room, as hosts read and moderate it. The list stands still while somebody reads or acts in it.

import { html, toast, useComputed, useEffect, useRef, useSignal, Button, Icon } from "../ui/ui.js";
import { clockTime, count } from "../ui/format.js";
import { actsOn, retract } from "./comment-acts.js";
import { explain } from "./errors.js";
import { useHolding } from "./holding.js";
import { Menu } from "./menu.js";
import { peopleOf, shownName } from "./people.js";
import { t } from "./talk-words.js";
import { Waiting, waitingIds } from "./undo.js";

const AT_END_PX = 40;
const LONGEST = 200, MOST_NEW = 200; // as many as are kept

export function Comments({ desk }) {
  const search = useSignal(""), menu = useSignal(null), list = useRef(null);
  const { shown, held, newOnes, hold, release, hovered } = useHolding(desk.comments, ({ comment }) => comment);
  const people = peopleOf(desk);
  const found = useComputed(() => matching(shown.value, search.value));
  const standing = people.standing.value, asked = waitingIds(), pinned = desk.pin.value?.comment;

  // Drawn, then scrolled; and once more when the heights of what came into sight are known.
  useEffect(() => {
    const toEnd = () => { if (!held.peek() && list.current) list.current.scrollTop = list.current.scrollHeight; };
    toEnd();
    requestAnimationFrame(toEnd);
  }, [found.value, held.value]);

  const press = (event) => {
    const button = event.target.closest("button[data-act]");
    const comment = button && found.value.find((each) => each.comment === button.dataset.comment);
    if (!comment) return;
    if (button.dataset.act === "delete") retract(desk, comment);
    else {
      hold("menu");
      menu.value = { at: button, comment };
    }
  };
  // Whoever scrolls holds it already, by mouse, key or finger. Otherwise the list scrolls itself: lines turn out higher than they
  // were taken for.
  const scrolled = ({ currentTarget: box }) => {
    if (!held.value) return;
    if (box.scrollHeight - box.scrollTop - box.clientHeight <= AT_END_PX) release("scroll");
    else hold("scroll");
  };
  const toEnd = () => {
    release();
    list.current.scrollTop = list.current.scrollHeight;
  };

  return html`<section class="card panel comments" aria-label=${t("comments")}>
    <header><h2>${t("comments")}</h2><div class="comments-search"><${Icon} name="search" size=${16} />
      <input class="input" type="search" placeholder=${t("searchComments")} aria-label=${t("searchComments")}
        value=${search.value} onInput=${(event) => { search.value = event.target.value; }} /></div></header>
    <div class="comments-frame" ...${hovered}>
      <div class="comments-list" ref=${list} role="log" aria-live="off" aria-label=${t("comments")}
        tabindex="0" onClick=${press} onScroll=${scrolled}>
        ${found.value.map((comment) => row(comment, {
          isAsked: asked.has(`comment/${comment.comment}`) || asked.has(`comment/all/${comment.viewer}`),
          standing: standing.get(comment.viewer), isPinned: comment.comment === pinned,
        }))}
      </div>
      ${found.value.length === 0 && html`<p class="comments-empty soft">${t(emptyWord(desk, search.value))}</p>`}
      ${held.value && html`<button type="button" class="button comments-new" onClick=${toEnd}>
        <${Icon} name="pause" size=${14} /> ${t("held")}
        ${newOnes.value > 0 && html`<b>${t("newComments", { n: newOnes.value < MOST_NEW ? count(newOnes.value) : `${MOST_NEW}+` })}</b>`}
      </button>`}
    </div>
    ${desk.skipped.value > 0 && html`<p class="soft small">${t("skipped", { n: count(desk.skipped.value) })}</p>`}
    <${Waiting} of="comment/" />
    <${Say} desk=${desk} />
    ${menu.value && html`<${Menu} at=${menu.value.at} label=${t("actsOn", { name: shownName(menu.value.comment) })}
      items=${actsOn(desk, menu.value.comment)} onClose=${() => { menu.value = null; release("menu"); }} />`}
  </section>`;
}

function emptyWord(desk, search) {
  if (search) return "noMatch";
  return desk.room.value?.state === "ended" ? "commentsOver" : "noComments";
}

function matching(comments, search) {
  const wanted = search.trim().toLowerCase();
  return wanted ? comments.filter(({ name, text, viewer }) => `${name}\n${text}\n${viewer}`.toLowerCase().includes(wanted)) : comments;
}

function row(comment, { isAsked, standing, isPinned }) {
  const isGone = comment.gone || isAsked, id = comment.comment;
  return html`<div key=${id} class=${`comment ${isGone ? "gone" : ""}`}>
    <p class="comment-text"><time class="soft small number">${clockTime(comment.at_ms)}</time>
      ${" "}<b class="comment-name">${shownName(comment)}</b>
      ${standing && html` <span class="badge bad">${t(standing)}</span>`}
      ${isPinned && html` <span class="badge good">${t("pinned")}</span>`}
      ${" "}<span class=${isGone ? "struck" : ""}>${comment.text}</span>
      ${comment.gone && html` <span class="badge">${t("deleted")}</span>`}</p>
    ${!isGone && html`<button type="button" class="button quiet round" data-act="delete" data-comment=${id} title=${t("delete")}
      aria-label=${t("deleteOf", { name: shownName(comment) })}></button>`}
    ${!isAsked && html`<button type="button" class="button quiet round" data-act="menu" data-comment=${id} aria-haspopup="menu"
      title=${t("actsMore")}
      aria-label=${t("actsOn", { name: shownName(comment) })}></button>`}
  </div>`;
}

/** The host's own word in the room. */
function Say({ desk }) {
  const text = useSignal(""), busy = useSignal(false), client = desk.client.value;
  const isLive = desk.room.value?.state === "live" && client;
  const say = async () => {
    const said = text.value.trim();
    if (!said || busy.value) return;
    busy.value = true;
    try {
      const { outcome, retry_after_ms } = await client.comment(said);
      if (outcome === "posted") { if (text.value.trim() === said) text.value = ""; }
      else toast(t(`say_${outcome}`, { s: Math.ceil((retry_after_ms ?? 0) / 1000) }), "bad");
    } catch (error) { toast(explain(error), "bad"); } finally { busy.value = false; }
  };
  return html`<form class="row say" onSubmit=${(event) => { event.preventDefault(); void say(); }}>
    <input class="input grow" maxlength=${LONGEST} placeholder=${t("sayAs")} aria-label=${t("sayAs")} disabled=${!isLive}
      value=${text.value} onInput=${(event) => { text.value = event.target.value; }} />
    <${Button} does=${say} busy=${busy.value} disabled=${!isLive || !text.value.trim()} aria-label=${t("say")}>
      <${Icon} name="send" size=${18} /><//>
  </form>`;
}
