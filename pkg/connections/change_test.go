package connections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// told is what the team was told, oldest first.
func (r *rig) told() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.events {
		var n noticeEvent
		if err := json.Unmarshal(r.events[i].JSON, &n); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, n.Account+" "+n.Hub+" "+n.Status)
	}
	return all
}

func TestTheTeamIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		r.mustConnect("a1", hubA) // no change
		r.mustConnect("a1", hubB)
		time.Sleep(time.Hour)
		r.hub.RevokeRefresh("", hubB)
		r.s.Token(t.Context(), "crm", "a1", hubB)
		r.mustConnect("a1", hubB)
		if a := r.api(http.MethodDelete, "?app=crm&account=a1", ""); a.status != 200 {
			t.Fatalf("delete: got %d %s", a.status, a.body)
		}
		synctest.Wait()
		want := []string{"a1 1001 connected", "a1 1002 connected", "a1 1002 reconnect_needed", "a1 1002 connected", "a1 1002 disconnected"}
		if got := r.told(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		ev := r.events[2]
		if ev.Type() != NoticeType || ev.APIKey != event.NoticeKey("crm") || !ev.Server || ev.ID == r.events[3].ID || !bytes.Contains(ev.JSON, []byte("BAD_REFRESH_TOKEN")) {
			t.Errorf("got %+v %s", ev, ev.JSON)
		}
	})
}

// TestTheTeamIsToldLater has the log take nothing for a while, over a restart.
func TestTheTeamIsToldLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mu.Lock()
		r.appendTo = func() error { return errors.New("full") }
		r.mu.Unlock()
		r.mustConnect("a1", hubA)
		time.Sleep(time.Hour)
		r.restart()
		r.mustConnect("a2", hubA)
		time.Sleep(time.Minute)
		r.mu.Lock()
		r.appendTo = nil
		r.mu.Unlock()
		time.Sleep(longestPause)
		want := []string{"a1 1001 connected", "a2 1001 connected"}
		if got := r.told(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		time.Sleep(time.Hour)
		r.restart()
		time.Sleep(time.Minute)
		if got := r.told(); len(got) != 2 {
			t.Errorf("after a restart: got %q, want no more", got)
		}
	})
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := memoryDir(t)
	// Another process copies: one that closes a file loses all its locks on it (POSIX), here those of SQLite.
	if out, err := exec.Command("cp", "-r", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	return to
}

// TestKills plays the end of the process between two steps, by going on with what was on disk then.
func TestKills(t *testing.T) {
	f := func(name string, play func(r *rig)) {
		t.Run(name, func(t *testing.T) { bubble(t, func(t *testing.T) { play(newRig(t)) }) })
	}
	// snapshot has the data directory copied when a call about tokens has its answer, which the process has not seen yet.
	snapshot := func(r *rig) *string {
		dir := new(string)
		r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
			res, err := next()
			if strings.HasSuffix(req.URL.Path, "/token") && *dir == "" {
				*dir = copyDir(r.t, r.dir)
			}
			return res, err
		})
		return dir
	}
	revive := func(r *rig, dir string) {
		r.stop()
		r.intercept(nil)
		r.dir = dir
		r.start()
	}
	f("before the code is exchanged", func(r *rig) {
		b := r.browser()
		back := b.consent(r.link("a1", returns), hubA, true)
		revive(r, copyDir(r.t, r.dir))
		if a := b.get(back); word(a) != "connected" {
			r.t.Errorf("got %d %s", a.status, a.location)
		}
	})
	f("between HubSpot's tokens and the disk", func(r *rig) {
		b := r.browser()
		back := b.consent(r.link("a1", returns), hubA, true)
		dir := snapshot(r)
		b.get(back)
		revive(r, *dir)
		// The browser tries again: the code is gone, and it is told so; the way from the start works.
		if a := b.get(back); a.status != 400 || r.status("a1") != "" {
			r.t.Errorf("again: got %d %s %s", a.status, a.location, a.body)
		}
		r.mustConnect("a1", hubA)
	})
	f("between a refreshed token and the disk", func(r *rig) {
		r.mustConnect("a1", hubA)
		time.Sleep(time.Hour)
		dir := snapshot(r)
		r.mustToken()
		revive(r, *dir)
		if !r.valid(r.mustToken()) {
			r.t.Error("the token is not valid")
		}
	})
	f("between a change and the log", func(r *rig) {
		r.mu.Lock()
		r.appendTo = func() error { return errors.New("full") }
		r.mu.Unlock()
		r.mustConnect("a1", hubA)
		dir := copyDir(r.t, r.dir)
		r.stop() // else it goes on as soon as it can
		r.mu.Lock()
		r.appendTo = nil
		r.mu.Unlock()
		revive(r, dir)
		synctest.Wait()
		if got := r.told(); !slices.Equal(got, []string{"a1 1001 connected"}) {
			r.t.Errorf("told: got %q", got)
		}
	})
	f("between the log and that it was told", func(r *rig) {
		var dir string
		r.mu.Lock()
		r.appendTo = func() error { dir = copyDir(r.t, r.dir); return nil }
		r.mu.Unlock()
		r.mustConnect("a1", hubA)
		synctest.Wait()
		revive(r, dir)
		synctest.Wait()
		// Twice, under one id: the router drops the second.
		if got := r.told(); len(got) != 2 || r.events[0].ID != r.events[1].ID {
			r.t.Errorf("told: got %q", got)
		}
	})
}

