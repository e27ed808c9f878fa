package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestDamagedWAL: a byte changes in the write-ahead log of the store of a router that was killed. SQLite then drops, without a word, all that was committed behind it. Nothing is lost:
// the log still has what the database file has not, and the router says what it found.
func TestDamagedWAL(t *testing.T) {
	t.Parallel()
	h := newHub(t, sandbox.Options{})
	dir := t.TempDir()
	config := configure(t, dir, "http://127.0.0.1:1") // HubSpot is down
	edit(t, config, "server:\n", "server:\n  max_log_bytes: 300KiB\n")
	p := start(t, config)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	posts := 0
	send := func() {
		pad := make([]byte, 3000)
		rand.Read(pad)
		body := fmt.Sprintf(`{"event_id":"%d","event_type":"step","user":{"email":"p%d@example.com"},"mark":"%d","pad":"%s"}`, posts, posts%7, posts, hex.EncodeToString(pad))
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			status, answer, err := post(client, p.url, body)
			if status == http.StatusOK {
				break
			}
			if err != nil || status != http.StatusServiceUnavailable || time.Now().After(deadline) {
				t.Fatalf("answer %d %s %v", status, answer, err)
			}
		}
		posts++
	}
	for posts < 150 {
		send()
	}
	for gauge(metricsOf(p), "router_log_unsorted_records") > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	// Behind the byte that changes there must be enough for it to be told from an end that a crash has torn: a checkpoint may just have begun the file anew.
	wal := filepath.Join(dir, "data", "router.db-wal")
	for commits(t, wal) < 4 {
		send()
	}
	if segments, _ := filepath.Glob(filepath.Join(dir, "data/log/live/*.log")); len(segments) > 3 {
		t.Errorf("%d segments of the log are kept", len(segments))
	}
	p.kill()

	file, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	file[32+24+100] ^= 1 // in the page of the first frame
	if err := os.WriteFile(wal, file, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, config, "http://127.0.0.1:1", h.url)
	p = start(t, config)
	p.drain(60 * time.Second)
	if err := p.terminate(); err != nil {
		t.Error(err)
	}
	marks := map[string]int{}
	for _, e := range events(h, "step") {
		marks[e.Properties["mark"]]++
	}
	for n := range posts {
		if marks[fmt.Sprint(n)] != 1 {
			t.Errorf("event %d is in HubSpot %d times", n, marks[fmt.Sprint(n)])
		}
	}
	if !strings.Contains(p.log.String(), "write-ahead log is damaged") {
		t.Error("the router's log says nothing of the damage")
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "data/damaged/wal-*")); len(kept) != 1 {
		t.Errorf("%d files are kept aside", len(kept))
	}
}

// commits counts the transactions in a write-ahead log of SQLite since it was begun anew.
func commits(t *testing.T, wal string) (n int) {
	t.Helper()
	file, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	const header, frame = 32, 24 + 4096
	for at := header; at+frame <= len(file) && string(file[at+8:at+16]) == string(file[16:24]); at += frame {
		if string(file[at+4:at+8]) != "\x00\x00\x00\x00" {
			n++
		}
	}
	return n
}

func metricsOf(p *process) string {
	p.t.Helper()
	_, metrics := p.get("/metrics")
	return metrics
}

// edit replaces a text in a file, which must be there.
func edit(t *testing.T, path, old, with string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, with, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
