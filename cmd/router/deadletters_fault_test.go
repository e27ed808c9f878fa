package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// TestDamagedDeadLetterIsShown: one whose bytes are damaged on the disk hides no other. It is told, not exported as if it were whole, and not dropped.
func TestDamagedDeadLetterIsShown(t *testing.T) {
	g := newLettersRig(t, "", "")
	g.start()
	g.post(deadEvents)
	g.run.stop()
	flip(t, filepath.Join(g.dir, "router.db"), `"firstname":"Bob"`)
	if got := g.listed("event_id"); !slices.Equal(got, []string{"e3", "e2", "e1"}) {
		t.Errorf("listed are %v", got)
	}
	if out := g.letters("show", "2"); !strings.Contains(out, "damaged") || strings.Contains(out, "firstname") {
		t.Errorf("show: %s", out)
	}
	file := filepath.Join(t.TempDir(), "dead.ndjson")
	g.refused(exitFailed, "1 dead letter damaged on the disk, and written without its event: [2]", "export", "--everything", "-o", file, "--drop")
	if got := g.listed("event_id"); !slices.Equal(got, []string{"e2"}) {
		t.Errorf("left are %v", got)
	}
	g.refused(exitFailed, "line 2: it holds no event", "import", file)
	if out, _, _ := g.try("import", file, "--skip-malformed"); !strings.Contains(out, "2 dead letters imported, 0 were there") {
		t.Errorf("import: %s", out)
	}
	g.refused(exitFailed, "damaged on the disk", "edit", "2", "--set", "a=1")
	g.letters("drop", "2", "--yes")
}

// flip changes a byte of what a file holds once.
func flip(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(data, []byte(text))
	if i < 0 {
		t.Fatalf("%s does not hold %s", path, text)
	}
	data[i+len(text)-2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCutExport: an answer that is cut off leaves no file, and drops nothing.
func TestCutExport(t *testing.T) {
	d := store.DeadLetter{ID: 1, Destination: "crm", Reason: "rejected", At: time.Now(), Event: (&event.Event{ID: "e1", JSON: []byte(`{"a":1}`)}).AppendTo(nil)}
	line, _, err := appendLetterLine(nil, &d, "")
	if err != nil {
		t.Fatal(err)
	}
	f := func(sent string) {
		t.Helper()
		dropped := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch strings.TrimPrefix(r.URL.Path, lettersPath) {
			case "":
				io.WriteString(w, `{"dead_letters":[]}`)
			case "/summary":
				io.WriteString(w, `{"letters":2,"groups":[]}`)
			case "/export":
				io.WriteString(w, sent)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			default:
				dropped = true
			}
		}))
		defer server.Close()
		dir := t.TempDir()
		_, errText, code := command(t, "deadletters", "export", "--config", write(t, jitsuFile), "--url", server.URL, "--everything", "-o", filepath.Join(dir, "f"), "--drop")
		entries, err := os.ReadDir(dir)
		if code != exitFailed || len(entries) != 0 || dropped || err != nil {
			t.Errorf("exit %d %s; files %v, dropped %v", code, errText, entries, dropped)
		}
	}
	f(string(line))
	f(string(line) + string(line[:40]))
	f("")
}

// TestInterruptedReplay: Ctrl-C ends the command alone. The marks stay, and the router goes on.
func TestInterruptedReplay(t *testing.T) {
	// A router that marks, and does not get on.
	var looked atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET " + lettersPath:
			io.WriteString(w, `{"dead_letters":[]}`)
		case "POST " + lettersPath + "/replay":
			io.WriteString(w, `{"at":"2026-11-21T12:00:00Z","found":{"letters":1,"groups":[]},"marked":1}`)
		default:
			if looked.Add(1) == 2 {
				cancel()
			}
			io.WriteString(w, `{"letters":1,"marked":1,"groups":[]}`)
		}
	}))
	defer slow.Close()
	var out, errs bytes.Buffer
	err := run(ctx, []string{"deadletters", "replay", "--config", write(t, jitsuFile), "--url", slow.URL, "1"}, &out, &errs)
	if err == nil || !strings.Contains(err.Error(), "the router goes on with the replay") || !strings.Contains(err.Error(), "--cancel") {
		t.Errorf("%v %s", err, out.String())
	}
}

// TestManyDeadLettersGoOut: an export takes no more memory than a small part of it.
func TestManyDeadLettersGoOut(t *testing.T) {
	const n, size = 96, 100 << 10
	dir := t.TempDir()
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var batch store.Batch
	for i := range n {
		batch.DeadLetters = append(batch.DeadLetters, store.DeadLetter{
			Destination: "crm", Reason: "rejected", EventID: fmt.Sprint("e", i), At: time.Now(), Received: time.Now(),
			Event: (&event.Event{ID: fmt.Sprint("e", i), JSON: fmt.Appendf(nil, `{"i":%d,"text":%q}`, i, strings.Repeat("x", size))}).AppendTo(nil),
		})
	}
	if err := st.Commit(t.Context(), &batch); err != nil {
		t.Fatal(err)
	}
	batch = store.Batch{}
	var before, after runtime.MemStats
	most := uint64(0)
	s := &letterStream{ctx: t.Context(), store: st, query: store.DeadLetterQuery{Bodies: true, OldestFirst: true}}
	runtime.GC()
	runtime.ReadMemStats(&before)
	lines := 0
	buf := make([]byte, 64<<10)
	for reads := 0; ; reads++ {
		got, err := s.Read(buf)
		lines += bytes.Count(buf[:got], []byte("\n"))
		if reads%40 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if lines != n {
		t.Errorf("%d lines, want %d", lines, n)
	}
	if most > 5<<20 {
		t.Errorf("an export of %d MiB holds %d MiB", n*size>>20, most>>20)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