// word is that in the address that a browser is sent back to.
func word(a answer) string {
	_, w, _ := strings.Cut(a.location, "connection=")
	return w
}

// TestRotatedTokenLostInAKill is the one window: HubSpot has replaced the refresh token, and the process is killed before it is on disk.
func TestRotatedTokenLostInAKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(_ *rig, o *sandbox.Options) { o.RotateRefreshTokens = true })
		r.mustConnect("a1", hubA)
		time.Sleep(time.Hour)
		var dir string
		r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
			res, err := next()
			dir = copyDir(t, r.dir)
			return res, err
		})
		r.mustToken()
		r.stop()
		r.intercept(nil)
		r.dir = dir
		r.start()
		if _, err := r.token(); !isBlocked(err) || r.status("a1") != ReconnectNeeded || r.s.Hub("crm", "a1") != hubA {
			t.Errorf("got %v, status %q: want that it has to connect anew", err, r.status("a1"))
		}
		r.mustConnect("a1", hubA)
	})
}

func TestDisconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		r.mustConnect("a2", hubB)
		began := r.browser()
		back := began.consent(r.link("a1", returns), hubA, true)
		a := r.api(http.MethodDelete, "?app=crm&account=a1", "")
		var d Disconnection
		if err := json.Unmarshal([]byte(a.body), &d); err != nil || a.status != 200 || d != (Disconnection{App: "crm", Account: "a1", Hub: hubA, Revoked: true, Erased: true}) {
			t.Errorf("got %d %s", a.status, a.body)
		}
		if _, err := r.token(); !isBlocked(err) || r.s.Hub("crm", "a1") != "" {
			t.Errorf("token: got %v, hub %q", err, r.s.Hub("crm", "a1"))
		}
		for _, in := range r.hub.Installs() {
			if in.HubID == hubA && in.CanRefresh {
				t.Error("HubSpot takes the refresh token still")
			}
		}
		if a := began.get(back); a.status != 400 {
			t.Errorf("who was about to connect it: got %d %s", a.status, a.location)
		}
		for range 2 {
			if a := r.api(http.MethodDelete, "?app=crm&account=a1", ""); a.status != 404 {
				t.Errorf("once more: got %d %s", a.status, a.body)
			}
			r.restart()
		}
		if r.status("a1") != "" || r.status("a2") != Connected {
			t.Errorf("status: got %q, %q", r.status("a1"), r.status("a2"))
		}
		r.mustConnect("a1", hubB)
	})
}

