package filters

import (
	"errors"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

func compileMatch(tb testing.TB, yaml string) (*Match, error) {
	tb.Helper()
	s, err := config.NewSettings("router.yaml", "destinations.crm.filter", []byte(yaml))
	if err != nil {
		tb.Fatalf("%s\n%v", yaml, err)
	}
	return CompileMatch(s)
}

func mustMatch(tb testing.TB, yaml string) *Match {
	tb.Helper()
	m, err := compileMatch(tb, yaml)
	if err != nil || m == nil {
		tb.Fatalf("%s\n%v, %v", yaml, m, err)
	}
	return m
}

func TestMatch(t *testing.T) {
	// why is "" where the event meets the conditions.
	f := func(yaml, object, why string) {
		t.Helper()
		ev := &event.Event{
			ID: "e1", APIKey: "web", Received: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Source: "api", SourceIP: "10.1.2.3", UserAgent: "curl/8",
			Email: "ada@corp.com", Added: []byte(`{"parsed_ua":{"bot":true},"location":{"country":"DE"}}`), JSON: []byte(object),
		}
		r, err := mustMatch(t, yaml).Eval(ev)
		if err != nil || r.Keep != (why == "") || r.Why != why {
			t.Errorf("%s\n%s\n got %+v, %v\nwant %q", yaml, object, r, err, why)
		}
	}

	// Values.
	f("event_type: signup", `{"event_type":"signup"}`, "")
	f("event_type: signup", `{"event_type":"Signup"}`, `filter: event_type is "signup"`)
	f("event_type: signup", `{}`, `filter: event_type is "signup"`)
	f("event_type: signup", `{"event_type":null}`, `filter: event_type is "signup"`)
	f("event_type: signup", `{"event_type":{"signup":1}}`, `filter: event_type is "signup"`)
	f("event_type: [a, b, c, d, e]", `{"event_type":"x"}`, `filter: event_type is "a" or "b" or "c" or one of 2 others`)
	f("event_type: [a, b, c, d, e]", `{"event_type":"e"}`, "")
	f("n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, x]", `{"n":"x"}`, "")
	f("n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, x]", `{"n":12.0}`, "")
	f("n: 5", `{"n":5}`, "")
	f("n: 5", `{"n":5.0e0}`, "")
	f("n: 5", `{"n":"5"}`, "")
	f("n: 5", `{"n":"5.0"}`, "filter: n is 5")
	f("n: '5'", `{"n":5}`, "")
	f("version: 1.10", `{"version":"1.1"}`, "filter: version is 1.10")
	f("n: 9007199254740993", `{"n":9007199254740992}`, "filter: n is 9007199254740993")
	f("n: 9007199254740993", `{"n":9007199254740993}`, "")
	f("vip: true", `{"vip":true}`, "")
	f("vip: true", `{"vip":"true"}`, "")
	f("vip: True", `{"vip":true}`, "")
	f("vip: true", `{"vip":1}`, "filter: vip is true")
	f("plan: ''", `{"plan":""}`, "")
	f(`city: "Köln"`, `{"city":"K\u00f6ln"}`, "")
	f(`text: 'say "x"'`, `{"text":"say \"x\""}`, "")

	// Paths.
	f("user.address.city: B", `{"user":{"address":{"city":"B"}}}`, "")
	f("user.address.city: B", `{"user":{"address":"B"}}`, `filter: user.address.city is "B"`)
	f("user.address.city: B", `{"user":"B"}`, `filter: user.address.city is "B"`)
	f("/user/address.city: B", `{"user":{"address.city":"B"}}`, "")
	f("/a~1b/c~0d: B", `{"a/b":{"c~d":"B"}}`, "")
	f(`"é x": B`, `{"\u00e9 x":"B"}`, "")
	f("items.0: B", `{"items":["B","C"]}`, "")
	f("items.1: B", `{"items":["B","C"]}`, `filter: items.1 is "B"`)
	f("items.0: B", `{"items":{"0":"B"}}`, "")
	f("items.01: B", `{"items":["B","B"]}`, `filter: items.01 is "B"`)
	f("/not: x", `{"not":"x"}`, "")

	// What the envelope has.
	f("api_key: web", `{"api_key":"mine"}`, "")
	f("eventn_ctx_event_id: e1", `{}`, "")
	f("src: api", `{}`, "")
	f("src: own", `{"src":"own"}`, "")
	f("source_ip: {starts_with: '10.'}", `{}`, "")
	f("user_agent: {contains: curl}", `{}`, "")
	f("user.email: {ends_with: '@corp.com'}", `{"user":{"id":"u1"}}`, "")
	f("user.email: {ends_with: '@corp.com'}", `{}`, `filter: user.email ends with "@corp.com"`)
	f("parsed_ua.bot: true", `{}`, "")
	f("eventn_ctx.parsed_ua.bot: true", `{"eventn_ctx":{}}`, "")
	f("location.country: [AT, DE]", `{"parsed_ua":5}`, "")
	f("_timestamp: {gte: 2026-03-01, lte: 2026-03-01}", `{}`, "")
	f("_timestamp: {gt: 2026-03-01}", `{}`, "filter: _timestamp > 2026-03-01")

	// Lists.
	f("tags: vip", `{"tags":["a","vip"]}`, "")
	f("tags: vip", `{"tags":[]}`, `filter: tags is "vip"`)
	f("tags: vip", `{"tags":[["x",["vip"]]]}`, "")
	f("tags: {not: vip}", `{"tags":["a","vip"]}`, `filter: not (tags is "vip")`)
	f("tags: {not: vip}", `{"tags":["a"]}`, "")
	f("items.price: {gt: 10, lt: 20}", `{"items":[{"price":5},{"price":25}]}`, "filter: items.price > 10 and < 20")
	f("items.price: {gt: 10, lt: 20}", `{"items":[{"price":5},{"price":15}]}`, "")
	f("tags: {exists: true}", `{"tags":[]}`, "")

	// Operators.
	f("a: {equals: x}", `{"a":"x"}`, "")
	f("a: {in: [x, y], starts_with: x}", `{"a":"y"}`, `filter: a is "x" or "y" and starts with "x"`)
	f("a: {starts_with: [x, y]}", `{"a":"yes"}`, "")
	f("a: {starts_with: 4}", `{"a":42}`, "")
	f("a: {ends_with: x}", `{"a":"xy"}`, `filter: a ends with "x"`)
	f("a: {contains: [b, c]}", `{"a":"abba"}`, "")
	f("a: {contains: b}", `{"a":["x","abba"]}`, "")
	f("a: {matches: '^a.+d$'}", `{"a":"abcd"}`, "")
	f("a: {matches: ['^x', '^a.+d$']}", `{"a":"abc"}`, `filter: a matches "^x" or "^a.+d$"`)
	f("a: {exists: true}", `{"a":false}`, "")
	f("a: {exists: true}", `{"a":null}`, "filter: a exists")
	f("a: {exists: false}", `{"a":null}`, "")
	f("a: {exists: no}", `{"a":0}`, "filter: a does not exist")
	f("a: {exists: yes, gt: 5}", `{"a":5}`, "filter: a > 5")
	f("a: {gt: 5}", `{"a":"5.5"}`, "")
	f("a: {gt: 5}", `{"a":true}`, "filter: a > 5")
	f("a: {gte: -0.5, lte: 1e2}", `{"a":100}`, "")
	f("a: {gt: 9007199254740992}", `{"a":9007199254740993}`, "")
	f("a: {lt: 0.1}", `{"a":0.09999999999999999999999}`, "")
	f("a: {lt: 2026-03-01}", `{"a":"2026-02-28T23:59:59Z"}`, "")
	f("a: {lt: 2026-03-01}", `{"a":"2026-03-01T00:30:00+01:00"}`, "")
	f("a: {lte: 2026-03-01}", `{"a":"2026-03-01T23:59:59.999Z"}`, "")
	f("a: {lte: 2026-03-01T12:00:00Z}", `{"a":"2026-03-01 12:00:01"}`, "filter: a <= 2026-03-01T12:00:00Z")
	f("a: {gt: 2026-01-01}", `{"a":1780000000}`, "")
	f("a: {gt: 2026-01-01}", `{"a":"2026-01-02"}`, "")
	f("a: {gt: 2026-01-01}", `{"a":"soon"}`, "filter: a > 2026-01-01")
	f("a: {equals: FREE, ignore_case: true}", `{"a":"Free"}`, "")
	f("a: {ends_with: ['É', K], ignore_case: true}", `{"a":"caf\u00e9"}`, "")
	f("a: {ends_with: ['É', K], ignore_case: true}", `{"a":"300 \u212a"}`, "")
	f("a: {matches: '^X', ignore_case: true}", `{"a":"xy"}`, "")
	f("a: {not: Free, ignore_case: true}", `{"a":"FREE"}`, `filter: not (a is "Free" in any case)`)

	// Combinations.
	f("not: {user.plan: free}", `{"user":{"plan":"free"}}`, `filter: not (user.plan is "free")`)
	f("not: {user.plan: free}", `{}`, "")
	f("a: {not: [x, y]}", `{"a":"y"}`, `filter: not (a is "x" or "y")`)
	f("a: {starts_with: x, not: {ends_with: y}}", `{"a":"xay"}`, `filter: not (a ends with "y")`)
	f("a: {not: {exists: true}}", `{"a":1}`, "filter: not (a exists)")
	f("a: {not: {gt: 3}}", `{"a":"x"}`, "")
	f("a: 1\nb: 2", `{"a":1,"b":3}`, "filter: b is 2")
	f("any: [{a: 1}, {b: {gt: 2}, c: 3}]", `{"b":5,"c":3}`, "")
	f("any: [{a: 1}, {b: {gt: 2}, c: 3}]", `{"b":5}`, "filter: any of (a is 1; all of (b > 2; c is 3))")
	f("all: [{a: {not: 1}}, {any: [{b: 1}, {b: 2}]}]", `{"b":5}`, "filter: any of (b is 1; b is 2)")
	f("not: {any: [{a: 1}, {b: 1}]}", `{"b":1}`, "filter: not (any of (a is 1; b is 1))")
	f("event_type: [a, b]\nnot: {user.plan: free}\nuser.email: {ends_with: '@corp.com'}", `{"event_type":"b","user":{"plan":"pro"}}`, "")
}

func TestMatchNothing(t *testing.T) {
	for _, yaml := range []string{"", "{}", "null"} {
		if m, err := compileMatch(t, yaml); m != nil || err != nil {
			t.Errorf("%q: %v, %v", yaml, m, err)
		}
	}
}

// TestMatchTooLong: a text that is longer than a regular expression may look at is no silent miss.
func TestMatchTooLong(t *testing.T) {
	m := mustMatch(t, "a: {matches: x}")
	r, err := m.Eval(&event.Event{JSON: []byte(`{"a":"` + strings.Repeat("y", maxMatchBytes+1) + `"}`)})
	if !errors.Is(err, ErrLimit) || r.Keep {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := m.Eval(&event.Event{JSON: []byte(`{"a":"x"}`)}); err != nil || !r.Keep {
		t.Errorf("next event: %+v, %v", r, err)
	}
}

func TestMatchProblems(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		m, err := compileMatch(t, yaml)
		var ps config.Problems
		if !errors.As(err, &ps) || m != nil {
			t.Errorf("%s\n%v, %v", yaml, m, err)
			return
		}
		var got []string
		for _, p := range ps {
			got = append(got, strings.TrimPrefix(p.String(), "router.yaml:"))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%.200s\n got %s\nwant %s", yaml, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	const at = "destinations.crm.filter"
	f("signup", "1: "+at+": must be a map of conditions, such as `event_type: signup`, not a single value")
	f("[signup]", "1: "+at+": must be a map of conditions, such as `event_type: signup`, not a list")
	f("\nevent_type:", "2: "+at+".event_type: has no value; write `{exists: false}` for what an event lacks, and \"\" for an empty text")
	f("event_type: []", "1: "+at+".event_type: is an empty list, which nothing meets")
	f("event_type: [a, ]\nb: [~]", `2: `+at+`.b[0]: has no value; write "" for an empty text`)
	f("event_type: [[a]]", "1: "+at+".event_type[0]: must be a single value, not a list")
	f("event_type: {}", "1: "+at+".event_type: has no condition")
	f("a: {start_with: x}\nb:\n  c: {gt: 1, begins_with: x}",
		`1: `+at+`.a.start_with: unknown operator "start_with"; did you mean "starts_with"?`,
		`3: `+at+`.b.c: unknown operator "c"; the operators are contains, ends_with, equals, exists, gt, gte, in, lt, lte, matches, not, starts_with, ignore_case; a member of b is b.c`)
	f("a: {eq: x}", `1: `+at+`.a.eq: unknown operator "eq"; did you mean "equals"?`)
	f("starts_with: x", "1: "+at+".starts_with: is an operator, which stands below a path, as in `event_type: {starts_with: …}`; a member of that name is /starts_with")
	f("or: [{a: 1}]", `1: `+at+`.or: is no known word; did you mean "any"?`)
	f("a..b: x", "1: "+at+".a..b: has an empty name in its path; write user.email, or /user/email for names with dots in them")
	f("'': x", "1: "+at+".: has an empty name in its path; write user.email, or /user/email for names with dots in them")
	f("/: x", "1: "+at+"./: has an empty name in its path; write user.email, or /user/email for names with dots in them")
	f("$.user.email: x", "1: "+at+".$.user.email: a path begins with the name of a member: write user.email")
	f(strings.Repeat("a.", 40)+"a: x", "1: "+at+"."+strings.Repeat("a.", 30)+"…: is a path of more than 32 names")
	f("not: {a: 1, b: 2}", "1: "+at+".not: takes one condition; write `not: {any: [{…}, {…}]}` where none of several may hold, and `not: {all: [{…}, {…}]}` where not all of them may")
	f("not: x", "1: "+at+".not: must be a map of conditions, such as `event_type: signup`, not a single value")
	f("not: {}", "1: "+at+".not: has no condition")
	f("any: {a: 1}", "1: "+at+".any: must be a list of conditions, such as `any: [{event_type: signup}, {user.plan: pro}]`, not a map")
	f("any: []", "1: "+at+".any: is an empty list: no event meets it")
	f("all: [{}]", "1: "+at+".all[0]: has no condition")
	f("a: {gt: x}", "1: "+at+".a.gt: must be a number, such as 100 or -0.5, or a date, such as 2026-03-01 or 2026-03-01T12:00:00Z")
	f("a: {gt: [1, 2]}", "1: "+at+".a.gt: must be a single value, not a list")
	f("a: {gt: 5, lt: 5}", "1: "+at+".a: no value lies within these bounds")
	f("a: {gte: 5, lte: 4.9}", "1: "+at+".a: no value lies within these bounds")
	f("a: {gt: 5, lt: 2026-01-01}", "1: "+at+".a: no value lies within these bounds")
	f("_timestamp: {gt: 2026}", "1: "+at+"._timestamp.gt: is a number, and _timestamp is a date: write one, such as 2026-03-01")
	f("a: {exists: maybe}", "1: "+at+".a.exists: must be true or false")
	f("a: {exists: false, gt: 5}", "1: "+at+".a: what does not exist can meet no other operator: keep one of them")
	f("a: {equals: x, in: [y]}", "1: "+at+".a.in: equals and in stand side by side: keep one of them")
	f("a: {in: y}", "1: "+at+".a.in: must be a list of values, not a single value")
	f("a: {in: [x, y], starts_with: z}", "1: "+at+".a: none of the values meets the other operators")
	f("a: {ignore_case: true}", "1: "+at+".a: ignore_case has no text to apply to")
	f("a: {not: {ignore_case: false}}", "1: "+at+".a.not: has no condition")
	f("a: {ignore_case: 5, gt: 5}", "1: "+at+".a.ignore_case: must be true or false")
	f("a: {starts_with: ''}", "1: "+at+".a.starts_with: is an empty text, which every text starts with; write `{exists: true}` for any value")
	f("a: {matches: '('}", "1: "+at+".a.matches: is no regular expression: missing closing ): `(`")
	f("a: {matches: '^(?!x)'}", "1: "+at+".a.matches: is no regular expression: invalid or unsupported Perl syntax: `(?!`; there is no looking ahead or behind: combine conditions with `not` and `any`")
	f("a: {matches: '.*'}", "1: "+at+".a.matches: matches every text; write `{exists: true}` for any value")
	f("a: {matches: '((a{1,50}){1,20}b){1,2}'}", "1: "+at+".a.matches: is no regular expression: invalid repeat count: `{1,2}`")
	f("a: {matches: '(a{1,50}){1,20}'}", "1: "+at+".a.matches: is too large: repeat less, or use fewer regular expressions in this filter")
	f("a: {matches: "+strings.Repeat("x", 1001)+"}", "1: "+at+".a.matches: is longer than the 1000 bytes that a regular expression may have")
	f("any: ["+strings.Repeat("{a: 1},", 1002)+"]", "1: "+at+".any[999].a: is one condition too many: a filter has at most 1000")
}
