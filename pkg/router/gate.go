package router

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// mostCalls is how many calls all accounts of a destination may have under way at a time. One that hangs holds its place for half a minute.
const mostCalls = 1024

// gate shares the calls of a destination among its accounts. None waits for room that another one has taken for itself: an account may have as many calls under way as an eighth of the places that
// are free, and one in any case, so that there is room while there are fewer accounts at work than places. The last quarter is for accounts whose calls go through: those that hang must not keep
// them waiting.
type gate struct {
	loaded atomic.Int64 // bytes in the windows of the accounts: see windowsBytes

	mu    sync.Mutex // guards the fields below
	size  int
	free  int
	held  map[*account]int
	queue []*gateWait // in the order in which they came
}

// gateWait is a call that waits for a place.
type gateWait struct {
	account *account
	failing bool
	granted chan struct{} // closed when it has one
}

func newGate(size int) *gate { return &gate{size: size, free: size, held: map[*account]int{}} }

// acquire waits for a place; false: ctx ended first. failing says that the account's last calls did not go through.
func (g *gate) acquire(ctx context.Context, a *account, failing bool) bool {
	w := &gateWait{a, failing, make(chan struct{})}
	g.mu.Lock()
	g.queue = append(g.queue, w)
	g.grantLocked()
	g.mu.Unlock()
	select {
	case <-w.granted:
		return true
	default:
	}
	select {
	case <-w.granted:
		return true
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.queue, w)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 { // it got one just now
		g.release(a)
	}
	return false
}

func (g *gate) release(a *account) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	if g.held[a]--; g.held[a] == 0 {
		delete(g.held, a)
	}
	g.grantLocked()
}

// grantLocked gives places to those that may have one, oldest first. Who may not does not hold up those behind.
func (g *gate) grantLocked() {
	g.queue = slices.DeleteFunc(g.queue, func(w *gateWait) bool {
		if g.free == 0 || w.failing && g.free <= g.size/4 {
			return false
		}
		if held := g.held[w.account]; held > 0 && held >= g.free/8 {
			return false
		}
		g.free--
		g.held[w.account]++
		close(w.granted)
		return true
	})
}

// gateOf is the one of a destination; nil: it has one account.
func (r *Router) gateOf(route *Route) *gate {
	if route.Connection == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gates[route.Name] == nil {
		r.gates[route.Name] = newGate(mostCalls)
	}
	return r.gates[route.Name]
}
