package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

const (
	producers = 6
	persons   = 5 // of each producer
	kills     = 8
)

// TestKill kills the router with SIGKILL at random moments while applications post and HubSpot misbehaves. Everything that was acknowledged must be
// in HubSpot in the end: each contact with its last value, each event once.
func TestKill(t *testing.T) {
	h := newHub(t, sandbox.Options{})
	dir := t.TempDir()
	config := configure(t, dir, h.url)
	p := start(t, config)
	var url atomic.Pointer[string]
	url.Store(&p.url)

	// Calls that get no answer and are applied late, or not at all.
	h.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Times: 5, Drop: true, ApplyLate: time.Second})
	h.Inject(sandbox.Fault{Endpoint: "events/send/batch", Times: 5, Status: 503})

	stop := make(chan struct{})
	var wg sync.WaitGroup
	last := make([]map[string]int, producers)
	sent := make([][]string, producers)
	for n := range producers {
		last[n] = map[string]int{}
		wg.Go(func() {
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for seq := 1; ; seq++ {
				select {
				case <-stop:
					return
				default:
				}
				email := fmt.Sprintf("p%d.%d@example.com", n, rand.IntN(persons))
				id := fmt.Sprintf("%d-%d", n, seq)
				body := fmt.Sprintf(`{"event_id":"%s","event_type":"user_identify","user":{"email":"%s","seq":%d}}`, id, email, seq)
				if seq%3 == 0 {
					body = fmt.Sprintf(`{"event_id":"%s","event_type":"step","user":{"email":"%s"},"mark":"%s"}`, id, email, id)
				}
				// A client posts again, with the same id, until it has its 200.
				for {
					status, answer, err := post(client, *url.Load(), body)
					if err == nil && status == http.StatusOK {
						break
					}
					if err == nil && status != http.StatusServiceUnavailable {
						t.Errorf("answer %d %s", status, answer)
						return
					}
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
				if seq%3 == 0 {
					sent[n] = append(sent[n], id)
				} else {
					last[n][email] = seq
				}
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(100+rand.IntN(700)) * time.Millisecond) // a random moment
		p.kill()
		p = start(t, config)
		url.Store(&p.url)
	}
	close(stop)
	wg.Wait()
	p.drain(90 * time.Second)

	marks := map[string]int{}
	for _, e := range events(h, "step") {
		marks[e.Properties["mark"]]++
	}
	acknowledged := 0
	for n := range producers {
		for email, seq := range last[n] {
			acknowledged++
			c, ok := h.Contact(email)
			if !ok {
				t.Errorf("contact %s is missing", email)
				continue
			}
			// A write that was posted and not yet acknowledged when the test ended may be there as well; an older one may not.
			if got, _ := strconv.Atoi(c.Properties["seq"]); got < seq {
				t.Errorf("contact %s has %d, acknowledged was %d; history %v", email, got, seq, c.History["seq"])
			}
		}
		for _, id := range sent[n] {
			acknowledged++
			if marks[id] != 1 {
				t.Errorf("event %s is in HubSpot %d times", id, marks[id])
			}
		}
	}
	t.Logf("%d kills, %d events acknowledged and checked", kills, acknowledged)
	if out := run(t, ".", binary, "deadletters", "list", "--config", config); !strings.Contains(out, "no dead letters") {
		t.Errorf("dead letters:\n%s", out)
	}
	searchSecrets(t, dir, config)
}

// searchSecrets looks for secrets in every file that the router wrote.
func searchSecrets(t *testing.T, dir, config string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == config {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range []string{accessToken, clientSecret, serverSecret} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s holds a secret", d.Name())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStop: SIGTERM loses nothing and ends within the grace time.
func TestStop(t *testing.T) {
	h := newHub(t, sandbox.Options{})
	config := configure(t, t.TempDir(), h.url)
	p := start(t, config)
	h.Inject(sandbox.Fault{Endpoint: "contacts", Times: 1, Delay: 500 * time.Millisecond})
	var acked atomic.Int64
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		client := &http.Client{Timeout: 5 * time.Second}
		for i := 0; ; i++ {
			status, _, err := post(client, p.url, fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"s%d@example.com","seq":%d}}`, i, i))
			if err != nil || status != http.StatusOK {
				return
			}
			acked.Add(1)
		}
	}()
	for acked.Load() < 200 {
		time.Sleep(time.Millisecond)
	}
	if err := p.terminate(); err != nil {
		t.Errorf("the router ended with %v", err)
	}
	<-stopped
	p = start(t, config)
	p.drain(30 * time.Second)
	if got := int64(h.ContactCount()); got < acked.Load() {
		t.Errorf("%d contacts, %d were acknowledged", got, acked.Load())
	}
}
