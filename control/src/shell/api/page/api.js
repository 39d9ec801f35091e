// The public API, and nothing else. The token stays in this module's memory; only who asks for it
// has it kept until the tab is closed.

const BASE = "/api/v1/";
const KEPT = "towpath.token";

let token = sessionStorage.getItem(KEPT);
let asked = null;

// What the API refused, as its problem document says it.
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `HTTP ${status}`);
    this.status = status;
    this.document = document;
  }
}

export const has_token = () => token !== null;

export function forget() {
  token = null;
  sessionStorage.removeItem(KEPT);
}

export function keep(given, until_closed) {
  token = given;
  if (until_closed) sessionStorage.setItem(KEPT, given);
}

// Who asks the operator for a token; called once however many requests wait for it.
let prompt = async () => {};
export const ask_by = (how) => (prompt = how);

async function authorised(path, options) {
  for (;;) {
    const used = token;
    const headers = { ...options.headers };
    if (used) headers.Authorization = `Bearer ${used}`;
    const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    if (answer.status !== 401) return answer;
    // Another request may have been given a token meanwhile.
    if (used !== token) continue;
    asked ??= prompt(used !== null).finally(() => (asked = null));
    await asked;
  }
}

async function refusal(answer) {
  const document = await answer.json().catch(() => ({}));
  return new Problem(answer.status, document);
}

export async function ask(method, path, { body, headers, signal, raw } = {}) {
  const answer = await authorised(raw ? path : BASE + path, { method, body, headers, signal });
  if (!answer.ok) throw await refusal(answer);
  const kind = answer.headers.get("content-type") ?? "";
  const document = kind.includes("json") ? await answer.json() : await answer.blob();
  return { document, etag: answer.headers.get("etag") };
}

export const get = async (path, signal) => (await ask("GET", path, { signal })).document;

// Server-sent events: calls `each` with what every one carries. Returns when the stream ends;
// false if there is none.
export async function stream(path, since, signal, each) {
  const headers = { Accept: "text/event-stream" };
  if (since) headers["Last-Event-ID"] = String(since);
  const answer = await authorised(BASE + path, { headers, signal });
  if (!answer.ok) throw await refusal(answer);
  const kind = answer.headers.get("content-type") ?? "";
  if (!kind.startsWith("text/event-stream")) {
    await answer.body?.cancel();
    return false;
  }
  let text = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return true;
    text += value.replaceAll("\r\n", "\n");
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      message(text.slice(0, end), each);
      text = text.slice(end + 2);
    }
  }
}

function message(text, each) {
  const lines = text.split("\n");
  const field = (name) =>
    lines.filter((l) => l.startsWith(`${name}:`)).map((l) => l.slice(name.length + 1).replace(/^ /, ""));
  const data = field("data").join("\n");
  if (data) each(JSON.parse(data), { id: field("id")[0], kind: field("event")[0] });
}
