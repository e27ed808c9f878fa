// Runs an SDK's steps as the test names them on standard input, and says when each is done. The test breaks things in between.
import { createInterface } from "node:readline";

export async function steps(run) {
  for await (const step of createInterface({ input: process.stdin })) {
    await run(step);
    console.log(`done ${step}`);
    if (step === "end") break;
  }
}

export const traits = (name) => ({
  email: `${name}@example.com`,
  firstName: name,
  "Job Title": "CTO",
  plan: "pro",
  unheard_of: "x",
});
