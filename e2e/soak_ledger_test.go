package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
)

// ledger is what the clients were answered, and what HubSpot was told.
type ledger struct {
	posted, marks atomic.Int64 // events; custom events, which carry their number
	people        []soakPerson // each belongs to one client

	filtered, skipped, duplicates, dead atomic.Int64 // that were acknowledged and must become that

	mu        sync.Mutex // guards the field below
	delivered []uint8    // how often HubSpot took the custom event of a number
}

// soakPerson is what a contact must be like: the values of the last identify that was acknowledged.
type soakPerson struct{ identifies int }

func newLedger(people int) *ledger { return &ledger{people: make([]soakPerson, people)} }

// accepted is told each custom event that HubSpot takes.
func (l *ledger) accepted(_ string, properties gjson.Result) {
	n := int(properties.Get("mark").Int())
	l.mu.Lock()
	defer l.mu.Unlock()
	if n >= len(l.delivered) {
		l.delivered = append(l.delivered, make([]uint8, n+1-len(l.delivered))...)
	}
	if l.delivered[n] < 255 {
		l.delivered[n]++
	}
}

func emailOf(person int) string { return fmt.Sprintf("person.%d@example.com", person) }

// values are the properties that the nth identify of a person writes.
func (l *ledger) values(n int) (plan string) { return []string{"free", "pro", "enterprise"}[n%3] }

// verdict is what the check at the end has found.
type verdict struct {
	acknowledged, custom, identifies, contacts  int64
	filtered, skipped, duplicates, dead         int64
	lost, doubled, wrongContacts, otherMistakes int
}

// check compares what HubSpot holds with what was acknowledged: acknowledged = delivered ∪ skipped ∪ dead, custom events once, contacts as by their last identify.
func (l *ledger) check(t *testing.T, s *soak) (v verdict) {
	t.Helper()
	v.acknowledged, v.custom = l.posted.Load(), l.marks.Load()
	l.mu.Lock()
	for n := 1; n <= int(v.custom); n++ {
		times := uint8(0)
		if n < len(l.delivered) {
			times = l.delivered[n]
		}
		switch {
		case times == 0:
			if v.lost++; v.lost <= 5 {
				t.Errorf("custom event %d was acknowledged and is not in HubSpot", n)
			}
		case times > 1:
			if v.doubled++; v.doubled <= 5 {
				t.Errorf("custom event %d is in HubSpot %d times", n, times)
			}
		}
	}
	if len(l.delivered) > int(v.custom)+1 || len(l.delivered) > 0 && l.delivered[0] > 0 {
		v.otherMistakes++
		t.Error("HubSpot holds custom events that nobody posted")
	}
	l.mu.Unlock()
	for i := range l.people {
		p := &l.people[i]
		if p.identifies == 0 {
			continue
		}
		v.contacts++
		v.identifies += int64(p.identifies)
		c, ok := s.hub.Contact(emailOf(i))
		if ok && c.Properties["seq"] == strconv.Itoa(p.identifies) && c.Properties["plan"] == l.values(p.identifies) && c.Properties["firstname"] == "Ada" {
			continue
		}
		if v.wrongContacts++; v.wrongContacts <= 5 {
			t.Errorf("contact %s has seq %s and plan %s, want %d and %s", emailOf(i), c.Properties["seq"], c.Properties["plan"], p.identifies, l.values(p.identifies))
		}
	}
	_, page := s.router.get("/metrics")
	count := func(what, metric string, want *atomic.Int64) int64 {
		t.Helper()
		got := int64(gauge(page, metric))
		if got != want.Load() {
			v.otherMistakes++
			t.Errorf("%s: %d events are %s, want %d", metric, got, what, want.Load())
		}
		return got
	}
	v.filtered = count("filtered", "router_filtered_total", &l.filtered)
	v.skipped = count("skipped", "router_skipped_total", &l.skipped)
	v.duplicates = count("dropped as duplicates", "router_duplicates_total", &l.duplicates)
	v.dead = count("dead letters", "router_dead_letters_total", &l.dead)
	letters := s.letters()
	for n := range v.dead {
		if letters[fmt.Sprintf("nobody-%d", n+1)] != 1 {
			v.otherMistakes++
			t.Errorf("the dead letters hold nobody-%d %d times, want once", n+1, letters[fmt.Sprintf("nobody-%d", n+1)])
		}
	}
	return v
}

// request is one POST and what it becomes when it is acknowledged.
type request struct {
	path         string
	body         []byte
	events       int
	acknowledged func()
}

// soakClient is an SDK of several people: it sends one request after the other, again until it is acknowledged.
type soakClient struct {
	soak  *soak
	n     int
	rnd   *rand.Rand
	http  *http.Client
	body  []byte
	again *request // to be posted once more, as if its answer had been lost
}

// Events as Jitsu's SDK 3.1.5 sends them, by place: what differs from one to the next.
var soakBrowser, soakServer = sync.OnceValue(func() template { return soakTemplate("browser") }), sync.OnceValue(func() template { return soakTemplate("server") })

// template is an event's text, in pieces: between them are the values that differ.
type template []string

