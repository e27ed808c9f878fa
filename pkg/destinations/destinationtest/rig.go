package destinationtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// rig is one destination in front of a remote that breaks.
type rig struct {
	t      *testing.T
	s      *Suite
	lane   string
	spec   destinations.LaneSpec
	remote *remote
	dest   destinations.Destination
	env    destinations.Env
	log    *buffer
	reg    *prometheus.Registry

	mu     sync.Mutex // guards the fields below
	offset uint64
	told   []string // what people would be shown
}

func newRig(t *testing.T, s *Suite, lane string) *rig {
	t.Helper()
	r := &rig{t: t, s: s, lane: lane, log: &buffer{}, reg: prometheus.NewRegistry()}
	r.remote = &remote{inner: s.Remote(), delivers: s.Delivers, refusal: s.Refusal}
	r.env = destinations.Env{
		Name: "d", Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Transport: r.remote,
		Cache: &cache{}, Shared: &destinations.Shared{}, Metrics: destinations.NewMetrics(r.reg),
	}
	r.dest = r.make(s.Settings)
	for _, spec := range r.dest.Lanes() {
		if spec.Name == lane {
			r.spec = spec
		}
	}
	return r
}

// make makes a destination with the settings.
func (r *rig) make(yaml string) destinations.Destination {
	r.t.Helper()
	d, err := r.s.make(yaml, r.env)
	if err != nil {
		r.t.Fatalf("the settings are refused: %v", err)
	}
	return d
}

func (s *Suite) make(yaml string, env destinations.Env) (destinations.Destination, error) {
	set, err := config.NewSettings("test.yaml", "", []byte(yaml))
	if err != nil {
		return nil, err
	}
	return s.New(set, env)
}

// person is the e-mail of the nth one. None is a part of another.
func person(n int) string { return fmt.Sprintf("person-%04d@example.com", n) }

func people(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = person(i)
	}
	return all
}

// some is how many entries a batch has where several are wanted; 1 in a lane that sends one at a time.
func (r *rig) some() int {
	n := 7
	for _, most := range [...]int{r.spec.MaxEntries, r.spec.MaxKeys} {
		if most > 0 {
			n = min(n, most)
		}
	}
	return n
}

func (r *rig) event(email string) *event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset++
	return &event.Event{
		ID: fmt.Sprintf("event-%d", r.offset), APIKey: "key", Server: true, Received: time.Now().UTC(),
		JSON: []byte(r.s.Events[r.lane](email)),
	}
}

// entries plans an event of each person. What goes to other lanes, which come first, is delivered.
func (r *rig) entries(emails ...string) []destinations.Entry {
	r.t.Helper()
	var batch []destinations.Entry
	for i, email := range emails {
		ev := r.event(email)
		plans, err := r.dest.Plan(ev)
		if err != nil {
			r.t.Fatalf("plan of %s: %v", ev.JSON, err)
		}
		found := false
		for _, p := range plans {
			e := destinations.Entry{Name: destinations.OutputName{Offset: uint64(i), Destination: "d"}, Plan: p, Event: ev, Attempt: 1}
			if p.Lane != r.lane {
				r.deliver(e)
				continue
			}
			found = true
			batch = append(batch, e)
		}
		if !found {
			r.t.Fatalf("no plan for lane %s: %s", r.lane, ev.JSON)
		}
	}
	return batch
}

// warm delivers an event, after which what is loaded at first is there.
func (r *rig) warm() {
	r.t.Helper()
	r.deliver(r.entries("warm@example.com")...)
}

func (r *rig) deliver(batch ...destinations.Entry) {
	r.t.Helper()
	for i, o := range r.send(context.Background(), batch) {
		if o.Err != nil {
			r.t.Fatalf("an event that the remote takes: %s: %v", batch[i].Event.JSON, o.Err)
		}
	}
}

