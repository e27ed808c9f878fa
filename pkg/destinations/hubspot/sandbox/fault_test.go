package sandbox

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exchange sends an upsert of a@b.co that is given up after timeout, and returns the status.
func exchange(c *client, timeout time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "POST", "http://sandbox"+upsertPath, strings.NewReader(upsert("a@b.co", "city", "Bonn")))
	r.Header.Set("Authorization", "Bearer x")
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.RoundTripper().RoundTrip(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

// TestFaults has, for one call given up after 30 s: what it got, when, and when the write was there (never: -1).
func TestFaults(t *testing.T) {
	const never = -1 * time.Second
	f := func(fault Fault, status int, wantErr error, took, applied time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := newClient(t, Options{})
			c.Inject(fault)
			began := time.Now()
			gotStatus, err := exchange(c, 30*time.Second)
			gotTook := time.Since(began)
			if gotStatus != status || !errors.Is(err, wantErr) || gotTook != took {
				t.Errorf("%+v: status %d, %v after %v", fault, gotStatus, err, gotTook)
			}
			time.Sleep(time.Hour)
			at := never
			if ct, ok := c.Contact("a@b.co"); ok {
				at = ct.History["city"][0].At.Sub(began)
			}
			if at != applied {
				t.Errorf("%+v: written at %v, want %v", fault, at, applied)
			}
			if calls := c.Calls(); len(calls) != 1 || calls[0].Status != status {
				t.Errorf("%+v: calls %+v", fault, calls)
			}
		})
	}
	second, minute, gaveUp := time.Second, time.Minute, context.DeadlineExceeded
	f(Fault{Status: 502}, 502, nil, 0, never)
	f(Fault{Status: 502, Apply: true}, 502, nil, 0, 0)
	f(Fault{Status: 503, Delay: 5 * second}, 503, nil, 5*second, never)
	f(Fault{Status: 503, Delay: 5 * second, Apply: true}, 503, nil, 5*second, 0)
	f(Fault{Status: 524, Delay: 5 * second, ApplyLate: minute}, 524, nil, 5*second, minute)
	f(Fault{Drop: true}, 0, errDropped, 0, never)
	f(Fault{Drop: true, Delay: second, Apply: true}, 0, errDropped, second, 0)
	f(Fault{Drop: true, ApplyLate: second}, 0, errDropped, 0, second)
	f(Fault{Delay: 5 * second}, 200, nil, 5*second, 5*second)
	f(Fault{Delay: 5 * second, Apply: true}, 200, nil, 5*second, 0)
	f(Fault{Delay: 5 * second, ApplyLate: 7 * second}, 200, nil, 7*second, 7*second)
	f(Fault{Delay: minute}, 0, gaveUp, 30*second, never)
	f(Fault{Delay: minute, Apply: true}, 0, gaveUp, 30*second, 0)
	f(Fault{Delay: minute, ApplyLate: 100 * second}, 0, gaveUp, 30*second, 100*second)
	f(Fault{ApplyLate: minute}, 0, gaveUp, 30*second, minute)
}

func TestFaultMatching(t *testing.T) {
	c := newClient(t, Options{})
	c.must(201, "POST", definitionsPath, signedUp)
	upsertStatus := func(email string) int { status, _ := c.call("POST", upsertPath, upsert(email)); return status }

	clear := c.Inject(Fault{Endpoint: "contacts/batch/upsert", Status: 500})
	for range 3 {
		if upsertStatus("a@b.co") != 500 {
			t.Error("a fault without Times ended")
		}
	}
	c.must(200, "GET", propertiesPath, "")
	clear()
	if upsertStatus("a@b.co") != 200 {
		t.Error("a cleared fault acts")
	}

	c.Inject(Fault{Endpoint: "contacts", Status: 503, Times: 2})
	c.Inject(Fault{Endpoint: "*", Status: 504, Times: 1})
	if got := []int{upsertStatus("a@b.co"), upsertStatus("a@b.co"), upsertStatus("a@b.co"), upsertStatus("a@b.co")}; !cmp.Equal(got, []int{503, 503, 504, 200}) {
		t.Errorf("two faults in a row: %v", got)
	}

	defer c.Inject(Fault{Endpoint: "events/send/batch", Status: 500, Match: func(b []byte) bool { return bytes.Contains(b, []byte("poison")) }})()
	c.must(204, "POST", sendPath+"/batch", batch(occurrence("")))
	c.must(500, "POST", sendPath+"/batch", batch(occurrence(`"email":"poison@b.co"`)))

	c.Inject(Fault{Endpoint: "properties", Times: 1, Status: 477, Body: `{"message":"moving"}`, Header: map[string]string{"Retry-After": "120"}})
	if answer := c.must(477, "GET", propertiesPath, ""); answer.Get("message").Str != "moving" || c.header.Get("Retry-After") != "120" {
		t.Errorf("body %s, header %v", answer.Raw, c.header)
	}
	for status, want := range map[int]string{429: "TEN_SECONDLY_ROLLING", 401: "INVALID_AUTHENTICATION", 423: "locked", 477: "migrated", 524: "correlationId"} {
		c.Inject(Fault{Endpoint: "properties", Times: 1, Status: status})
		if answer := c.must(status, "GET", propertiesPath, ""); !strings.Contains(answer.Raw, want) {
			t.Errorf("%d: %s", status, answer.Raw)
		}
	}
	c.Inject(Fault{Status: 429})
	c.Reset()
	if upsertStatus("a@b.co") != 200 {
		t.Error("a fault outlived Reset")
	}
}

// TestResetForgets: neither writes that are still to come nor calls still open reach the emptied account.
func TestResetForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{})
		c.Inject(Fault{Drop: true, ApplyLate: time.Minute, Times: 1})
		_, _ = exchange(c, time.Second)
		c.Inject(Fault{Delay: 10 * time.Second, Times: 1})
		open := make(chan int)
		go func() { status, _ := exchange(c, time.Minute); open <- status }()
		synctest.Wait()
		c.Reset()
		if status := <-open; status != 200 {
			t.Errorf("the open call got %d", status)
		}
		time.Sleep(time.Hour)
		if n, calls := c.ContactCount(), c.Calls(); n != 0 || len(calls) != 0 {
			t.Errorf("%d contacts, calls %v", n, calls)
		}
	})
}

// TestServer checks over a real connection what RoundTripper cannot show: dropped connections and clients that leave.
func TestServer(t *testing.T) {
	s := New(Options{})
	srv := httptest.NewServer(s)
	defer srv.Close()
	post := func(ctx context.Context) (*http.Response, error) {
		r, _ := http.NewRequestWithContext(ctx, "POST", srv.URL+upsertPath, strings.NewReader(upsert("a@b.co")))
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Content-Type", "application/json")
		return srv.Client().Do(r)
	}
	resp, err := post(t.Context())
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json;charset=utf-8" {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()

	s.Inject(Fault{Drop: true, Times: 1})
	if resp, err := post(t.Context()); err == nil {
		t.Errorf("dropped call got %s", resp.Status)
	}

	s.Inject(Fault{Delay: time.Hour, Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if resp, err := post(ctx); err == nil {
		t.Errorf("call given up got %s", resp.Status)
	}
	if resp, err := post(t.Context()); err != nil {
		t.Errorf("after the faults: %v", err)
	} else {
		resp.Body.Close()
	}
}

// TestCanceledBeforeSending: such a call has no effect.
func TestCanceledBeforeSending(t *testing.T) {
	c := newClient(t, Options{})
	if _, err := exchange(c, -time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if n := c.ContactCount(); n != 0 {
		t.Errorf("%d contacts", n)
	}
}