const (
	placeUser, placeTime = "~user~", "~time~"
	browserPath          = "/api/v1/event?token=" + clientSecret
	serverPath           = "/api/v1/s2s/event?token=" + serverSecret
)

func soakTemplate(name string) template {
	text, err := os.ReadFile("../cmd/router/demo/" + name + ".json")
	if err != nil {
		panic(err)
	}
	for _, edit := range [][2]string{{"user", placeUser}, {"utc_time", placeTime}} {
		if text, err = sjson.SetBytes(text, edit[0], edit[1]); err != nil {
			panic(err)
		}
	}
	text, err = sjson.DeleteBytes(text, "event_type")
	if err != nil {
		panic(err)
	}
	before, rest, _ := strings.Cut(strings.TrimSpace(string(text)), `"`+placeUser+`"`)
	middle, after, _ := strings.Cut(rest, placeTime)
	return template{before, middle, strings.TrimSuffix(after, "}")}
}

// append appends an event of a user at this time, with further members.
func (t template) append(b []byte, user, members string) []byte {
	b = append(append(append(b, t[0]...), user...), t[1]...)
	b = time.Now().UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	return append(append(append(append(b, t[2]...), ','), members...), '}')
}

// next makes a client's next request: mostly visits and purchases of a person who is known, and what a router leaves out.
func (c *soakClient) next() request {
	l := c.soak.ledger
	if again := c.again; again != nil {
		c.again = nil
		n := int64(again.events)
		return request{again.path, again.body, again.events, func() { l.duplicates.Add(n) }}
	}
	person := c.n + c.soak.plan.clients*c.rnd.IntN((len(l.people)-c.n-1)/c.soak.plan.clients+1)
	p := &l.people[person]
	user := fmt.Sprintf(`{"anonymous_id":"anon%d","id":"u%d","email":%q`, person, person, emailOf(person))
	identify := func() string {
		n := p.identifies + 1
		return fmt.Sprintf(`%s,"firstname":"Ada","lastname":"Lovelace %d","plan":%q,"seq":%d}`, user, person, l.values(n), n)
	}
	mark := func() string { return fmt.Sprintf(`"mark":%d,"plan":"pro"`, l.marks.Add(1)) }
	b := c.body[:0]
	dice := c.rnd.IntN(1000)
	switch {
	case p.identifies == 0 || dice < 300: // a visit: the page's queue in one request
		b = soakBrowser().append(append(b, '['), identify(), `"event_type":"user_identify"`)
		b = soakBrowser().append(append(b, ','), user+"}", `"event_type":"signup",`+mark())
		b = soakBrowser().append(append(b, ','), user+"}", `"event_type":"pageview","doc_title":"Pricing",`+mark())
		return request{browserPath, append(b, ']'), 3, func() { p.identifies++ }}
	case dice < 600: // the shop's server knows the id alone
		b = soakServer().append(b, fmt.Sprintf(`{"id":"u%d"}`, person), `"event_type":"purchase","revenue":12.5,"product":"Widget",`+mark())
		return request{serverPath, b, 1, func() {}}
	case dice < 800:
		b = soakServer().append(b, identify(), `"event_type":"user_identify"`)
		return request{serverPath, b, 1, func() { p.identifies++ }}
	case dice < 960: // see the template of configure
		b = soakServer().append(b, user+"}", `"event_type":"visit","page_title":"Home"`)
		return request{serverPath, b, 1, func() { l.filtered.Add(1) }}
	case dice < 999: // nobody knows who that is
		b = soakBrowser().append(append(b, '['), fmt.Sprintf(`{"anonymous_id":"stranger%d.%d"}`, c.n, c.rnd.Int64()), `"event_type":"pageview"`)
		return request{browserPath, append(b, ']'), 1, func() { l.skipped.Add(1) }}
	default:
		b = fmt.Appendf(b, `{"event_id":"nobody-%d","event_type":"user_identify","user":{"email":"nobody"}}`, l.dead.Add(1))
		return request{serverPath, b, 1, func() {}}
	}
}

// post sends a request until it is acknowledged.
func (c *soakClient) post(r request) {
	c.body = r.body
	for ctx := c.soak.t.Context(); ctx.Err() == nil; {
		began := time.Now()
		status, answer, err := c.try(r)
		took := time.Since(began)
		if err == nil && status == http.StatusOK {
			c.soak.mu.Lock()
			c.soak.latencies = append(c.soak.latencies, took)
			c.soak.mu.Unlock()
			c.soak.ledger.posted.Add(int64(r.events))
			r.acknowledged()
			if c.rnd.IntN(200) == 0 {
				c.again = &request{r.path, bytes.Clone(r.body), r.events, nil}
			}
			return
		}
		if err == nil && status != http.StatusServiceUnavailable {
			c.soak.t.Errorf("answer %d %s", status, answer)
			return
		}
		time.Sleep(50 * time.Millisecond) // a client that has no answer
	}
}

func (c *soakClient) try(r request) (int, []byte, error) {
	res, err := c.http.Post(c.soak.router.url+r.path, "application/json", bytes.NewReader(r.body))
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// quantiles sorts what it is given.
func quantiles(d []time.Duration) (median, p99 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[len(d)*99/100]
}
