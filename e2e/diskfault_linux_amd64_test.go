package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// diskRig is a supervised router, a sandbox and an application that remembers what was acknowledged.
type diskRig struct {
	t      *testing.T
	hub    hub
	s      *supervisor
	p      *process
	dir    string
	config string
	client *http.Client
	acked  []int // the numbers of events
	n      int
}

// newDiskRig starts one. Its transform counts events in $kv, and fails on one whose pad is "fail".
func newDiskRig(t *testing.T) *diskRig {
	t.Helper()
	d := &diskRig{t: t, hub: newHub(t, sandbox.Options{}), dir: t.TempDir(), client: clientFor(t)}
	d.config = configure(t, d.dir, d.hub.url)
	limitLog(t, d.config)
	edit(t, d.config, "data_layout:\n", "data_layout:\n      transform: 'if ($.pad == \"fail\") throw new Error(\"asked to\"); const n = (await $kv.get(\"n\") ?? 0) + 1; await $kv.set(\"n\", n); return {...$, n}'\n")
	d.s = newSupervisor(d.dir)
	d.p = startSupervised(t, d.s, d.config)
	return d
}

// post sends one event and returns the status, 0 for a router that does not answer. A refusal must say when to come again.
func (d *diskRig) post(path, pad string) int {
	d.t.Helper()
	d.n++
	body := fmt.Sprintf(`{"event_id":"e%d","event_type":"step","utc_time":"2026-01-01T00:00:00Z","user":{"email":"p%d@example.com"},"mark":"m%d","pad":%q}`, d.n, d.n%3, d.n, pad)
	res, err := d.client.Post(d.p.url+path+"?token="+serverSecret, "application/json", strings.NewReader(body+"\n"))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return 0
	case res.StatusCode == http.StatusOK:
		d.acked = append(d.acked, d.n)
	case res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "":
		d.t.Errorf("answer %s, Retry-After %q: %s", res.Status, res.Header.Get("Retry-After"), answer)
	}
	return res.StatusCode
}

const live, bulk = "/api/v1/s2s/event", "/api/v1/events/bulk"

// until posts until the status is the wanted one.
func (d *diskRig) until(path string, status int) {
	d.t.Helper()
	pad := strings.Repeat("0123456789abcdef", 600)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := d.post(path, pad)
		if got == status {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the answer is %d after 60 s, want %d\n%s", got, status, tail(d.p.log.String(), 3000))
		}
	}
}

// wantDelivered wants every event that was acknowledged in HubSpot once, and $kv to have counted each event that is there once.
func (d *diskRig) wantDelivered() {
	d.t.Helper()
	marks, numbers := map[string]int{}, map[string]bool{}
	for _, e := range events(d.hub, "step") {
		marks[e.Properties["mark"]]++
		numbers[e.Properties["n"]] = true
	}
	for _, n := range d.acked {
		if got := marks["m"+strconv.Itoa(n)]; got != 1 {
			d.t.Errorf("event %d was acknowledged and is in HubSpot %d times", n, got)
		}
	}
	for n := range len(marks) {
		if !numbers[strconv.Itoa(n+1)] {
			d.t.Errorf("of %d events none has number %d", len(marks), n+1)
			break
		}
	}
}

// in says whether a call is of one of these kinds on a file whose path has a part.
func in(c fileCall, kinds, part string) bool {
	return strings.Contains(" "+kinds+" ", " "+c.kind+" ") && strings.Contains(c.path, part)
}

// TestDiskIsFull: the disk of a whole router has no room, everywhere or for one of its files, and gets some again. Meanwhile applications get 503 and when to come again; the router goes on
// by itself, and all that was acknowledged is delivered.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	f := func(what, kinds, part string) {
		t.Helper()
		began := d.p.log.String()
		d.s.set(func(c fileCall) unix.Errno {
			if in(c, kinds, part) {
				return unix.ENOSPC
			}
			return 0
		})
		d.until(live, http.StatusServiceUnavailable)
		d.s.set(nil)
		d.until(live, http.StatusOK)
		if text := strings.TrimPrefix(d.p.log.String(), began); !strings.Contains(text, "full") && !strings.Contains(text, "no space") {
			t.Errorf("%s: the log does not say so: %s", what, text)
		}
	}
	d.until(live, http.StatusOK)
	f("the log", "write", "/log/live/")
	f("a new segment of the log", "create", "/log/live/")
	f("the store", "write", "router.db-wal")
	f("a checkpoint of the store", "write truncate", "router.db")
	f("all", "write create truncate", "/data/")

	d.s.set(func(c fileCall) unix.Errno { // one that nobody has to hear of
		if in(c, "write", "sorter.mark") {
			return unix.ENOSPC
		}
		return 0
	})
	d.until(live, http.StatusOK)
	d.p.drain(30 * time.Second)
	d.s.set(nil)

	d.s.setFree(500 << 10) // the floor is 1 MiB
	d.until(live, http.StatusServiceUnavailable)
	d.s.setFree(1 << 40)
	d.until(live, http.StatusOK)

	d.p.drain(60 * time.Second)
	if err := d.p.terminate(); err != nil {
		t.Error(err)
	}
	d.wantDelivered()
}

