package enrich

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"github.com/ua-parser/uap-go/uaparser"
)

func TestParsedUserAgent(t *testing.T) {
	a := newAgents([]string{"Probe"})
	f := func(text, want string) {
		t.Helper()
		if got := a.parse(text).json; got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	f("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
		`{"ua_family":"Chrome","ua_version":"131.0.0","os_family":"Mac OS X","os_version":"10.15.7","device_family":"Mac","device_brand":"Apple","device_model":"Mac"}`)
	f("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
		`{"ua_family":"Chrome Mobile","ua_version":"131.0.0","os_family":"Android","os_version":"14","device_family":"Pixel 8","device_brand":"Google","device_model":"Pixel 8"}`)
	f("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
		`{"ua_family":"Googlebot","ua_version":"2.1","os_family":"Other","device_family":"Spider","device_brand":"Spider","device_model":"Desktop","bot":true}`)
	f("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
		`{"ua_family":"HeadlessChrome","ua_version":"131.0.0","os_family":"Linux","device_family":"Other","bot":true}`)
	f("acme-probe/1", `{"ua_family":"Other","os_family":"Other","device_family":"Other","bot":true}`)
	f("node", `{"ua_family":"Other","os_family":"Other","device_family":"Other"}`)
	f("", ``)
	// A phone by the name of Cubot is a person's.
	if a.parse("Mozilla/5.0 (Linux; Android 10; CUBOT P40 Build/QP1A.190711.020) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0.4430.91 Mobile Safari/537.36").bot {
		t.Error("a Cubot phone is taken for a bot")
	}
	long := strings.Repeat("x", maxAgentBytes) + "bot"
	if a.parse(long).bot {
		t.Error("more of a user agent is looked at than it should")
	}
}

// same holds what is made of a user agent to what the library makes of it.
func same(t *testing.T, a *agents, library *uaparser.Parser, text string) {
	t.Helper()
	want := library.Parse(text)
	got := gjson.Parse(a.read(text).json)
	have := [...]string{
		got.Get("ua_family").Str, got.Get("ua_version").Str, got.Get("os_family").Str, got.Get("os_version").Str,
		got.Get("device_family").Str, got.Get("device_brand").Str, got.Get("device_model").Str,
	}
	wanted := [...]string{
		want.UserAgent.Family, want.UserAgent.ToVersionString(), want.Os.Family, want.Os.ToVersionString(),
		want.Device.Family, want.Device.Brand, want.Device.Model,
	}
	for i := range wanted { // as JSON has them
		wanted[i] = strings.ToValidUTF8(wanted[i], "\uFFFD")
		have[i] = strings.ToValidUTF8(have[i], "\uFFFD")
	}
	if have != wanted {
		t.Errorf("%q\n got %q\nwant %q", text, have, wanted)
	}
}

func newLibrary(t testing.TB) *uaparser.Parser {
	t.Helper()
	library, err := uaparser.New(uaparser.WithCacheSize(1))
	if err != nil {
		t.Fatal(err)
	}
	return library
}

// TestSameAsTheLibrary: leaving out expressions that can not match changes nothing.
func TestSameAsTheLibrary(t *testing.T) {
	a, library := newAgents(nil), newLibrary(t)
	for _, text := range agentMix(60) {
		same(t, a, library, text)
	}
	for _, text := range []string{
		"", "-", "Opera/9.80 (J2ME/MIDP; Opera Mini/9.80 (S60; SymbOS; Opera Mobi/23.348; U; en) Presto/2.5.25 Version/10.54",
		"SonyEricssonK800i/R1KG Browser/NetFront/3.3 Profile/MIDP-2.0", "nokia6310i/1.0", "BlackBerry9700/5.0.0.862", "HTC_Touch_Diamond2_T5353 Opera/9.50",
		"Mozilla/5.0 (PlayStation 4 3.11) AppleWebKit/537.73 (KHTML, like Gecko)", "Roku/DVP-9.10 (519.10E04111A)", "MOT-V3i/08.B4.34R",
		"facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "Java/1.8.0_112", "Mozilla/5.0 (compatible; YandexBot/3.0)",
	} {
		same(t, a, library, text)
	}
}

func FuzzUserAgent(f *testing.F) {
	for _, text := range agentMix(40) {
		f.Add(text)
	}
	f.Add("(?i)^.{0,100}bot \xff Android; Build/ \u212a\u0130")
	a := newAgents(nil)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 100 { // the fuzzer's bookkeeping makes expressions slow
			text = text[:100]
		}
		if got := a.read(text).json; !gjson.Valid(got) {
			t.Fatalf("%q: not JSON: %s", text, got)
		}
	})
}

