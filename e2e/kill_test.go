package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	t.Parallel()
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

// TestSecrets: none stands in anything that people read: answers, log, metrics, readiness, dead letters, files.
func TestSecrets(t *testing.T) {
	t.Parallel()
	h := newHub(t, sandbox.Options{})
	dir := t.TempDir()
	config := configure(t, dir, h.url)
	p := start(t, config)
	secrets := []string{accessToken, clientSecret, serverSecret, "adm-planted", "guess-planted", base64.StdEncoding.EncodeToString([]byte("guess-planted:"))}
	var seen strings.Builder
	// In one write, as the router answers a head that is too long, and closes, without having read all of it.
	client := &http.Client{Transport: &http.Transport{WriteBufferSize: 64 << 10}}
	defer client.CloseIdleConnections()
	f := func(status int, path, body string, headers ...string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("POST %s: %s, want %d", path, res.Status, status)
		}
		if err := res.Write(&seen); err != nil {
			t.Fatal(err)
		}
	}
	const event = `{"event_type":"user_identify","user":{"email":"a@example.com"}}`
	f(401, "/api/v1/event?token=guess-planted", event)
	f(401, "/api/v1/s2s/event", event, "X-Auth-Token", clientSecret)
	f(401, "/api/v1/event?p_guess-planted="+serverSecret, event)
	f(401, "/api/v1/s2s/event", event, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("guess-planted:")))
	f(400, "/api/v1/event?token="+clientSecret, `{"api_key":"`+clientSecret+`",}`)
	f(400, "/api/v1/event?token="+clientSecret, `"`+clientSecret+`"`)
	f(431, "/api/v1/event?token="+clientSecret, event, "X-Auth-Token", strings.Repeat(serverSecret, 2000))
	f(404, "/no/such/page?token="+serverSecret, "")
	f(200, "/api/v1/event?token="+clientSecret, `{"api_key":"`+clientSecret+`","eventn_ctx":{"api_key":"`+clientSecret+`"},`+event[1:])
	f(200, "/api/v1/event?token="+clientSecret, `{"api_key":"`+clientSecret+`","event_type":"user_identify","user":{"email":"nobody"}}`)
	p.drain(30 * time.Second)

	// HubSpot refuses the token from now on, and says so.
	h.Inject(sandbox.Fault{Endpoint: "contacts", Times: 100, Status: 401})
	f(200, "/api/v1/s2s/event?token="+serverSecret, event)
	deadline := time.Now().Add(20 * time.Second)
	ready := ""
	for !strings.Contains(ready, `"blocked"`) {
		if _, ready = p.get("/readyz"); time.Now().After(deadline) {
			t.Fatalf("the lane is not blocked: %s", ready)
		}
		time.Sleep(20 * time.Millisecond) // polls another process
	}
	_, metrics := p.get("/metrics")
	letters := run(t, ".", binary, "deadletters", "list", "--json", "--config", config)
	if !strings.Contains(letters, `"nobody"`) {
		t.Errorf("the refused event is no dead letter: %s", letters)
	}
	if err := p.terminate(); err != nil {
		t.Errorf("the router ended with %v", err)
	}
	for what, text := range map[string]string{"an answer": seen.String(), "the log": p.log.String(), "/readyz": ready, "/metrics": metrics, "a dead letter": letters} {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q:\n%s", what, secret, text)
			}
		}
	}
	searchSecrets(t, dir, config)
}

// TestGrace: what hangs is cut at the end of the grace time, and a second signal does not wait for that.
func TestGrace(t *testing.T) {
	t.Parallel()
	f := func(grace string, signals int, most time.Duration, clean bool) {
		t.Helper()
		h := newHub(t, sandbox.Options{})
		config := configure(t, t.TempDir(), h.url)
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte("server:\n"), []byte("server:\n  grace: "+grace+"\n"), 1)
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, config)
		hangs := make(chan struct{})
		arrived := sync.OnceFunc(func() { close(hangs) })
		h.Inject(sandbox.Fault{Endpoint: "contacts", Times: 1, Delay: time.Minute, Match: func([]byte) bool { arrived(); return true }})
		if status, answer, err := post(http.DefaultClient, p.url, `{"event_type":"user_identify","user":{"email":"a@example.com"}}`); status != http.StatusOK {
			t.Fatal(status, answer, err)
		}
		slow, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		fmt.Fprintf(slow, "POST /s2s/event?token=%s HTTP/1.1\r\nHost: r\r\nContent-Length: 100\r\n\r\n{", serverSecret)
		select {
		case <-hangs:
		case <-time.After(10 * time.Second):
			t.Fatal("the router makes no call")
		}

		began := time.Now()
		for n := range signals {
			if n > 0 {
				time.Sleep(300 * time.Millisecond) // two signals at once may be told as one
			}
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-p.exited:
		case <-time.After(most):
			t.Fatalf("grace %s, %d signals: the router still runs after %s", grace, signals, most)
		}
		if (p.err == nil) != clean {
			t.Errorf("grace %s, %d signals: the router ended with %v after %s", grace, signals, p.err, time.Since(began))
		}
		p = start(t, config)
		p.drain(30 * time.Second)
		if _, ok := h.Contact("a@example.com"); !ok {
			t.Error("the event of the call that hung is lost")
		}
	}
	f("1s", 1, 20*time.Second, true)
	f("1m", 2, 20*time.Second, false)
}

// TestStop: SIGTERM loses nothing and ends within the grace time.
func TestStop(t *testing.T) {
	t.Parallel()
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
