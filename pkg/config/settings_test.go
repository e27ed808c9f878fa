package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// component is what a destination's package might decode its section into.
type component struct {
	Token    Secret            `yaml:"access_token"`
	Account  Text              `yaml:"account"`
	Name     string            `yaml:"name"`
	Wait     time.Duration     `yaml:"wait"`
	Buffer   Size              `yaml:"buffer"`
	Small    int8              `yaml:"small"`
	Ratio    float64           `yaml:"ratio"`
	On       bool              `yaml:"on"`
	Network  netip.Prefix      `yaml:"network"`
	Limit    *int              `yaml:"limit"`
	Words    []string          `yaml:"words"`
	Names    map[string]string `yaml:"names"`
	Rules    []rule            `yaml:"rules"`
	PerEvent map[string]rule   `yaml:"per_event"`
	Nested   struct {
		Depth int `yaml:"depth"`
	} `yaml:"nested"`
	Later  Settings `yaml:"later"`
	Hidden string
}

type rule struct {
	From string `yaml:"from"`
	To   Text   `yaml:"to"`
}

func mustSettings(t *testing.T, yaml string) Settings {
	t.Helper()
	s, err := NewSettings("f.yaml", "destinations.crm.hubspot", []byte(yaml))
	if err != nil {
		t.Fatalf("%s\n%v", yaml, err)
	}
	return s
}

