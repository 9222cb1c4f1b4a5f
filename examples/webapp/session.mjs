// Who is signed in: a name and an expiry in a cookie, signed so that nobody can write one. Nothing is kept on the server.
// Signing in asks for no password, because this is a demonstration; everything behind it is as it would be with one.

import { createHmac, timingSafeEqual } from "node:crypto";

/** How long a session lasts, in seconds. */
const SESSION_SECONDS = 8 * 60 * 60;

/** What a demo user may be called: a safe part of an owner's name. */
const NAME = /^[a-z][a-z0-9-]{0,30}$/;

export class Sessions {
  #secret;
  #secure;

  /**
   * @param {string} secret signs the cookies; the same for every process of the application
   * @param {boolean} secure whether browsers send them over TLS only; with TLS in front, always
   */
  constructor(secret, secure) {
    this.#secret = secret;
    this.#secure = secure;
  }

  /** The `Set-Cookie` of a new session, or null for a name that nobody can have. */
  begin(user, now = Date.now()) {
    if (typeof user !== "string" || !NAME.test(user)) return null;
    const expires = Math.floor(now / 1000) + SESSION_SECONDS;
    const claims = `${user}.${expires}`;
    return this.#cookie(`${claims}.${this.#sign(claims)}`, SESSION_SECONDS);
  }

  /** The `Set-Cookie` that ends one. */
  end() {
    return this.#cookie("", 0);
  }

  /** Whose request this is, or null. */
  user(request, now = Date.now()) {
    const cookies = (request.headers.cookie ?? "").split(";").map((one) => one.trim());
    const session = cookies.find((one) => one.startsWith("session="))?.slice("session=".length) ?? "";
    const [user, expires, signature, ...rest] = session.split(".");
    if (!user || !expires || !signature || rest.length > 0) return null;
    const expected = Buffer.from(this.#sign(`${user}.${expires}`));
    const shown = Buffer.from(signature);
    if (shown.length !== expected.length || !timingSafeEqual(shown, expected)) return null;
    return Number(expires) * 1000 > now ? user : null;
  }

  #sign(claims) {
    return createHmac("sha256", this.#secret).update(claims).digest("base64url");
  }

  #cookie(value, seconds) {
    const secure = this.#secure ? "; Secure" : "";
    return `session=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure}`;
  }
}
