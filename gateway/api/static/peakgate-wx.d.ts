import type { Room, RoomOptions } from "./peakgate.js";

/** How `Room` opens a socket and keeps keys inside a WeChat mini-program; `wx` is its global. */
export function forWeChat(wx: unknown): Required<Pick<RoomOptions, "connect" | "storage">>;
/** Looks after the room's socket whenever the mini-program is seen again. Returns what ends that. */
export function wakeOnShow(wx: unknown, room: Room): () => void;
