// A web tier in front of Freehold: it signs users in, speaks for them with a key that browsers never see, and hands on
// what is going on. Node 20 or later, and nothing else.
//
// A request that changes something is the page's own: the session cookie goes with no other site's requests, the body
// has to say that it is JSON, which no form can, and where a browser says which origin asks, it has to be ours.

import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { Freehold, Refused } from "./freehold.mjs";
import { Sessions } from "./session.mjs";

/** The longest request body, in bytes: a name fits many times. */
const BODY_BYTES_MAX = 4096;

/** How long one stream of progress lasts at most, in milliseconds. A browser that still listens opens another. */
const STREAM_MS = 5 * 60_000;

/** How often an instance is looked at while nothing is being done to it, in milliseconds. */
const LOOK_EVERY_MS = 1_000;

/** The same while one is being asked for: the operation that makes it is not known yet, and is what users wait for. */
const LOOK_SOON_MS = 50;

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const FILES = new Map(
  [
    ["/", "index.html", "text/html; charset=utf-8"],
    ["/app.js", "app.js", "text/javascript; charset=utf-8"],
    ["/style.css", "style.css", "text/css; charset=utf-8"],
    ["/icon.svg", "icon.svg", "image/svg+xml"],
  ].map(([path, file, type]) => [path, { type, bytes: readFileSync(new URL(`public/${file}`, import.meta.url)) }]),
);

const key = process.env.FREEHOLD_PLATFORM_KEY;
if (!key) {
  console.error("error: FREEHOLD_PLATFORM_KEY is not set\nhint: a key with the role platform; see README.md");
  process.exit(2);
}
const freehold = new Freehold(process.env.FREEHOLD_URL ?? "http://127.0.0.1:7788", key);
const secret = process.env.SESSION_SECRET ?? randomBytes(32).toString("hex");
const sessions = new Sessions(secret, process.env.SECURE_COOKIES === "1");

/** How many creates each user waits for; streams of progress are woken when one begins. */
const creating = new Map();
const woken = new EventEmitter().setMaxListeners(0);

/** What is answered where. */
const ROUTES = {
  "POST /api/session": signIn,
  "DELETE /api/session": signOut,
  "GET /api/instance": withUser(show),
  "POST /api/instance": withUser(create),
  "DELETE /api/instance": withUser(destroy),
  "POST /api/instance/start": withUser((call) => power(call, "start")),
  "POST /api/instance/stop": withUser((call) => power(call, "stop")),
  "GET /api/instance/events": withUser(progress),
};

async function answer(request, response) {
  if (!URL.canParse(request.url, "http://here")) return say(response, 400, { error: "That is no address." });
  const { pathname: path } = new URL(request.url, "http://here");
  const call = { request, response, path };
  response.setHeader("content-security-policy", POLICY);
  response.setHeader("x-content-type-options", "nosniff");
  response.setHeader("referrer-policy", "no-referrer");
  response.setHeader("cross-origin-opener-policy", "same-origin");
  response.setHeader("cache-control", "no-store");
  const file = FILES.get(path);
  if (file && (request.method === "GET" || request.method === "HEAD")) {
    response.setHeader("content-type", file.type);
    return response.end(request.method === "GET" ? file.bytes : undefined);
  }
  if (path.startsWith("/instance/") && request.method === "GET") return withUser(open)(call);
  const route = ROUTES[`${request.method} ${path}`];
  if (!route) return say(response, 404, { error: "There is nothing here." });
  if (request.method !== "GET" && !isOurOwn(request)) {
    return say(response, 403, { error: "This request does not come from the application." });
  }
  return route(call);
}

/** Whether a request that changes something was made by our page. */
function isOurOwn({ headers }) {
  const json = (headers["content-type"] ?? "").split(";")[0].trim().toLowerCase() === "application/json";
  const site = headers["sec-fetch-site"] ?? "same-origin";
  const origin = headers.origin === undefined || hostOf(headers.origin) === headers.host;
  return json && origin && site === "same-origin";
}

function hostOf(origin) {
  return URL.canParse(origin) ? new URL(origin).host : null;
}

function withUser(route) {
  return (call) => {
    const user = sessions.user(call.request);
    return user ? route({ ...call, user }) : say(call.response, 401, { error: "Sign in first." });
  };
}

