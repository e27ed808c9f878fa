package filters

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
	"eventrouter/pkg/trial"
)

// naive evaluates a filter as the documentation has it, on the decoded view, with nothing of what [Match] is made of.
func naive(s config.Settings, view any) bool {
	for _, m := range s.Members() {
		if !naiveMember(m, view) {
			return false
		}
	}
	return true
}

func naiveMember(m config.Member, view any) bool {
	switch m.Key {
	case "all":
		for _, item := range m.Value.Items() {
			if !naive(item, view) {
				return false
			}
		}
		return true
	case "any":
		for _, item := range m.Value.Items() {
			if naive(item, view) {
				return true
			}
		}
		return false
	case "not":
		return !naive(m.Value, view)
	}
	names := strings.Split(m.Key, ".")
	if strings.HasPrefix(m.Key, "/") {
		names = strings.Split(m.Key[1:], "/")
		for i, name := range names {
			names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
		}
	}
	return naiveTest(m.Value, naiveReach(view, names), false)
}

// naiveReach lists the values that a path leads to.
func naiveReach(v any, names []string) (found []any) {
	if len(names) == 0 {
		return []any{v}
	}
	switch v := v.(type) {
	case map[string]any:
		if below, ok := v[names[0]]; ok {
			return naiveReach(below, names[1:])
		}
	case []any:
		if i, err := strconv.Atoi(names[0]); err == nil && strconv.Itoa(i) == names[0] && i >= 0 {
			if i < len(v) {
				return naiveReach(v[i], names[1:])
			}
			return nil
		}
		for _, e := range v {
			found = append(found, naiveReach(e, names)...)
		}
	}
	return found
}

// naiveScalars are the values that criteria apply to.
func naiveScalars(values []any) (found []any) {
	for _, v := range values {
		switch v := v.(type) {
		case nil, map[string]any:
		case []any:
			found = append(found, naiveScalars(v)...)
		default:
			found = append(found, v)
		}
	}
	return found
}

func naiveTest(s config.Settings, reached []any, ignoreCase bool) bool {
	scalars := naiveScalars(reached)
	if s.Shape() != config.Map {
		for _, v := range scalars {
			if naiveOperator("equals", s, v, ignoreCase) {
				return true
			}
		}
		return false
	}
	members := s.Members()
	for _, m := range members {
		if m.Key == "ignore_case" {
			ignoreCase = naiveFlag(m.Value)
		}
	}
	var positive []config.Member
	for _, m := range members {
		switch m.Key {
		case "not":
			if naiveTest(m.Value, reached, ignoreCase) {
				return false
			}
		case "exists":
			exists := false
			for _, v := range reached {
				exists = exists || v != nil
			}
			if exists != naiveFlag(m.Value) {
				return false
			}
		case "ignore_case":
		default:
			positive = append(positive, m)
		}
	}
	if len(positive) == 0 {
		return true
	}
	for _, v := range scalars {
		all := true
		for _, m := range positive {
			all = all && naiveOperator(m.Key, m.Value, v, ignoreCase)
		}
		if all {
			return true
		}
	}
	return false
}

func naiveFlag(s config.Settings) (on bool) {
	_ = s.Decode(&on)
	return on
}

// naiveOperator says whether a value meets one of the operands.
func naiveOperator(operator string, s config.Settings, v any, ignoreCase bool) bool {
	operands := s.Items()
	if s.Shape() == config.Single {
		operands = []config.Settings{s}
	}
	text := fmt.Sprint(v)
	for _, o := range operands {
		want := o.Text()
		before, after := "(?s:.*)", "(?s:.*)"
		switch operator {
		case "equals", "in":
			if a, ok := v.(json.Number); ok && isJSONNumber(want) && naiveRat(a.String()).Cmp(naiveRat(want)) == 0 {
				return true
			}
			before, after = "", ""
			if word := strings.ToLower(want); word == "true" || word == "false" {
				want = "(?:" + regexp.QuoteMeta(want) + "|" + word + ")"
			} else {
				want = regexp.QuoteMeta(want)
			}
		case "starts_with":
			before, want = "", regexp.QuoteMeta(want)
		case "ends_with":
			after, want = "", regexp.QuoteMeta(want)
		case "contains":
			want = regexp.QuoteMeta(want)
		case "matches":
		default:
			if naiveBound(operator, want, v) {
				return true
			}
			continue
		}
		flags := "(?:"
		if ignoreCase {
			flags = "(?i:"
		}
		if operator == "matches" {
			if naiveRegexp(flags + want + ")").MatchString(text) {
				return true
			}
		} else if naiveRegexp(`\A` + before + flags + want + ")" + after + `\z`).MatchString(text) {
			return true
		}
	}
	return false
}

// naiveRegexps are expressions that have been needed: operands come again and again.
var naiveRegexps sync.Map

func naiveRegexp(expr string) *regexp.Regexp {
	if r, ok := naiveRegexps.Load(expr); ok {
		return r.(*regexp.Regexp)
	}
	r := regexp.MustCompile(expr)
	naiveRegexps.Store(expr, r)
	return r
}

func isJSONNumber(s string) bool {
	return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && json.Valid([]byte(s)) && strings.TrimSpace(s) == s
}

