// What the pages make of HTTP's answers.

import "./bare-imports.mjs";
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

const { Http } = await import("../../gateway/api/static/ui/http.js");

afterEach(() => mock.restoreAll());

/** Each call is answered by the next of them: a status with a problem's code, or none where nothing comes. */
function answers(...told) {
  mock.method(Math, "random", () => 0);
  const asked = [];
  mock.method(globalThis, "fetch", async (path, { headers }) => {
    asked.push(headers["Idempotency-Key"]);
    const [status, code] = told.shift() ?? [];
    if (!status) throw new TypeError("Failed to fetch");
    return new Response(JSON.stringify(code ? { code, retryable: status === 503 } : {}), { status });
  });
  return asked;
}
const post = () => new Http({ token: () => "t" }).post("/v1/orders", {});

test("a call is repeated under its key until there is an answer", async () => {
  const asked = answers([], [503, "unavailable"], [201]);
  await post();
  assert.deepEqual([asked.length, new Set(asked).size], [3, 1]);
});

test("an error says nothing of an earlier try that had no answer", async () => {
  answers([401, "unauthorized"]);
  await assert.rejects(post(), { code: "unauthorized", isDoubtful: false });
  answers([503, "unavailable"], [401, "unauthorized"]);
  await assert.rejects(post(), { code: "unauthorized", isDoubtful: false });
  answers([], [401, "unauthorized"]);
  await assert.rejects(post(), { code: "unauthorized", isDoubtful: true });
  answers([503, "outcome_unknown"], [401, "unauthorized"]);
  await assert.rejects(post(), { code: "unauthorized", isDoubtful: true });
});
