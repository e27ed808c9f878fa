package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// ms chooses a time from low to high milliseconds.
func ms(rnd *rand.Rand, low, high int) time.Duration {
	return time.Duration(low+rnd.IntN(high-low+1)) * time.Millisecond
}

// plagues puts toxics on the proxies, one after the other, until the run ends.
func (x *torture) plagues(stop context.Context) {
	rnd := x.rand("toxics")
	for x.pause(stop, ms(rnd, 50, 700)) {
		p := x.proxies.all[rnd.IntN(len(x.proxies.all))]
		what, hold := someToxic(rnd), ms(rnd, 100, 1200)
		x.tally.add("proxy: "+what.name(), 1)
		x.note("proxy %s: %s %s for %s", p.Name, what.name(), what.Attributes, hold)
		x.proxies.plague(p, what, hold)
	}
}

// someToxic chooses a toxic. What slows calls to the sandbox stays well below what lateAfter leaves beside lateness.
func someToxic(rnd *rand.Rand) toxic {
	what := toxic{Up: rnd.IntN(2) == 0}
	switch rnd.IntN(8) {
	case 0:
		what.Kind, what.Attributes = "latency", fmt.Sprintf(`{"latency":%d,"jitter":%d}`, 50+rnd.IntN(200), rnd.IntN(50))
	case 1:
		what.Kind, what.Attributes = "bandwidth", fmt.Sprintf(`{"rate":%d}`, 100+rnd.IntN(200))
	case 2, 3:
		what.Kind, what.Attributes = "limit_data", fmt.Sprintf(`{"bytes":%d}`, rnd.IntN(6000))
	case 4:
		what.Kind, what.Attributes = "reset_peer", fmt.Sprintf(`{"timeout":%d}`, rnd.IntN(200))
	case 5:
		what.Kind, what.Attributes = "slicer", fmt.Sprintf(`{"average_size":%d,"size_variation":%d,"delay":%d}`, 200+rnd.IntN(800), rnd.IntN(100), rnd.IntN(2000))
	case 6:
		what.Kind, what.Attributes = "timeout", fmt.Sprintf(`{"timeout":%d}`, 100+rnd.IntN(900))
	default:
		what = toxic{Kind: "cut", Up: true}
	}
	return what
}

// moods are what the sandbox suffers from, until the run ends.
func (x *torture) moods(stop context.Context) {
	rnd := x.rand("moods")
	for x.pause(stop, ms(rnd, 50, 600)) {
		if rnd.IntN(12) == 0 {
			how := []string{"refuse_batch", "name_partly", "count_partly"}[rnd.IntN(3)]
			x.tally.add("sandbox: bad events "+how, 1)
			x.hub.patch(x.t, fmt.Sprintf(`{"bad_events":%q,"strict_uuid":%t}`, how, rnd.IntN(2) == 0))
			continue
		}
		name, f := someFault(rnd)
		f.Endpoint = []string{"*", "contacts", "contacts/batch/upsert", "events/send/batch"}[rnd.IntN(4)]
		x.note("sandbox %s: %s, %d times", f.Endpoint, name, f.Times)
		x.tally.add("sandbox: "+name, 1)
		if clear := x.hub.Inject(f); f.Times == 0 {
			x.pause(stop, ms(rnd, 200, 1500))
			clear()
		}
	}
}

// someFault chooses a fault. Without Times it acts for a while.
func someFault(rnd *rand.Rand) (name string, f sandbox.Fault) {
	f.Times = 1 + rnd.IntN(3)
	late := ms(rnd, 600, int(lateness/time.Millisecond)) // well after the call has been sent again
	switch rnd.IntN(16) {
	case 0:
		f.Status, f.Times = http.StatusUnauthorized, 0
	case 1:
		f.Status = http.StatusTooManyRequests
	case 2:
		f.Status = http.StatusInternalServerError
	case 3:
		f.Status = []int{502, 503, 504}[rnd.IntN(3)]
	case 4:
		f.Status, f.Times = []int{502, 503, 504}[rnd.IntN(3)], 0
	case 5:
		f.Status = http.StatusLocked
	case 6:
		f.Status = 477
	case 7:
		f.Drop = true
		return "reset before the write", f
	case 8:
		f.Drop, f.Apply = true, true
		return "reset after the write", f
	case 9, 10, 11:
		f.Drop, f.ApplyLate, f.Times = true, late, 1
		return "no answer, applied late", f
	case 12:
		f.Status, f.ApplyLate, f.Times = []int{500, 502, 503, 504, 524}[rnd.IntN(5)], late, 1
		return fmt.Sprintf("%d, applied late", f.Status), f
	case 13:
		f.Status, f.Apply = []int{500, 502, 503, 504, 524}[rnd.IntN(5)], true
		return fmt.Sprintf("%d, applied", f.Status), f
	case 14:
		f.Status, f.Apply, f.Body = http.StatusOK, true, `{"status":"COMPLETE","results":[`
		return "half an answer", f
	default:
		f.Delay = ms(rnd, 100, 1500)
		return "slow", f
	}
	return fmt.Sprint(f.Status), f
}
