// Opens one page for each SDK in Chromium, and has each take its steps: browser_sdks.mjs CHROMIUM PAGE...
import { chromium } from "playwright-core";
import { steps } from "./steps.mjs";

const [executablePath, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  const tabs = await Promise.all(pages.map(async (page) => {
    const context = await browser.newContext(); // a visitor of its own
    const tab = await context.newPage();
    tab.on("console", (m) => console.error(page.split("?")[0], "console:", m.text()));
    tab.on("pageerror", (e) => console.error(page.split("?")[0], "error:", e.message));
    await tab.goto(page);
    await tab.waitForFunction(() => window.step);
    return tab;
  }));
  await steps((step) => step === "end" || Promise.all(tabs.map((tab) => tab.evaluate((s) => window.step(s), step))));
} finally {
  await browser.close();
}
