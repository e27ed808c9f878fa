package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
	"eventrouter/pkg/trial"
)

// TestContactsEqualTheModel posts any identifies of a few people, some of them imported, while HubSpot fails in every way it can and the
// router is stopped and started: in the end each contact is as if its events had been applied one by one, in the order of their effective
// times, by the rules of the configuration.
func TestContactsEqualTheModel(t *testing.T) {
	for seed := range trial.Rounds(t, 5) {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newModelRun(t, uint64(seed)).run() })
		})
	}
}

// modelFaults are those that a schedule is drawn from.
var modelFaults = []sandbox.Fault{
	{Status: 500},
	{Status: 502, Apply: true},
	{Status: 503},
	{Status: 504, ApplyLate: 20 * time.Second},
	{Drop: true},
	{Drop: true, Apply: true},
	{Delay: time.Minute, ApplyLate: 50 * time.Second},
	{Delay: 20 * time.Second},
	{Status: 429, Body: `{"policyName":"TEN_SECONDLY_ROLLING"}`},
	{Status: 423},
	{Status: 477, Header: map[string]string{"Retry-After": "30"}},
	{Status: 401},
	{Status: 200, Body: `{"status":"COMPLETE","results":[]}`},
	{Status: 207, Body: `{"results":[],"numErrors":1,"errors":[{"category":"RATE_LIMITS","message":"busy"}]}`},
}

// writeFaults are of the call that writes contacts alone: of others they are answers to be believed, such as that an option may not be made.
// A 400 is nowhere: it is HubSpot's judgement, and its contact a dead letter.
var writeFaults = []sandbox.Fault{
	{Status: 403},
	{Status: 409, Body: `{"category":"CONFLICT","message":"Contact already exists"}`},
}

var modelProperties = []sandbox.Property{
	{Name: "plain", Label: "Plain", Type: "string", FieldType: "text"},
	{Name: "seats", Label: "Seats", Type: "number", FieldType: "number"},
	{Name: "tier", Label: "Tier", Type: "enumeration", FieldType: "select", Options: []sandbox.Option{{Label: "Free", Value: "free"}, {Label: "Pro", Value: "pro"}}},
	{Name: "tags", Label: "Tags", Type: "enumeration", FieldType: "checkbox", Options: []sandbox.Option{
		{Label: "A", Value: "a"}, {Label: "B", Value: "b"}, {Label: "C", Value: "c"}, {Label: "D", Value: "d"},
	}},
}

// modelRun is one run: the whole router in front of a sandbox, and the model.
type modelRun struct {
	t      *testing.T
	rnd    *rand.Rand
	box    *sandbox.Sandbox
	cfg    *config.Config
	clears bool // null clears
	grows  bool // options are made
	srv    *service
	stop   func()

	posted    []modelEvent
	conflicts int // injected
}

// modelEvent is what one identify says, and when it counts.
type modelEvent struct {
	email string
	user  map[string]any
	at    time.Time
}