func TestDecode(t *testing.T) {
	s := mustSettings(t, `
access_token: 0123
account: 020
name: 1e3
wait: 1m30s
buffer: 2KiB
small: -128
ratio: .5
on: off
network: 10.0.0.0/8
limit: 7
words: [a, "b", 1, yes]
names: {a: x, 1: 2}
rules: [{from: a, to: 00}, {from: b}]
per_event: {sign_up: {from: changed}, other: {from: new}}
nested:
  depth: 3
later: {anything: [goes]}
`)
	got := component{On: true, PerEvent: map[string]rule{"sign_up": {From: "old", To: "kept"}, "third": {From: "stays"}}, Words: []string{"replaced"}}
	got.Nested.Depth = 1
	if err := s.Decode(&got); err != nil {
		t.Fatal(err)
	}
	limit := 7
	want := component{
		Token: "0123", Account: "020", Name: "1e3", Wait: 90 * time.Second, Buffer: 2048, Small: -128, Ratio: .5,
		Network: netip.MustParsePrefix("10.0.0.0/8"), Limit: &limit,
		Words: []string{"a", "b", "1", "yes"}, Names: map[string]string{"a": "x", "1": "2"},
		Rules:    []rule{{"a", "00"}, {From: "b"}},
		PerEvent: map[string]rule{"sign_up": {"changed", "kept"}, "other": {From: "new"}, "third": {From: "stays"}},
	}
	want.Nested.Depth = 3
	if diff := cmp.Diff(want, got, sameSettings, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var later struct {
		Anything []string `yaml:"anything"`
	}
	if err := got.Later.Decode(&later); err != nil || got.Later.Path() != "destinations.crm.hubspot.later" || got.Later.Pos().Line != 18 {
		t.Errorf("later: %v, %v", got.Later, err)
	}
}

// What the file does not say, or says nothing for, stays as it was.
func TestDecodeKeepsDefaults(t *testing.T) {
	limit := 1
	for _, yaml := range []string{"", "# only a comment", "null", "{}", "{name: , wait: ~, limit: null, words: , nested: , per_event: , access_token: }"} {
		got := component{Name: "n", Wait: 1, Limit: &limit, Words: []string{"w"}, PerEvent: map[string]rule{"a": {}}, Token: "t"}
		want := got
		if err := mustSettings(t, yaml).Decode(&got); err != nil {
			t.Errorf("%q: %v", yaml, err)
		}
		if diff := cmp.Diff(want, got, sameSettings, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%q (-want +got):\n%s", yaml, diff)
		}
	}
	if err := (Settings{}).Decode(&component{}); err != nil {
		t.Errorf("no section: %v", err)
	}
}

// All problems come at once, by line, and the rest is decoded.
func TestDecodeReportsAll(t *testing.T) {
	s := mustSettings(t, `
wait: 5
acces_token: x
small: 128
access_token: [secret-value]
rules:
  - {form: a}
  - b
  -
per_event: {sign_up: {to: [x]}}
nested: {dept: 1}
network: nowhere
limit: {}
ratio: nan
words: one
names: [x]
name: good
on: 1
buffer: 1TB
completely_different: 1
`)
	var got component
	err := s.Decode(&got)
	want := `f.yaml:2: destinations.crm.hubspot.wait: "5" lacks a unit: write 500ms, 90s, 15m or 72h
f.yaml:3: destinations.crm.hubspot: unknown key "acces_token" (did you mean "access_token"?)
f.yaml:4: destinations.crm.hubspot.small: "128" is too large
f.yaml:5: destinations.crm.hubspot.access_token: must be a single value, not a list
f.yaml:7: destinations.crm.hubspot.rules[0]: unknown key "form" (did you mean "from"?)
f.yaml:8: destinations.crm.hubspot.rules[1]: must hold keys with values (from, to), not "b"
f.yaml:9: destinations.crm.hubspot.rules[2]: is empty
f.yaml:10: destinations.crm.hubspot.per_event.sign_up.to: must be a single value, not a list
f.yaml:11: destinations.crm.hubspot.nested: unknown key "dept" (did you mean "depth"?)
f.yaml:12: destinations.crm.hubspot.network: "nowhere" is not understood: netip.ParsePrefix("nowhere"): no '/'
f.yaml:13: destinations.crm.hubspot.limit: must be a single value, not a map
f.yaml:14: destinations.crm.hubspot.ratio: "nan" is not a number
f.yaml:15: destinations.crm.hubspot.words: must be a list, not "one"
f.yaml:16: destinations.crm.hubspot.names: must be a map, not a list
f.yaml:18: destinations.crm.hubspot.on: "1" is neither true nor false
f.yaml:19: destinations.crm.hubspot.buffer: "1TB" is not a number of bytes: write 1048576, 512KB, 64MiB or 1GiB
f.yaml:20: destinations.crm.hubspot: unknown key "completely_different" (known are access_token, account, name, wait, buffer, small, ratio, on, network, limit, words, names, rules, per_event, nested, later)`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var ps Problems
	if !errors.As(err, &ps) {
		t.Errorf("%T is no Problems", err)
	}
	if got.Name != "good" {
		t.Errorf("what was good is lost: %+v", got)
	}
}

func TestSettingsPositions(t *testing.T) {
	s := mustSettings(t, "a: 1\nevents:\n  hold: 1h\n  list: [{x: 1}, {y: 2}]\nempty:\n")
	f := func(key string, wantHas bool, wantLine int) {
		t.Helper()
		if got := s.Has(key); got != wantHas {
			t.Errorf("Has(%q) = %v", key, got)
		}
		if got := s.KeyPos(key); got != (Pos{"f.yaml", wantLine}) {
			t.Errorf("KeyPos(%q) = %v, want line %d", key, got, wantLine)
		}
	}
	f("a", true, 1)
	f("events", true, 2)
	f("events.hold", true, 3)
	f("events.list.*.y", true, 4)
	f("events.*.*.y", true, 2)
	f("empty", true, 5)
	f("empty.b", false, 5)
	f("events.none", false, 2)
	f("events.list.*.z", false, 4)
	f("none", false, 1)

	got := s.Problem("events.hold", "must be at most %d h", 5)
	if want := (Problem{Pos{"f.yaml", 3}, "destinations.crm.hubspot.events.hold", "must be at most 5 h"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if want := "f.yaml:1: destinations.crm.hubspot: is wrong"; s.Problem("", "is wrong").String() != want {
		t.Errorf("got %s, want %s", s.Problem("", "is wrong"), want)
	}
	if (Settings{}).Exists() || (Settings{}).Has("a") || !s.Exists() {
		t.Error("Exists or Has is wrong")
	}
}

func TestNewSettingsReportsVariables(t *testing.T) {
	_, err := NewSettings("f.yaml", "p", []byte("a:\n  - b: ${env.CONFIG_TEST_UNSET}"))
	if want := "f.yaml:2: p.a[0].b: environment variable CONFIG_TEST_UNSET is empty or not set"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// What a variable held is not shown, also where an error of another package would quote it.
func TestDecodeDoesNotQuoteVariables(t *testing.T) {
	t.Setenv("CONFIG_TEST_NETWORK", "from-process")
	err := mustSettings(t, "network: ${env.CONFIG_TEST_NETWORK}\nsmall: x${env.CONFIG_TEST_NETWORK}").Decode(&component{})
	want := `f.yaml:1: destinations.crm.hubspot.network: "${env.CONFIG_TEST_NETWORK}" is not understood
f.yaml:2: destinations.crm.hubspot.small: "x${env.CONFIG_TEST_NETWORK}" is not a whole number`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestKeys(t *testing.T) {
	want := []string{
		"access_token", "account", "name", "wait", "buffer", "small", "ratio", "on", "network", "limit", "words", "names",
		"rules", "rules.*.from", "rules.*.to", "per_event", "per_event.*.from", "per_event.*.to", "nested", "nested.depth", "later",
	}
	if diff := cmp.Diff(want, Keys(&component{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSize(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	f("0", 0)
	f("51200", 51200)
	f("1_000", 1000)
	f("-5", -5)
	f("7B", 7)
	f("1KB", 1000)
	f("1 kb", 1000)
	f("1MB", 1e6)
	f("1GB", 1e9)
	f("1KiB", 1024)
	f("10 MiB", 10<<20)
	f("4gib", 4<<30)
	f("9223372036854775807", math.MaxInt64)
	f("8589934591GiB", 8589934591<<30)

	bad := func(text string) {
		t.Helper()
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
	bad("")
	bad("MB")
	bad("1M")
	bad("1.5MB")
	bad("1iB")
	bad("MB1")
	bad("1TB")
	bad("9223372036854775808")
	bad("8589934592GiB")
	bad("-8589934593GiB")
}

func TestNearest(t *testing.T) {
	known := []string{"access_token", "hub_id", "events", "on"}
	f := func(word, want string) {
		t.Helper()
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	f("acces_token", "access_token")
	f("acess_tokne", "access_token") // a letter lost, two swapped
	f("AccessToken", "access_token")
	f("hubid", "hub_id")
	f("hub-id", "hub_id")
	f("event", "events")
	f("no", "on")
	f("x", "")
	f("", "")
	f("base_url", "")
	f(strings.Repeat("access_token", 1000), "")
}

func TestSettingsShapes(t *testing.T) {
	t.Setenv("WORD", "from-env")
	s := mustSettings(t, "b: 1\na: [x, null, '']\nc:\n  d: ${env.WORD}\ne:\n")
	var got []string
	var walk func(key string, s Settings)
	walk = func(key string, s Settings) {
		got = append(got, fmt.Sprintf("%s %s %d %d %q %t", key, s.Path(), s.Pos().Line, s.Shape(), s.Text(), s.FromVariable()))
		for _, m := range s.Members() {
			walk(m.Key, m.Value)
		}
		for _, item := range s.Items() {
			walk("-", item)
		}
	}
	walk("", s)
	walk("none", Settings{})
	const at = "destinations.crm.hubspot"
	want := []string{
		` ` + at + ` 1 2 "" false`,
		`b ` + at + `.b 1 1 "1" false`,
		`a ` + at + `.a 2 3 "" false`, `- ` + at + `.a[0] 2 1 "x" false`, `- ` + at + `.a[1] 2 0 "" false`, `- ` + at + `.a[2] 2 1 "" false`,
		`c ` + at + `.c 3 2 "" false`, `d ` + at + `.c.d 4 1 "from-env" true`,
		`e ` + at + `.e 5 0 "" false`,
		`none  0 0 "" false`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