func naiveRat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	return r
}

func naiveBound(operator, want string, v any) bool {
	text := fmt.Sprint(v)
	order := 0
	if isJSONNumber(want) {
		if !isJSONNumber(text) {
			return false
		}
		order = naiveRat(text).Cmp(naiveRat(want))
	} else {
		at, _, ok := naiveDate(text)
		limit, day, _ := naiveDate(want)
		if !ok {
			return false
		}
		if order = at.Compare(limit); day && order >= 0 && at.Before(limit.Add(24*time.Hour)) {
			order = 0
		}
	}
	return map[string]bool{"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[operator]
}

func naiveDate(text string) (at time.Time, day, ok bool) {
	for _, layout := range []string{"2006-01-02", time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, layout == "2006-01-02", true
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || !(n > 0 && n < 1e14):
		return at, false, false
	case n < 1e11:
		n *= 1000
	}
	return time.UnixMilli(int64(n)), false, true
}

// checkNaive compares a compiled filter with the naive evaluation.
func checkNaive(t *testing.T, yaml string, s config.Settings, m *Match, ev *event.Event) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(ev.AppendView(nil))))
	dec.UseNumber()
	var view any
	if err := dec.Decode(&view); err != nil {
		t.Fatal(err)
	}
	r, err := m.Eval(ev)
	if errors.Is(err, ErrLimit) {
		return
	}
	if want := naive(s, view); err != nil || r.Keep != want {
		t.Errorf("%s\n%s\n%v\n got %+v, %v\nwant %t", yaml, ev.JSON, view, r, err, want)
	}
	if r.Keep != (r.Why == "") || len(r.Why) > maxWhyBytes+20 {
		t.Errorf("%s\n%s\n%+v", yaml, ev.JSON, r)
	}
}

// TestMatchNaive compares filters with their naive evaluation, on generated conditions and events.
func TestMatchNaive(t *testing.T) {
	g := matchGenerator{rand.New(rand.NewPCG(3, 4))}
	kept, compiled := 0, 0
	rounds := trial.Rounds(t, 2000)
	for range rounds {
		yaml := strings.ReplaceAll(g.filter(2), `\ud83d\ude00`, "\U0001f600") // YAML has no surrogates
		s, err := config.NewSettings("f.yaml", "filter", []byte(yaml))
		if err != nil {
			t.Fatalf("%s\n%v", yaml, err)
		}
		m, err := CompileMatch(s)
		if err != nil {
			continue // nothing can meet it
		}
		compiled++
		for range 20 {
			ev := g.event()
			checkNaive(t, yaml, s, m, ev)
			if r, _ := m.Eval(ev); r.Keep {
				kept++
			}
			if t.Failed() {
				return
			}
		}
	}
	if compiled < rounds/2 || kept < compiled || kept > 19*compiled {
		t.Errorf("%d filters compiled, %d of %d events kept", compiled, kept, 20*compiled)
	}
}

func FuzzMatch(f *testing.F) {
	for _, yaml := range []string{
		"event_type: [a, b]\nnot: {user.plan: free}\nuser.email: {ends_with: '@corp.com', ignore_case: true}", "any: [{a: 1}, {b: {gt: 2026-01-01, lte: 5e3}}]", "a: {matches: '^(a|b)+$', not: {exists: no}}",
		"a..b: 5", "/a~1b/0: {in: [1, 2]}", "a: {equals: &x 5}\nb: *x",
	} {
		f.Add(yaml, `{"a":[{"b":1},"2026-01-01"],"user":{"email":"ada@corp.com"}}`)
		f.Add(yaml, `{"a/b":[1.0],"b":"2026-01-02T00:00:00Z"}`)
	}
	f.Fuzz(func(t *testing.T, yaml, object string) {
		s, err := config.NewSettings("f.yaml", "filter", []byte(yaml))
		if err != nil || len(yaml) > 10_000 {
			t.Skip("no settings")
		}
		m, err := CompileMatch(s)
		var ps config.Problems
		if err != nil && (!errors.As(err, &ps) || m != nil) {
			t.Errorf("%s\n%v, %v", yaml, m, err)
		}
		if m == nil {
			return
		}
		ev := &event.Event{ID: "e1", APIKey: "k1", Email: "ada@corp.com", Received: time.Unix(1600000000, 0), JSON: []byte(object)}
		if !json.Valid(ev.JSON) || !utf8.Valid(ev.JSON) || !strings.HasPrefix(object, "{") || strings.ContainsAny(object, "eE") || len(object) > 10_000 {
			_, _ = m.Eval(ev) // ingest lets no such event in, and exponents take big.Rat for ever; no panic all the same
			return
		}
		ev.JSON = event.Normalize(ev.JSON)
		if strings.Contains(yaml, "e") && strings.ContainsAny(yaml, "0123456789") && strings.ContainsAny(yaml, "eE") {
			for _, word := range strings.FieldsFunc(yaml, func(r rune) bool { return strings.ContainsRune(" \n\t,[]{}:'\"", r) }) {
				if d, ok := parseDecimal(word); ok && (d.point > 400 || d.point < -400) {
					t.Skip("big.Rat would take for ever")
				}
			}
		}
		checkNaive(t, yaml, s, m, ev)
	})
}
