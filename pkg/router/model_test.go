package router

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"eventrouter/pkg/destinations"
)

// step is one thing that happens to a router in a model check. What it needs of its fields depends on what it is.
type step struct {
	What   string
	Person int
	Also   int // a further person of the event
	Wait   time.Duration
	Answer string // of the next call
	Takes  time.Duration
}

var (
	stepKinds = []string{"identify", "identify", "track", "track", "again", "answer", "answer", "wait", "wait", "stop", "crash"}
	answers   = []string{"fine", "late", "lost", "refused", "retry", "reject one", "block lane", "block account", "never", "panic"}
	waits     = []time.Duration{0, time.Microsecond, time.Millisecond, 6 * time.Millisecond, 3 * time.Second, 40 * time.Second, 4 * time.Minute}
	takes     = []time.Duration{0, 2 * time.Millisecond, 20 * time.Second}
)

func steps() *rapid.Generator[[]step] {
	one := rapid.Custom(func(t *rapid.T) step {
		return step{
			What: rapid.SampledFrom(stepKinds).Draw(t, "what"), Person: rapid.IntRange(0, 2).Draw(t, "person"), Also: rapid.IntRange(0, 3).Draw(t, "also"),
			Wait: rapid.SampledFrom(waits).Draw(t, "wait"), Answer: rapid.SampledFrom(answers).Draw(t, "answer"), Takes: rapid.SampledFrom(takes).Draw(t, "takes"),
		}
	})
	return rapid.SliceOfN(one, 1, 40)
}

