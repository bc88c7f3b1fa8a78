// Who may not speak in the chosen room, and who may not enter it: as the gateway lists them, and what this desk does to them.

import { computed, effect } from "../ui/ui.js";
import { openPages } from "./pages.js";
import { t } from "./talk-words.js";

const desks = new WeakMap();

/** One for each desk, whichever panel asks first. */
export function peopleOf(desk) {
  if (!desks.has(desk)) desks.set(desk, openPeople(desk));
  return desks.get(desk);
}

/** A viewer as hosts are shown them: by name, else by the end of the pseudonym, which is enough to tell two apart. */
export const shownName = ({ name, viewer }) => name || shortViewer(viewer);
export const shortViewer = (viewer) => `#${viewer.slice(-4)}`;

function openPeople(desk) {
  const base = () => (desk.room.value ? `/v1/rooms/${encodeURIComponent(desk.room.value.room)}` : null);
  const list = (name, idOf) => openPages({ http: desk.http, path: () => base() && `${base()}/${name}`, idOf });
  const mutes = list("mutes", ({ viewer }) => viewer);
  const bans = list("bans", ({ viewer }) => viewer);
  const words = list("words", ({ word, shop_wide }) => `${shop_wide}/${word}`);
  const address = (kind, id) => `${base()}/${kind}/${encodeURIComponent(id)}`;
  const refresh = () => Promise.all([mutes.refresh(), bans.refresh(), words.refresh()]);

  let room = null;
  effect(() => {
    const now = desk.room.value?.room ?? null;
    if (now === room) return;
    room = now;
    void refresh();
  });

  return {
    mutes, bans, words, refresh,
    /** Of a mute, ban or word of the room as it is chosen now. */
    address,
    /** By pseudonym "muted" or "banned". */
    standing: computed(() => new Map([
      ...mutes.items.value.map(({ viewer }) => [viewer, "muted"]), ...bans.items.value.map(({ viewer }) => [viewer, "banned"]),
    ])),

    async mute(person, for_s, done) {
      const answer = await desk.act("PUT", address("mutes", person.viewer), { for_s }, { done });
      if (answer) await mutes.refresh();
    },
    async unmute(person) {
      const done = t("unmuted", { name: shownName(person) });
      if (await desk.act("DELETE", address("mutes", person.viewer), undefined, { done })) mutes.remove(person.viewer);
      await mutes.refresh();
    },
    /** `where`: the address of before, of an act that is sent later, when another room may have been chosen. */
    async ban(where, shop_wide, done) {
      const answer = await desk.act("PUT", where, { shop_wide }, { done });
      if (answer) await bans.refresh();
    },
    async unban(person) {
      const done = t("unbanned", { name: shownName(person) });
      if (await desk.act("DELETE", address("bans", person.viewer), undefined, { done })) bans.remove(person.viewer);
      await bans.refresh();
    },
    async banWord(word, shop_wide) {
      const answer = await desk.act("PUT", address("words", word), { shop_wide });
      await words.refresh();
      return answer;
    },
    async allowWord(where, { word, shop_wide }) {
      if (await desk.act("DELETE", where)) words.remove(`${shop_wide}/${word}`);
      await words.refresh();
    },
  };
}
