// @jitsu/js, server to server: jitsu_2_node.mjs ROUTER WRITE_KEY
import { jitsuAnalytics } from "@jitsu/js";
import { again, steps, traits } from "./steps.mjs";

const [host, writeKey] = process.argv.slice(2);
const jitsu = jitsuAnalytics({ host, writeKey, s2s: true, errorPolicy: "throw" });

await steps(async (step) => {
  if (step === "end") return;
  if (step === "first") {
    await jitsu.identify("jitsu-2-node", traits("jitsu_2_node"));
    await jitsu.page({ url: "https://example.com/pricing", title: "Pricing" });
    await jitsu.group("acme", { name: "Acme" });
  }
  await again(() => jitsu.track(`Jitsu 2 Node ${step}`, { plan: "pro", revenue: 99.9 }));
});
process.exit(0);
