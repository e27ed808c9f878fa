package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/config"
)

// running is a whole router in this process, on a port of its own.
type running struct {
	t    *testing.T
	srv  *service
	url  string
	stop func() // as SIGTERM does; waits for the end
}

// startService starts a router with the configuration. It is stopped when the test ends, if not before.
func startService(t *testing.T, cfg *config.Config) *running {
	t.Helper()
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return runService(t, srv, "0")
}

// runService runs a router on a port of this machine; "0" is any. It is stopped when the test ends, if not before.
func runService(t *testing.T, srv *service, port string) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx, ln) }()
	r := &running{t: t, srv: srv, url: "http://" + ln.Addr().String(), stop: sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// ask makes a request, with names of headers and their values, and returns the answer.
func ask(t *testing.T, method, url, body string, headers ...string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// post sends events of a server and wants them accepted.
func (r *running) post(secret, body string) {
	r.t.Helper()
	res, err := http.Post(r.url+"/api/v1/s2s/event?token="+secret, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		r.t.Fatalf("posting: %s: %s", res.Status, text)
	}
}

// settle waits until nothing is left to do.
func (r *running) settle() {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !r.srv.router.Idle(); time.Sleep(5 * time.Millisecond) { // real I/O
		if time.Now().After(deadline) {
			r.t.Fatal("not all is delivered after 30 s")
		}
	}
}

// setByHand changes a contact as a person does in HubSpot.
func setByHand(t *testing.T, url, email, properties string) {
	t.Helper()
	status, answer := ask(t, http.MethodPatch, url+"/crm/v3/objects/contacts/"+email+"?idProperty=email", `{"properties":`+properties+`}`,
		"Authorization", "Bearer "+demoToken, "Content-Type", "application/json")
	if status != http.StatusOK {
		t.Fatalf("a change by hand: %d %s", status, answer)
	}
}
