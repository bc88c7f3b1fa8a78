/** A viewer's or host's place in a live room of Peakgate. The frames are those of the gateway's /asyncapi.json. */

export type RoomState = "closed" | "connecting" | "open" | "waiting" | "away";

/** Unknown outcomes are refusals. */
export type OrderOutcome =
  | "reserved" | "sold_out" | "limit_reached" | "not_started" | "ended" | "paused" | "price_changed" | "coupon_unusable"
  | "too_fast" | (string & {});
export type ClaimOutcome = "claimed" | "gone" | "limit_reached" | "not_started" | "ended" | "too_fast" | (string & {});
export type CommentOutcome =
  | "posted" | "muted" | "slow_mode" | "comments_off" | "rejected" | "too_fast" | (string & {});

export interface OrderRequest {
  sale: string;
  sku: string;
  quantity: number;
  /** What the viewer saw; another price is answered `price_changed`. */
  expect_amount_minor?: number;
  coupon_claim?: string;
  ref?: string;
  meta?: unknown;
  pickup?: boolean | string;
}

export interface Reply<Outcome extends string> {
  t: "reply";
  id: string;
  outcome: Outcome;
  replayed?: boolean;
  retry_after_ms?: number;
}
export interface OrderReply extends Reply<OrderOutcome> {
  order?: string;
  amount_minor?: number;
  left?: number;
  may_return?: boolean;
  opens_at_ms?: number;
}
export interface ClaimReply extends Reply<ClaimOutcome> {
  claim?: string;
  value_minor?: number;
  opens_at_ms?: number;
}
export interface CommentReply extends Reply<CommentOutcome> {
  comment?: string;
  at_ms?: number;
}

export interface OrderState {
  t: "order";
  order: string;
  status: string;
  pay_by_ms?: number;
  reason?: string;
  [more: string]: unknown;
}
export interface ClaimState {
  t: "claim";
  claim: string;
  state: string;
  reason?: string;
  [more: string]: unknown;
}
export interface Tick {
  t: "tick";
  seq: number;
  now_ms: number;
  ev: RoomEvent[];
  viewers?: number;
  likes?: number;
  skipped?: number;
}
/** One of a tick, by its `k`; ignore those you do not know. */
export interface RoomEvent {
  k: string;
  [more: string]: unknown;
}
export interface Snapshot {
  t: "snapshot";
  epoch: number;
  seq: number;
  viewers: number;
  likes: number;
  room: Record<string, unknown>;
  sales: Record<string, unknown>[];
  coupons: Record<string, unknown>[];
  pin: Record<string, unknown> | null;
  recent: RoomEvent[];
  chat: { slow_mode_s: number; comments: "on" | "off" };
}
export interface Welcome {
  t: "welcome";
  you: string;
  epoch: number;
  seq: number;
  now_ms: number;
  recovered: boolean;
}
/** What became of a key of before: the order or claim it holds, or `outcome: "none"`. */
export interface Known {
  key: string;
  outcome: string;
  sale?: string;
  coupon?: string;
  order?: string;
  claim?: string;
  status?: string;
  state?: string;
  amount_minor?: number;
  value_minor?: number;
  pay_by_ms?: number;
  reason?: string;
}

export interface Events {
  welcome: Welcome;
  snapshot: Snapshot;
  tick: Tick;
  event: RoomEvent;
  order: OrderState;
  claim: ClaimState;
  known: Known;
  figures: Record<string, unknown>;
  feed: { orders: Record<string, unknown>[]; [more: string]: unknown };
  state: { state: RoomState; code?: number };
}

/** The part of a WebSocket that is used; `connect` may give another one. */
export interface SocketLike {
  send(text: string): void;
  close(code?: number): void;
  onopen: (() => void) | null;
  onmessage: ((message: { data: string }) => void) | null;
  onclose: ((event: { code?: number }) => void) | null;
  onerror: ((event: unknown) => void) | null;
}
export interface StorageLike {
  getItem(name: string): string | null;
  setItem(name: string, value: string): void;
}

export interface RoomOptions {
  /** The room's `live_url`. */
  url: string;
  token: string;
  /** Brings a fresh token before the old one ends, and when it has. */
  refreshToken?: () => Promise<string>;
  connect?: (url: string) => SocketLike;
  /** Where keys outlive a reload: `sessionStorage` unless told otherwise; null: nowhere. */
  storage?: StorageLike | null;
  random?: () => number;
}

export class PeakgateError extends Error {
  /** The gateway's code; `no_answer` and `away` are the client's own. */
  code: string;
  retryable: boolean;
  param?: string;
  retry_after_ms?: number;
}

export class Room {
  constructor(options: RoomOptions);
  readonly state: RoomState;
  /** The gateway's time, in ms. */
  now(): number;
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void;
  open(): void;
  close(): void;
  order(request: OrderRequest, options?: { key?: string; withinMs?: number }): Promise<OrderReply>;
  claim(coupon: string, options?: { key?: string; withinMs?: number }): Promise<ClaimReply>;
  comment(text: string, options?: { id?: string; withinMs?: number }): Promise<CommentReply>;
  like(n?: number): boolean;
  enter(sale?: string): boolean;
  /** To be called when the page or app is seen again. */
  wake(): void;
}

/** An idempotency key nobody has used. */
export function freshKey(): string;