async function signIn({ request, response }) {
  const { user } = await body(request);
  const cookie = sessions.begin(user);
  if (!cookie) return say(response, 400, { error: "A name is small letters, digits and dashes, and begins with a letter." });
  response.setHeader("set-cookie", cookie);
  return say(response, 200, { user });
}

async function signOut({ response }) {
  response.setHeader("set-cookie", sessions.end());
  return say(response, 200, {});
}

async function show({ response, user }) {
  return say(response, 200, { user, instance: forUser(await freehold.status(user)) });
}

async function create({ response, user }) {
  creating.set(user, (creating.get(user) ?? 0) + 1);
  woken.emit(user);
  try {
    await freehold.provision(user);
  } finally {
    const others = creating.get(user) - 1;
    if (others > 0) creating.set(user, others);
    else creating.delete(user);
  }
  return say(response, 201, { instance: forUser(await freehold.status(user)) });
}

async function destroy({ response, user }) {
  const { finalized } = await freehold.destroy(user);
  return say(response, 200, { finalized });
}

async function power({ response, user }, verb) {
  const { currentStatus } = await freehold.power(user, verb);
  return say(response, 200, { status: currentStatus });
}

/** What a user sees of an instance. */
function forUser({ status, sandboxId, region, instanceType, createdAt, routable }) {
  return status === null ? null : { status, sandboxId, region, instanceType, createdAt, routable };
}

/** What a user sees of an operation. */
function stepsOf({ kind, status, steps }) {
  return { kind, status, steps: steps.map(({ name, status }) => ({ name, status })) };
}

/** Sends the instance whenever it changes, and every step of what is being done to it. */
async function progress({ response, user }) {
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const until = Date.now() + STREAM_MS;
  response.writeHead(200, { "content-type": "text/event-stream" });
  const said = new Map();
  const tell = (event, value) => {
    const data = JSON.stringify(value);
    if (said.get(event) === data) return;
    said.set(event, data);
    response.write(`event: ${event}\ndata: ${data}\n\n`);
  };
  let over = null;
  while (!gone.signal.aborted && Date.now() < until) {
    try {
      const seen = await freehold.status(user);
      tell("instance", forUser(seen));
      if (seen.status !== null && seen.operationId !== over) {
        for await (const operation of freehold.operation(seen.operationId, gone.signal)) {
          tell("operation", stepsOf(operation));
          tell("instance", forUser(await freehold.status(user)));
        }
        over = seen.operationId;
        continue;
      }
    } catch (error) {
      if (!gone.signal.aborted && !(error instanceof Refused)) console.error(`progress: ${error.message}`);
    }
    await pause(creating.has(user) ? LOOK_SOON_MS : LOOK_EVERY_MS, user, gone.signal);
  }
  response.end();
}

function pause(milliseconds, user, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      woken.off(user, done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    woken.on(user, done);
    signal.addEventListener("abort", done);
  });
}

/** Shows what the user's own instance answers. It is no page of ours: the browser gives it no script and no origin. */
async function open({ response, user, path }) {
  const { instanceId, routable } = await freehold.status(user);
  if (!routable) return say(response, 404, { error: "Your instance is not there yet." });
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const answer = await freehold.visit(instanceId, path.slice("/instance".length), gone.signal);
  response.writeHead(answer.status, {
    "content-type": answer.headers.get("content-type") ?? "application/octet-stream",
    "content-security-policy": "sandbox; default-src 'none'",
  });
  for await (const bytes of answer.body ?? []) response.write(bytes);
  response.end();
}

async function body(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > BODY_BYTES_MAX) throw new Refused(413, "too_large", "That is too long.");
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString()) ?? {};
  } catch {
    throw new Refused(400, "malformed", "That is no JSON.");
  }
}

function say(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (!(error instanceof Refused)) console.error(error);
    if (response.headersSent) return response.destroy();
    const { status = 500, code, message } = error instanceof Refused ? error : { message: "Something went wrong on our side." };
    say(response, status, { error: message, code });
  });
});
// A provision is waited for; nothing else takes long.
server.requestTimeout = 30_000;
server.listen(Number(process.env.PORT ?? 3000), process.env.HOST ?? "127.0.0.1", () => {
  const { address, port } = server.address();
  console.log(`listening on http://${address}:${port}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}
