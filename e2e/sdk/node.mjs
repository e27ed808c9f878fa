// Posts events with Jitsu's SDK from node: node.mjs ROUTER SERVER_SECRET
import { jitsuClient } from "@jitsu/sdk-js";

const [router, key] = process.argv.slice(2);
const jitsu = jitsuClient({ key, tracking_host: router, fetch, log_level: "ERROR" });

await jitsu.id({
  id: "node-1",
  email: "Node.User+sdk@Example.com",
  firstname: "Node",
  "Job Title": "CTO",
  plan: "pro",
  unheard_of: "x",
});
await jitsu.track("server_signup", { plan: "pro", conversion: { revenue: 99.9, currency: "USD" } });
await jitsu.track("pageview", { page_title: "Home" }); // filtered out by the configuration
