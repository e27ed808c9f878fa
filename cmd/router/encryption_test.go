package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

// encryptedRig is a data directory that is used with one configuration after the other: one destination delivers, one waits, one has dead letters and $kv.
type encryptedRig struct {
	t        *testing.T
	dir      string
	remote   string // HubSpot
	refusing string // a webhook
}

func newEncryptedRig(t *testing.T) *encryptedRig {
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	remote := httptest.NewServer(box)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	t.Cleanup(func() { remote.Close(); refusing.Close() })
	return &encryptedRig{t: t, dir: filepath.Join(t.TempDir(), "data"), remote: remote.URL, refusing: refusing.URL}
}

// config writes a configuration file whose server.encryption is section.
func (g *encryptedRig) config(section string) string {
	return write(g.t, fmt.Sprintf(`
server: {port: 0, data_dir: %s, min_free_bytes: 1MiB, encryption: %s}
api_keys: [{id: web, server_secret: s2s.web}]
destinations:
  crm: {type: hubspot, hubspot: {access_token: %s, hub_id: %q, base_url: %q}}
  waits: {type: hubspot, hubspot: {access_token: %s, hub_id: %q, base_url: "http://127.0.0.1:1"}}
  hook:
    type: webhook
    data_layout: {transform: 'await $kv.set("planted-key-" + $.user.id, $.user.email); return {...$, changed: true}'}
    webhook: {url: %q, allow_private: true}
`, g.dir, section, demoToken, demoHub, g.remote, demoToken, demoHub, g.refusing))
}

// run has a router take in events of one person, and stops it when there is something of them in every place. inside is called before.
func (g *encryptedRig) run(section string, n int, inside func(r *running)) {
	g.t.Helper()
	cfg, err := load(g.config(section))
	if err != nil {
		g.t.Fatal(err)
	}
	r := startService(g.t, cfg)
	defer r.stop()
	r.post("s2s.web", fmt.Sprintf(`[{"event_type":"user_identify","event_id":"planted-id-%d","user":{"email":"planted-%d@example.com","id":"planted-user-%d","name":"planted-value"}},
		{"event_type":"planted_event","event_id":"planted-id-%d-2","user":{"email":"planted-%d@example.com","id":"planted-user-%d"},"property":"planted-value"}]`, n, n, n, n, n, n))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) { // real I/O
		counts, err := r.srv.store.DeadLetterCounts()
		if err != nil {
			g.t.Fatal(err)
		}
		_, kv, err := r.srv.store.KV("hook", fmt.Sprintf("planted-key-planted-user-%d", n))
		if err != nil {
			g.t.Fatal(err)
		}
		_, identified, _ := r.srv.store.Identity("web", "user_id", fmt.Sprintf("planted-user-%d", n))
		outcomes, err := r.srv.store.Outcomes(g.t.Context(), store.OutcomeQuery{EventID: fmt.Sprintf("planted-id-%d", n)})
		if err != nil {
			g.t.Fatal(err)
		}
		if counts[[2]string{"hook", "rejected"}] >= int64(2*n) && kv && identified && len(outcomes) >= 2 {
			break
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("after 30 s: dead letters %v, $kv %v, identity %v, %d outcomes", counts, kv, identified, len(outcomes))
		}
	}
	inside(r)
}

// wantPlanted searches all raw files for what the events hold, and for a part of it that no word of the schema has.
func (g *encryptedRig) wantPlanted(want bool) {
	g.t.Helper()
	found := map[string]bool{}
	texts := []string{"planted-1@", "planted-user", "planted_event", "planted-value", "planted-id", "planted-key", "lanted"}
	g.walk(func(path string, d fs.DirEntry) {
		if d.IsDir() {
			return
		}
		data, err := os.ReadFile(path)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, text := range texts {
			if bytes.Contains(data, []byte(text)) {
				found[text] = true
				if !want {
					g.t.Errorf("%s holds %q", strings.TrimPrefix(path, g.dir), text)
				}
			}
		}
	})
	if want && len(found) < len(texts) {
		g.t.Errorf("found is only %v", found)
	}
}

