// Opens a page with Jitsu's browser snippet in Chromium: browser.mjs PAGE CHROMIUM
import { chromium } from "playwright-core";

const [page, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  const tab = await browser.newPage();
  const answers = [];
  tab.on("response", (r) => { if (r.url().includes("/api/v1/event")) answers.push(r.status()); });
  tab.on("console", (m) => console.error("console:", m.text()));
  tab.on("requestfailed", (r) => console.error("failed:", r.url().split("?")[0], r.failure()?.errorText));
  await tab.goto(page, { waitUntil: "networkidle" });
  await tab.click("#buy");
  await tab.waitForFunction(() => JSON.parse(localStorage.getItem("jitsu-event-queue") ?? "[]").length === 0);
  await tab.waitForLoadState("networkidle");
  console.log(JSON.stringify(answers));
} finally {
  await browser.close();
}
