// @rudderstack/rudder-sdk-node: rudder_node.mjs ROUTER WRITE_KEY
import RudderAnalytics from "@rudderstack/rudder-sdk-node";
import { steps, traits } from "./steps.mjs";

const [dataPlaneUrl, writeKey] = process.argv.slice(2);
const rudder = new RudderAnalytics(writeKey, {
  dataPlaneUrl, flushInterval: 100, retryCount: 60, axiosRetryConfig: { retryDelay: () => 300 }, errorHandler: (e) => console.error(e.message),
});
const userId = "rudder-node";

await steps(async (step) => {
  if (step === "end") return rudder.flush();
  if (step === "first") {
    rudder.identify({ userId, traits: traits("rudder_node") });
    rudder.page({ userId, name: "Pricing", properties: { url: "https://example.com/pricing", title: "Pricing" } });
    rudder.group({ userId, groupId: "acme", traits: { name: "Acme" } });
  }
  rudder.track({ userId, event: `Rudder Node ${step}`, properties: { plan: "pro", revenue: 99.9 } });
});
process.exit(0);
