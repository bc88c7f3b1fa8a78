// A room's facts: of a new one, or what is to change of one that is.

import { html, useRef, useSignal } from "../ui/ui.js";
import { Field } from "./field.js";
import { showFirstError, useSending } from "./sending.js";
import { timeTyped, typedTime, zone } from "./times.js";
import { t } from "./room-words.js";

const FIELDS = ["title", "starts_at", "stream_url", "notice"];

/** `room`: the one to change, or none for a new one. `done(room)` is told what came of it. */
export function RoomForm({ desk, room = null, done }) {
  const draft = useSignal({ title: room?.title ?? "", starts_at: typedTime(room?.starts_at), stream_url: room?.stream_url ?? "",
    notice: room?.notice ?? "" });
  const first = useRef(draft.value), form = useRef(null);
  const { errors, busy, send } = useSending({ makes: room ? null : "room", known: (field) => FIELDS.includes(field) });
  const put = (name) => (event) => { draft.value = { ...draft.value, [name]: event.target.value }; };

  const submit = async (event) => {
    event.preventDefault();
    const typed = draft.value, wrong = {};
    if (!typed.title.trim()) wrong.title = t("needed");
    if (typed.starts_at && !timeTyped(typed.starts_at)) wrong.starts_at = t("noTime");
    errors.value = wrong;
    const answer = Object.keys(wrong).length ? null : await send(typed, () => bodyOf(typed, room && first.current),
      (body, key) => (room ? desk.http.patch(`/v1/rooms/${encodeURIComponent(room.room)}`, body)
        : desk.http.post("/v1/rooms", body, { key })));
    if (answer) await done(answer);
    else showFirstError(form.current);
  };

  const error = errors.value, value = draft.value;
  return html`<form class="stack" ref=${form} onSubmit=${submit} novalidate>
    <${Field} id="room-title" label=${t("title")} error=${error.title}>
      <input class="input" maxlength="200" required autocomplete="off" value=${value.title} onInput=${put("title")} /><//>
    <${Field} id="room-starts" label=${t("starts")} hint=${t("startsHint", { zone: zone() })} error=${error.starts_at}>
      <input class="input" type="datetime-local" value=${value.starts_at} onInput=${put("starts_at")} /><//>
    <${Field} id="room-stream" label=${t("stream")} hint=${t("streamHint")} error=${error.stream_url}>
      <input class="input" type="url" inputmode="url" maxlength="2000" autocomplete="off" value=${value.stream_url}
          onInput=${put("stream_url")} /><//>
    <${Field} id="room-notice" label=${t("notice")} error=${error.notice}>
      <textarea class="input" maxlength="1000" rows="3" value=${value.notice} onInput=${put("notice")}></textarea><//>
    ${error[""] && html`<p class="note bad" role="alert">${error[""]}</p>`}
    <div class="row end"><button type="submit" class="button primary"
        aria-busy=${busy.value ? "true" : null}>${room ? t("save") : t("create")}</button></div>
  </form>`;
}

/** `before`: what was there; then only what is another is named, and what was emptied is cleared. */
function bodyOf(typed, before) {
  const body = {};
  for (const name of FIELDS) {
    if (before && before[name] === typed[name]) continue;
    const text = typed[name].trim(), value = name === "starts_at" ? timeTyped(text) : text || null;
    if (value !== null || before) body[name] = value;
  }
  return body;
}