// TestDisconnectWithoutHubSpot erases also where HubSpot revokes nothing, and says so.
func TestDisconnectWithoutHubSpot(t *testing.T) {
	f := func(name, problem string, play func(r *rig)) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.mustConnect("a1", hubA)
				play(r)
				d, err := r.s.Disconnect(t.Context(), "crm", "a1")
				if err != nil || d.Revoked || !d.Erased || !strings.Contains(d.Problem, problem) {
					t.Errorf("got %+v, %v; want it erased, and %q", d, err, problem)
				}
				r.restart()
				if r.status("a1") != "" {
					t.Errorf("status: got %q", r.status("a1"))
				}
			})
		})
	}
	f("down", "503", func(r *rig) { r.answerWith(503, "") })
	f("another account has the same tokens", "the same ones: a2;", func(r *rig) { r.mustConnect("a2", hubA) })
	f("the app is gone", "configuration", func(r *rig) { r.s.SetApps(nil) })
}

// TestDisconnectDuringARefresh holds that no new token outlives the account.
func TestDisconnectDuringARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		time.Sleep(time.Hour)
		r.countRefreshes(5 * time.Second)
		go r.token()
		time.Sleep(time.Second)
		d, err := r.s.Disconnect(t.Context(), "crm", "a1")
		if err != nil || !d.Revoked {
			t.Errorf("got %+v, %v", d, err)
		}
		time.Sleep(time.Minute)
		r.restart()
		if r.status("a1") != "" || len(r.stored()) != 0 {
			t.Errorf("status %q, rows %v", r.status("a1"), r.stored())
		}
	})
}

func (r *rig) stored() (accounts []string) {
	all, err := r.store.Connections()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range all {
		accounts = append(accounts, c.Account)
	}
	return accounts
}

func TestList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 5 {
			r.mustConnect(fmt.Sprintf("a%d", i), []string{hubA, hubB}[i%2])
		}
		r.s.For("crm").Delivered("a1")
		var got []string
		next := ""
		for {
			a := r.api(http.MethodGet, "?limit=2&app=crm&after="+next, "")
			var page struct {
				Connections []Connection
				Next        string
			}
			if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != 200 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			for _, c := range page.Connections {
				got = append(got, c.Account)
			}
			if next = page.Next; next == "" {
				break
			}
		}
		if want := []string{"a0", "a1", "a2", "a3", "a4"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		time.Sleep(2 * notePause)
		r.restart()
		one := r.api(http.MethodGet, "?account=a1", "")
		for _, want := range []string{`"account":"a1"`, `"hub":"1002"`, `"status":"connected"`, `"quota_left":null`, `"also_connected":["a3"]`, `"last_delivery":"2000-01-01T`, `"scopes":["crm.`} {
			if !strings.Contains(one.body, want) {
				t.Errorf("no %s in %s", want, one.body)
			}
		}
		for query, status := range map[string]int{"?limit=0": 400, "?limit=1001": 400, "?after=%25": 400, "?app=none": 200, "?account=none": 200} {
			if a := r.api(http.MethodGet, query, ""); a.status != status {
				t.Errorf("%s: got %d %s, want %d", query, a.status, a.body, status)
			}
		}
	})
}

// TestKeyRotation reads what an old key has sealed, seals it anew, and needs the old key no more.
func TestKeyRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		old, fresh := mustKey(t), mustKey(t)
		r := newRig(t, func(r *rig, _ *sandbox.Options) { r.keys = ringOf(t, old) })
		r.mustConnect("a1", hubA)
		before := r.mustToken()
		b := r.browser()
		link := r.link("a2", returns)
		back := b.consent(link, hubB, true)
		r.stop()
		r.keys = ringOf(t, fresh, old)
		r.start()
		if err := r.store.Reseal(context.Background()); err != nil {
			t.Fatal(err)
		}
		if r.mustToken() != before {
			t.Error("the token is another one")
		}
		if a := b.get(back); word(a) != "connected" {
			t.Errorf("who was at HubSpot meanwhile: got %d %s", a.status, a.location)
		}
		if a := r.browser().get(link); a.status != http.StatusSeeOther {
			t.Errorf("a link of before: got %d", a.status)
		}
		r.stop()
		r.keys = ringOf(t, fresh)
		r.start()
		if r.mustToken() != before || r.status("a2") != Connected {
			t.Errorf("with the new key alone: same token %t, a2 %q", r.mustToken() == before, r.status("a2"))
		}
	})
}

// files are the names and the contents of all files of the data directory.
func (r *rig) files() map[string][]byte {
	r.t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = data
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}
