// What a web page does: the ordinary client, with each of its links, against a running server.
// The test `trpc` starts the servers and says where they are.
import assert from "node:assert/strict";
import { createTRPCClient, httpBatchLink, httpBatchStreamLink, httpLink, TRPCClientError } from "@trpc/client";

const { RUNNING, PAUSED, PENDING, PLATFORM, VIEWER, ALICE, BOB } = process.env;
const MISSING = "01990000-0000-7000-8000-000000000001";

const seen = [];
const watched = async (url, options) => {
  const response = await fetch(url, options);
  seen.push({ url: String(url), method: options?.method ?? "GET", status: response.status });
  return response;
};

const client = (link, at, token, more = {}) =>
  createTRPCClient({
    links: [
      link({
        url: `${at}/trpc`,
        fetch: watched,
        headers: () => ({ ...(token ? { authorization: `Bearer ${token}` } : {}), ...(more.headers ?? {}) }),
        ...(more.options ?? {}),
      }),
    ],
  });

const links = { single: httpLink, batched: httpBatchLink, streamed: httpBatchStreamLink };

async function refused(call, code, httpStatus, slug, message) {
  const error = await call.then(
    (answer) => assert.fail(`answered ${JSON.stringify(answer)}`),
    (error) => error,
  );
  assert.ok(error instanceof TRPCClientError, String(error));
  assert.equal(error.data?.code, code, `${error.message} ${JSON.stringify(error.data)}`);
  assert.equal(error.data.httpStatus, httpStatus);
  assert.equal(error.data.problem.code, slug);
  assert.equal(error.data.problem.type, `/problems/${slug}`);
  assert.ok(error.data.problem.request_id);
  assert.equal(typeof error.shape.code, "number");
  if (message) assert.equal(error.message, message);
  return error;
}

