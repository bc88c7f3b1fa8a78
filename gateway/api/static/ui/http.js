// Calls of the gateway's HTTP. Nobody is asked twice with different keys: an act keeps its key until it has an answer.

import { freshKey } from "peakgate";

const REPEAT_WITHIN_MS = 15_000, BASE_MS = 250, CAP_MS = 3_000, ANSWER_WITHIN_MS = 10_000;
const DOUBTFUL = new Set(["offline", "internal", "outcome_unknown"]); // it may have been done all the same

/** An answer that is an error, by the gateway's code; `offline` is this page's own. */
export class HttpError extends Error {
  constructor(problem, status) {
    super(problem.detail ?? problem.title ?? String(status));
    Object.assign(this, { name: "HttpError", status, code: problem.code ?? "internal", param: problem.param,
      retryable: problem.retryable ?? false, retry_after_ms: problem.retry_after_ms,
      redeemed_at: problem.redeemed_at });
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Http {
  #token;
  #refused;

  /** `token()` is what to call with; `refused()` is told when the gateway does not take it (any more). */
  constructor({ token, refused = () => {} }) {
    this.#token = token;
    this.#refused = refused;
  }

  get(path) { return this.#repeated("GET", path); }

  /** Acts that name a state, and so may be repeated without a key. */
  put(path, body) { return this.#repeated("PUT", path, body); }
  patch(path, body) { return this.#repeated("PATCH", path, body); }
  del(path) { return this.#repeated("DELETE", path); }

  /** A POST under a key: once done, however often the network makes it be sent. */
  post(path, body, { key = freshKey() } = {}) { return this.#repeated("POST", path, body, key); }

  async blob(path) {
    const answer = await this.#fetch("GET", path);
    if (!answer.ok) throw await this.#error(answer);
    return answer.blob();
  }

  async #repeated(method, path, body, key) {
    const until = Date.now() + REPEAT_WITHIN_MS;
    let isDoubtful = false;
    for (let tries = 0; ; tries++) {
      try { return await this.#once(method, path, body, key); } catch (error) {
        // An error speaks for its own try; what an earlier one without an answer did is not known by it.
        isDoubtful ||= DOUBTFUL.has(error.code);
        error.isDoubtful = isDoubtful;
        const wait = (error.retry_after_ms ?? 0) + Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** tries);
        if (!error.retryable || Date.now() + wait > until) throw error;
        await pause(wait);
      }
    }
  }

  async #once(method, path, body, key) {
    const answer = await this.#fetch(method, path, body, key);
    if (!answer.ok) throw await this.#error(answer);
    return answer.status === 204 ? null : answer.json();
  }

  async #fetch(method, path, body, key) {
    const headers = {}, token = this.#token();
    if (token) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    try {
      return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "omit", cache: "no-store", signal: AbortSignal.timeout?.(ANSWER_WITHIN_MS) });
    } catch {
      throw new HttpError({ code: "offline", detail: "There is no answer.", retryable: true }, 0);
    }
  }

  async #error(answer) {
    let problem = {};
    try { problem = await answer.json(); } catch { /* a proxy's page */ }
    if (answer.status === 401) this.#refused();
    return new HttpError({ retryable: [502, 503, 504].includes(answer.status), ...problem }, answer.status);
  }
}