// send makes one Send, waiting as the router does while the lane is blocked until a time. It returns as many outcomes as there are entries.
func (r *rig) send(ctx context.Context, batch []destinations.Entry) []destinations.Outcome {
	r.t.Helper()
	p, err := r.acquire(ctx, batch[0].Plan.Lane)
	if err != nil {
		r.t.Fatalf("no permit: %v", err)
	}
	return r.sendWith(ctx, p, batch)
}

func (r *rig) acquire(ctx context.Context, lane string) (destinations.Permit, error) {
	for {
		p, err := r.dest.Acquire(ctx, "", lane)
		var block *destinations.BlockError
		if errors.As(err, &block) && block.Until.After(time.Now()) {
			r.tell(err.Error())
			time.Sleep(time.Until(block.Until))
			continue
		}
		return p, err
	}
}

func (r *rig) sendWith(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	r.t.Helper()
	before := slices.Clone(batch)
	var json []string
	for _, e := range batch {
		json = append(json, string(e.Event.JSON))
	}
	out := r.dest.Send(ctx, p, batch)
	if len(out) != len(batch) {
		r.t.Fatalf("%d outcomes of %d entries", len(out), len(batch))
	}
	for i, o := range out {
		if batch[i].Event != before[i].Event || batch[i].Name != before[i].Name || string(batch[i].Event.JSON) != json[i] {
			r.t.Errorf("Send changed entry %d", i)
		}
		r.tell(string(o.Detail))
		if o.Err != nil {
			r.tell(o.Err.Error())
		}
	}
	return out
}

func (r *rig) tell(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, text)
}

// mustBeSilent looks for secrets in all that people are shown.
func (r *rig) mustBeSilent() {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		r.told = append(r.told, f.String())
	}
	r.told = append(r.told, r.log.String())
	for _, secret := range r.s.Secrets {
		for _, text := range r.told {
			if strings.Contains(text, secret) {
				r.t.Errorf("the secret %s is shown: %s", secret, text)
			}
		}
	}
}

// Class is the class of an outcome as text: delivered, skipped: reason, rejected, blocked, ambiguous, again after 7s, or again.
func Class(err error) string {
	var reject *destinations.RejectError
	var retry *destinations.RetryError
	var block *destinations.BlockError
	var ambiguous *destinations.AmbiguousError
	reason, skipped := destinations.IsSkip(err)
	switch {
	case err == nil:
		return "delivered"
	case skipped:
		return "skipped: " + reason
	case errors.As(err, &reject):
		return "rejected"
	case errors.As(err, &block):
		return "blocked"
	case errors.As(err, &ambiguous):
		return "ambiguous"
	case errors.As(err, &retry):
		return "again after " + retry.After.String()
	}
	return "again"
}

// mustWait checks that an outcome leaves the entry where it is: neither delivered nor given up.
func (r *rig) mustWait(o destinations.Outcome, what string) {
	r.t.Helper()
	c := Class(o.Err)
	if c != "ambiguous" && c != "blocked" && !strings.HasPrefix(c, "again") {
		r.t.Errorf("%s: an entry is %s (%v); nothing is known of it, so it has to be sent again", what, c, o.Err)
	}
}

// mustHave checks that delivered entries are at the remote.
func (r *rig) mustHave(batch []destinations.Entry, out []destinations.Outcome, emails []string, what string) {
	r.t.Helper()
	for i := range batch {
		if out[i].Err == nil && !r.remote.has(emails[i]) {
			r.t.Errorf("%s: entry %d, of %s, is delivered, and the remote never took it", what, i, emails[i])
		}
	}
}

// cache keeps what it is told.
type cache struct {
	mu     sync.Mutex
	values map[string][]byte
	at     time.Time
}

func (c *cache) Load(key string) ([]byte, time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	return v, c.at, ok
}

func (c *cache) Store(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[string][]byte{}
	}
	c.values[key], c.at = slices.Clone(value), time.Now()
}

// buffer takes a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// refuses fails a test that reaches the remote.
type refuses struct{ t *testing.T }

func (r refuses) RoundTrip(req *http.Request) (*http.Response, error) {
	r.t.Errorf("a call is made: %s", req.Method)
	return nil, errors.New("no calls")
}
