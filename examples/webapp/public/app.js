// The page. What it shows is what the server said last; it decides nothing and keeps nothing, so a reload loses nothing.

const $ = (id) => document.getElementById(id);

/** What each status is called here, how it looks, and what it means for the user. */
const STATUSES = {
  provisioning: ["Creating", "busy", "Your workspace is being set up. This page follows along."],
  starting: ["Starting", "busy", "Your workspace is there, and its program is starting."],
  running: ["Running", "good", "Your workspace is ready."],
  restarting: ["Restarting", "busy", "Your workspace is restarting."],
  stopped: ["Stopped", "calm", "Your workspace is stopped. Nothing in it is lost."],
  recovering: ["Recovering", "busy", "Your workspace went away by itself and is being brought back."],
  destroying: ["Destroying", "busy", "Your workspace is being removed."],
  destroyed: ["Destroyed", "none", "Your workspace is gone."],
  quarantined: ["On hold", "bad", "Your workspace exists, and its subscription is missing."],
  failed: ["Failed", "bad", "Your workspace does not run. What may be left of it is being looked after."],
};

const STEPS = {
  base: "Reserve a place",
  storage: "Prepare storage",
  runtime: "Start the program",
  ready: "Wait until it is ready",
  record: "Put it on record",
  subscribe: "Start the subscription",
  complete: "Publish it",
  seal: "Make sure that nothing comes back",
  remove: "Remove it",
  absence: "See that it is gone",
  end_subscription: "End the subscription",
  mark_destroyed: "Mark it as destroyed",
  release: "Free the place",
  power: "Start or stop it",
  update: "Change it",
};

let events = null;
let instance = null;
let busy = false;

async function ask(method, path, body) {
  const headers = method === "GET" ? {} : { "content-type": "application/json" };
  const answer = await fetch(path, { method, headers, body: method === "GET" ? undefined : JSON.stringify(body ?? {}) });
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  if (answer.status === 401) showSignIn();
  throw new Error(said.error ?? "Something went wrong. Try again in a moment.");
}

function notice(text) {
  $("notice").textContent = text ?? "";
  $("notice").hidden = !text;
}

/** Does what a button asks for, and shows the sentence if it is refused. */
async function doing(work) {
  notice(null);
  try {
    return await work();
  } catch (error) {
    notice(error instanceof TypeError ? "The server cannot be reached." : error.message);
    return undefined;
  }
}

function showSignIn() {
  events?.close();
  events = null;
  $("who").hidden = true;
  $("workspace").hidden = true;
  $("sign-in").hidden = false;
  $("name").focus();
}

function showWorkspace(user, seen) {
  $("sign-in").hidden = true;
  $("workspace").hidden = false;
  $("who").hidden = false;
  $("user").textContent = user;
  showInstance(seen);
  follow();
}

function showInstance(seen) {
  instance = seen;
  const [title, tone, meaning] = seen
    ? (STATUSES[seen.status] ?? [seen.status, "calm", ""])
    : ["None", "none", "You have no workspace yet."];
  set($("badge"), title);
  $("badge").dataset.tone = tone;
  set($("summary"), meaning);
  $("facts").hidden = !seen;
  if (seen) {
    set($("sandbox"), seen.sandboxId);
    set($("size"), seen.instanceType);
    set($("created"), new Date(seen.createdAt).toLocaleString());
  } else {
    $("progress").hidden = true;
  }
  $("open").hidden = !seen?.routable || seen.status === "stopped";
  $("power").hidden = !["running", "starting", "stopped", "failed"].includes(seen?.status) || !seen.routable;
  set($("power"), seen?.status === "running" || seen?.status === "starting" ? "Stop" : "Start");
  $("destroy").hidden = !seen || seen.status === "destroying";
  // A user may press it again, in another tab too: there is one workspace, and the answer says so.
  $("create").classList.toggle("secondary", Boolean(seen));
  set($("create"), seen ? "Create another" : "Create workspace");
}

/** Changes a text only if it is another one: what is announced aloud is not said twice. */
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showSteps({ steps, status: whole }) {
  const list = $("steps");
  const shown = steps.filter(({ name }) => STEPS[name]);
  $("progress").hidden = shown.length === 0;
  if (list.children.length > shown.length || [...list.children].some((item, at) => item.dataset.step !== shown[at].name)) {
    list.replaceChildren();
  }
  shown.forEach(({ name, status }, at) => {
    const item = list.children[at] ?? list.appendChild(document.createElement("li"));
    // A look that is repeated until something is ready is done each time.
    const repeats = whole === "waiting" && at === shown.length - 1;
    const state = status === "noted" || repeats ? "doing" : status === "done" ? "done" : "again";
    const words = { done: "done", doing: "in progress", again: "trying again" };
    if (item.dataset.step !== name) {
      const [label, detail] = ["span", "small"].map((tag) => document.createElement(tag));
      item.replaceChildren(label, detail);
      label.textContent = STEPS[name];
      item.dataset.step = name;
    }
    item.dataset.state = state;
    set(item.lastElementChild, words[state]);
  });
}

function follow() {
  if (events) return;
  events = new EventSource("/api/instance/events");
  events.addEventListener("instance", ({ data }) => showInstance(JSON.parse(data)));
  events.addEventListener("operation", ({ data }) => showSteps(JSON.parse(data)));
}

/** One thing at a time for each button; the others stay as they are. */
function press(button, work) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    await doing(work);
    button.disabled = false;
  });
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return;
  busy = true;
  await doing(async () => {
    const { user } = await ask("POST", "/api/session", { user: $("name").value.trim() });
    const { instance: seen } = await ask("GET", "/api/instance");
    showWorkspace(user, seen);
  });
  busy = false;
});

press($("sign-out"), async () => {
  await ask("DELETE", "/api/session");
  showSignIn();
});

press($("create"), async () => {
  await ask("POST", "/api/instance");
});

press($("power"), async () => {
  await ask("POST", instance?.status === "stopped" || instance?.status === "failed" ? "/api/instance/start" : "/api/instance/stop");
});

$("destroy").addEventListener("click", () => $("confirm").showModal());
$("confirm").addEventListener("close", async () => {
  if ($("confirm").returnValue !== "destroy") return;
  $("confirm").returnValue = "";
  $("destroy").disabled = true;
  await doing(() => ask("DELETE", "/api/instance"));
  $("destroy").disabled = false;
});

await doing(async () => {
  const answer = await fetch("/api/instance");
  if (answer.status === 401) return showSignIn();
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return showWorkspace(said.user, said.instance);
});
