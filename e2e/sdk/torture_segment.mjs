// @segment/analytics-node, for the torture test: torture_segment.mjs ROUTER WRITE_KEY. Reads one event a line and says of each whether it was taken.
import { createInterface } from "node:readline";
import { Analytics } from "@segment/analytics-node";

const [host, writeKey] = process.argv.slice(2);
const segment = new Analytics({ host, writeKey, flushInterval: 100, maxRetries: 1000, httpRequestTimeout: 3000 });

for await (const line of createInterface({ input: process.stdin })) {
  const { n, kind, person, props } = JSON.parse(line);
  const said = (error) => console.log(JSON.stringify({ n, ok: !error }));
  const userId = `user-${person}`;
  if (kind === "identify") {
    const traits = { email: person };
    for (const name of props) traits[name] = String(n);
    segment.identify({ userId, traits }, said);
  } else {
    segment.track({ userId, event: "step", properties: { mark: String(n) } }, said);
  }
}
await segment.closeAndFlush();
