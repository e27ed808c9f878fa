package docs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// The example of adding-a-destination.md, whole.

// settings are what stands under `collector:` or `config:` of a destination of this type.
type settings struct {
	URL   string        `yaml:"url"`
	Token config.Secret `yaml:"token"`
}

// collector posts events to an HTTP API, up to 100 at a time.
type collector struct {
	url    string
	token  config.Secret
	client http.Client
}

// newCollector has the type of destinations.Factory. It checks the settings and makes no call: a remote that is down must not stop the router
// from starting.
func newCollector(s config.Settings, env destinations.Env) (destinations.Destination, error) {
	var set settings
	var problems config.Problems
	if err := s.Decode(&set); err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if !strings.HasPrefix(set.URL, "https://") && !strings.HasPrefix(set.URL, "http://") {
		problems = append(problems, s.Problem("url", "is required: where events are posted to"))
	}
	if set.Token == "" {
		problems = append(problems, s.Problem("token", "is required"))
	}
	if err := problems.Sorted().Err(); err != nil {
		return nil, err
	}
	d := &collector{url: set.URL, token: set.Token}
	d.client.Transport = env.Transport
	d.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // it would be sent the token
	return d, nil
}

// Plan orders the events of one person and skips those of nobody.
func (d *collector) Plan(ev *event.Event) ([]destinations.Plan, error) {
	key := strings.Clone(strings.ToLower(ev.UserEmail())) // else it may keep the event's bytes
	if key == "" {
		return nil, destinations.Skip("no identity")
	}
	return []destinations.Plan{{Lane: "events", Key: key, ID: key}}, nil
}

func (d *collector) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{Name: "events", MaxEntries: 100, MaxBytes: 1 << 20, InFlight: 2}}
}

// Hub names where the entries belong. Another URL is another place: entries that wait for this one never go there.
func (d *collector) Hub(string) string { return d.url }

// Acquire would wait for quota.
func (d *collector) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	return permit{}, ctx.Err()
}

type permit struct{}

func (permit) Release() {}

// Send delivers the batch.
func (d *collector) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	defer p.Release()
	outcomes := make([]destinations.Outcome, len(batch))
	if len(batch) > 0 {
		d.deliver(ctx, batch, outcomes)
	}
	return outcomes
}

// deliver notes the outcome of each entry. What is refused because of one of them is halved until that is found. It returns why no more is to be sent: what
// comes later must not pass what waits.
func (d *collector) deliver(ctx context.Context, batch []destinations.Entry, outcomes []destinations.Outcome) (stop error) {
	err := d.post(ctx, batch)
	_, refused := errors.AsType[*destinations.RejectError](err)
	if refused && len(batch) > 1 {
		half := len(batch) / 2
		if err = d.deliver(ctx, batch[:half], outcomes[:half]); err == nil {
			return d.deliver(ctx, batch[half:], outcomes[half:])
		}
		outcomes = outcomes[half:] // were not sent
	}
	for i := range outcomes {
		outcomes[i].Err = err
	}
	if refused && len(batch) == 1 {
		return nil
	}
	return err
}

// post makes one call. Its error is the outcome of all entries, or of one among them.
func (d *collector) post(ctx context.Context, batch []destinations.Entry) error {
	var body []byte
	for _, e := range batch {
		body = fmt.Appendf(body, ",{%q:%q,%q:%s}", "id", destinations.EventUUID(e.Event, e.Name.Index), "event", e.Event.JSON)
	}
	body[0] = '['
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, strings.NewReader(string(body)+"]"))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(d.token))
	res, err := d.client.Do(req)
	if err == nil {
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)) // half an answer is none
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return errors.New("no whole answer") // err may quote the request
	}
	return verdict(res)
}

// verdict is what an answer means.
func verdict(res *http.Response) error {
	err := fmt.Errorf("the collector answered %d", res.StatusCode)
	switch {
	case res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return destinations.RetryAfter(err, time.Duration(seconds)*time.Second)
	case res.StatusCode >= 500:
		return err
	case res.StatusCode < 400, res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return destinations.Block(err, destinations.LaneScope, time.Time{}) // check url and token
	}
	return destinations.Reject(err)
}

// Test implements destinations.Tester.
func (d *collector) Test(ctx context.Context) []destinations.Finding {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err == nil {
		req.Header.Set("Authorization", "Bearer "+string(d.token))
		var res *http.Response
		if res, err = d.client.Do(req); err == nil {
			res.Body.Close()
			err = verdict(res)
		}
	}
	if err != nil {
		return []destinations.Finding{{Check: "token", Level: destinations.FindingError, Text: "the collector does not let us in", Fix: "check url and token"}}
	}
	return []destinations.Finding{{Check: "token", Level: destinations.FindingOK, Text: "the collector takes the token"}}
}

// Three events go through a router to a collector. One is of nobody.
func Example_destination() {
	dir, err := os.MkdirTemp("", "router-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	var mu sync.Mutex
	var got []string
	remote := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var all []struct{ Event json.RawMessage }
		if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
			got = append(got, err.Error())
		}
		for _, e := range all {
			got = append(got, string(e.Event))
		}
	}))
	defer remote.Close()
	if err := deliver(
		dir, remote.URL,
		`{"event_type":"user_identify","user":{"id":"u1","email":"Ada@example.com"}}`,
		`{"event_type":"pageview"}`,
		`{"event_type":"signup","user":{"id":"u1"}}`, // known by its id
	); err != nil {
		fmt.Println(err)
		return
	}
	mu.Lock()
	defer mu.Unlock()
	fmt.Println(strings.Join(got, "\n"))
	// Output:
	// {"event_type":"user_identify","user":{"id":"u1","email":"Ada@example.com"}}
	// {"event_type":"signup","user":{"id":"u1"}}
}

// deliver runs a router until the events have gone through it. It does what cmd/router does for each destination of the configuration.
func deliver(dir, url string, events ...string) error {
	s, err := config.NewSettings("router.yaml", "destinations.events.collector", fmt.Appendf(nil, "url: %q\ntoken: example-token\n", url))
	if err != nil {
		return err
	}
	destination, err := newCollector(s, destinations.Env{Name: "events"})
	if err != nil {
		return err
	}
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	lg, err := log.Open(filepath.Join(dir, "log"), log.Options{Position: log.Offset(st.Position())})
	if err != nil {
		return err
	}
	defer lg.Close()
	defaults := config.DefaultDestination("events")
	r, err := router.New(router.Options{
		Log: lg, Store: st, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), Grace: time.Second,
		Routes: []router.Route{{Name: "events", Type: "collector", Destination: destination, Lanes: defaults.Lanes, Retry: defaults.Retry}},
	})
	if err != nil {
		return err
	}
	for i, json := range events {
		ev := event.Event{ID: fmt.Sprint(i), APIKey: "web", Received: time.Now().UTC(), Server: true, JSON: []byte(json)}
		if err := lg.Append(ev.AppendTo(nil)); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for !r.Idle() {
		time.Sleep(time.Millisecond) // there is nothing to wait on: Idle is a snapshot
	}
	stop()
	return <-done
}
