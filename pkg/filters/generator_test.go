package filters

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"time"

	"eventrouter/pkg/event"
)

// matchGenerator makes filters and events out of few words, so that they often meet.
type matchGenerator struct{ *rand.Rand }

func (g matchGenerator) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g matchGenerator) path() string {
	if g.IntN(2) == 0 {
		return g.pick("event_type", "a", "tags")
	}
	return g.pick("event_type", "user.email", "user.id", "user", "a", "a.b", "a.b.c", "a.0", "a.b.1.c", "/a/b", "/x.y", "/a~1b", "tags", "tags.1", "api_key", "src", "source_ip",
		"user_agent", "_timestamp", "eventn_ctx_event_id", "parsed_ua.bot", "location.country", "eventn_ctx.user.email", "eventn_ctx.event_id", "event_id", "É")
}

var matchScalars = []string{
	`"a"`, `"A"`, `"ab"`, `"ba"`, `"free"`, `"FREE"`, `""`, `"ada@corp.com"`, `"Ada@Corp.COM"`, `"\u212a"`, `"K"`, `"k\u017f"`, `"é"`, `"É"`, `"ὥ"`, `"5"`, `"5.0"`, `"-1e2"`, `"true"`,
	`"True"`, `"web"`, `"2026-03-01"`, `"2026-03-01T12:00:00Z"`, `"2026-03-01T12:00:00.5+02:00"`, `"2026-03-02 00:00:00"`, `"\"\\\n"`, `"\ud83d\ude00"`,
	`5`, `5.0`, `0.5e1`, `-5`, `-100`, `0`, `-0`, `0.1`, `0.10000000000000000001`, `9007199254740992`, `9007199254740993`, `123456789012345678901234567890`, `1e20`, `1772366400`, `1772366400000`,
	`true`, `false`,
}

func (g matchGenerator) operand() string {
	if g.IntN(3) == 0 {
		return g.pick("5", `"a"`, `"A"`, "-100", `"free"`, `"FREE"`, `"2026-03-01T12:00:00Z"`)
	}
	return g.pick(matchScalars...)
}

func (g matchGenerator) operands() string {
	if g.IntN(2) == 0 {
		return g.operand()
	}
	return g.list(1+g.IntN(4), g.operand)
}

func (g matchGenerator) list(n int, make func() string) string {
	var all []string
	for range n {
		all = append(all, make())
	}
	return "[" + strings.Join(all, ",") + "]"
}

func (g matchGenerator) object(n int, member func() (key, value string)) string {
	var all []string
	seen := map[string]bool{}
	for range n {
		if k, v := member(); !seen[k] {
			seen[k] = true
			key, _ := json.Marshal(k)
			all = append(all, string(key)+":"+v)
		}
	}
	return "{" + strings.Join(all, ",") + "}"
}

func (g matchGenerator) test(depth int) string {
	if g.IntN(2) == 0 {
		return g.operands()
	}
	return g.object(1+g.IntN(3), func() (string, string) {
		switch op := g.pick("equals", "in", "starts_with", "ends_with", "contains", "matches", "gt", "gte", "lt", "lte", "exists", "ignore_case", "ignore_case", "ignore_case", "not"); op {
		case "in":
			return op, g.list(1+g.IntN(20), g.operand)
		case "matches":
			return op, g.pick(`"^a"`, `["a$","^F"]`, `"[0-9]+"`, `"^$"`, `"b."`)
		case "gt", "gte", "lt", "lte":
			return op, g.pick("5", "-100", "0", "0.1", "1e20", "9007199254740992", `"2026-03-01"`, `"2026-03-01T12:00:00Z"`, `"2026-03-01 10:00:00"`)
		case "exists", "ignore_case":
			return op, g.pick("true", "true", "false")
		case "not":
			if depth > 0 {
				return op, g.test(depth - 1)
			}
			return op, g.operand()
		default:
			return op, g.operands()
		}
	})
}

func (g matchGenerator) filter(depth int) string {
	return g.object(1+g.IntN(3), func() (string, string) {
		if depth > 0 && g.IntN(3) == 0 {
			word := g.pick("any", "all", "not")
			if word == "not" {
				return word, g.object(1, func() (string, string) { return g.path(), g.test(1) })
			}
			return word, g.list(1+g.IntN(3), func() string { return g.filter(depth - 1) })
		}
		return g.path(), g.test(2)
	})
}

func (g matchGenerator) value(depth int) string {
	switch n := g.IntN(10); {
	case n == 0:
		return "null"
	case n == 1 && depth > 0:
		return g.list(g.IntN(4), func() string { return g.value(depth - 1) })
	case n <= 4 && depth > 0:
		return g.object(g.IntN(5), func() (string, string) {
			return g.pick("b", "c", "0", "1", "email", "id", "bot", "country", "event_id", "user"), g.value(depth - 1)
		})
	}
	return g.operand()
}

func (g matchGenerator) event() *event.Event {
	object := g.object(g.IntN(15), func() (string, string) {
		return g.pick("event_type", "user", "a", "x.y", "a/b", "tags", "api_key", "src", "source_ip", "user_agent", "_timestamp", "event_id", "eventn_ctx", "parsed_ua", "É", "z"), g.value(3)
	})
	ev := &event.Event{
		ID: g.pick("e1", "a"), APIKey: "web", Received: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Source: g.pick("", "api"), UserAgent: g.pick("", "free"),
		Email: g.pick("", "ada@corp.com"), AnonymousHash: g.pick("", "h"), JSON: []byte(object),
	}
	if g.IntN(2) == 0 {
		ev.Added = []byte(`{"parsed_ua":{"bot":true},"location":{"country":"FREE"}}`)
	}
	return ev
}
