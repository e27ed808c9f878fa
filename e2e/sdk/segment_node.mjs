// @segment/analytics-node: segment_node.mjs ROUTER WRITE_KEY
import { Analytics } from "@segment/analytics-node";
import { steps, traits } from "./steps.mjs";

const [host, writeKey] = process.argv.slice(2);
const segment = new Analytics({ host, writeKey, flushInterval: 100, maxRetries: 30 });
const userId = "segment-node";

await steps(async (step) => {
  if (step === "end") return segment.closeAndFlush({ timeout: 60_000 });
  if (step === "first") {
    segment.identify({ userId, traits: traits("segment_node") });
    segment.page({ userId, name: "Pricing", properties: { url: "https://example.com/pricing", title: "Pricing" } });
    segment.group({ userId, groupId: "acme", traits: { name: "Acme", employees: 12 } });
  }
  segment.track({ userId, event: `Segment Node ${step}`, properties: { plan: "pro", revenue: 99.9 } });
});
