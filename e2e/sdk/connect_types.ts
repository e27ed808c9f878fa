// What a team writes in TypeScript with connect.d.ts beside it: what is right compiles, what is wrong does not.
import type { Connection, EventError, Handle } from "./connect";

const handle: Handle = router.connect({ app: "crm", token: "a.b.c" });
handle.close();
window.router.connect({ app: "crm", token: async () => "a.b.c", mode: "popup", lang: "de", onChange: (c: Connection) => console.log(c.status === "reconnect_needed", c.hub.length, c.problem === "limit") });
router.event({ app: "crm", token: () => "a.b.c", name: "Contact Created", payload: { email: "ada@example.com" } }).catch((err: EventError) => console.log(err.status, err.violations[0]?.path, err.violations[0]?.problem));

// @ts-expect-error: there is no token
router.connect({ app: "crm" });
// @ts-expect-error: no such mode
router.connect({ app: "crm", token: "a.b.c", mode: "tab" });
// @ts-expect-error: no such status
router.connect({ app: "crm", token: "a.b.c", onChange: (c) => c.status === "gone" });
// @ts-expect-error: a payload is an object
router.event({ app: "crm", token: "a.b.c", name: "Contact Created", payload: "ada" });