// TestModel plays generated sequences against a model: events of three persons who share identities, some posted twice, answers of all classes, stops, and crashes at which the files are as
// they are and calls under way may be carried out or not. In the end each event that was accepted has arrived or is a dead letter, each contact was written in order
// and holds what its last event says. Failing sequences are shrunk. -rapid.checks=10000 looks for long.
func TestModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if was := checks.Value.String(); was == checks.DefValue {
		checks.Value.Set("15")
		defer checks.Value.Set(was)
	}
	rapid.Check(t, func(rt *rapid.T) {
		script, small := steps().Draw(rt, "steps"), rapid.Bool().Draw(rt, "small windows")
		var err error
		synctest.Test(t, func(t *testing.T) { err = newModel(t, small).play(script) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// model is what should have become of what was posted.
type model struct {
	t       *testing.T
	g       *rig
	remote  *remote
	life    int
	answers []step
	posted  []string // texts
	written map[string][]int
	tracked map[string]bool
	n       int
}

func newModel(t *testing.T, small bool) *model {
	m := &model{t: t, remote: newRemote(), written: map[string][]int{}, tracked: map[string]bool{}}
	m.remote.contactKeys, m.remote.inFlight = 2, 2
	m.remote.answer = m.answer
	m.g = newRig(t, m.remote, func(route *Route) { route.Destination = mortal{m.remote, m, m.life} })
	if small {
		m.g.window = 2
	}
	return m
}

// play plays the steps and then lets the router end its work.
func (m *model) play(script []step) error {
	m.g.start()
	for _, s := range script {
		m.step(s)
		time.Sleep(s.Wait)
	}
	m.remote.mu.Lock()
	m.answers = nil
	m.remote.mu.Unlock()
	for began := time.Now(); !m.g.router.Idle(); time.Sleep(time.Second) {
		if time.Since(began) > 12*time.Hour {
			err := fmt.Errorf("stuck: %+v", m.g.router.Status())
			m.g.stop()
			return err
		}
	}
	time.Sleep(2 * lateAfter) // what is applied late
	err := m.check()
	m.g.stop()
	return err
}

func (m *model) step(s step) {
	person := fmt.Sprintf("p%d@b.co", s.Person)
	switch s.What {
	case "identify":
		m.n++
		text := fmt.Sprintf(`{"id":"e%d","event_type":"user_identify","user":{"email":%q,"v":%d}%s}`, m.n, person, m.n, m.also(s))
		m.posted = append(m.posted, text)
		m.written[person] = append(m.written[person], m.n)
		m.g.post(text)
	case "track":
		m.n++
		id := fmt.Sprintf("t%d", m.n)
		text := fmt.Sprintf(`{"id":%q,"event_type":"t","user":{"email":%q}%s}`, id, person, m.also(s))
		m.posted = append(m.posted, text)
		m.tracked[id] = true
		m.g.post(text)
	case "again":
		if len(m.posted) > 0 {
			m.g.post(m.posted[(7*s.Person+s.Also)%len(m.posted)])
		}
	case "answer":
		m.remote.mu.Lock()
		m.answers = append(m.answers, s)
		m.remote.mu.Unlock()
	case "stop":
		m.g.stop()
		m.g.start()
	case "crash":
		m.crash()
	}
}

func (m *model) also(s step) string {
	if s.Also == 3 || s.Also == s.Person {
		return ""
	}
	return fmt.Sprintf(`,"also":["p%d@b.co"]`, s.Also)
}

// crash goes on with the files as they are while nobody is at work, as after a kill; the router of before ends unheard.
func (m *model) crash() {
	synctest.Wait()
	dir := memoryDir(m.t)
	if err := os.CopyFS(dir, os.DirFS(m.g.dir)); err != nil {
		m.t.Fatal(err)
	}
	m.remote.mu.Lock()
	m.life++
	m.remote.mu.Unlock()
	m.g.cancel()
	<-m.g.done
	m.g.closeFiles()
	os.RemoveAll(m.g.dir)
	m.g.dir = dir
	m.g.start()
}

// mortal is the remote as one router sees it: no call of a router that was killed begins.
type mortal struct {
	*remote
	model *model
	life  int
}

func (d mortal) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	d.mu.Lock()
	killed := d.life != d.model.life
	d.mu.Unlock()
	if killed {
		return slices.Repeat([]destinations.Outcome{{Err: errGone}}, len(batch))
	}
	return d.remote.Send(ctx, p, batch)
}

// errGone is the answer to a router that was killed.
var errGone = errors.New("this router was killed")

// answer answers a call as the next answer that was drawn says.
func (m *model) answer(c call) []error {
	m.remote.mu.Lock()
	life := m.life
	s := step{}
	if len(m.answers) > 0 {
		s, m.answers = m.answers[0], m.answers[1:]
	}
	m.remote.mu.Unlock()
	if s.Takes > 0 {
		time.Sleep(s.Takes)
	}
	m.remote.mu.Lock()
	killed := life != m.life
	m.remote.mu.Unlock()
	if killed {
		if s.Also%2 == 0 { // it was on its way
			c.apply()
		}
		return []error{errGone}
	}
	one := make([]error, len(c.entries))
	switch s.Answer {
	case "late":
		time.AfterFunc(lateAfter-s.Takes-time.Second, c.apply)
		return []error{destinations.Ambiguous(errors.New("timeout"))}
	case "lost":
		c.apply()
		return []error{destinations.Ambiguous(errors.New("the answer was lost"))}
	case "never":
		return []error{destinations.Ambiguous(errors.New("timeout"))}
	case "refused":
		return []error{errors.New("connection refused")}
	case "retry":
		one[0] = destinations.RetryAfter(errors.New("locked"), 2*time.Second)
		return m.ofOnePerson(c, one)
	case "reject one":
		one[0] = destinations.Reject(errors.New("400"))
		return m.ofOnePerson(c, one)
	case "block lane":
		return []error{destinations.Block(errors.New("429"), destinations.LaneScope, time.Now().Add(10*time.Second))}
	case "block account":
		return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
	case "panic":
		panic("a fault of the destination")
	}
	return nil
}

// ofOnePerson gives entries of the first one's person its error: they share their outcome.
func (m *model) ofOnePerson(c call, errs []error) []error {
	for i, e := range c.entries {
		if e.Plan.ID == c.entries[0].Plan.ID {
			errs[i] = errs[0]
		}
	}
	return errs
}

// check compares what arrived with what should have.
func (m *model) check() error {
	dead := map[string]bool{}
	for _, d := range m.g.deadLetters() {
		dead[d.EventID+" "+d.Lane] = true
	}
	m.remote.mu.Lock()
	defer m.remote.mu.Unlock()
	for id := range m.tracked {
		if arrived := slices.Contains(m.remote.events, id); !arrived && !dead[id+" events"] {
			return fmt.Errorf("event %s is lost", id)
		}
	}
	if len(m.remote.overlaps) > 0 {
		return fmt.Errorf("two calls at once for %v", m.remote.overlaps)
	}
	for person, all := range m.written {
		last := ""
		for _, v := range all {
			if !dead[fmt.Sprintf("e%d contacts", v)] {
				last = strconv.Itoa(v)
			}
		}
		writes := m.remote.writes[person]
		end := writes
		for len(end) > 0 && dead["e"+end[len(end)-1]+" contacts"] { // the remote may carry out a call that it gave no answer to, and reject it when it comes again
			end = end[:len(end)-1]
		}
		if last != "" && (len(end) == 0 || end[len(end)-1] != last) {
			return fmt.Errorf("%s ends with %s, want %s", person, strings.Join(writes, " "), last)
		}
		// A call that is sent again writes the values again that it had merged: 1 2 1 2 is in order, 1 2 1 is not.
		before := 0
		for i, w := range writes {
			v, _ := strconv.Atoi(w)
			if i+1 < len(writes) {
				if next, _ := strconv.Atoi(writes[i+1]); next > v {
					continue
				}
			}
			if v < before {
				return fmt.Errorf("%s was written out of order: %s", person, strings.Join(writes, " "))
			}
			before = v
		}
	}
	return nil
}
