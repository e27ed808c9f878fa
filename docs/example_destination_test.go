package docs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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

// settings are what stands under `jsonlines:` or `config:` of a destination of this type.
type settings struct {
	File string `yaml:"file"`
}

// jsonLines appends events to a file, one JSON object a line.
type jsonLines struct {
	file string

	mu sync.Mutex // one Send writes at a time
}

// newJSONLines has the type of destinations.Factory. It checks the settings and touches no file: a disk that is missing must not stop
// the router from starting.
func newJSONLines(s config.Settings, _ destinations.Env) (destinations.Destination, error) {
	var set settings
	var problems config.Problems
	if err := s.Decode(&set); err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if set.File == "" {
		problems = append(problems, s.Problem("file", "is required: the file to append to"))
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return &jsonLines{file: set.File}, nil
}

// Plan orders the events of one person and skips those of nobody.
func (d *jsonLines) Plan(ev *event.Event) ([]destinations.Plan, error) {
	key := strings.ToLower(ev.UserEmail())
	if key == "" {
		return nil, destinations.Skip("no identity")
	}
	return []destinations.Plan{{Lane: "lines", Key: key, ID: key}}, nil
}

func (d *jsonLines) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{Name: "lines", MaxEntries: 1000, MaxBytes: 8 << 20, InFlight: 2}}
}

// Hub names where the entries belong. Another file is another place: entries that wait for this one never go there.
func (d *jsonLines) Hub(string) string { return d.file }

// Acquire would wait for quota.
func (d *jsonLines) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	return permit{}, ctx.Err()
}

type permit struct{}

func (permit) Release() {}

// Send writes all lines and syncs them. A disk that is full concerns all entries alike and none of them in particular: the lane is
// blocked, and no attempt is charged. An entry that could never be written would be a Reject.
func (d *jsonLines) Send(_ context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	defer p.Release()
	outcomes := make([]destinations.Outcome, len(batch))
	if err := d.write(batch); err != nil {
		for i := range outcomes {
			outcomes[i].Err = destinations.Block(err, destinations.LaneScope, time.Time{})
		}
	}
	return outcomes
}

// Test implements destinations.Tester.
func (d *jsonLines) Test(context.Context) []destinations.Finding {
	if _, err := os.Stat(filepath.Dir(d.file)); err != nil {
		return []destinations.Finding{{
			Check: "directory", Level: destinations.FindingError, Text: err.Error(), Fix: "make the directory, or name another file",
		}}
	}
	return []destinations.Finding{{Check: "directory", Level: destinations.FindingOK, Text: "the directory is there"}}
}

func (d *jsonLines) write(batch []destinations.Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := os.OpenFile(d.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var lines []byte
	for _, e := range batch {
		lines = append(append(lines, e.Event.JSON...), '\n')
	}
	_, err = f.Write(lines)
	return errors.Join(err, f.Sync(), f.Close())
}

// Three events go through a router into a file. One is of nobody.
func Example_destination() {
	dir, err := os.MkdirTemp("", "router-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "events.jsonl")
	if err := deliver(
		dir, file,
		`{"event_type":"user_identify","user":{"id":"u1","email":"Ada@example.com"}}`,
		`{"event_type":"pageview"}`,
		`{"event_type":"signup","user":{"id":"u1"}}`, // known by its id
	); err != nil {
		fmt.Println(err)
		return
	}
	written, err := os.ReadFile(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(written))
	// Output:
	// {"event_type":"user_identify","user":{"id":"u1","email":"Ada@example.com"}}
	// {"event_type":"signup","user":{"id":"u1"}}
}

// deliver runs a router until the events have gone through it. It does what cmd/router does for each destination of the configuration.
func deliver(dir, file string, events ...string) error {
	s, err := config.NewSettings("router.yaml", "destinations.lines.jsonlines", fmt.Appendf(nil, "file: %q", file))
	if err != nil {
		return err
	}
	destination, err := newJSONLines(s, destinations.Env{Name: "lines"})
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
	defaults := config.DefaultDestination("lines")
	r, err := router.New(router.Options{
		Log: lg, Store: st, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), Grace: time.Second,
		Routes: []router.Route{{Name: "lines", Type: "jsonlines", Destination: destination, Lanes: defaults.Lanes, Retry: defaults.Retry}},
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