// TestNoRoomForDeadLetters: the disk is full just when events are to become dead letters, one that HubSpot refuses and one that a transform fails on. Both stay where they are until there is room,
// then each is a dead letter, once.
func TestNoRoomForDeadLetters(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	full := func(c fileCall) unix.Errno {
		if in(c, "write", "router.db-wal") {
			return unix.ENOSPC
		}
		return 0
	}
	d.until(live, http.StatusOK)
	d.p.drain(30 * time.Second)
	wait := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !strings.Contains(d.p.log.String(), "the disk is full"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log does not say that the disk is full\n%s", what, tail(d.p.log.String(), 3000))
			}
		}
		if n := gauge(metricsOf(d.p), "router_dead_letters"); n != 0 {
			t.Errorf("%s: %v dead letters while there is no room for one", what, n)
		}
	}
	refused := d.n + 1
	clear := d.hub.Inject(sandbox.Fault{Endpoint: "events/send/batch", Status: 400, Match: func(body []byte) bool {
		if !strings.Contains(string(body), fmt.Sprintf("%q", fmt.Sprint("m", refused))) {
			return false
		}
		d.s.set(full)
		return true
	}})
	if status := d.post(live, ""); status != http.StatusOK {
		t.Fatalf("answer %d", status)
	}
	wait("refused by HubSpot")
	d.s.set(nil)
	d.p.drain(30 * time.Second)
	clear()
	if n := gauge(metricsOf(d.p), "router_dead_letters"); n != 1 {
		t.Errorf("%v dead letters after there was room, want 1", n)
	}
	d.until(live, http.StatusOK)
	failed := d.n + 1
	d.s.set(full)
	if status := d.post(live, "fail"); status != http.StatusOK {
		t.Fatalf("answer %d", status)
	}
	for deadline := time.Now().Add(30 * time.Second); d.post(live, "") != http.StatusServiceUnavailable; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("events are accepted while nothing can be stored")
		}
	}
	if n := gauge(metricsOf(d.p), "router_dead_letters"); n != 1 {
		t.Errorf("%v dead letters while there is no room for a second one", n)
	}
	d.s.set(nil)
	d.until(live, http.StatusOK)
	d.p.drain(30 * time.Second)
	list := run(t, ".", binary, "deadletters", "list", "--json", "--config", d.config)
	for _, n := range []int{refused, failed} {
		if got := strings.Count(list, fmt.Sprintf(`"event_id":"e%d","event_type":"step","person":`, n)); got != 1 {
			t.Errorf("event %d is %d dead letters: %s", n, got, list)
		}
		d.acked = slices.DeleteFunc(d.acked, func(acked int) bool { return acked == n })
	}
	if err := d.p.terminate(); err != nil {
		t.Error(err)
	}
	marks := map[string]int{}
	for _, e := range events(d.hub, "step") {
		marks[e.Properties["mark"]]++
	}
	for _, n := range d.acked {
		if got := marks[fmt.Sprint("m", n)]; got != 1 {
			t.Errorf("event %d is in HubSpot %d times", n, got)
		}
	}
}

// TestDiskFails: writes or syncs of a whole router's files fail. It accepts nothing any more and ends with the reason; the next one delivers all that was acknowledged.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	f := func(name, path, kinds, part string, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiskRig(t)
			d.until(path, http.StatusOK)
			d.s.set(func(c fileCall) unix.Errno {
				if in(c, kinds, part) && !strings.HasSuffix(c.path, "-shm") {
					return unix.EIO
				}
				return 0
			})
			d.failsAndLosesNothing(path, want...)
		})
	}
	f("sync of the log", live, "sync", "/log/live/", "log: log failed: sync", "input/output error")
	f("sync of the bulk log", bulk, "sync", "/log/bulk/", "bulk log: log failed: sync", "input/output error")
	f("sync of the store", live, "sync", "router.db-wal", "store failed", "disk I/O error")
	f("write of the store", live, "write", "router.db-wal", "store failed", "disk I/O error")
	f("sync of the store's file", live, "sync", "router.db", "store failed", "disk I/O error")
	f("write of the store's file", live, "write truncate", "/router.db", "store failed", "disk I/O error")
}