for (const [name, link] of Object.entries(links)) {
  const platform = client(link, RUNNING, PLATFORM);
  const owner = `user:${name}`;

  // A life.
  const made = await platform.instance.provision.mutate({ owner, spec: { env: { A: "1" } } });
  assert.equal(made.owner, owner);
  assert.equal(made.routable, true);
  const { id } = made;
  assert.equal((await platform.instance.get.query({ id })).id, id);
  assert.deepEqual((await platform.instance.list.query({ owner })).instances.map((one) => one.id), [id]);
  assert.ok(Array.isArray((await platform.instance.list.query()).instances));
  assert.equal((await platform.operation.get.query({ id: made.operation_id })).status, "succeeded");
  assert.equal((await platform.instance.stop.mutate({ id })).instance.status, "stopped");
  assert.equal((await platform.instance.start.mutate({ id })).changed, true);
  assert.deepEqual((await platform.instance.update.mutate({ id, spec: { env: { B: "2" } } })).spec.env, { B: "2" });

  // What users meet.
  const active = await refused(
    platform.instance.provision.mutate({ owner }),
    "CONFLICT", 409, "instance_already_active", "User already has an active instance",
  );
  assert.equal(active.shape.code, -32009);
  assert.equal(active.data.problem.instance_id, id);
  if (name !== "streamed") assert.equal(active.meta.response.status, 409);
  await refused(
    platform.instance.get.query({ id: MISSING }),
    "NOT_FOUND", 404, "instance_not_found", "Active instance not found",
  );
  await refused(platform.operation.get.query({ id: MISSING }), "NOT_FOUND", 404, "operation_not_found");
  assert.equal((await platform.instance.destroy.mutate({ id, reason: "enough" })).finalized, true);
  assert.equal((await platform.instance.destroy.mutate({ id })).finalized, true);
  await refused(
    platform.instance.update.mutate({ id, tier: "large" }),
    "CONFLICT", 409, "instance_destroyed", "Instance was destroyed during update",
  );
  await refused(
    client(link, PAUSED, PLATFORM).instance.provision.mutate({ owner: "user:taken" }),
    "CONFLICT", 409, "provision_in_progress",
    "An instance is already being created. Wait for setup to finish, then try again.",
  );
  const pending = await refused(
    client(link, PENDING, PLATFORM, { headers: { "idempotency-key": name } }).instance.provision.mutate({ owner }),
    "CONFLICT", 409, "provision_completion_pending", "Provisioning completed but finalization is pending",
  );
  assert.equal(pending.data.problem.retryable, true);

  // What takes longer is an operation.
  const impatient = client(link, PAUSED, PLATFORM, { headers: { prefer: "respond-async" } });
  const { operation } = await impatient.instance.provision.mutate({ owner: `user:slow-${name}` });
  assert.equal((await impatient.operation.get.query({ id: operation.id })).id, operation.id);
  const keyed = () =>
    client(link, PAUSED, PLATFORM, { headers: { prefer: "respond-async", "idempotency-key": `k-${name}` } })
      .instance.provision.mutate({ owner: `user:keyed-${name}` });
  assert.equal((await keyed()).operation.id, (await keyed()).operation.id);

  // What is wrong.
  const pointed = await refused(platform.instance.provision.mutate({ owner: 5 }), "BAD_REQUEST", 400, "invalid_request");
  assert.equal(pointed.data.problem.errors[0].pointer, "#/owner");
  assert.equal(pointed.data.path, "instance.provision");
  await refused(platform.instance.get.query({ id: "x" }), "BAD_REQUEST", 400, "invalid_request");
  await refused(platform.instance.get.query({}), "BAD_REQUEST", 400, "invalid_request");
  await refused(platform.instance.get.query(), "BAD_REQUEST", 400, "invalid_request");
  await refused(platform.instance.get.query({ id, more: 1 }), "BAD_REQUEST", 400, "invalid_request");
  await refused(platform.instance.list.query({ limit: 0 }), "BAD_REQUEST", 400, "invalid_request");
  await refused(platform.instance.explode.query({ id }), "NOT_FOUND", 404, "not_found");
  await refused(platform.instance.destroy.query({ id }), "METHOD_NOT_SUPPORTED", 405, "method_not_allowed");
  await refused(client(link, RUNNING, "nonsense").instance.list.query(), "UNAUTHORIZED", 401, "unauthorized");
  await refused(client(link, RUNNING).instance.provision.mutate({ owner }), "UNAUTHORIZED", 401, "unauthorized");
  const viewer = client(link, RUNNING, VIEWER);
  await viewer.instance.list.query();
  await refused(viewer.instance.provision.mutate({ owner }), "FORBIDDEN", 403, "forbidden");

  // Queries as POST.
  const posting = client(link, RUNNING, PLATFORM, { options: { methodOverride: "POST" } });
  assert.equal((await posting.instance.get.query({ id })).id, id);
  assert.equal(seen.at(-1).method, "POST");

  // End users.
  const alice = client(link, RUNNING, ALICE);
  const bob = client(link, RUNNING, BOB);
  const own = await alice.instance.provision.mutate({ owner: "user:alice" });
  assert.equal((await alice.instance.get.query({ id: own.id })).id, own.id);
  assert.deepEqual((await alice.instance.list.query()).instances.map((one) => one.id), [own.id]);
  assert.deepEqual((await bob.instance.list.query()).instances, []);
  for (const call of [
    () => bob.instance.get.query({ id: own.id }),
    () => bob.instance.destroy.mutate({ id: own.id }),
    () => bob.instance.update.mutate({ id: own.id, tier: "large" }),
  ]) {
    await refused(call(), "NOT_FOUND", 404, "instance_not_found", "Active instance not found");
  }
  await refused(bob.operation.get.query({ id: own.operation_id }), "NOT_FOUND", 404, "operation_not_found");
  await refused(bob.instance.provision.mutate({ owner: "user:alice" }), "FORBIDDEN", 403, "forbidden");
  assert.equal((await alice.instance.destroy.mutate({ id: own.id })).finalized, true);

  // Several at once.
  seen.length = 0;
  const all = await Promise.allSettled([
    platform.instance.get.query({ id }),
    platform.instance.get.query({ id: MISSING }),
    platform.instance.list.query({ owner }),
    platform.instance.explode.query(),
  ]);
  assert.deepEqual(all.map((one) => one.status), ["fulfilled", "rejected", "fulfilled", "rejected"]);
  assert.equal(all[0].value.id, id);
  assert.equal(all[1].reason.data.code, "NOT_FOUND");
  assert.equal(seen.length, name === "single" ? 4 : 1);
  if (name !== "single") assert.equal(seen[0].status, name === "batched" ? 207 : 200);
  const both = await Promise.all(
    ["one", "two"].map((who) => platform.instance.provision.mutate({ owner: `user:${who}-${name}` })),
  );
  assert.notEqual(both[0].id, both[1].id);
  const unknown = await Promise.allSettled([1, 2].map(() => client(link, RUNNING).instance.list.query()));
  assert.ok(unknown.every((one) => one.reason.data.code === "UNAUTHORIZED"));
  if (name !== "single") {
    const many = await Promise.allSettled(Array.from({ length: 21 }, () => platform.instance.list.query()));
    assert.ok(many.every((one) => one.reason?.data.code === "BAD_REQUEST"), JSON.stringify(many[0]));
  }
  console.log(`${name}: done`);
}
