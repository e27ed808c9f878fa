package torture

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// deed is something that is done to the process.
type deed struct {
	name   string
	weight int
	kills  bool // it ends with kill -9 and a start
	do     func(rnd *rand.Rand)
}

// deeds are all that is done.
func (x *torture) deeds() []deed {
	sleep := func(rnd *rand.Rand, most int) { time.Sleep(ms(rnd, 0, most)) }
	return []deed{
		{"kill", 4, true, func(*rand.Rand) {}},
		{"kill: soon after a start", 2, true, func(rnd *rand.Rand) {
			x.p.kill()
			x.p.start()
			sleep(rnd, 1000) // often before it listens
		}},
		{"kill: in a burst", 2, true, func(rnd *rand.Rand) {
			select {
			case x.burst <- struct{}{}:
			default: // the one before is still under way
			}
			sleep(rnd, 250)
		}},
		{"kill: at a hand-over", 3, true, func(*rand.Rand) { x.awaitChange("router.db") }},
		{"kill: at an append", 2, true, func(*rand.Rand) { x.awaitChange("log") }},
		{"kill: in a reload", 2, true, func(rnd *rand.Rand) {
			x.p.configure(rnd.IntN(3) == 0)
			x.p.signal(syscall.SIGHUP)
			sleep(rnd, 60)
		}},
		{"kill: while dead letters are made", 2, true, func(rnd *rand.Rand) {
			go x.breakage()
			sleep(rnd, 150)
		}},
		{"kill: in a replay", 3, true, func(rnd *rand.Rand) {
			x.replay(rnd)
			sleep(rnd, 400)
		}},
		{"replay", 2, false, x.replay},
		{"SIGTERM", 2, false, func(*rand.Rand) {
			x.p.terminate()
			x.p.start()
			x.p.wait()
		}},
		{"SIGHUP with a changed file", 3, false, func(rnd *rand.Rand) {
			x.p.configure(rnd.IntN(3) == 0)
			x.p.signal(syscall.SIGHUP)
		}},
		{"reload", 1, false, func(*rand.Rand) { x.reload() }},
		{"stopped for a second", 1, false, func(*rand.Rand) {
			x.p.signal(syscall.SIGSTOP)
			time.Sleep(time.Second)
			x.p.signal(syscall.SIGCONT)
		}},
	}
}

// drive does things to the process until the run has lasted long enough and had its kills.
func (x *torture) drive() {
	rnd := x.rand("deeds")
	all := x.deeds()
	weights := 0
	for _, d := range all {
		weights += d.weight
	}
	for began := time.Now(); time.Since(began) < x.duration || x.kills < x.wantKills; {
		time.Sleep(ms(rnd, 0, 1500))
		n := rnd.IntN(weights)
		var d deed
		for _, d = range all {
			if n -= d.weight; n < 0 {
				break
			}
		}
		x.note("%s", d.name)
		x.tally.add("process: "+d.name, 1)
		x.p.alive()
		d.do(rnd)
		if d.kills {
			x.p.kill()
			x.p.start()
			x.p.wait()
			x.kills++
		}
	}
}

// awaitChange waits until a file of the data directory whose path holds a text changes, at most half a second: then something is being written.
func (x *torture) awaitChange(of string) {
	state := func() (s string) {
		filepath.WalkDir(x.p.data(), func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.Contains(strings.TrimPrefix(path, x.p.data()), of) {
				if info, err := d.Info(); err == nil {
					s += fmt.Sprint(path, info.Size(), info.ModTime().UnixNano())
				}
			}
			return nil
		})
		return s
	}
	before := state()
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end) && state() == before; {
		time.Sleep(200 * time.Microsecond)
	}
}

// breakage posts events that become dead letters.
func (x *torture) breakage() {
	x.breaking.Lock()
	defer x.breaking.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var of []*entry
	var bodies []string
	for range 20 {
		k := []kind{boom, held, rejected}[x.breaker.rnd.IntN(3)]
		e := x.breaker.enter(entry{Client: x.breaker.crowd.client, Kind: k, Person: x.breaker.person()})
		of, bodies = append(of, e), append(bodies, string(e.json()))
	}
	x.breaker.deliver(ctx, "/api/v1/s2s/events?token="+serverSecret, of, []byte("["+strings.Join(bodies, ",")+"]"))
}

// replay mends the transform, mostly, and has dead letters sent again, in one of the ways that there are.
func (x *torture) replay(rnd *rand.Rand) {
	if rnd.IntN(4) > 0 {
		x.p.configure(true)
		x.reload()
	}
	how := []string{
		`{"everything":true}`, `{"reason":"transform"}`, `{"reason":"rejected"}`, `{"destination":"crm","as_is":true}`, `{"event_type":"step","overwrite":true}`,
		`{"everything":true,"cancel":true}`, "a day",
	}[rnd.IntN(7)]
	x.note("replay %s", how)
	x.tally.add("replay: "+how, 1)
	if how == "a day" {
		day := time.Now().UTC().Format("2006-01-02")
		status, answer, err := x.p.call(http.MethodPost, "/api/v1/replay", `{"file_name":"failed.dst=crm-`+day+`T00-00-00.000.log"}`)
		if err != nil || status >= http.StatusInternalServerError { // 4xx: there are none, or all are marked already
			x.t.Errorf("replay of %s: %d %s %v", day, status, answer, err)
		}
		return
	}
	x.ask(http.MethodPost, "/api/v1/deadletters/replay", how)
}

// ask is a call that must succeed.
func (x *torture) ask(method, path, body string) string {
	x.t.Helper()
	status, answer, err := x.p.call(method, path, body)
	if err != nil || status != http.StatusOK {
		x.t.Errorf("%s %s %s: %d %s %v", method, path, body, status, answer, err)
	}
	return answer
}

// reload asks for a reload, which blocked lanes take as a reason to try again.
func (x *torture) reload() {
	status, answer, err := x.p.call(http.MethodPost, "/api/v1/reload", "")
	if err != nil || status != http.StatusOK && status != http.StatusConflict {
		x.t.Errorf("reload: %d %s %v", status, answer, err)
	}
}

// note writes a line of the run's diary.
func (x *torture) note(format string, args ...any) {
	x.tally.mu.Lock()
	defer x.tally.mu.Unlock()
	fmt.Fprintf(x.diary, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// pause waits, and reports whether the run goes on.
func (x *torture) pause(stop context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-stop.Done():
		return false
	}
}

// openDiary opens the file of what was done when.
func (x *torture) openDiary() {
	f, err := os.OpenFile(filepath.Join(x.dir, "diary.txt"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { f.Close() })
	x.diary = f
}
