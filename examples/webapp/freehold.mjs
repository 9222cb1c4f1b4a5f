// The way to Freehold. The platform key is here and in no answer: it opens every user's instance.

/** How long a question that changes nothing may take, in milliseconds. */
const LOOK_MS = 10_000;

/** How long a provision may be waited for, in milliseconds: longer than Freehold's own deadline. */
const PROVISION_MS = 150_000;

/** Errors whose text is a sentence for users. Every other one is for developers, and goes to the log. */
const FOR_USERS = new Set([
  "provision_in_progress",
  "instance_already_active",
  "instance_destroyed",
  "instance_not_found",
  "provision_completion_pending",
]);

/** What users read instead. */
const GENERAL = "Something went wrong on our side. Try again in a moment.";
const FAILED = "Your instance could not be created. What it may have left is being removed; try again in a moment.";

/** An answer that is no success, with what the user is told. */
export class Refused extends Error {
  constructor(status, code, sentence) {
    super(sentence);
    this.status = status;
    this.code = code;
  }
}

export class Freehold {
  #url;
  #key;

  /**
   * @param {string} url where Freehold is
   * @param {string} key a key with the role platform
   */
  constructor(url, key) {
    this.#url = url.replace(/\/+$/, "");
    this.#key = key;
  }

  /** The user's instance; its `status` is null where there is none. */
  status(user) {
    return this.#platform("GET", `status?userId=${encodeURIComponent(user)}`, undefined, LOOK_MS);
  }

  /** Makes the user's instance, and waits until it is there. */
  provision(user) {
    return this.#platform("POST", "provision", { userId: user }, PROVISION_MS);
  }

  /** Starts or stops the user's instance. */
  power(user, verb) {
    return this.#platform("POST", verb, { userId: user }, PROVISION_MS);
  }

  /** Destroys the user's instance. */
  destroy(user) {
    return this.#platform("POST", "destroy", { userId: user, reason: "asked for in the web application" }, PROVISION_MS);
  }

  /** An operation each time it changes, until it is over. */
  async *operation(id, signal) {
    const headers = { authorization: `Bearer ${this.#key}`, accept: "text/event-stream" };
    const answer = await fetch(`${this.#url}/v1/operations/${encodeURIComponent(id)}/events`, { headers, signal });
    if (!answer.ok) throw new Error(`the events of operation ${id} are answered ${answer.status}`);
    let read = "";
    for await (const bytes of answer.body.pipeThrough(new TextDecoderStream())) {
      read += bytes;
      const events = read.split("\n\n");
      read = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice("data: ".length));
      }
    }
  }

  /** What the instance itself answers to a GET of `path`, which begins with a slash. */
  visit(id, path, signal) {
    const headers = { authorization: `Bearer ${this.#key}` };
    return fetch(`${this.#url}/i/${encodeURIComponent(id)}${path}`, { headers, signal, redirect: "manual" });
  }

  async #platform(method, route, body, patience) {
    const headers = { "x-internal-api-key": this.#key };
    if (body !== undefined) headers["content-type"] = "application/json";
    let answer;
    try {
      answer = await fetch(`${this.#url}/api/platform/${route}`, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(patience),
      });
    } catch (error) {
      console.error(`${method} ${route}: ${error.cause?.message ?? error.message}`);
      throw new Refused(503, "unreachable", GENERAL);
    }
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) return said;
    if (FOR_USERS.has(said.code)) throw new Refused(answer.status, said.code, said.error);
    console.error(`${method} ${route}: ${answer.status} ${said.code ?? ""} ${said.error ?? ""}`);
    throw new Refused(answer.status === 500 ? 500 : 503, "failed", answer.status === 500 ? FAILED : GENERAL);
  }
}
