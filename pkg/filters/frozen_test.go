package filters

import (
	"fmt"
	"testing"
)

// TestAllIsFrozen walks over all that a script can reach and finds nothing that one event could leave for the next.
func TestAllIsFrozen(t *testing.T) {
	transform, err := CompileTransform("return {...$}", patient)
	if err != nil {
		t.Fatal(err)
	}
	found, err := transform.script.runtime.RunString(`(() => {
		const loose = [], seen = new Set();
		const walk = (value, path) => {
			if (value === null || typeof value !== "object" && typeof value !== "function" || seen.has(value)) return;
			seen.add(value);
			if (!Object.isFrozen(value)) loose.push(path);
			walk(Reflect.getPrototypeOf(value), path + ".__proto__");
			for (const key of Reflect.ownKeys(value)) {
				const property = Reflect.getOwnPropertyDescriptor(value, key);
				for (const part of ["value", "get", "set"]) walk(property[part], path + "." + String(key) + (part === "value" ? "" : " " + part));
			}
		};
		walk(globalThis, "globalThis");
		for (const value of [[].values(), new Map().entries(), new Set().values(), ""[Symbol.iterator](), /a/[Symbol.matchAll]("a"), Object.create((function* () {}).prototype.__proto__), function* () {}, async () => {}]) {
			walk(Reflect.getPrototypeOf(value), "a prototype");
		}
		return seen.size + " " + loose.join(", ");
	})()`)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var loose string
	if _, err := fmt.Sscanf(found.String(), "%d %s", &n, &loose); n < 400 || loose != "" {
		t.Errorf("of %d objects these are not frozen: %s (%v)", n, found, err)
	}
}
