// Times as a form's input has them: of this device's day, to the minute.

const two = (n) => String(n).padStart(2, "0");

/** `2026-11-22T20:00`, or "" for none. */
export function typedTime(at) {
  if (at === null || at === undefined || at === "") return "";
  const day = new Date(at);
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}T${two(day.getHours())}:${two(day.getMinutes())}`;
}

/** RFC 3339 of what was typed, or null where it is no time. */
export function timeTyped(text) {
  const at = new Date(text);
  return text && !Number.isNaN(at.getTime()) ? at.toISOString() : null;
}

/** The day, for people who are at a desk in another zone than the one they plan for. */
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
