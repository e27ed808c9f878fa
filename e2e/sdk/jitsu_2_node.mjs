// @jitsu/js, server to server: jitsu_2_node.mjs ROUTER WRITE_KEY
import { jitsuAnalytics } from "@jitsu/js";
import { steps, traits } from "./steps.mjs";

const [host, writeKey] = process.argv.slice(2);
let failed = false;
const jitsu = jitsuAnalytics({ host, writeKey, s2s: true, errorPolicy: () => { failed = true; } });

await steps(async (step) => {
  if (step === "end") return;
  if (step === "first") {
    await jitsu.identify("jitsu-2-node", traits("jitsu_2_node"));
    await jitsu.page({ url: "https://example.com/pricing", title: "Pricing" });
    await jitsu.group("acme", { name: "Acme" });
  }
  do { // as an application does whose SDK does not try again by itself
    if (failed) await new Promise((resolve) => setTimeout(resolve, 200));
    failed = false;
    await jitsu.track(`Jitsu 2 Node ${step}`, { plan: "pro", revenue: 99.9 });
  } while (failed);
});
process.exit(0);
