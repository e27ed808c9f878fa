package filters

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// countingKV is a MemoryKV that can be out of order.
type countingKV struct {
	*MemoryKV
	fails  error
	writes []string
}

func (k *countingKV) Load(key string) (string, bool, error) {
	if k.fails != nil {
		return "", false, k.fails
	}
	return k.MemoryKV.Load(key)
}

func (k *countingKV) Store(key, json string, ttl time.Duration) error {
	k.writes = append(k.writes, key+"="+json+" "+ttl.String())
	return k.MemoryKV.Store(key, json, ttl)
}

func (k *countingKV) Delete(key string) error {
	k.writes = append(k.writes, key)
	return k.MemoryKV.Delete(key)
}

func TestKV(t *testing.T) {
	const event = `{"n":5,"big":12345678901234567890,"user":{"id":1.50}}`
	f := func(src, want string, writes ...string) {
		t.Helper()
		kv := &countingKV{MemoryKV: NewMemoryKV(nil)}
		_ = kv.MemoryKV.Store("old", `{"big":12345678901234567891,"half":"\ud800"}`, time.Hour)
		if got := results(t, src, event, World{KV: kv}); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
		if got, want := strings.Join(kv.writes, ", "), strings.Join(writes, ", "); got != want {
			t.Errorf("%s\n wrote %s\nwant %s", src, got, want)
		}
	}
	f("await $kv.set('a', 1); return {v: await $kv.get('a')}", `{"v":1}`, "a=1 1440h0m0s")
	f("$kv.set('a', {x: [1, null]}, {ttlSec: 60}); return {v: await $kv.get('a')}", `{"v":{"x":[1,null]}}`, `a={"x":[1,null]} 1m0s`)
	f("await $kv.set('a', 'x', {ttlMs: 1500}); return {}", `{}`, `a="x" 1.5s`)
	f("await $kv.set('a', null, {ttlMs: null}); return {v: await $kv.get('a')}", `{"v":null}`, "a=null 1440h0m0s")
	f("await $kv.set('a', 1, {ttlSec: 1e300}); return {}", `{}`, "a=1 87600h0m0s")
	f("return {v: await $kv.get('old')}", `{"v":{"big":12345678901234567891,"half":"\ud800"}}`)
	f("const v = await $kv.get('old'); return {...v, n: v.half.length}", `{"big":12345678901234567891,"half":"\ud800","n":1}`)
	f("await $kv.set('e', $); return {v: (await $kv.get('e')).big}", `{"v":12345678901234567890}`,
		`e={"n":5,"big":12345678901234567890,"user":{"id":1.50,"hashed_anonymous_id":"hash"},"api_key":"web","eventn_ctx_event_id":"e1","src":"jitsu",`+
			`"source_ip":"10.0.0.1","user_agent":"UA","_timestamp":"2026-11-21T09:00:00.000000Z","location":{"country":"DE"}} 1440h0m0s`)
	f("await $kv.del('old'); return {v: await $kv.get('old'), t: typeof await $kv.get('none')}", `{"t":"undefined"}`, "old")
	f("await $kv.del('old'); await $kv.set('old', 2); return {v: await $kv.get('old')}", `{"v":2}`, "old=2 1440h0m0s")
	f("await $kv.set(5, 1); await $kv.set('5', 2); return {v: await $kv.get(5)}", `{"v":2}`, "5=2 1440h0m0s")
	f("const [a, b] = await Promise.all([$kv.get('old'), $kv.get('b')]); return {a: !!a, b: !!b}", `{"a":true,"b":false}`)
	f("for (let i = 0; i < 99; i++) await $kv.set('k', i); return {v: await $kv.get('k')}", `{"v":98}`, "k=98 1440h0m0s")
	// What is wrong with an operation is an error, whether it is awaited or not, and nothing is written then.
	const value, key = "'x'.repeat(10000)", "'k'.repeat(257)"
	f("await $kv.set('a', 1); await $kv.set('b', "+value+"); return {}", `error: transform line 1, column `+"37: TypeError: $kv.set: the value of \"b\" is longer than 10000 characters as JSON")
	f("$kv.set('b', "+value+"); return {}", "error: transform line 1, column 8: TypeError: $kv.set: the value of \"b\" is longer than 10000 characters as JSON")
	f("try { await $kv.set('b', "+value+") } catch (e) { return {caught: e instanceof TypeError} }", `{"caught":true}`)
	f("$kv.set('b', "+value+").catch(() => {}); return {}", `{}`)
	f("await $kv.set('a', 'é'.repeat(9998)); return {}", `{}`, `a="`+strings.Repeat("é", 9998)+`" 1440h0m0s`)
	f("await $kv.set("+key+", 1)", "error: transform line 1, column 14: TypeError: $kv.set: the key is 257 bytes long; keys have at most 256")
	f("await $kv.get()", "error: transform line 1, column 14: TypeError: $kv.get: the key is missing")
	f("await $kv.get('')", "error: transform line 1, column 14: TypeError: $kv.get: the key is missing")
	f("await $kv.set('a')", "error: transform line 1, column 14: TypeError: $kv.set: the value of \"a\" is undefined, which is no value; use del to remove a key")
	f("await $kv.set('a', () => 1)", "error: transform line 1, column 14: TypeError: $kv.set: the value of \"a\" is a function, which is no value; use del to remove a key")
	f("await $kv.set('a', 1, 60)", "error: transform line 1, column 14: TypeError: $kv.set: the third argument for \"a\" is the number 60; write {ttlSec: 3600} or {ttlMs: 500}")
	f("await $kv.set('a', 1, {ttlSec: -1})", "error: transform line 1, column 14: TypeError: $kv.set: ttlSec of \"a\" is -1; it is a number above 0")
	f("await $kv.set('a', 1, {ttlMs: 'x'})", "error: transform line 1, column 14: TypeError: $kv.set: ttlMs of \"a\" is x; it is a number above 0")
	// A script that fails or runs away has written nothing.
	f("await $kv.set('a', 1); if ($) throw new Error('late'); return $", "error: transform line 1, column 37: Error: late")
	f("await $kv.set('a', 1); return 5", "error: transform: it returned the number 5; a transform returns an object, a list of objects, or null to skip the event")
	f("await $kv.set('a', 1); return {p: Promise.resolve()}", "error: transform: the result is or holds a Promise; write await before it")
	// One that skips the event has.
	f("await $kv.set('a', 1); return null", "none: the transform returned null", "a=1 1440h0m0s")

	if got := results(t, "await $kv.set('a', 1); return {v: await $kv.get('a'), w: await $kv.get('b')}", event, World{}); got != `{"v":1}` {
		t.Errorf("without a KV: %s", got)
	}
}

