package proxy

import (
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// mostCalls and mostOfAccount bound the calls under way.
	mostCalls     = 512
	mostOfAccount = 32

	// mostBytes bounds the bodies that they hold until they end, or four of the longest that there may be. One account has a quarter.
	mostBytes = 128 << 20
)

// load is what calls under way take.
type load struct {
	calls int
	bytes int64 // of their bodies
}

func (l load) plus(c *call) load  { return load{l.calls + 1, l.bytes + c.size} }
func (l load) minus(c *call) load { return load{l.calls - 1, l.bytes - c.size} }

// within says whether l is at most a share of most.
func (l load) within(most load, share float64) bool {
	return float64(l.calls) <= share*float64(most.calls) && float64(l.bytes) <= share*float64(most.bytes)
}

// fits says whether there is a place for a call.
func (p *Proxy) fits(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fitsLocked(c)
}

func (p *Proxy) fitsLocked(c *call) bool {
	bytes := max(mostBytes, 4*c.app.Config.Proxy.MaxBytes)
	share := 1.0
	if c.apiKey == "" { // end users leave a quarter to the team's servers
		share = 0.75
	}
	all, ofAccount := p.all.plus(c), p.ofAccount[c.owner()].plus(c)
	// One call there is always room for: three quarters of a quarter may be less than the longest body.
	return all.within(load{mostCalls, bytes}, share) && (ofAccount.calls == 1 || ofAccount.within(load{mostOfAccount, bytes / 4}, share))
}

// enter takes a place among the calls under way; false: there is none.
func (p *Proxy) enter(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fitsLocked(c) {
		return false
	}
	p.all, p.ofAccount[c.owner()] = p.all.plus(c), p.ofAccount[c.owner()].plus(c)
	return true
}

func (p *Proxy) leave(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = p.all.minus(c)
	if left := p.ofAccount[c.owner()].minus(c); left.calls > 0 {
		p.ofAccount[c.owner()] = left
	} else {
		delete(p.ofAccount, c.owner())
	}
}

// owner is whose account it is that is called.
func (c *call) owner() [2]string { return [2]string{c.app.Config.Name, c.account} }

func busy() *refusal {
	return &refusal{
		status: fasthttp.StatusTooManyRequests, reason: "busy", message: "Too many calls at the same time", detail: "send this one again when another is answered", wait: time.Second,
		policy: "TEN_SECONDLY_ROLLING",
	}
}