// failsAndLosesNothing wants the router to end with an error that has these texts, and the next one to deliver all.
func (d *diskRig) failsAndLosesNothing(path string, want ...string) {
	t := d.t
	t.Helper()
	pad := strings.Repeat("0123456789abcdef", 600)
	refused := false
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		status := d.post(path, pad)
		if status == 0 {
			break
		}
		if refused && status == http.StatusOK && !strings.Contains(d.p.log.String(), "accepted again") {
			t.Error("events are accepted again")
		}
		refused = status == http.StatusServiceUnavailable
		if time.Now().After(deadline) {
			t.Fatalf("the router still runs\n%s", tail(d.p.log.String(), 3000))
		}
	}
	select {
	case <-d.p.exited:
	case <-time.After(60 * time.Second):
		t.Fatalf("the router answers nothing and does not end\n%s", tail(d.p.log.String(), 3000))
	}
	var exit *exec.ExitError
	if !errors.As(d.p.err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the router ended with %v, want exit code 1", d.p.err)
	}
	lines := strings.Split(strings.TrimSpace(d.p.log.String()), "\n")
	for _, text := range want {
		if last := lines[len(lines)-1]; !strings.Contains(last, text) {
			t.Errorf("its last words have no %q: %s", text, last)
		}
	}
	d.p = start(t, d.config)
	d.until(path, http.StatusOK)
	d.p.drain(60 * time.Second)
	if err := d.p.terminate(); err != nil {
		t.Error(err)
	}
	d.wantDelivered()
}

// TestLogCanNotBeWritten: writes of the log fail while its syncs do not. What is refused is in no log, so that the router goes on delivering what it has and accepts again when writes work.
func TestLogCanNotBeWritten(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	d.until(live, http.StatusOK)
	for _, errno := range []unix.Errno{unix.EIO, unix.EROFS} {
		d.s.set(func(c fileCall) unix.Errno {
			if in(c, "write create truncate", "/log/") {
				return errno
			}
			return 0
		})
		for range 5 {
			if status := d.post(live, ""); status != http.StatusServiceUnavailable {
				t.Errorf("%v: answer %d", errno, status)
			}
		}
		d.p.drain(30 * time.Second)
		d.s.set(nil)
		d.until(live, http.StatusOK)
	}
	d.p.drain(30 * time.Second)
	if err := d.p.terminate(); err != nil {
		t.Error(err)
	}
	d.wantDelivered()
}

// TestReadOnlyDisk: the file system becomes read-only under a router, as Linux does after errors.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	d.until(live, http.StatusOK)
	d.hub.Inject(sandbox.Fault{Endpoint: "events/send/batch", Times: 1, Status: 503}) // something is left to write down
	d.until(live, http.StatusOK)
	d.s.set(func(c fileCall) unix.Errno {
		if in(c, "write create truncate open rename remove mkdir", "/data/") {
			return unix.EROFS
		}
		return 0
	})
	d.failsAndLosesNothing(live, "store failed")
}

// TestVanishedDirectory: the data directory is moved away under a router, which must not go on acknowledging into files that nobody will find.
func TestVanishedDirectory(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	d.until(live, http.StatusOK)
	d.p.drain(30 * time.Second)
	data := filepath.Join(d.dir, "data")
	if err := os.Rename(data, data+".moved"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); d.post(live, "") != 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	<-d.p.exited
	if text := d.p.log.String(); !strings.Contains(text, "is gone, or another one") || !strings.Contains(text, data) {
		t.Errorf("it says %s", tail(text, 1000))
	}
	var exit *exec.ExitError
	if !errors.As(d.p.err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the router ended with %v, want exit code 1", d.p.err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(data+".moved", data); err != nil {
		t.Fatal(err)
	}
	d.p = start(t, d.config)
	d.p.drain(30 * time.Second)
	d.wantDelivered()
}

// TestDirectoryInUse: a second router on the same directory is refused, and told who has it.
func TestDirectoryInUse(t *testing.T) {
	t.Parallel()
	d := newDiskRig(t)
	out, err := exec.Command(binary, "serve", "--config", d.config).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit code 1", err)
	}
	for _, want := range []string{"in use", "process " + strconv.Itoa(d.p.cmd.Process.Pid)} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it says %q, without %q", out, want)
		}
	}
	d.until(live, http.StatusOK)
}
