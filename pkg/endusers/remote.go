package endusers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// fresh is how old the keys of a URL become before they are read again, beside the events that use them.
	fresh = 10 * time.Minute
	// stale is how old they become while nobody uses them, before somebody waits until they are read: a key that was taken back must not be good because it is long ago that any was asked for.
	stale = 2 * fresh
	// again is the shortest time from one reading to the next: a token with an invented key id must not make calls.
	again = 30 * time.Second
	// againEmpty is the same while nothing was ever read.
	againEmpty = 5 * time.Second
	// fetchTimeout bounds a reading, and so how long a token waits for it.
	fetchTimeout = 5 * time.Second
	// maxSetBytes bounds what is read.
	maxSetBytes = 256 << 10
)

// remote is a JSON Web Key Set at a URL. What was read is used until there is something newer, however long the URL is down.
type remote struct {
	url    string
	shown  string // url without what may be a secret
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex // guards the fields below
	set     *keySet    // nil: never read
	read    time.Time  // when set was
	tried   time.Time
	running chan struct{} // closed when the reading that is under way has ended; nil: none is
	failing bool          // the last reading failed, and that was logged
}

func newRemote(address string, o Options) *remote {
	client := &http.Client{Transport: o.Transport, Timeout: fetchTimeout}
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if first := via[0].URL; req.URL.Scheme != first.Scheme || req.URL.Host != first.Host || len(via) > 2 {
			return errElsewhere
		}
		return nil
	}
	shown, _, _ := strings.Cut(address, "?")
	return &remote{url: address, shown: shown, client: client, log: o.Logger, now: o.Now}
}

var errElsewhere = errors.New("it redirects to another host, or too often")

// have returns what was read last, nil for nothing, and has it read again where it is old. It waits for that where it is very old, unless the URL was down the last time.
func (r *remote) have() *keySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	age := now.Sub(r.read)
	if r.set == nil || age < fresh || r.running == nil && now.Sub(r.tried) < again {
		return r.set
	}
	done := r.beginLocked(now)
	if age >= stale && !r.failing {
		r.mu.Unlock()
		<-done // within fetchTimeout
		r.mu.Lock()
	}
	return r.set
}

// knowing returns a set that has a key of an id, and any for "". Where it has none it is read once more, unless that was just done, and returned as it is then. An error
// wraps ErrUnavailable.
func (r *remote) knowing(id string) (*keySet, error) {
	r.mu.Lock()
	now := r.now()
	if r.set != nil && (len(r.set.of(id)) > 0 || r.running == nil && now.Sub(r.tried) < again) {
		defer r.mu.Unlock()
		return r.set, nil
	}
	if r.set == nil && r.running == nil && !r.tried.IsZero() && now.Sub(r.tried) < againEmpty {
		defer r.mu.Unlock()
		return nil, ErrUnavailable
	}
	done := r.beginLocked(now)
	r.mu.Unlock()
	<-done // within fetchTimeout
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		return nil, ErrUnavailable
	}
	return r.set, nil
}

// beginLocked begins to read unless that is under way. The channel is closed when it has ended.
func (r *remote) beginLocked(now time.Time) <-chan struct{} {
	if r.running != nil {
		return r.running
	}
	done := make(chan struct{})
	r.running, r.tried = done, now
	go func() { // ends by itself, within fetchTimeout
		defer close(done)
		set, err := r.fetch()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running = nil
		r.tellLocked(set, err)
		if err == nil {
			r.set, r.read = set, r.now()
		}
	}()
	return done
}

// tellLocked logs what is news about the URL.
func (r *remote) tellLocked(set *keySet, err error) {
	switch {
	case err != nil && !r.failing:
		r.log.Error("keys for tokens of end users can not be read; what was read before stays good", "url", r.shown, "error", err.Error(), "known_keys", len(r.set.all()))
	case err == nil && r.failing:
		r.log.Info("keys for tokens of end users are read again", "url", r.shown)
	}
	r.failing = err != nil
	if err == nil && (r.set == nil || len(r.set.skipped) != len(set.skipped)) {
		for _, why := range set.skipped {
			r.log.Warn("a key for tokens of end users is left out", "url", r.shown, "key", why)
		}
	}
}

func (r *remote) fetch() (*keySet, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, errors.New("the URL can not be called")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the URL may hold a secret in its query
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxSetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSetBytes {
		return nil, fmt.Errorf("what stands there is larger than %d bytes", maxSetBytes)
	}
	return parseSet(data)
}