func newModelRun(t *testing.T, seed uint64) *modelRun {
	m := &modelRun{t: t, rnd: rand.New(rand.NewPCG(seed, 3)), clears: seed%2 == 1, grows: seed%3 == 1}
	m.box = sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, Burst: 190, Lag: 500 * time.Millisecond, Properties: modelProperties})
	null, options := "ignore", "keep"
	if m.clears {
		null = "clear"
	}
	if m.grows {
		options = "create"
	}
	cfg, err := load(write(t, fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, grace: 2s}
api_keys: [{id: shop, server_secret: s2s.shop}]
destinations:
  crm:
    type: hubspot
    hubspot:
      access_token: %s
      hub_id: %s
      properties: {null: %s, options: %s, write: {firstname: if_empty, tags: append}}
`, inMemory(t), demoToken, demoHub, null, options)))
	if err != nil {
		t.Fatal(err)
	}
	m.cfg = cfg
	return m
}

func (m *modelRun) start() {
	m.t.Helper()
	srv, err := newService(m.cfg, slog.New(slog.DiscardHandler), m.box.RoundTripper())
	if err != nil {
		m.t.Fatal(err)
	}
	m.srv, m.stop = srv, srv.start(m.t)
}

func (m *modelRun) run() {
	m.start()
	for n := range 40 {
		for range 1 + m.rnd.IntN(25) {
			m.post(n)
		}
		for range m.rnd.IntN(3) {
			f := modelFaults[m.rnd.IntN(len(modelFaults))]
			f.Times = 1 + m.rnd.IntN(3)
			switch m.rnd.IntN(4) {
			case 0:
				f.Endpoint = "contacts/batch/read"
			case 1:
				f.Endpoint, f.Times = "properties", 1
			case 2:
				f = writeFaults[m.rnd.IntN(len(writeFaults))]
				f.Endpoint, f.Times = "contacts/batch/upsert", 1
				if f.Status == http.StatusConflict {
					if m.conflicts++; m.conflicts > 4 { // five of one contact are HubSpot's judgement
						continue
					}
				}
			}
			m.box.Inject(f)
		}
		time.Sleep(time.Duration(m.rnd.IntN(20_000)) * time.Millisecond)
		if m.rnd.IntN(12) == 0 {
			m.stop()
			time.Sleep(time.Duration(m.rnd.IntN(300)) * time.Second)
			m.start()
		}
	}
	for deadline := time.Now().Add(12 * time.Hour); !m.srv.router.Idle(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			m.t.Fatal("not all is delivered after 12 h")
		}
	}
	time.Sleep(2 * time.Minute) // what is applied late has been
	dead, err := m.srv.store.DeadLetters(m.t.Context(), store.DeadLetterQuery{Limit: 10})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, d := range dead {
		m.t.Errorf("dead letter %s of %s: %s: %s", d.EventID, d.Person, d.Reason, d.Error)
	}
	m.stop()
	m.check()
}

// post appends one identify to the log, as ingest does.
func (m *modelRun) post(n int) {
	m.t.Helper()
	email := fmt.Sprintf("p%d@example.com", m.rnd.IntN(8))
	user := map[string]any{"email": email}
	pick := func(name string, values ...any) {
		if m.rnd.IntN(2) == 0 {
			user[name] = values[m.rnd.IntN(len(values))]
		}
	}
	pick("plain", fmt.Sprint("text", n), fmt.Sprint("other", n), nil, "")
	pick("seats", n, fmt.Sprint(n), "many", "0x10")
	pick("tier", "FREE", "pro", "platinum")
	imported := m.rnd.IntN(5) == 0
	if !imported { // of an import, which name was the first depends on what was delivered before it came
		pick("firstname", fmt.Sprint("name", n), fmt.Sprint("first", n))
	}
	pick("tags", []any{"a"}, []any{"b", "c"}, "d", []any{"A", "new"})
	ev := &event.Event{
		ID: fmt.Sprint("e", len(m.posted)), APIKey: "shop", Received: time.Now().UTC().Add(time.Duration(len(m.posted)) * time.Microsecond), Server: true,
	}
	said := map[string]any{"event_type": "user_identify", "user": user}
	if imported {
		ev.Class = event.Bulk
		said["utc_time"] = ev.Received.Add(-time.Duration(m.rnd.IntN(600_000)) * time.Millisecond).Format(time.RFC3339Nano)
	}
	var err error
	if ev.JSON, err = json.Marshal(said); err != nil {
		m.t.Fatal(err)
	}
	into := m.srv.log
	if imported {
		into = m.srv.bulkLog
	}
	if err := into.Append(ev.AppendTo(nil)); err != nil {
		m.t.Fatal(err)
	}
	m.posted = append(m.posted, modelEvent{email, user, ev.Effective()})
}

// check compares each contact with what its events make one by one.
func (m *modelRun) check() {
	m.t.Helper()
	want := map[string]map[string]string{}
	slices.SortStableFunc(m.posted, func(a, b modelEvent) int { return a.at.Compare(b.at) })
	for _, p := range m.posted {
		c := want[p.email]
		if c == nil {
			c = map[string]string{"email": p.email}
			want[p.email] = c
		}
		m.apply(c, p.user)
	}
	for email, properties := range want {
		got, ok := m.box.Contact(email)
		if !ok {
			m.t.Errorf("HubSpot has no contact %s", email)
			continue
		}
		for _, all := range []map[string]string{properties, got.Properties} {
			if all["tags"] != "" {
				tags := strings.Split(all["tags"], ";")
				slices.Sort(tags)
				all["tags"] = strings.Join(tags, ";")
			}
			for name, value := range all {
				if value == "" {
					delete(all, name)
				}
			}
		}
		if diff := cmp.Diff(properties, got.Properties); diff != "" {
			m.t.Errorf("%s (want -, got +): %s", email, diff)
		}
	}
}

// apply is the model: what one event does to a contact.
func (m *modelRun) apply(c map[string]string, user map[string]any) {
	if v, ok := user["plain"]; ok {
		if text, _ := v.(string); text != "" || m.clears {
			c["plain"] = text
		}
	}
	if v, ok := user["seats"]; ok {
		if _, err := strconv.Atoi(fmt.Sprint(v)); err == nil {
			c["seats"] = fmt.Sprint(v)
		}
	}
	switch v := user["tier"]; {
	case v == "FREE", v == "pro":
		c["tier"] = strings.ToLower(v.(string))
	case v == "platinum" && m.grows:
		c["tier"] = "platinum"
	}
	if v, ok := user["firstname"].(string); ok && c["firstname"] == "" {
		c["firstname"] = v
	}
	var add []any
	switch v := user["tags"].(type) {
	case []any:
		add = v
	case string:
		add = []any{v}
	}
	for _, tag := range add {
		tag := tag.(string)
		switch {
		case tag == "A":
			tag = "a"
		case tag == "new" && !m.grows:
			continue
		}
		if !slices.Contains(strings.Split(c["tags"], ";"), tag) {
			c["tags"] = strings.Trim(c["tags"]+";"+tag, ";")
		}
	}
}