// FuzzRequired: what an expression is said to require is in every text that it matches.
func FuzzRequired(f *testing.F) {
	for _, expr := range []string{
		"(?i)bot|spider", "(a|bc?)d{2,3}e", "^(x|)y+z$", "(?:ab|ac|a[d-f]g)?h", "[A-z]{1,3}Bot", "(abc|(?:abd|x*))", `; {0,2}(HTC|Build)\b`, "(?i)(k|s)+t",
	} {
		f.Add(expr, "AbC spider xyz abdddeh; HTC Bot KST")
	}
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 60 || len(text) > 200 || strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }) {
			return
		}
		tree, err := syntax.Parse(expr, syntax.Perl)
		if err != nil {
			return
		}
		texts := required(tree)
		if len(texts) > maxNeedles {
			t.Fatalf("%q requires %d texts", expr, len(texts))
		}
		reg, err := regexp.Compile(expr)
		if err != nil || !reg.MatchString(text) || texts == nil {
			return
		}
		var h haystack
		h.fill(text)
		p := pattern{}
		for _, one := range texts {
			if one == "" {
				t.Fatalf("%q requires an empty text among %q", expr, texts)
			}
			p.needles = append(p.needles, newNeedle(one))
		}
		if !h.mayMatch(&p) {
			t.Fatalf("%q matches %q, which holds none of %q", expr, text, texts)
		}
	})
}

// TestFloodOfUserAgents: what is not known any more is still told by its words, and what was known is not forgotten.
func TestFloodOfUserAgents(t *testing.T) {
	a := newAgents(nil)
	now := time.Unix(1_700_000_000, 0)
	took := 10 * time.Millisecond
	a.now = func() time.Time { now = now.Add(took); return now }
	known := "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
	want := a.parse(known)
	for i := 0; a.unparsed == 0; i++ {
		if i == 1000 {
			t.Fatal("the flood is parsed whole")
		}
		a.parse(fmt.Sprintf("curl/%d", i))
		a.parse(known)
	}
	took = 0
	if got := a.parse("somebot/7"); got.json != `{"bot":true}` || !got.bot {
		t.Errorf("a bot in the flood: %+v", got)
	}
	if got := a.parse("curl/x"); got != (agent{}) {
		t.Errorf("another in the flood: %+v", got)
	}
	if a.parse(known) != want {
		t.Error("a known user agent is lost in the flood")
	}
	now = now.Add(10 * time.Second)
	if got := a.parse("curl/x"); got == (agent{}) {
		t.Error("after the flood nothing is parsed")
	}
}

func TestUserAgentsAreBounded(t *testing.T) {
	a := newAgents(nil)
	a.now = func() time.Time { return time.Time{} }
	const inUse = "Mozilla/5.0"
	a.parse(inUse)
	for i := range 2 * maxCached { // as if they had been parsed, which would take its time
		a.known.put(fmt.Sprint(i), agent{})
		if _, ok := a.known.get(inUse); !ok {
			t.Fatalf("what is in use is forgotten after %d others", i)
		}
	}
	for _, text := range []string{"curl/8", "wget/1"} {
		want := a.parse(text)
		if got, ok := a.known.get(text); !ok || got != want {
			t.Errorf("%s: %+v is remembered, want %+v", text, got, want)
		}
	}
	if n := len(a.known.young) + len(a.known.old); n > 2*maxCached {
		t.Errorf("%d are remembered", n)
	}
}

func BenchmarkUserAgentCached(b *testing.B) {
	mix := agentMix(200)
	a := newAgents(nil)
	for _, text := range mix {
		a.parse(text)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a.parse(mix[i%len(mix)])
	}
}

func BenchmarkUserAgentUncached(b *testing.B) {
	mix := agentMix(3000)
	a := newAgents(nil)
	for _, text := range mix { // compiles what the mix needs
		a.read(text)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a.read(mix[i%len(mix)])
	}
}

// BenchmarkUserAgentLibrary is the library itself, on one processor.
func BenchmarkUserAgentLibrary(b *testing.B) {
	mix := agentMix(3000)
	library := newLibrary(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		text := mix[i%len(mix)]
		library.ParseUserAgent(text)
		library.ParseOs(text)
		library.ParseDevice(text)
	}
}

func BenchmarkDefinitions(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := loadPatterns(); err != nil {
			b.Fatal(err)
		}
	}
}
