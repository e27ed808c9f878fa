package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// report is what a soak tells people.
type report struct {
	plan          soakPlan
	speed         float64 // events a second when nothing hinders
	samples       []sample
	settled       time.Duration
	verdict       verdict
	reloads       int
	note, machine string
}

// Bounds of growth over the second half, after all that is bounded by size or by time has had time to fill.
const (
	mostMemory  = 256 // MB; at most 200 while entries wait for a remote that is away, and more while it catches up
	mostGrowth  = 60  // MB an hour
	mostMoreFDs = 50
)

// judge fails the test when what the process holds grows. Short runs say nothing of that.
func (r *report) judge(t *testing.T) {
	t.Helper()
	if r.plan.run < 20*time.Minute {
		return
	}
	half := r.samples[len(r.samples)/2:]
	if g := slope(half, func(s *sample) float64 { return s.rss }); g > mostGrowth {
		t.Errorf("memory grows by %.0f MB an hour", g)
	}
	first, last := half[0], half[len(half)-1]
	if last.files > first.files+mostMoreFDs || last.goroutines > first.goroutines+mostMoreFDs {
		t.Errorf("files went from %.0f to %.0f, goroutines from %.0f to %.0f", first.files, last.files, first.goroutines, last.goroutines)
	}
	if most := r.most(func(s *sample) float64 { return s.rss }); most > mostMemory {
		t.Errorf("the process took %.0f MB, at most %d are promised", most, mostMemory)
	}
}

func (r *report) most(of func(*sample) float64) (most float64) {
	for i := range r.samples {
		most = max(most, of(&r.samples[i]))
	}
	return most
}

// slope is how much a value grows in an hour, by the line that fits its samples best.
func slope(samples []sample, of func(*sample) float64) float64 {
	var x, y, xx, xy float64
	for i := range samples {
		h, v := samples[i].at.Hours(), of(&samples[i])
		x, y, xx, xy = x+h, y+v, xx+h*h, xy+h*v
	}
	n := float64(len(samples))
	if d := n*xx - x*x; d != 0 {
		return (n*xy - x*y) / d
	}
	return 0
}

// markdown is the report as it is committed.
func (r *report) markdown(failed bool) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	v := &r.verdict
	p("# Soak\n")
	p("`make soak DURATION=%s`, %s, %s%s.\n", short(r.plan.run), time.Now().UTC().Format(time.DateOnly), r.machine, prefixed("; ", r.note))
	p("The router is a process of its own; clients and the HubSpot sandbox share its machine. %d people by %d connections: visits of a browser (three events in a request), purchases and updates by a server, "+
		"events that a filter leaves out, visitors whom nobody knows, and now and then an address that is none. Each 200th request is posted twice.\n", r.plan.people, r.plan.clients)
	p("First the speed that is reached when nothing hinders was measured: **%.0f events a second** accepted and delivered. Then half of that was posted for %s. "+
		"HubSpot was up for %s and away for %s by turns: 503, connections reset, reset after the write, calls that hang and are applied late. Its quota was %d calls in ten seconds and %d events a second. "+
		"The configuration was reloaded %d times, each time with a changed destination.\n",
		r.speed, short(r.plan.run), short(r.plan.up), short(r.plan.down), r.plan.quota, r.plan.eventsPerSecond, r.reloads)
	result := "**passed**"
	if failed {
		result = "**failed**"
	}
	p("## Verdict: %s\n", result)
	p("| | |\n|---|---|")
	p("| events acknowledged | %d |", v.acknowledged)
	p("| custom events acknowledged, each in HubSpot once | %d, %d lost, %d doubled |", v.custom, v.lost, v.doubled)
	p("| contacts, as by their last identify of %d | %d, %d wrong |", v.identifies, v.contacts, v.wrongContacts)
	p("| filtered, skipped, dropped as duplicates, dead letters: as many as posted | %d, %d, %d, %d; %d mistakes |", v.filtered, v.skipped, v.duplicates, v.dead, v.otherMistakes)
	p("| delivered %s after the last POST | all |", r.settled.Round(time.Second))
	p("| most memory | %.0f MB |", r.most(func(s *sample) float64 { return s.rss }))
	p("| most entries that waited | %.0f |\n", r.most(func(s *sample) float64 { return s.waiting }))
	r.growth(p)
	p("## Each minute\n")
	p("| minute | events/s | HubSpot | memory MB | goroutines | files | log MB | store MB | WAL MB | waiting | oldest s | p50 ms | p99 ms |")
	p("|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	minute := -1
	for i := range r.samples {
		s := &r.samples[i]
		if int(s.at.Minutes()) == minute {
			continue
		}
		minute = int(s.at.Minutes())
		p("| %d | %.0f | %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.1f | %.1f |", minute, s.perSecond, s.remote, s.rss, s.goroutines, s.files,
			s.log, s.store, s.wal, s.waiting, s.oldest, millis(s.median), millis(s.p99))
	}
	return b.String()
}

// growth is the table of slopes.
func (r *report) growth(p func(string, ...any)) {
	p("## Growth\n\nBy the line that fits the samples best.\n\n| | all, per hour | second half, per hour |\n|---|---:|---:|")
	half := r.samples[len(r.samples)/2:]
	for _, row := range []struct {
		name string
		of   func(*sample) float64
	}{
		{"memory, MB", func(s *sample) float64 { return s.rss }},
		{"goroutines", func(s *sample) float64 { return s.goroutines }},
		{"open files", func(s *sample) float64 { return s.files }},
		{"log, MB", func(s *sample) float64 { return s.log }},
		{"store, MB", func(s *sample) float64 { return s.store }},
		{"WAL, MB", func(s *sample) float64 { return s.wal }},
	} {
		p("| %s | %.1f | %.1f |", row.name, slope(r.samples, row.of), slope(half, row.of))
	}
	p("")
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// short is 30m instead of 30m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
