package log

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// childEnv names the folder that a re-executed test binary appends to until it is killed; see TestMain.
const (
	childEnv  = "EVENTROUTER_LOG_TEST_DIR"
	childRun  = "EVENTROUTER_LOG_TEST_RUN"
	killRuns  = 6
	killOpens = 64 << 10 // bytes of a segment, small so that kills hit their making
)

// childAppends appends from many goroutines and prints the id of each call once it is acknowledged.
func childAppends(dir string) {
	l, err := Open(dir, Options{SegmentBytes: killOpens})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for p := range 16 {
		wg.Go(func() {
			for c := 0; ; c++ {
				id := fmt.Sprintf("%s/%d/%d", os.Getenv(childRun), p, c)
				var recs [][]byte
				for i := range callRecords(c) {
					recs = append(recs, fmt.Appendf(nil, "%s/%d %s", id, i, strings.Repeat("x", c*37%3000)))
				}
				if err := l.Append(recs...); err != nil {
					fmt.Println("append:", err)
					os.Exit(1)
				}
				if _, err := fmt.Println("ok", id); err != nil { // one write: lines do not mix
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
}

func callRecords(call int) int { return 1 + call%4 }

// TestKill kills a process again and again while it appends. All that it acknowledged must be read back, whole calls only.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for run := range killRuns {
		for _, id := range appendUntilKilled(t, dir, run) {
			acked[id] = true
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("open after kill %d: %v", run, err)
		}
		checkAcked(t, l, acked)
		mustClose(t, l)
		if t.Failed() {
			t.Fatalf("after kill %d", run)
		}
	}
	if len(acked) < killRuns {
		t.Errorf("only %d calls were acknowledged", len(acked))
	}
}

// appendUntilKilled runs the child until some calls are acknowledged and returns all that were.
func appendUntilKilled(t *testing.T, dir string, run int) []string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir, fmt.Sprint(childRun, "=", run))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	kill := 1 + rand.IntN(2000)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		id, ok := strings.CutPrefix(lines.Text(), "ok ")
		if !ok {
			t.Errorf("child: %s", lines.Text())
		}
		if ids = append(ids, id); len(ids) == kill {
			child.Process.Kill()
		}
	}
	child.Wait() // it was killed
	return ids
}

func checkAcked(t *testing.T, l *Log, acked map[string]bool) {
	t.Helper()
	got, err := readAll(t, l, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	last := map[string]int{} // call of each producer of each run
	for _, r := range got {
		var run, p, c, i int
		if _, err := fmt.Sscanf(r.Data, "%d/%d/%d/%d", &run, &p, &c, &i); err != nil {
			t.Fatalf("record %d: %.40q: %v", r.Offset, r.Data, err)
		}
		producer := fmt.Sprint(run, "/", p)
		if c < last[producer] {
			t.Errorf("producer %s: call %d after %d", producer, c, last[producer])
		}
		last[producer] = c
		id := fmt.Sprint(producer, "/", c)
		if found[id] != i {
			t.Errorf("record %d: part %d of %s, want %d", r.Offset, i, id, found[id])
		}
		found[id]++
	}
	for id := range acked {
		if found[id] == 0 {
			t.Errorf("acknowledged %s is missing", id)
		}
	}
	for id, n := range found {
		var run, p, c int
		fmt.Sscanf(id, "%d/%d/%d", &run, &p, &c)
		if n != callRecords(c) {
			t.Errorf("%d records of %s, want all %d", n, id, callRecords(c))
		}
	}
}
