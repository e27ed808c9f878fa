// @jitsu/sdk-js, for the torture test: torture_jitsu.mjs ROUTER SERVER_SECRET. Reads one event a line and says of each whether it was taken. The SDK
// never hears of an error and tries once; whether there was a 200 tells the fetch that it is given.
import { createInterface } from "node:readline";
import { jitsuClient } from "@jitsu/sdk-js";

const [tracking_host, key] = process.argv.slice(2);
const clients = new Map(); // one for each person: an SDK is for one user

function client(person) {
  if (!clients.has(person)) {
    const state = { answered: () => {} };
    const watched = async (url, options) => {
      let ok = false;
      try {
        const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(3000) });
        const text = await answer.text();
        ok = answer.status === 200;
        return new Response(text, { status: answer.status, headers: { "Content-Type": answer.headers.get("Content-Type") ?? "" } });
      } finally {
        state.answered(ok); // the SDK's own promises do not wait for it
      }
    };
    state.jitsu = jitsuClient({ key, tracking_host, fetch: watched, log_level: "NONE" });
    state.last = Promise.resolve();
    clients.set(person, state);
  }
  return clients.get(person);
}

async function post(state, { n, kind, person, props }) {
  const answered = new Promise((resolve) => { state.answered = resolve; });
  if (kind === "identify") {
    const user = { email: person, id: `user-${person}` };
    for (const name of props) user[name] = String(n);
    await state.jitsu.id(user);
  } else {
    await state.jitsu.track("step", { mark: String(n) });
  }
  console.log(JSON.stringify({ n, ok: await answered }));
}

for await (const line of createInterface({ input: process.stdin })) {
  const event = JSON.parse(line);
  const state = client(event.person);
  state.last = state.last.then(() => post(state, event)); // a person's events in turn
}
await Promise.all([...clients.values()].map((state) => state.last));