// TestKVRunsAway: what was written by a try that ran out of time is not there in the next one, nor afterwards.
func TestKVRunsAway(t *testing.T) {
	kv := &countingKV{MemoryKV: NewMemoryKV(nil)}
	transform, err := CompileTransform("const n = await $kv.get('n') ?? 0; await $kv.set('n', n + 1); console.log('n is', n); for (;;) {}", Options{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	_, _, err = transform.Eval(transformEvent(`{}`), World{KV: kv, Log: func(level, line string) { lines = append(lines, level+" "+line) }})
	if !errors.Is(err, ErrLimit) || len(kv.writes) > 0 {
		t.Errorf("%v, wrote %v", err, kv.writes)
	}
	if got := strings.Join(lines, "|"); got != "info n is 0" {
		t.Errorf("printed %s", got)
	}
}

// TestKVFails: a store that fails is no fault of the script, which cannot hide it.
func TestKVFails(t *testing.T) {
	broken := errors.New("disk on fire")
	transform, err := CompileTransform("try { await $kv.get('a') } catch {} await $kv.set('b', 1); return $", patient)
	if err != nil {
		t.Fatal(err)
	}
	kv := &countingKV{MemoryKV: NewMemoryKV(nil), fails: broken}
	if _, _, err := transform.Eval(transformEvent(`{}`), World{KV: kv}); !errors.Is(err, broken) || len(kv.writes) > 0 {
		t.Errorf("%v, wrote %v", err, kv.writes)
	}
	kv.fails = nil
	if _, _, err := transform.Eval(transformEvent(`{}`), World{KV: kv}); err != nil || len(kv.writes) != 1 {
		t.Errorf("the next event: %v, wrote %v", err, kv.writes)
	}
}

func TestUsesKV(t *testing.T) {
	f := func(src string, want bool) {
		t.Helper()
		transform, err := CompileTransform(src, patient)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if got := transform.UsesKV(); got != want {
			t.Errorf("%s: %v", src, got)
		}
	}
	f("return {...$, n: await $kv.get('n')}", true)
	f("const kv = $kv; return $", true)
	f("if (false) { (() => { $kv.del('a') })() } return $", true)
	f("return {...$, a: '$kv.get'}", false)
	f("return {...$, a: $.$kv}", false)
	f("const $kv = {get() { return 1 }}; return {...$, n: $kv.get()}", false)
	if got := results(t, "return {a: globalThis.$kv, b: globalThis['$kv']}", "{}", World{}); got != "{}" {
		t.Errorf("$kv is a global: %s", got)
	}
}

func TestMemoryKV(t *testing.T) {
	now := time.Unix(1700000000, 0)
	kv := NewMemoryKV(func() time.Time { return now })
	f := func(key, want string) {
		t.Helper()
		json, ok, err := kv.Load(key)
		if err != nil || json != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, %v, want %q", key, json, ok, err, want)
		}
	}
	f("a", "")
	_ = kv.Store("a", "1", time.Minute)
	now = now.Add(time.Minute - 1)
	f("a", "1")
	now = now.Add(1)
	f("a", "")
	_ = kv.Store("a", "2", time.Minute)
	f("a", "2")
	_ = kv.Delete("a")
	_ = kv.Delete("b")
	f("a", "")
	for i := range maxMemoryKeys {
		if err := kv.Store(strings.Repeat("x", i), "1", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Store("one more", "1", time.Minute); err == nil {
		t.Error("there is no bound")
	}
	now = now.Add(time.Minute)
	if err := kv.Store("one more", "1", time.Minute); err != nil {
		t.Errorf("what is over still takes room: %v", err)
	}
}

func TestConsole(t *testing.T) {
	f := func(src string, want ...string) {
		t.Helper()
		transform, err := CompileTransform(src+"; return $", patient)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // nothing is left of the first event
			var lines []string
			if _, _, err := transform.Eval(transformEvent(`{"user":{"id":12345678901234567890},"a":"x\ny"}`), World{Log: func(level, line string) { lines = append(lines, level+" "+line) }}); err != nil {
				t.Fatalf("%s: %v", src, err)
			}
			if got, want := strings.Join(lines, "\n"), strings.Join(want, "\n"); got != want {
				t.Errorf("%s\n got %s\nwant %s", src, got, want)
			}
		}
	}
	f("console.log('a', 1, true, null, undefined)", "info a 1 true null undefined")
	f("console.log(); console.log('')", "info ", "info ")
	f("console.info(1); console.warn(2); console.error(3); console.debug(4); console.trace(5)", "info 1", "warn 2", "error 3", "debug 4", "debug 5")
	f("console.log($.user, [1, [2]], {a: {b: 'c'}, f() {}})", `info {"id":12345678901234567890,"hashed_anonymous_id":"hash"} [1,[2]] {"a":{"b":"c"}}`)
	f("console.log($.a, 'a\\tb\\u2028c')", "info x y a b c")
	f("console.log(new Error('boom'), new Date(0), /x/, () => 1, Symbol('s'), 5n, new Map(), Promise.resolve())",
		`info Error: boom "1970-01-01T00:00:00.000Z" {} [a function] s 5 [a collection] [a Promise]`)
	f("const o = {}; o.o = o; console.log(o)", "info [an object]")
	f("console.log('é'.repeat(1001)); console.log('x'.repeat(1000))", "info "+strings.Repeat("é", 1000)+"…", "info "+strings.Repeat("x", 1000))
	twenty := make([]string, 0, 21)
	for range 20 {
		twenty = append(twenty, "info x")
	}
	f("for (let i = 0; i < 20; i++) console.log('x')", twenty...)
	f("for (let i = 0; i < 50; i++) console.log('x')", append(twenty, "warn the script prints more than 20 lines for this event; the rest is left out")...)
	f("console.log(...Array(1000).fill('x'.repeat(1000)))", "info "+strings.Repeat("x", 1000)+"…")
	if got := results(t, "console.log({get x() { throw new Error('getter') }}); return $", "{}", World{Log: func(_, _ string) {}}); got != "error: transform line 1, column 30: Error: getter" {
		t.Error(got)
	}
}

// TestTransformErrorIsPrinted: what a script printed before it failed is what one wants to read.
func TestTransformErrorIsPrinted(t *testing.T) {
	var lines []string
	transform, err := CompileTransform("console.log('before'); if ($) throw new Error('x'); return $", patient)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := transform.Eval(transformEvent("{}"), World{Log: func(_, line string) { lines = append(lines, line) }}); err == nil || len(lines) != 1 || lines[0] != "before" {
		t.Errorf("%v, printed %q", err, lines)
	}
}
