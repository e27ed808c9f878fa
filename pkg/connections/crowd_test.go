package connections

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// hang has HubSpot take calls about tokens and answer none, until they are given up. It returns how many there were at most at one time, and in all.
func (r *rig) hang() (most, all func() int) {
	var mu sync.Mutex
	now, peak, n := 0, 0, 0
	r.intercept(func(req *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		mu.Lock()
		now++
		n++
		peak = max(peak, now)
		mu.Unlock()
		<-req.Context().Done()
		mu.Lock()
		now--
		mu.Unlock()
		return nil, req.Context().Err()
	})
	get := func(v *int) func() int {
		return func() int {
			mu.Lock()
			defer mu.Unlock()
			return *v
		}
	}
	return get(&peak), get(&n)
}

// TestStopWhileHubSpotHangs holds that a router stops in the time of one call, however many accounts wait for a token.
func TestStopWhileHubSpotHangs(t *testing.T) {
	f := func(name string, accounts, hubs int) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, func(_ *rig, o *sandbox.Options) { o.Hubs = sandbox.Hubs(1001, hubs) })
				for i := range accounts {
					r.mustConnect(fmt.Sprint("a", i), fmt.Sprint(1001+i%hubs))
				}
				time.Sleep(time.Hour)
				most, _ := r.hang()
				for i := range accounts {
					go r.s.Token(context.Background(), "crm", fmt.Sprint("a", i), "")
				}
				synctest.Wait()
				began := time.Now()
				r.stop()
				if took := time.Since(began); took > callTime {
					t.Errorf("it took %v to stop, want one call's %v", took, callTime)
				}
				if most() > refreshesAtOnce {
					t.Errorf("%d calls at one time, want %d at most", most(), refreshesAtOnce)
				}
			})
		})
	}
	f("accounts of one hub", 8, 1)
	f("as many hubs", 3*refreshesAtOnce, 3*refreshesAtOnce)
}

// TestChangesWhileHubSpotHangs holds that people who choose or disconnect are kept waiting no longer than one call, whatever others of the hub wait for.
func TestChangesWhileHubSpotHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 8 {
			r.mustConnect(fmt.Sprint("a", i), hubA)
		}
		time.Sleep(time.Hour)
		r.hang()
		for i := range 8 {
			go r.s.Token(context.Background(), "crm", fmt.Sprint("a", i), "")
			synctest.Wait()
		}
		began := time.Now()
		if err := r.s.Choose(t.Context(), "crm", "a7", Chosen{}); err != nil || time.Since(began) > callTime {
			t.Errorf("a choice: got %v after %v", err, time.Since(began))
		}
		began = time.Now()
		if d, err := r.s.Disconnect(t.Context(), "crm", "a6"); err != nil || !d.Erased || time.Since(began) > 2*callTime {
			t.Errorf("disconnect: got %+v, %v after %v", d, err, time.Since(began))
		}
	})
}

// TestAllAccountsAtOnce has many accounts need a token at one moment, as after a long stop.
func TestAllAccountsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const accounts = 200
		r := newRig(t, func(_ *rig, o *sandbox.Options) { o.Hubs = sandbox.Hubs(1001, accounts) })
		for i := range accounts {
			r.mustConnect(fmt.Sprint("a", i), fmt.Sprint(1001+i))
		}
		r.stop()
		time.Sleep(time.Hour)
		r.start()
		var mu sync.Mutex
		now, peak := 0, 0
		r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
			mu.Lock()
			now++
			peak = max(peak, now)
			mu.Unlock()
			time.Sleep(200 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return next()
		})
		began := time.Now()
		var wg sync.WaitGroup
		for i := range accounts {
			wg.Go(func() {
				if _, err := r.s.Token(context.Background(), "crm", fmt.Sprint("a", i), ""); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if peak > refreshesAtOnce || time.Since(began) > 2*time.Second {
			t.Errorf("%d calls at one time, %v in all; want %d at most", peak, time.Since(began), refreshesAtOnce)
		}
	})
}

// TestOddAnswers holds that what HubSpot says of a token's life costs no account: the tokens are kept, and asked for anew when they are refused.
func TestOddAnswers(t *testing.T) {
	f := func(expires string, again time.Duration) {
		t.Run(expires, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.mustConnect("a1", hubA)
				time.Sleep(time.Hour)
				var sent []string
				r.intercept(func(req *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
					req.ParseForm()
					sent = append(sent, req.PostForm.Get("refresh_token"))
					return jsonAnswer(req, 200, fmt.Sprintf(`{"access_token":"access-%d","refresh_token":"rotated-%d"%s}`, len(sent), len(sent), expires)), nil
				})
				first, err := r.token()
				if err != nil || first != "access-1" {
					t.Fatalf("got %q, %v", string(first), err)
				}
				if second := r.mustToken(); second != first || len(sent) != 1 {
					t.Errorf("at once after it: got %q after %d calls", string(second), len(sent))
				}
				r.restart()
				time.Sleep(again)
				if _, err := r.token(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if len(sent) != 2 || sent[1] != "rotated-1" {
					t.Errorf("after %v: got calls with %q, want one more with the token that came last", again, sent)
				}
			})
		})
	}
	f(``, time.Hour)
	f(`,"expires_in":0`, time.Hour)
	f(`,"expires_in":30`, time.Hour)
	f(`,"expires_in":"1800"`, time.Hour)
	f(`,"expires_in":99999999999999999999`, 25*time.Hour)
	f(`,"expires_in":"soon"`, time.Hour)
}

// TestRotationDuringAChoice holds that who chooses while another account of the hub brings the new refresh token leaves no old one on disk.
func TestRotationDuringAChoice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(_ *rig, o *sandbox.Options) { o.RotateRefreshTokens = true })
		r.mustConnect("a1", hubA)
		r.mustConnect("a2", hubA)
		time.Sleep(time.Hour)
		a2 := r.s.find(id{"crm", "a2"})
		a2.turn <- struct{}{} // somebody chooses
		r.mustToken()
		a2.release()
		synctest.Wait()
		r.restart()
		if _, err := r.s.Token(t.Context(), "crm", "a2", hubA); err != nil {
			t.Errorf("the other account after a restart: %v, status %q", err, r.status("a2"))
		}
	})
}

func jsonAnswer(req *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: readCloser{strings.NewReader(body)}, Request: req}
}