func (g *encryptedRig) walk(each func(path string, d fs.DirEntry)) {
	g.t.Helper()
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			each(path, d)
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// TestEncryptedDirectory: encryption from the start, another key, a missing one, and none. Nothing of the events is found in raw files while a key seals; commands
// on a stopped router read them all the same, and say which keys are needed.
func TestEncryptedDirectory(t *testing.T) {
	g := newEncryptedRig(t)
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	one, two := seal.NewKey(), seal.NewKey()
	id := func(text string) string {
		k, err := seal.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		return k.ID().String()
	}
	checked := func(section string, wants ...string) {
		t.Helper()
		out, errText, _ := command(t, "check", "--config", g.config(section))
		for _, want := range wants {
			if !strings.Contains(out+errText, want) {
				t.Errorf("router check with %s: %s%s, want %q", section, out, errText, want)
			}
		}
		if strings.Contains(out+errText, one) || strings.Contains(out+errText, two) {
			t.Errorf("router check shows a key: %s%s", out, errText)
		}
	}
	const1, rotated := "{key: "+one+"}", "{key: "+two+", old_keys: ["+one+"]}"
	g.run(const1, 1, func(*running) { g.wantPlanted(false) })
	g.wantPlanted(false)
	g.wantModes()
	checked(const1, "everything is sealed with key "+id(one))
	checked("{key: "+two+"}", "key "+id(one)+"; add it to server.encryption.old_keys")
	checked("{}", "key "+id(one)+"; add it to server.encryption.old_keys")
	checked(rotated, "not everything is sealed", "old key "+id(one)+" is still needed")

	for _, args := range [][]string{
		{"explain", "--config", g.config(const1), "planted-id-1"}, {"deadletters", "list", "--config", g.config(const1), "--json"},
	} {
		out, errText, code := command(t, args...)
		if code != 0 || !strings.Contains(out, "planted-id-1") || !strings.Contains(out, "planted-1@example.com") {
			t.Errorf("router %s: %d %s%s, want the event", strings.Join(args, " "), code, out, errText)
		}
		args[len(args)-2] = g.config("{}")
		if args[0] == "deadletters" {
			args = []string{"deadletters", "list", "--config", g.config("{}")}
		} else {
			args = []string{"explain", "--config", g.config("{}"), "planted-id-1"}
		}
		if out, errText, code := command(t, args...); code == 0 || !strings.Contains(errText, "key "+id(one)) || strings.Contains(out, "planted-1@") {
			t.Errorf("router %s without the key: %d %s%s, want that it is missing", strings.Join(args, " "), code, out, errText)
		}
	}

	g.run(rotated, 2, func(r *running) { g.settleKeys(r, id(two)) })
	g.wantPlanted(false)
	checked("{key: "+two+"}", "everything is sealed with key "+id(two))
	checked(rotated, "old key "+id(one)+" is not needed any more")

	g.run("{old_keys: ["+two+"]}", 3, func(r *running) { g.settleKeys(r, "none") })
	g.wantPlanted(true)
	g.run("{}", 4, func(*running) {})

	// And on again, over what is plain.
	g.run(const1, 5, func(r *running) { g.settleKeys(r, id(one)) })
	g.wantPlanted(false)
	g.wantModes()
}

// settleKeys waits until one key is in use alone, as metrics tell.
func (g *encryptedRig) settleKeys(r *running, want string) {
	g.t.Helper()
	line := `router_encryption_key_in_use{key="` + want + `"} 1`
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real I/O
		res, err := http.Get(r.url + "/metrics")
		if err != nil {
			g.t.Fatal(err)
		}
		var page bytes.Buffer
		_, err = page.ReadFrom(res.Body)
		res.Body.Close()
		if err != nil {
			g.t.Fatal(err)
		}
		if strings.Contains(page.String(), line) && strings.Count(page.String(), "router_encryption_key_in_use{") == 1 {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("after 30 s key %s is not the only one: %v", want, r.srv.encryption.keys())
		}
	}
}

// wantModes: nobody else can read or list anything, whatever the umask.
func (g *encryptedRig) wantModes() {
	g.t.Helper()
	n := 0
	g.walk(func(path string, d fs.DirEntry) {
		info, err := d.Info()
		if err != nil {
			g.t.Fatal(err)
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			g.t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		n++
	})
	if n < 8 {
		g.t.Errorf("only %d files and folders in %s", n, g.dir)
	}
}

// TestWiderModesAreTightened: what was copied into a data directory so that others can read it is theirs no more after a start, which says so once.
func TestWiderModesAreTightened(t *testing.T) {
	g := newEncryptedRig(t)
	g.run("{}", 1, func(*running) {})
	own := filepath.Join(g.dir, "notes.txt")
	if err := os.WriteFile(own, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"router.db", "LOCK", "log", "log/live"} {
		if err := os.Chmod(filepath.Join(g.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var told bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&told, nil))
	for range 2 {
		tightenModes(g.dir, logger)
	}
	if got := strings.Count(told.String(), "were open to others"); got != 1 || !strings.Contains(told.String(), "files=4") || !strings.Contains(told.String(), "router.db") {
		t.Errorf("told %d times: %s", got, &told)
	}
	if info, err := os.Stat(own); err != nil || info.Mode() != 0o644 {
		t.Errorf("a file of somebody else has mode %v, %v", info.Mode(), err)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	g.wantModes()
}

func TestKeygen(t *testing.T) {
	out, errText, code := command(t, "keygen")
	if _, err := seal.ParseKey(out); err != nil || code != 0 || errText != "" {
		t.Errorf("router keygen: %d %q %q: %v", code, out, errText, err)
	}
	if again, _, _ := command(t, "keygen"); again == out {
		t.Errorf("router keygen prints %q twice", out)
	}
}
